"""DMD2: improved distribution matching distillation (arXiv 2405.14867): sampler, trainer, and the paper's claims."""

from pathlib import Path

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_dmd2.options import DMD2Options

PAPER = "Yin et al. 2024 (DMD2), arXiv 2405.14867"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of DMD2 students."""
    return [
        Method(
            name="dmd2",
            summary="DMD2: the generator's clean prediction, noised to the next of the steps that it was trained on, and predicted again",
            sample=lazy("scottbench_dmd2.sampler:sample"),
            timesteps=lazy("scottbench_dmd2.sampler:timesteps"),
            trainer="dmd2",
            paper=PAPER,
            made_for=(1, 4),
        )
    ]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of DMD2 students."""
    return [
        Trainer(
            name="dmd2",
            summary="DMD2: difference of real and fake score, a fake score updated more often, GAN on its features, simulated inputs",
            build=lazy("scottbench_dmd2.trainer:DistributionMatching"),
            options=DMD2Options,
            paper=PAPER,
        )
    ]


@hookimpl
def register_claims() -> list[Path]:
    """Register the claims of the paper, one TOML file each."""
    return sorted(Path(__file__).with_name("claims").glob("*.toml"))
