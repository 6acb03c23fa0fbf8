"""The teacher's own samplers: DDIM, DPM-Solver++ (2M) and Euler. The baselines that few-step methods are measured against; they sample
published students of the form "plain" too."""

from scottbench import Method, hookimpl, lazy
from scottbench_solvers.options import DDIMOptions, EulerOptions


@hookimpl
def register_methods() -> list[Method]:
    """Register the samplers."""
    return [
        Method(
            name="ddim",
            summary="DDIM, the teacher's own sampler, deterministic unless eta says otherwise (two evaluations a step with guidance)",
            sample=lazy("scottbench_solvers.ddim:sample"),
            timesteps=lazy("scottbench_solvers.ddim:timesteps"),
            paper="Song et al. 2021, arXiv 2010.02502",
            guidance=7.5,
            options=DDIMOptions,
        ),
        Method(
            name="dpmpp",
            summary="DPM-Solver++ 2M, the teacher's second-order multistep sampler",
            sample=lazy("scottbench_solvers.dpmpp:sample"),
            timesteps=lazy("scottbench_solvers.dpmpp:timesteps"),
            paper="Lu et al. 2022, arXiv 2211.01095",
            guidance=7.5,
        ),
        Method(
            name="euler",
            summary="Euler steps to clean data, trailing spacing: the teacher's ODE as SD-Turbo samples it",
            sample=lazy("scottbench_solvers.euler:sample"),
            timesteps=lazy("scottbench_solvers.euler:timesteps"),
            paper="Karras et al. 2022, arXiv 2206.00364; Sauer et al. 2023 (ADD), arXiv 2311.17042",
            guidance=7.5,
            options=EulerOptions,
        ),
    ]
