"""The numbers that a training logs and looks at: they stay on the device until they are asked for, in one copy of many steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor


@dataclass
class Noted:
    """A number of a step."""

    step: int
    name: str
    value: float | Tensor
    """A number, or 0-d, still on the device."""
    told: str | None
    """Its name in the error, where it is not finite and must be; None where it need not be."""


@dataclass
class Ledger:
    """Numbers in the order they were made. refuse: called with a step and a sentence where one that must be finite is not; raises."""

    refuse: Callable[[int, str], NoReturn]
    at_once: bool = False
    """Look at a number that must be finite when it is noted: before it changes a network, where looking costs nothing."""
    noted: list[Noted] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)
    """Values of the last step that was settled, means over what was noted under one name."""

    def note(self, step: int, name: str, value: float | Tensor, told: str | None = None) -> None:
        """Note a number, or a 0-d tensor. Raises as `refuse`, where numbers are looked at at once."""
        value = value.detach() if isinstance(value, Tensor) else value
        self.noted.append(Noted(step, name, value, told))
        if self.at_once and told is not None and not math.isfinite(value):
            self.refuse(step, f"{told} is {float(value)}")

    def settle(self) -> dict[str, float]:
        """Wait for the device once, look at every number, and return those of the last step. Raises as `refuse`, for the first that is
        wrong."""
        noted, self.noted = self.noted, []
        if not noted:
            return self.last
        tensors = [one.value.reshape(()).double() for one in noted if isinstance(one.value, Tensor)]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        found: dict[str, list[float]] = {}
        for one in noted:
            value = next(numbers) if isinstance(one.value, Tensor) else float(one.value)
            if one.told is not None and not math.isfinite(value):
                self.refuse(one.step, f"{one.told} is {value}")
            if one.step == noted[-1].step:
                found.setdefault(one.name, []).append(value)
        self.last = {name: sum(values) / len(values) for name, values in found.items()}
        return self.last
