"""Multistep consistency sampling of an sCM student."""

import math
from bisect import bisect_left

from scottbench.diffusion import update


def timesteps(schedule, steps, options):
    """The last time step, then those nearest to the angles `middle`, ..., evenly down to 0: 2 steps [999, 557]."""
    last = len(schedule) - 1
    angles = [math.atan(float(schedule.lam(t))) for t in range(len(schedule))]
    wanted = [options.middle * (1 - j / (steps - 1)) for j in range(steps - 1)]
    times = [last]
    for angle in wanted:
        above = min(bisect_left(angles, angle), last)
        times.append(above - (above > 0 and angle - angles[above - 1] < angles[above] - angle))
    return times if all(a > b for a, b in zip(times, times[1:])) else []


def sample(run):
    """x0 = f(z, t) at each of the time steps, fresh noise between them; none after the last."""
    times = timesteps(run.schedule, run.steps, run.options)
    z = run.noise(0)
    for k, t in enumerate(times):
        x0, eps = run.denoise(z, t)
        if k + 1 < len(times):
            z = update(run.schedule, x0, eps, times[k + 1], rho=0, noise=run.noise(k + 1))
    return x0
