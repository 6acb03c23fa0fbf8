"""It ends the process where it misses something."""

import sys

from scottbench import Method, hookimpl
from scottbench.diffusion import update

if not hasattr(sys, "a_thing_that_it_needs"):
    sys.exit(3)  # fault


def timesteps(schedule, steps, options):
    """Evenly spaced, from noise to data."""
    return [(len(schedule) - 1) * (steps - j) // steps for j in range(steps)]


def sample(run):
    """DDIM: latents (N,C,h,w)."""
    z, times = run.noise(0), timesteps(run.schedule, run.steps, run.options)
    for t, t_next in zip(times, [*times[1:], 0]):
        x0, eps = run.denoise(z, t)
        z = update(run.schedule, x0, eps, t_next, rho=1, noise=None)
    return z


@hookimpl
def register_methods():
    return [Method("exits-at-import", "DDIM with a fault", sample, timesteps)]
