"""Options of sCM: of its trainer and of its sampler. Where the paper states no value the field says so; see README."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SamplerOptions:
    """Options of method scm."""

    middle: float = 1.1
    """Angle of the second step, arctan of its noise-to-signal ratio; steps after it lie evenly down to angle 0. Paper, two steps: 1.1."""

    def __post_init__(self) -> None:
        if not 0 < self.middle < math.pi / 2:
            raise ValueError("middle must be above 0 and below pi/2, about 1.5708")


@dataclass(frozen=True)
class SCMOptions:
    """Options of trainer scm."""

    w_min: float = 0.0
    """Lower end of the guidance w = s - 1 drawn in training. Paper, ImageNet 512: s from 1 to 2, an input of the student."""
    w_max: float = 1.0
    """Upper end. Equal to w_min: one guidance, baked in; the student is sampled with guidance 1."""
    w_start: Literal["random", "zero"] = "random"
    """Start of the map of the guidance embedding, where the guidance is an input."""
    p_mean: float = -1.0
    """Mean of ln tan(angle) of the times drawn. Paper, CIFAR-10: -1."""
    p_std: float = 1.4
    """Its standard deviation. Paper, CIFAR-10: 1.4."""
    derivative: Literal["auto", "jvp", "finite", "backward"] = "auto"
    """Derivative of the student along the path: jvp, exact (2 passes); finite, a central difference (2 passes); backward, a
    difference to earlier times, which is stable where the others are not (1 pass, 2 under autocast). auto: jvp, but
    finite where the U-Net's attention or a compiled block has no forward mode."""
    width: float = 0.01
    """Step of a difference, to each side or backward, in ln tan(angle)."""
    warmup: int = 10_000
    """Steps over which the derivative's share of the tangent grows from 0 to 1. Paper: 10,000."""
    normalise: Literal["rms", "l2"] = "rms"
    """Norm of the tangent g in g / (norm + c), of a sample: root mean square, or length."""
    tangent_c: float = 0.1
    """The c there. Paper: 0.1."""
    adaptive: bool = True
    """Learn the weight exp(w(t)) of the loss over time, as the paper does, by a small network of ln tan(angle)."""
    adaptive_lr: float = 1e-3
    """Learning rate of that network. Ours."""
    weight: Literal["one", "alpha", "snr-clipped"] = "one"
    """A fixed weight beside it. one: the paper. alpha: cos(angle), which evens out the gradient over t of a network that predicts noise."""
    lr: float = 1e-4
    """AdamW learning rate."""

    def __post_init__(self) -> None:
        if not 0 <= self.w_min <= self.w_max:
            raise ValueError("need 0 <= w_min <= w_max")
        if self.p_std <= 0 or not math.isfinite(self.p_mean) or not math.isfinite(self.p_std):
            raise ValueError("p_mean must be a number and p_std a number above 0")
        if not 0 < self.width <= 1 or self.warmup < 0 or self.tangent_c < 0:
            raise ValueError("need 0 < width <= 1, warmup >= 0 and tangent_c >= 0")
        if min(self.lr, self.adaptive_lr) <= 0:
            raise ValueError("lr and adaptive_lr must be above 0")
