"""Tensors from the CPU to where a network runs: all of a step in one copy, through pinned memory, without waiting for it."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Tree = TypeVar("Tree")
ALIGNED = 256
"""Bytes at which each tensor of a parcel begins, as the allocator of a GPU has it."""


@dataclass(frozen=True)
class Parcel:
    """Tensors of the CPU laid out one behind another, with the structure (lists, tuples, dicts, dataclasses) that they are of."""

    buffer: Tensor
    """(bytes,) uint8, pinned where there is a GPU."""
    places: list[tuple[int, torch.Size, torch.dtype]]
    tree: Any

    def sent(self, device: torch.device | str) -> Any:
        """Return the structure with its tensors on a device. Nothing waits for the copy."""
        there = self.buffer.to(device, non_blocking=True)
        return _rebuilt(self.tree, iter([_view(there, *place) for place in self.places]))


def packed(tree: Any) -> Parcel:
    """Lay the tensors of a structure, of any shape and on the CPU, into one buffer."""
    tensors = [tensor.detach().contiguous() for tensor in _leaves(tree)]
    places, size = [], 0
    for tensor in tensors:
        places.append((size, tensor.shape, tensor.dtype))
        size += -(-tensor.nbytes // ALIGNED) * ALIGNED
    buffer = torch.empty(size, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
    for tensor, place in zip(tensors, places, strict=True):
        _view(buffer, *place).copy_(tensor)
    return Parcel(buffer, places, tree)


def sent(tree: Tree, device: torch.device | str) -> Tree:
    """Return a structure of tensors of the CPU, of any shapes, on a device; on a CPU itself."""
    kind = torch.device(device).type
    if kind == "meta":  # costs are counted there, by shapes alone
        return cast(Tree, _rebuilt(tree, iter([leaf.to(device) for leaf in _leaves(tree)])))
    return tree if kind == "cpu" else cast(Tree, packed(tree).sent(device))


class Ahead:
    """Random numbers that were drawn on the CPU before they are needed, and are on the device together. They are taken in their order."""

    def __init__(self, draws: Sequence[Tensor], device: torch.device | str):
        self.left = deque(sent(list(draws), device))

    def take(self) -> Tensor:
        """Return the next of them, of any shape: that in which it was drawn."""
        return self.left.popleft()


def _view(buffer: Tensor, start: int, shape: torch.Size, kind: torch.dtype) -> Tensor:
    return buffer[start : start + shape.numel() * kind.itemsize].view(kind).view(shape)


def _leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for item in dataclasses.fields(tree):
            yield from _leaves(getattr(tree, item.name))
    elif isinstance(tree, (list, tuple, dict)):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(part)


def _rebuilt(tree: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return next(tensors)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return dataclasses.replace(tree, **{item.name: _rebuilt(getattr(tree, item.name), tensors) for item in dataclasses.fields(tree)})
    if isinstance(tree, dict):
        return {key: _rebuilt(part, tensors) for key, part in tree.items()}
    return type(tree)(_rebuilt(part, tensors) for part in tree) if isinstance(tree, (list, tuple)) else tree
