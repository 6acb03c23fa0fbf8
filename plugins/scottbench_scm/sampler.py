"""Multistep consistency sampling of an sCM student."""

import math

from scottbench.diffusion import nearest, renoised_sample


def timesteps(schedule, steps, options):
    """The last time step, then those nearest to the angles `middle`, ..., evenly down to 0: 2 steps [999, 557]."""
    angles = [math.atan(float(schedule.lam(t))) for t in range(len(schedule))]
    wanted = [options.middle * (1 - j / (steps - 1)) for j in range(steps - 1)]
    times = [len(schedule) - 1, *(nearest(angles, angle) for angle in wanted)]
    return times if all(a > b for a, b in zip(times, times[1:])) else []


def sample(run):
    """x0 = f(z, t) at each of the time steps, fresh noise between them; none after the last."""
    return renoised_sample(run, timesteps(run.schedule, run.steps, run.options))
