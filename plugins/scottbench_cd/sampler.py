"""Multistep consistency sampling of an LCM student (Luo et al. 2023, algorithm 3)."""

from scottbench.diffusion import consistency_sample, skipping_grid, spread


def timesteps(schedule, steps, options):
    """Evenly by index on the student's training grid: 2 steps [999, 499], 4 steps [999, 759, 499, 259]."""
    return spread(skipping_grid(schedule, options.skip), steps)


def sample(run):
    """f at each of the time steps, fresh noise between them."""
    return consistency_sample(run, timesteps(run.schedule, run.steps, run.options))
