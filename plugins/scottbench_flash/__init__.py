"""Flash Diffusion (arXiv 2406.02347): sampler and trainer of a student of the teacher's many steps, and the paper's claims."""

from pathlib import Path

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_flash.options import FlashOptions

PAPER = "Chadebec et al. 2024 (Flash Diffusion), arXiv 2406.02347"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of Flash Diffusion students."""
    return [
        Method(
            name="flash",
            summary="Flash Diffusion: the student's clean prediction, noised to the next time and predicted again",
            sample=lazy("scottbench_flash.sampler:sample"),
            timesteps=lazy("scottbench_flash.sampler:timesteps"),
            trainer="flash",
            paper=PAPER,
            made_for=(1, 2, 4),
        )
    ]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of Flash Diffusion students."""
    return [
        Trainer(
            name="flash",
            summary="Flash Diffusion: the teacher's many steps in one, distribution matching, a GAN on frozen teacher features",
            build=lazy("scottbench_flash.trainer:FlashDistillation"),
            options=FlashOptions,
            paper=PAPER,
        )
    ]


@hookimpl
def register_claims() -> list[Path]:
    """Register the claims of the paper, one TOML file each."""
    return sorted(Path(__file__).with_name("claims").glob("*.toml"))
