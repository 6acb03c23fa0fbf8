"""DDIM (Song et al. 2021). The smallest method: copy this file to write your own."""

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule, rho_ddim, update
from scottbench_solvers.spacing import spaced


def timesteps(schedule: Schedule, steps: int, options: object = None) -> list[int]:
    """Give Stable Diffusion's "leading" spacing with offset 1: for 50 steps 981, 961, ..., 21, 1; or the one that `options` name."""
    return spaced(schedule, steps, getattr(options, "spacing", "leading"))


def sample(run: Sampling) -> Tensor:
    """Sample x0 (N,C,h,w) from z_T: predict, then step towards the data, with a part of the noise drawn anew where eta > 0. The step after
    the last t goes to alpha_bar_0, not to 1."""
    z, eta = run.noise(0), run.options.eta
    times = timesteps(run.schedule, run.steps, run.options)
    for number, (t, t_next) in enumerate(zip(times, times[1:] + [0]), start=1):
        x0, eps = run.denoise(z, t)
        if eta == 0:
            z = update(run.schedule, x0, eps, t_next, rho=1, noise=None)
        else:
            z = update(run.schedule, x0, eps, t_next, rho_ddim(run.schedule, t, t_next, eta), run.noise(number))
    return z
