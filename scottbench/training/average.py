"""An average of the student's weights, apart from any target network: what is exported need not be what is trained towards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


def ramped(limit: float, updates: int) -> float:
    """Return the decay of an average at update number `updates`: min(limit, (1 + u) / (10 + u)), so that it forgets the start soon."""
    return min(limit, (1 + updates) / (10 + updates))


class Average:
    """Moving average of tensors of any shape, with the decay `ramped`."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], limit: float):
        self.parameters, self.limit = list(parameters), limit
        self.tensors = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take one step towards the parameters after their update number `updates`, counted from 1."""
        torch._foreach_lerp_(self.tensors, [p.detach() for p in self.parameters], 1 - ramped(self.limit, updates))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the place of the parameters inside."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange parameters and averages, in place: optimizers and adapters keep their tensors."""
        for parameter, mean in zip(self.parameters, self.tensors, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(kept)
