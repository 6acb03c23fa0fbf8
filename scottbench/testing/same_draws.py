"""Draws that are the same for every item of a batch, whatever its size, so that one batch of 16 and two of 8 can be compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SameDraws(TorchFunctionMode):
    """Within it, what is drawn from a generator that is named is one row for all items: normal numbers by the number of the draw,
    permutations and uniform numbers the middle of their range. Draws from the global generator are as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}
        self.kept: list[torch.Generator] = []
        """The generators seen: none may give its place to another."""
        self.after_permutation = False

    def number(self, generator: torch.Generator) -> int:
        """Count the draws of a generator."""
        if id(generator) not in self.counts:
            self.kept.append(generator)
        self.counts[id(generator)] = self.counts.get(id(generator), 0) + 1
        return self.counts[id(generator)]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {} if kwargs is None else dict(kwargs)
        generator = kwargs.get("generator")
        name = getattr(func, "__name__", "")
        if generator is None or name not in DRAWS:
            return func(*args, **kwargs)
        made = func(*args, **kwargs)
        return self.same(name, made, self.number(generator), kwargs, args)

    def same(self, name: str, made: Tensor, number: int, kwargs: Any, args: Any) -> Tensor:
        """Put one row for all in the place of what was drawn, (N,...)."""
        after, self.after_permutation = self.after_permutation, name == "randperm"
        if name == "randperm":
            return torch.full_like(made, len(made) // 2)
        if name in ("randn", "normal", "normal_", "randn_like"):
            row = torch.randn(made.shape[1:], generator=torch.Generator().manual_seed(number)).to(made)
            return made.copy_(row.expand_as(made))
        if name in ("rand", "uniform_", "rand_like"):
            # after a permutation, a place within an equal part: its beginning, whatever the number of parts
            return made.fill_(0.0 if after else 0.5)
        if name == "bernoulli":
            return made.fill_(1.0)
        whole = [one for one in (*args, kwargs.get("low"), kwargs.get("high")) if isinstance(one, int)]
        low, high = (0, whole[0]) if len(whole) == 1 else (whole[0], whole[1]) if whole else (0, 2)
        return made.fill_((low + high) // 2)


DRAWS = (
    "randperm", "randn", "normal", "normal_", "randn_like", "rand", "uniform_", "rand_like", "bernoulli", "randint", "random_",
    "multinomial",
)  # fmt: skip
"""Names of the functions that draw."""
