"""Phased consistency models (PCM): sampler, trainer, and the paper's claims."""

from pathlib import Path

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_pcm.options import PCMOptions, SamplerOptions

PAPER = "Wang et al. 2024 (PCM), arXiv 2405.18407"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of PCM students."""
    return [
        Method(
            name="pcm",
            summary="phased consistency: from the edge of one phase to that of the next, without fresh noise",
            sample=lazy("scottbench_pcm.sampler:sample"),
            timesteps=lazy("scottbench_pcm.sampler:timesteps"),
            trainer="pcm",
            paper=PAPER,
            guidance=3.0,
            options=SamplerOptions,
        )
    ]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of PCM students."""
    return [
        Trainer(
            name="pcm",
            summary="phased consistency distillation: each part of the time axis has an end of its own; adversarial term on or off",
            build=lazy("scottbench_pcm.trainer:PhasedConsistencyDistillation"),
            options=PCMOptions,
            paper=PAPER,
        )
    ]


@hookimpl
def register_claims() -> list[Path]:
    """Register the claims of the paper, one TOML file each."""
    return sorted(Path(__file__).with_name("claims").glob("*.toml"))
