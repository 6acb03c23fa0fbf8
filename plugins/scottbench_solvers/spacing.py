"""Where n time steps lie on the schedule, by the two rules that published recipes name."""

from typing import Literal

from scottbench.diffusion import Schedule

Spacing = Literal["leading", "trailing"]
"""leading: Stable Diffusion's, which leaves out the noisiest part. trailing: from T - 1 (Lin et al. 2024, arXiv 2305.08891, table 2)."""


def spaced(schedule: Schedule, steps: int, spacing: Spacing) -> list[int]:
    """Place `steps` time steps: leading, with offset 1, for 4 steps 751, 501, 251, 1; trailing 999, 749, 499, 249."""
    if spacing == "trailing":
        return [round(len(schedule) * (1 - j / steps)) - 1 for j in range(steps)]
    stride = len(schedule) // steps
    return [stride * j + (1 if stride > 1 else 0) for j in reversed(range(steps))]
