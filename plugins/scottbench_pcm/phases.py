"""The phases of a time axis: where they end, and at which times a training looks at them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scottbench.diffusion import Schedule, even_edges


@dataclass(frozen=True)
class Phases:
    """The times at which a student is trained, K of them, each with the phase that it is in."""

    times: Tensor
    """(K,) int64: in each phase from its upper edge down in steps of `skip`, the lower edge left out."""
    ends: Tensor
    """(K,) int64: the lower edge of the phase, to which f maps."""
    tops: Tensor
    """(K,) int64: its upper edge."""

    @classmethod
    def of(cls, schedule: Schedule, phases: int, skip: int) -> Phases:
        """Cut a schedule's times into phases; with one phase the times are LCM's grid."""
        bounds = even_edges(schedule, phases)
        rows = [(t, low, high) for low, high in zip(bounds, bounds[1:]) for t in range(high, low, -skip)]
        return cls(*torch.tensor(rows, dtype=torch.int64).unbind(1))
