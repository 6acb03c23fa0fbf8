"""Flash Diffusion's sampler: predict the clean latent, noise it to the next time, predict again (algorithm 3 of LCM, without c_skip)."""

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule, renoised_sample, trailing


def timesteps(schedule: Schedule, steps: int, options: object = None) -> list[int]:
    """Place `steps` time steps by trailing spacing, as training over-samples them: 1 step [999], 2 [999, 499], 4 [999, 749, 499, 249]."""
    return trailing(schedule, steps)


def sample(run: Sampling) -> Tensor:
    """Sample x0 (N,C,h,w) from z_T: x0 = f(z_t, t); z <- alpha_t' x0 + sigma_t' xi with fresh noise (rho = 0), none after the last."""
    return renoised_sample(run, timesteps(run.schedule, run.steps))
