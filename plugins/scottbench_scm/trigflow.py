"""TrigFlow (Lu & Song 2024) on a variance-preserving schedule, for data of deviation 1.

The time is an angle: x_t = cos(t) x0 + sin(t) eps, which is the schedule's own z with alpha = cos(t), sigma = sin(t) and lambda =
tan(t). So nothing is rescaled. The velocity is dx/dt = cos(t) eps - sin(t) x0, and the consistency function f = cos(t) x - sin(t) F is
the prediction x0 of the network whose velocity is F.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scottbench.diffusion import scale


@dataclass(frozen=True)
class Velocity:
    """F = a out + b x, the velocity from a network's raw output, and how a and b change with the angle; each (N,1,1,1) float64."""

    a: Tensor
    b: Tensor
    da: Tensor
    db: Tensor

    @classmethod
    def of(cls, angle: Tensor, prediction: str) -> Velocity:
        """Return it at angles (N,), for a network that predicts "epsilon", "v_prediction" or "sample"."""
        t = angle.double().view(-1, 1, 1, 1)
        sin, cos = t.sin(), t.cos()
        if prediction == "epsilon":
            return cls(1 / cos, -sin / cos, sin / cos**2, -1 / cos**2)
        if prediction == "v_prediction":
            return cls(torch.ones_like(t), torch.zeros_like(t), torch.zeros_like(t), torch.zeros_like(t))
        assert prediction == "sample", prediction
        return cls(-1 / sin, cos / sin, cos / sin**2, -1 / sin**2)

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """Return F, (N,C,h,w), of the output at x."""
        return scale(self.a, output) + scale(self.b, x)

    def change(self, output: Tensor, x: Tensor, d_output: Tensor, dx: Tensor, d_angle: Tensor) -> Tensor:
        """Return dF, (N,C,h,w), where output, x and angle change by d_output, dx and d_angle (N,1,1,1)."""
        return scale(d_angle * self.da, output) + scale(d_angle * self.db, x) + scale(self.a, d_output) + scale(self.b, dx)


def tangent(angle: Tensor, x: Tensor, velocity: Tensor, dx: Tensor, change: Tensor, share: float) -> Tensor:
    """Return cos(t) df/dt, (N,C,h,w): how the consistency function moves along the path, of which `share` of the part that needs a
    derivative is taken (sCM, tangent warm-up).

    angle (N,); x, velocity F and the path's direction dx/dt (N,C,h,w); change: cos(t) sin(t) dF/dt. df/dt = -cos(t) (F - dx/dt) - sin(t)
    (x + dF/dt).
    """
    t = angle.double().view(-1, 1, 1, 1)
    return -scale(t.cos() ** 2, velocity - dx) - share * (scale(t.cos() * t.sin(), x) + change)


def normalised(g: Tensor, c: float, norm: str) -> Tensor:
    """Return g / (|g| + c) of each sample, (N,C,h,w). norm: "rms", root mean square over a sample's elements, or "l2"."""
    length = g.flatten(1).norm(dim=1)
    length = length / g[0].numel() ** 0.5 if norm == "rms" else length
    return g / (length + c).clamp_min(1e-20).view(-1, 1, 1, 1)
