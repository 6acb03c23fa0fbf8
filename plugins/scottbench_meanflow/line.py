"""The straight line of flow matching and the teacher's variance-preserving path: one path in two coordinates.

On the line t = 0 is data and t = 1 is noise, X_t = (1 - t) x0 + t eps, velocity v = eps - x0 (Geng et al. 2025). The teacher's point of the
same noise-to-signal ratio lambda = t / (1 - t) is z = X_t / n, n = sqrt((1 - t)^2 + t^2), at the angle arctan(lambda). Both x0 and eps are
the same there, so v is read off the teacher's output as it is. All t are (N,) float64; coefficients are (N,1,1,1) float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from scottbench.diffusion import scale

Interval = TypeVar("Interval", float, Tensor)


@dataclass(frozen=True)
class Point:
    """A time on the line: its length n, its angle, and how the two change with t."""

    t: Tensor
    n: Tensor
    """sqrt((1 - t)^2 + t^2)."""
    dn: Tensor
    angle: Tensor
    """(N,) float64, arctan(t / (1 - t)); its change with t is 1 / n^2."""

    @classmethod
    def at(cls, t: Tensor) -> Point:
        """Return the point of times (N,)."""
        column = t.double().view(-1, 1, 1, 1)
        n = (column**2 + (1 - column) ** 2).sqrt()
        return cls(column, n, (2 * column - 1) / n, torch.atan2(t.double(), 1 - t.double()))

    def from_line(self, x: Tensor) -> Tensor:
        """Return the teacher's z, (N,C,h,w), of X."""
        return scale(1 / self.n, x)

    def direction(self, x: Tensor, v: Tensor) -> Tensor:
        """Return dz/dt, (N,C,h,w), where X moves by v."""
        return scale(1 / self.n, v) - scale(self.dn / self.n**2, x)


@dataclass(frozen=True)
class LineVelocity:
    """v = eps - x0 = a out + b z from a network's raw output at z, and how a and b change with t; each (N,1,1,1) float64."""

    a: Tensor
    b: Tensor
    da: Tensor
    db: Tensor

    @classmethod
    def of(cls, point: Point, prediction: str) -> LineVelocity:
        """Return it at a point, for a network that predicts "epsilon", "v_prediction" or "sample"."""
        cos, sin, turn = (1 - point.t) / point.n, point.t / point.n, 1 / point.n**2
        if prediction == "epsilon":  # x0 = (z - sin out) / cos
            return cls(1 + sin / cos, -1 / cos, turn / cos**2, -turn * sin / cos**2)
        if prediction == "v_prediction":  # eps = cos out + sin z, x0 = cos z - sin out
            return cls(cos + sin, sin - cos, turn * (cos - sin), turn * (cos + sin))
        assert prediction == "sample", prediction
        safe = sin.clamp_min(1e-6)
        return cls(-1 - cos / safe, 1 / safe, turn / safe**2, -turn * cos / safe**2)

    def __call__(self, output: Tensor, z: Tensor) -> Tensor:
        """Return v, (N,C,h,w), of the output at z."""
        return scale(self.a, output) + scale(self.b, z)

    def change(self, output: Tensor, z: Tensor, d_output: Tensor, dz: Tensor) -> Tensor:
        """Return dv/dt, (N,C,h,w), where output and z change by d_output and dz while t changes by 1."""
        return scale(self.da, output) + scale(self.db, z) + scale(self.a, d_output) + scale(self.b, dz)


def last_time(lam: float) -> float:
    """Return the time on the line of a noise-to-signal ratio: t = lambda / (1 + lambda)."""
    return lam / (1 + lam)


def embedded_interval(interval: Interval, interval_scale: float) -> Interval:
    """Return the number that is embedded as a guidance is, and so multiplied by 1000, for intervals t - r; a float, or (N,)."""
    return interval * (interval_scale / 1000)
