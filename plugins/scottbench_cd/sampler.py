"""Multistep consistency sampling of an LCM student (Luo et al. 2023, algorithm 3)."""

from scottbench.diffusion import consistency_function, skipping_grid, spread, update

SKIP = 20


def timesteps(schedule, steps, options=None):
    """Evenly by index on the student's training grid: 2 steps [999, 499], 4 steps [999, 759, 499, 259]."""
    return spread(skipping_grid(schedule, SKIP), steps)


def sample(run):
    """f(z_T, T), then re-noise (rho = 0) and apply f again. No noise after the last step."""
    z = run.noise(0)
    times = timesteps(run.schedule, run.steps)
    for k, t in enumerate(times):
        x0, eps = run.denoise(z, t)
        x = consistency_function(z, t, x0)
        if k + 1 < len(times):
            z = update(run.schedule, x, eps, times[k + 1], rho=0, noise=run.noise(k + 1))
    return x
