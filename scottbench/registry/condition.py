"""The part of a network's input that comes from prompts, as one object: `TextCondition`.

Stable Diffusion 1.x and 2.x have hidden states alone; Stable Diffusion XL has a pooled embedding and the sizes of its picture beside them.
Trainers written when a condition was a tensor (N,L,D) go on working: where there are hidden states alone, torch's functions and the
methods of a tensor take the object for them. Where there is more, nothing that would lose it is done: one line says what to use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from scottbench.errors import UsageError


@dataclass(frozen=True, eq=False)
class TextCondition:
    """Embeddings of n prompts. Index it, concatenate it (`torch.cat`), move it, expand it: all its parts go along."""

    hidden: Tensor
    """(n,L,D): for cross-attention."""
    pooled: Tensor | None = None
    """(n,P): one vector a prompt, for networks that take one; None for others."""
    ids: Tensor | None = None
    """(n,6): height and width of the original picture, top and left of the crop, height and width of the target, in pixels; or None."""

    @classmethod
    def of(cls, text: TextCondition | Tensor) -> TextCondition:
        """Take hidden states (n,L,D) for a condition of nothing else."""
        return text if isinstance(text, TextCondition) else cls(text)

    @property
    def parts(self) -> list[Tensor]:
        """List the tensors that are there: hidden states (n,L,D), then, where the model takes them, pooled (n,P) and ids (n,6)."""
        return [part for part in (self.hidden, self.pooled, self.ids) if part is not None]

    def map(self, change: Callable[[Tensor], Tensor]) -> TextCondition:
        """Apply a function to each part that is there, of any shape."""
        pooled, ids = (None if part is None else change(part) for part in (self.pooled, self.ids))
        return TextCondition(change(self.hidden), pooled, ids)

    def __len__(self) -> int:
        return len(self.hidden)

    @overload
    def __getitem__(self, places: slice | Sequence[int] | Tensor) -> TextCondition: ...
    @overload
    def __getitem__(self, places: int | tuple[Any, ...]) -> Tensor: ...
    def __getitem__(self, places: Any) -> TextCondition | Tensor:
        """Choose prompts, by a slice, a list or a tensor of places. A number, or places along several axes, choose among hidden states
        (n,L,D) that are alone. Raises UsageError where they are not."""
        if isinstance(places, (int, tuple)):
            return alone(self, "text[...]")[places]
        return self.map(lambda part: part[places])

    def to(self, *place: Any, **more: Any) -> TextCondition:
        """Move to a device, or change the number format: arguments as of a tensor's `to`."""
        return self.map(lambda part: part.to(*place, **more))

    def expand(self, n: int, *_: int) -> TextCondition:
        """Repeat the only prompt n times without copying it; further numbers, as a tensor takes them, say nothing."""
        return self.map(lambda part: part.expand(n, *part.shape[1:]))

    def expand_as(self, other: TextCondition | Tensor) -> TextCondition:
        """Repeat the only prompt as often as another condition (n,L,D) has prompts."""
        return self.expand(len(other))

    def repeat(self, times: int, *_: int) -> TextCondition:
        """Put all prompts one after another, so many times."""
        return self.map(lambda part: part.repeat(times, *[1] * (part.dim() - 1)))

    def __mul__(self, other: Any) -> Tensor:
        """Multiply hidden states (n,L,D) that are alone, as `text * mask` of a tensor. Raises UsageError where they are not."""
        return alone(self, "text * ...") * other

    def __add__(self, other: Any) -> Tensor:
        """Add to hidden states (n,L,D) that are alone, as `text + noise` of a tensor. Raises UsageError where they are not."""
        return alone(self, "text + ...") + other

    __rmul__, __radd__ = __mul__, __add__

    @property
    def nbytes(self) -> int:
        """Count the bytes of all parts."""
        return sum(part.nbytes for part in self.parts)

    def __getattr__(self, name: str) -> Any:
        """Look up what a tensor has (`shape`, `device`, `float`), for trainers that take text for one."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(alone(self, f"text.{name}"), name)

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Join conditions by torch.cat; let every other function of torch see the hidden states."""
        if function in (torch.cat, torch.concat, torch.concatenate) and all(isinstance(part, TextCondition) for part in args[0]):
            return joined(args[0])
        name = f"torch's {getattr(function, '__name__', function)}"
        return function(*_unpacked(args, name), **_unpacked(kwargs or {}, name))


def joined(parts: Sequence[TextCondition | Tensor]) -> TextCondition:
    """Put the prompts of several conditions, or tensors (n,L,D), one after another. Raises UsageError where some lack a part that others
    have."""
    found = [TextCondition.of(part) for part in parts]
    pooled, ids = ([part for part in column if part is not None] for column in zip(*((one.pooled, one.ids) for one in found), strict=True))
    if not {len(pooled), len(ids)} <= {0, len(found)}:
        raise UsageError("some of these text conditions have a pooled embedding and others have none: they are of different models.")
    return TextCondition(torch.cat([one.hidden for one in found]), torch.cat(pooled) if pooled else None, torch.cat(ids) if ids else None)


def alone(text: TextCondition, what: str) -> Tensor:
    """Return the hidden states (n,L,D) of a condition that has nothing else. Raises UsageError, which names what asked for a tensor."""
    if text.pooled is not None:
        raise UsageError(
            f"{what}: this model's text condition is more than one tensor (a pooled embedding beside the hidden states), so it needs code "
            "that hands the TextCondition on whole, as network(), predictor() and run_unet() do. See plugins/README.md.")
    return text.hidden


def _unpacked(given: Any, name: str) -> Any:
    if isinstance(given, TextCondition):
        return alone(given, name)
    if isinstance(given, dict):
        return {key: _unpacked(value, name) for key, value in given.items()}
    return type(given)(_unpacked(value, name) for value in given) if type(given) in (list, tuple) else given
