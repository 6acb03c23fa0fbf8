"""Continuous-time consistency distillation (sCM): sampler, trainer, and the paper's claims."""

from pathlib import Path

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_scm.options import SamplerOptions, SCMOptions

PAPER = "Lu & Song 2024 (sCM), arXiv 2410.11081"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of sCM students."""
    return [
        Method(
            name="scm",
            summary="continuous-time consistency model (sCM): multistep consistency sampling at angles of TrigFlow",
            sample=lazy("scottbench_scm.sampler:sample"),
            timesteps=lazy("scottbench_scm.sampler:timesteps"),
            trainer="scm",
            made_for=(1, 2, 3, 4),
            paper=PAPER,
            guidance=2.0,
            options=SamplerOptions,
        )
    ]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of sCM students."""
    return [
        Trainer(
            name="scm",
            summary="continuous-time consistency distillation (sCM): guided teacher's direction, normalised tangent, warm-up",
            build=lazy("scottbench_scm.trainer:ContinuousConsistencyDistillation"),
            options=SCMOptions,
            paper=PAPER,
        )
    ]


@hookimpl
def register_claims() -> list[Path]:
    """Register the claims of the paper, one TOML file each."""
    return sorted(Path(__file__).with_name("claims").glob("*.toml"))
