"""Trajectory consistency distillation: the sampler of TCD's, Hyper-SD's and PCM's published students."""

from scottbench import Method, hookimpl, lazy
from scottbench_tcd.options import SamplerOptions


@hookimpl
def register_methods() -> list[Method]:
    """Register the sampler, which takes the students of trainer cd too."""
    return [
        Method(
            name="tcd",
            summary="TCD: gamma sampling, between the ODE (eta = 0) and multistep consistency sampling (eta = 1)",
            sample=lazy("scottbench_tcd.sampler:sample"),
            timesteps=lazy("scottbench_tcd.sampler:timesteps"),
            trainer="cd",
            paper="Zheng et al. 2024 (TCD), arXiv 2402.19159; Kim et al. 2024 (CTM), arXiv 2310.02279",
            guidance=8.0,
            options=SamplerOptions,
        )
    ]
