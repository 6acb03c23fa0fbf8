"""UFOGen: a diffusion GAN started from its teacher: sampler and trainer."""

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_ufogen.options import UFOGenOptions

PAPER = "Xu et al. 2023 (UFOGen), arXiv 2311.09257"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of UFOGen students."""
    return [
        Method(
            name="ufogen",
            summary="UFOGen-like: the generator's clean prediction, noised to the next time and predicted again",
            sample=lazy("scottbench_ufogen.sampler:sample"),
            timesteps=lazy("scottbench_ufogen.sampler:timesteps"),
            trainer="ufogen",
            paper=PAPER,
            made_for=(1, 2, 4),
        )
    ]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of UFOGen students."""
    return [
        Trainer(
            name="ufogen",
            summary="UFOGen-like: GAN on forward-diffused predictions, discriminator from the teacher, SNR-weighted reconstruction",
            build=lazy("scottbench_ufogen.trainer:DiffusionGAN"),
            options=UFOGenOptions,
            paper=PAPER,
        )
    ]
