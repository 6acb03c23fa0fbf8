"""Flash Diffusion's sampler: predict the clean latent, noise it to the next time, predict again (algorithm 3 of LCM, without c_skip)."""

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule, update


def timesteps(schedule: Schedule, steps: int, options: object = None) -> list[int]:
    """Place `steps` time steps by trailing spacing, as training over-samples them: 1 step [999], 2 [999, 499], 4 [999, 749, 499, 249]."""
    return [round(len(schedule) * (1 - j / steps)) - 1 for j in range(steps)]


def sample(run: Sampling) -> Tensor:
    """Sample x0 (N,C,h,w) from z_T: x0 = f(z_t, t); z <- alpha_t' x0 + sigma_t' xi with fresh noise (rho = 0), none after the last."""
    z = run.noise(0)
    times = timesteps(run.schedule, run.steps)
    for number, t in enumerate(times, start=1):
        x0, eps = run.denoise(z, t)
        if number < len(times):
            z = update(run.schedule, x0, eps, times[number], rho=0, noise=run.noise(number))
    return x0
