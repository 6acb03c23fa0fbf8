"""Sampling of a PCM student (Wang et al. 2024): the DDIM form from edge to edge."""

import math

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule, even_edges, update
from scottbench_pcm.options import SamplerOptions


def timesteps(schedule: Schedule, steps: int, options: SamplerOptions) -> list[int]:
    """Give the upper edges of `steps` phases: 1 step [999], 2 steps [999, 499], 4 steps [999, 749, 499, 249]."""
    return even_edges(schedule, steps)[:0:-1]


def sample(run: Sampling) -> Tensor:
    """Sample (N,C,h,w): at each edge z <- alpha x0 + sigma (rho eps + sqrt(1 - rho^2) xi) of the next edge, rho^2 = 1 - eta^2. The last
    step goes to time 0, without noise."""
    schedule, eta, z = run.schedule, run.options.eta, run.noise(0)
    times = timesteps(schedule, run.steps, run.options)
    for k, (t, t_next) in enumerate(zip(times, [*times[1:], 0]), start=1):
        x0, eps = run.denoise(z, t)
        if eta == 0 or t_next == 0:
            z = update(schedule, x0, eps, t_next, rho=1, noise=None)
        else:
            z = update(schedule, x0, eps, t_next, math.sqrt((1 - eta) * (1 + eta)), run.noise(k))
    return z
