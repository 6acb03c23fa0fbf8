"""Gamma sampling of a trajectory consistency student (Zheng et al. 2024, algorithm 4): a case of the update primitive."""

import math

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule, skipping_grid, spread, update
from scottbench_tcd.options import SamplerOptions


def timesteps(schedule: Schedule, steps: int, options: SamplerOptions) -> list[int]:
    """Pick evenly by index on the student's training grid, as `cd` does: 2 steps [999, 499], 4 steps [999, 759, 499, 259]."""
    return spread(skipping_grid(schedule, options.skip), steps)


def sample(run: Sampling) -> Tensor:
    """Sample (N,C,h,w): from t along eps to s = floor((1 - eta) t'), then with fresh noise up to t', which is one step to t' with
    rho = lambda_s / lambda_t'. The last step goes to time 0, without noise."""
    schedule, eta, z = run.schedule, run.options.eta, run.noise(0)
    times = timesteps(schedule, run.steps, run.options)
    for k, (t, t_next) in enumerate(zip(times, [*times[1:], 0]), start=1):
        x0, eps = run.denoise(z, t)
        s = math.floor((1 - eta) * t_next + 1e-6)  # 0.7 times 110 is 77, whatever the rounding
        if s == t_next:
            z = update(schedule, x0, eps, t_next, rho=1, noise=None)
        else:
            z = update(schedule, x0, eps, t_next, schedule.lam(s) / schedule.lam(t_next), run.noise(k))
    return z
