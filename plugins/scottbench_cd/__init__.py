"""Consistency distillation in latent space (LCM): sampler and trainer."""

from dataclasses import replace

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_cd.options import CDOptions, SamplerOptions

PAPER = "Luo et al. 2023 (LCM), arXiv 2310.04378; Song et al. 2023, arXiv 2303.01469"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of CD students, under its own name and under that of the public scheduler."""
    cd = Method(
        name="cd",
        summary="consistency distillation (LCM): multistep consistency sampling of the distilled student",
        sample=lazy("scottbench_cd.sampler:sample"),
        timesteps=lazy("scottbench_cd.sampler:timesteps"),
        trainer="cd",
        made_for=tuple(range(1, 9)),
        paper=PAPER,
        guidance=8.0,
        options=SamplerOptions,
    )
    lcm = "the rule of LCMScheduler, by which LCM-LoRA and other published students are sampled: the same as cd"
    return [cd, replace(cd, name="lcm", summary=lcm)]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of CD students."""
    return [
        Trainer(
            name="cd",
            summary="consistency distillation: guided DDIM teacher, skipping steps, pseudo-Huber, EMA target",
            build=lazy("scottbench_cd.trainer:ConsistencyDistillation"),
            options=CDOptions,
            paper=PAPER,
        )
    ]
