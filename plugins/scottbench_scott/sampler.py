"""Multistep consistency sampling of a SCott student (the rule of LCM on SCott's own grid, methods.md 3.5)."""

from scottbench.diffusion import consistency_sample, skipping_grid, spread


def timesteps(schedule, steps, options):
    """Evenly by index on the student's training grid: 2 steps [999, 495], 4 steps [999, 759, 495, 255]."""
    return spread(skipping_grid(schedule, options.skip), steps)


def sample(run):
    """f at each of the time steps, fresh noise between them."""
    return consistency_sample(run, timesteps(run.schedule, run.steps, run.options))
