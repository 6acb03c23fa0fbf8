"""It names a function that is not there."""

from scottbench import Method, hookimpl, lazy
from scottbench.diffusion import update


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
    return [
        Method(
            "lost-function",
            "DDIM with a fault",
            sample=lazy("lost_function:sampel"),  # fault
            timesteps=timesteps,
        )
    ]
