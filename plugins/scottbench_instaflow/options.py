"""Options of InstaFlow's sampler and trainer. Where no source states a value the field says so; see README, "ours beside the paper"."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SamplerOptions:
    """Options of method instaflow."""

    form: Literal["exact", "official"] = "official"
    """How the student's U-Net is asked: see trainer instaflow. Not named: what its student.json says, else as published weights are."""


@dataclass(frozen=True)
class InstaFlowOptions:
    """Options of trainer instaflow."""

    form: Literal["exact", "official"] = "exact"
    """The U-Net's output: the teacher's prediction at the same noise to signal ratio (exact), or the velocity (official).
    exact starts as the teacher's own ODE; official, at time 1000 (1 - u), starts with the wrong sign."""
    solver: str = "dpmpp"
    """Method that solves the teacher's ODE for the first pairs; deterministic, of the teacher itself. Paper: DPM-Solver++."""
    solver_steps: int = 25
    """Its steps. Paper: 25."""
    w_min: float = 5.0
    """Lower end of the guidance w = s - 1 drawn for each pair, an input of the student. Paper: s = 6, fixed."""
    w_max: float = 5.0
    """Upper end; equal to w_min for a fixed guidance, which is baked in."""
    w_start: Literal["random", "zero"] = "random"
    """Start of the map of the guidance embedding, where the guidance is an input."""
    pairs_share: float = 0.3
    """Share of the training budget that the teacher's pairs may cost. The paper made its pairs beforehand."""
    reflow_share: float = 0.3
    """Share of the budget for reflow; 0 leaves it out."""
    student_pairs_share: float = 0.1
    """Share for pairs by the reflowed student's ODE; 0: the one-step distillation uses the teacher's pairs."""
    distil_share: float = 0.3
    """Share for the one-step distillation; 0 ends with the reflowed student (2-Rectified-Flow)."""
    pairs: int | None = None
    """Each set of pairs is complete at so many, even if its share is not spent; none: the share alone counts."""
    student_steps: int = 25
    """Euler steps of the student's ODE for the second pairs. Paper: 25."""
    lr: float = 1e-5
    """AdamW learning rate of reflow. Not known of the original."""
    distil_lr: float = 1e-5
    """AdamW learning rate of the distillation. Not known of the original."""
    ema: float = 0.95
    """Decay of the averaged weights, which make the second pairs and are exported. Not known of the original."""
    perceptual_weight: float = 0.0
    """Weight of a distance of decoded images in the preset's "image" features, beside the latent L2. Paper: LPIPS.
    FID is computed on these features: it favours a student that was trained on them."""
    perceptual_from: float = 0.5
    """Part of the distillation after which it counts. Paper: 21.5 of 39.5 thousand updates."""

    def __post_init__(self) -> None:
        shares = (self.pairs_share, self.reflow_share, self.student_pairs_share, self.distil_share)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9 or self.pairs_share == 0:
            raise ValueError("the four shares must be at least 0, add up to 1, and pairs_share must be above 0")
        if self.reflow_share == 0 and (self.distil_share == 0 or self.student_pairs_share > 0):
            raise ValueError("without reflow (reflow_share = 0) need distil_share > 0 and student_pairs_share = 0")
        if self.distil_share == 0 and self.student_pairs_share > 0:
            raise ValueError("student_pairs_share > 0 needs distil_share > 0, which uses these pairs")
        if not 0 <= self.w_min <= self.w_max:
            raise ValueError("need 0 <= w_min <= w_max")
        if min(self.solver_steps, self.student_steps) < 1 or (self.pairs is not None and self.pairs < 1):
            raise ValueError("solver_steps, student_steps and pairs must be at least 1")
        if not 0 <= self.ema < 1 or min(self.lr, self.distil_lr) <= 0:
            raise ValueError("need 0 <= ema < 1 and positive lr and distil_lr")
        if self.perceptual_weight < 0 or not 0 <= self.perceptual_from < 1:
            raise ValueError("need perceptual_weight >= 0 and 0 <= perceptual_from < 1")
