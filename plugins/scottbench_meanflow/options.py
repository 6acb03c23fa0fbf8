"""Options of MeanFlow's sampler and trainer. Where the paper states no value the field says so; see README."""

import math
from dataclasses import dataclass
from typing import Literal

INTERVAL_SCALE = 10.0
"""The interval t - r is multiplied by this before it is embedded. Ours."""


@dataclass(frozen=True)
class SamplerOptions:
    """Options of method meanflow."""

    interval_scale: float = INTERVAL_SCALE
    """As of trainer meanflow. Not named: what the student's student.json says, else this."""

    def __post_init__(self) -> None:
        if not 0 < self.interval_scale <= 1000:
            raise ValueError("need 0 < interval_scale <= 1000")


@dataclass(frozen=True)
class MeanFlowOptions:
    """Options of trainer meanflow."""

    w: float = 1.5
    """Guidance w = s - 1 of the teacher's velocity, baked in: the student is sampled with guidance 1."""
    different: float = 0.25
    """Share of a batch with r < t; for the rest r = t, and the average velocity is the velocity itself. Paper: 0.25."""
    to_data: float = 0.0
    """Share of those with r = 0, whose interval reaches the data: what one-step sampling asks, and two drawn times seldom are. Paper: 0."""
    times: Literal["lognorm", "uniform"] = "lognorm"
    """Law of the two times: logit-normal, or uniform. Paper: logit-normal."""
    p_mean: float = -0.4
    """Mean of ln(t / (1 - t)), of lognorm. Paper: -0.4."""
    p_std: float = 1.0
    """Its standard deviation. Paper: 1."""
    power: float = 1.0
    """p of the adaptive weight 1 / (|error|^2 + c)^p. Paper: 1; 0.5: each item pulls alike; 0 is the mean square."""
    power_c: float = 1e-3
    """The c there. Paper: 1e-3."""
    weight: Literal["one", "alpha"] = "one"
    """A fixed weight beside it. one: the paper. alpha: the teacher's alpha at t, which evens out the gradient of a network that predicts
    noise, whose velocity is noise / (1 - t)."""
    derivative: Literal["auto", "jvp", "finite", "backward"] = "auto"
    """Derivative of u along the path: jvp, exact (2 passes); finite, a central difference (2 passes); backward, a
    difference to earlier times, which is stable where the others are not (1 pass, 2 under autocast). auto: jvp, but finite where
    the U-Net's attention or a compiled block has no forward mode. Paper: jvp."""
    width: float = 0.01
    """Step of a difference, to each side or backward, in ln(t / (1 - t))."""
    interval_start: Literal["zero", "random"] = "zero"
    """Start of the map of the interval's embedding: at zero the student starts as its teacher, whatever r is."""
    interval_scale: float = INTERVAL_SCALE
    """The interval t - r is multiplied by this before it is embedded as a guidance is. 1000 would make du/dt of the embedding large."""
    lr: float = 1e-4
    """AdamW learning rate. Paper: 1e-4."""
    beta2: float = 0.95
    """Second beta of AdamW. Paper: 0.95."""

    def __post_init__(self) -> None:
        if self.w < 0 or not math.isfinite(self.w):
            raise ValueError("w must be a number of at least 0")
        if not 0 <= self.different <= 1 or not 0 <= self.to_data <= 1:
            raise ValueError("need 0 <= different <= 1 and 0 <= to_data <= 1")
        if not 0 <= self.beta2 < 1 or self.lr <= 0:
            raise ValueError("need 0 <= beta2 < 1 and lr > 0")
        if self.p_std <= 0 or not math.isfinite(self.p_mean) or not math.isfinite(self.p_std):
            raise ValueError("p_mean must be a number and p_std a number above 0")
        if self.power < 0 or self.power_c <= 0 or not 0 < self.width <= 1 or not 0 < self.interval_scale <= 1000:
            raise ValueError("need power >= 0, power_c > 0, 0 < width <= 1 and 0 < interval_scale <= 1000")
