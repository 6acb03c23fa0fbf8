"""InstaFlow: rectified flow and one-step distillation of a text-to-image teacher: sampler and trainer."""

from scottbench import Method, Trainer, hookimpl, lazy
from scottbench_instaflow.options import InstaFlowOptions, SamplerOptions

PAPER = "Liu et al. 2023 (InstaFlow), arXiv 2309.06380; Liu et al. 2022 (rectified flow), arXiv 2209.03003"


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler of InstaFlow students."""
    return [
        Method(
            name="instaflow",
            summary="InstaFlow-like: Euler steps along the rectified flow of the student; one step once it is distilled",
            sample=lazy("scottbench_instaflow.sampler:sample"),
            timesteps=lazy("scottbench_instaflow.sampler:timesteps"),
            trainer="instaflow",
            paper=PAPER,
            made_for=tuple(range(1, 26)),
            guidance=6.0,
            options=SamplerOptions,
        )
    ]


@hookimpl
def register_trainers() -> list[Trainer]:
    """Register the trainer of InstaFlow students."""
    return [
        Trainer(
            name="instaflow",
            summary="InstaFlow-like: pairs by the teacher's ODE, reflow, pairs by the student's ODE, one-step distillation",
            build=lazy("scottbench_instaflow.trainer:RectifiedFlow"),
            options=InstaFlowOptions,
            paper=PAPER,
        )
    ]
