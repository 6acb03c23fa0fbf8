"""Euler steps of the ODE in noise to signal, to clean data: the sampler that SD-Turbo is published with."""

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule, scale, update
from scottbench_solvers.options import EulerOptions
from scottbench_solvers.spacing import spaced


def timesteps(schedule: Schedule, steps: int, options: EulerOptions) -> list[int]:
    """Give "trailing" spacing, 1 step [999], 4 steps 999, 749, 499, 249; or the one that `options` name."""
    return spaced(schedule, steps, options.spacing)


def sample(run: Sampling) -> Tensor:
    """Sample x0 (N,C,h,w): a step from lambda_s to lambda_t along eps is the primitive with rho = 1; the last goes to lambda = 0, which
    is the prediction itself."""
    times = timesteps(run.schedule, run.steps, run.options)
    # published pipelines start trailing schedules with sigma_T xi: what alpha_T leaves of the image is left out
    z = scale(run.schedule.sigma(times[0]), run.noise(0)) if run.options.spacing == "trailing" else run.noise(0)
    for t, t_next in zip(times, times[1:]):
        x0, eps = run.denoise(z, t)
        z = update(run.schedule, x0, eps, t_next, rho=1, noise=None)
    return run.denoise(z, times[-1])[0]
