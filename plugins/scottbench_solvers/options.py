"""Options of the teacher's samplers."""

from dataclasses import dataclass
from typing import Literal

Spacing = Literal["leading", "trailing"]
"""leading: Stable Diffusion's, which leaves out the noisiest part. trailing: from T - 1 (Lin et al. 2024, arXiv 2305.08891, table 2)."""


@dataclass(frozen=True)
class DDIMOptions:
    """Options of method ddim."""

    eta: float = 0.0
    """Noise drawn anew at each step: 0 none (the ODE), 1 ancestral sampling (Song et al. 2021, eq. 16)."""
    spacing: Spacing = "leading"
    """leading: 751, 501, 251, 1 for four steps (Stable Diffusion); trailing: 999, 749, 499, 249 (Hyper-SD and other published students)."""

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError("need 0 <= eta <= 1")


@dataclass(frozen=True)
class EulerOptions:
    """Options of method euler."""

    spacing: Spacing = "trailing"
    """trailing: 999, 749, 499, 249 for four steps (SD-Turbo); leading: 751, 501, 251, 1."""
