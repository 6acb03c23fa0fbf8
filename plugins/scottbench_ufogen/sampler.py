"""UFOGen's sampler (methods.md 5): predict the clean latent, noise it to the next time, predict again."""

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule, even_edges, renoised_sample


def timesteps(schedule: Schedule, steps: int, options: object = None) -> list[int]:
    """Give floor(999 j / n) for j = n..1: 1 step [999], 2 steps [999, 499], 4 steps [999, 749, 499, 249]."""
    return even_edges(schedule, steps)[:0:-1]


def sample(run: Sampling) -> Tensor:
    """Sample x0 (N,C,h,w): x0 = G(z_t, t); z <- alpha_t' x0 + sigma_t' xi with fresh noise (rho = 0), as the discriminator saw it."""
    return renoised_sample(run, timesteps(run.schedule, run.steps))
