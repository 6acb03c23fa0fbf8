"""DDIM(eta) on the host's update primitive (Song et al. 2021, equation 16)."""

from scottbench.diffusion import rho_ddim, update


def timesteps(schedule, steps, options):
    """Evenly spaced from noise to data: 981, 961, ..., 1 for 50 steps of 1,000."""
    stride = len(schedule) // steps
    return [stride * j + 1 for j in reversed(range(steps))]


def sample(run):
    """z_T -> x0. Step k draws run.noise(k): the item's own stream, so images do not depend on the batch."""
    z = run.noise(0)
    times = timesteps(run.schedule, run.steps, run.options)
    for k, (t, t_next) in enumerate(zip(times, times[1:] + [0]), start=1):
        x0, eps = run.denoise(z, t)
        z = update(run.schedule, x0, eps, t_next, rho_ddim(run.schedule, t, t_next, run.options.eta), run.noise(k))
    return z
