"""Where n time steps lie on the schedule, by the two rules that published recipes name."""

from scottbench.diffusion import Schedule, trailing
from scottbench_solvers.options import Spacing


def spaced(schedule: Schedule, steps: int, spacing: Spacing) -> list[int]:
    """Place `steps` time steps: leading, with offset 1, for 4 steps 751, 501, 251, 1; trailing 999, 749, 499, 249."""
    if spacing == "trailing":
        return trailing(schedule, steps)
    stride = len(schedule) // steps
    return [stride * j + (1 if stride > 1 else 0) for j in reversed(range(steps))]
