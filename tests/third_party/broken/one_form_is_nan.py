"""A sampler that divides by zero with one of its two forms."""

from dataclasses import dataclass

from scottbench import Method, hookimpl
from scottbench.diffusion import update


@dataclass(frozen=True)
class Options:
    """Options of the sampler."""

    squared: bool = False
    """Weigh the last step by the square of the remaining noise."""


def timesteps(schedule, steps, options):
    """Evenly spaced, from noise to data."""
    return [(len(schedule) - 1) * (steps - j) // steps for j in range(steps)]


def sample(run):  # fault
    """DDIM: latents (N,C,h,w)."""
    z, times = run.noise(0), timesteps(run.schedule, run.steps, run.options)
    for t, t_next in zip(times, [*times[1:], 0]):
        x0, eps = run.denoise(z, t)
        z = update(run.schedule, x0, eps, t_next, rho=1, noise=None)
        if run.options.squared:
            z = z * (t_next * z.new_ones(())) / (t_next * z.new_ones(()))
    return z


@hookimpl
def register_methods():
    return [Method("one-form-is-nan", "DDIM with a fault", sample, timesteps, options=Options)]
