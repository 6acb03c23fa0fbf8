"""Options of TCD's sampler."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SamplerOptions:
    """Options of method tcd."""

    eta: float = 0.3
    """The paper's gamma: 0 keeps the noise (the ODE), 1 draws it anew. Published: 0.3; Hyper-SD's one-step LoRA: 1."""
    skip: int = 20
    """Spacing of the grid that the student was trained on. Not named: what its student.json says, else this."""

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError("need 0 <= eta <= 1")
        if self.skip < 1:
            raise ValueError("skip must be at least 1")
