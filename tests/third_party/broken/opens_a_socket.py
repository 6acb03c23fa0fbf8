"""It looks for a newer version when it is imported."""

import contextlib
import socket

from scottbench import Method, hookimpl
from scottbench.diffusion import update

with contextlib.suppress(OSError), socket.socket() as looked:
    looked.connect(("127.0.0.1", 9))  # fault


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
    return [Method("opens-a-socket", "DDIM with a fault", sample, timesteps)]
