"""Multistep consistency sampling of a SCott student (the rule of LCM on SCott's own grid, methods.md 3.5)."""

from scottbench.diffusion import consistency_function, skipping_grid, spread, update

SKIP = 24


def timesteps(schedule, steps, options=None):
    """Evenly by index on the student's training grid: 2 steps [999, 495], 4 steps [999, 759, 495, 255]."""
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
