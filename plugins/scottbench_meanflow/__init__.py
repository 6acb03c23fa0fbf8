"""MeanFlow: a student of the average velocity, distilled from a guided teacher: sampler, trainer, and the paper's claims."""

from pathlib import Path

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_meanflow.options import MeanFlowOptions, SamplerOptions

PAPER = "Geng et al. 2025 (MeanFlow), arXiv 2505.13447"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of MeanFlow students."""
    return [
        Method(
            name="meanflow",
            summary="MeanFlow: steps by the average velocity between two times; one or a few",
            sample=lazy("scottbench_meanflow.sampler:sample"),
            timesteps=lazy("scottbench_meanflow.sampler:timesteps"),
            trainer="meanflow",
            made_for=(1, 2, 3, 4),
            paper=PAPER,
            guidance=1.0,
            options=SamplerOptions,
        )
    ]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of MeanFlow students."""
    return [
        Trainer(
            name="meanflow",
            summary="MeanFlow: average velocity of the guided teacher's flow, by the identity u = v - (t - r) du/dt",
            build=lazy("scottbench_meanflow.trainer:MeanFlow"),
            options=MeanFlowOptions,
            paper=PAPER,
        )
    ]


@hookimpl
def register_claims() -> list[Path]:
    """Register the claims of the paper, one TOML file each."""
    return sorted(Path(__file__).with_name("claims").glob("*.toml"))
