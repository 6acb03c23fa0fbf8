"""SCott: stochastic consistency distillation (arXiv 2403.01505): sampler, trainer, and the paper's claims."""

from pathlib import Path

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_scott.options import ERSDEOptions, SamplerOptions, SCottOptions

PAPER = "SCott, arXiv 2403.01505 (AAAI 2025)"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of SCott students, and that of its stochastic teacher."""
    return [
        Method(
            name="scott",
            summary="SCott: multistep consistency sampling of the stochastically distilled student",
            sample=lazy("scottbench_scott.sampler:sample"),
            timesteps=lazy("scottbench_scott.sampler:timesteps"),
            trainer="scott",
            made_for=tuple(range(1, 9)),
            paper=PAPER,
            guidance=8.0,
            options=SamplerOptions,
        ),
        Method(
            name="er-sde",
            summary="ER-SDE, the teacher's stochastic sampler that SCott distils from (two evaluations a step with guidance)",
            sample=lazy("scottbench_scott.er_sde:sample"),
            timesteps=lazy("scottbench_scott.er_sde:timesteps"),
            paper="Cui et al. 2023, arXiv 2309.06169",
            guidance=7.5,
            options=ERSDEOptions,
        ),
    ]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of SCott students."""
    return [
        Trainer(
            name="scott",
            summary="stochastic consistency distillation: multi-step SDE teacher, pseudo-Huber, hinge GAN with a LoRA discriminator",
            build=lazy("scottbench_scott.trainer:StochasticConsistencyDistillation"),
            options=SCottOptions,
            paper=PAPER,
        )
    ]


@hookimpl
def register_claims() -> list[Path]:
    """Register the claims of the paper, one TOML file each."""
    return sorted(Path(__file__).with_name("claims").glob("*.toml"))
