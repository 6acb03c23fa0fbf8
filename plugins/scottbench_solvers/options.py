"""Options of the teacher's samplers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DDIMOptions:
    """Options of method ddim."""

    eta: float = 0.0
    """Noise drawn anew at each step: 0 none (the ODE), 1 ancestral sampling (Song et al. 2021, eq. 16)."""

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError("need 0 <= eta <= 1")
