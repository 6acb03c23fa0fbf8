"""A training split that is read while it is trained on: pictures decoded, broken ones replaced and counted, its place in checkpoints."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scottbench.errors import DamagedAsset, ScottbenchWarning, UsageError
from scottbench.registry.nouns import StreamedItems
from scottbench.text import one_line
from scottbench.training.order import Order, Shards


class Stream:
    """Items of a data set in shards, in the order of a training. held_out: (h,) int64 indices that are never trained on."""

    def __init__(self, items: StreamedItems, held_out: Tensor, seed: int):
        self.items, self.seed = items, seed
        self.shards = Shards(np.asarray(items.shards, np.int64), np.sort(held_out.numpy()), seed)
        self.order: Order | None = None
        self.first = 0
        """Number of this process's first lane."""
        self.skipped = 0
        """Broken items that this process has met so far."""
        self.told = False

    def cut(self, lanes: int, rows: int, first: int = 0) -> None:
        """Cut epochs into lanes, one a micro-batch, of which this process reads those from `first` on. rows: items of a micro-batch. Raises
        UsageError for an epoch without a step."""
        self.order, self.first = Order(self.shards, lanes, rows, self.items.buffer, self.items.broken), first
        if self.order.course.steps < 1:
            raise UsageError(
                f"the training split has {len(self.shards)} items beside those held out, too few for a batch of {lanes * rows}. "
                "Use a smaller --batch-size.")

    def opened(self) -> Order:
        """Return the order. Raises AssertionError before `cut`."""
        assert self.order is not None
        return self.order

    def parts(self, step: int, count: int) -> list[Tensor]:
        """Return the indices of this process's micro-batches of a step, (N,) int64 each; `read` may put others in their place."""
        order = self.opened()
        return [torch.from_numpy(order.part(step, lane)) for lane in range(self.first, self.first + count)]

    def read(self, step: int, number: int, indices: Tensor) -> tuple[Tensor, np.ndarray, int, int]:
        """Decode a micro-batch, the process's `number`-th of a step: ((N,) int64 indices, (N,H,W,3) uint8, spares that its lane has used in
        this epoch, broken items met). Raises DamagedAsset where more are broken than there are spares."""
        order, lane, chosen = self.opened(), self.first + number, indices.tolist()
        spent, met = order.spent(step, lane), 0
        pictures = list(self.items.readable(chosen))
        for place in [place for place, picture in enumerate(pictures) if picture is None]:
            while pictures[place] is None:
                met += 1
                spare = order.spare_item(step, lane, spent)
                if spare is None:
                    raise self.too_many(chosen[place])
                spent, chosen[place] = spent + 1, spare
                pictures[place] = self.items.readable([spare])[0]
        return torch.tensor(chosen), np.stack([picture for picture in pictures if picture is not None]), spent, met

    def too_many(self, item: int) -> DamagedAsset:
        """Return the error for a stream with more broken items than its bound."""
        return DamagedAsset(
            f"more than {self.items.broken:.1%} of the items of this epoch are broken; the last is '{one_line(self.items.ids[item])}'"
            f"{self.reason()}. Fetch those shards again, or allow more with the dataset's option broken.")

    def reason(self) -> str:
        """Say in words what the first broken item has; "" where the data set does not tell."""
        known = getattr(self.items, "reasons", {})
        name, why = next(iter(known.items()), ("", ""))
        return f" (the first: {one_line(name)} {one_line(why)[:120]})" if name else ""

    def note(self, step: int, spent: Sequence[int], met: int) -> None:
        """Note what the micro-batches of a step that is trained now have used. spent: spares of each lane, met: broken items of all."""
        for number, count in enumerate(spent):
            self.opened().note(step, self.first + number, count)
        self.skipped += met
        if met and not self.told:
            self.told = True
            warnings.warn(ScottbenchWarning(
                f"an item of the stream is broken{self.reason()}; spares take the place of such items, up to {self.items.broken:.1%} of an "
                "epoch. The log counts them (data/skipped)."), stacklevel=2)

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def state(self, step: int) -> dict[str, Any]:
        """Return the place in the stream after so many steps, for a checkpoint; of spares those of this process."""
        return self.opened().state(step) | {"skipped": self.skipped}

    def resume(self, state: Mapping[str, Any] | None, step: int) -> None:
        """Go on where a checkpoint after so many steps was; a warning says where the order is another one now. Raises ValueError."""
        if state is None:
            raise ValueError("it has no place in the stream")
        skipped = state.get("skipped")
        if type(skipped) is not int or not 0 <= skipped <= 2**53:
            raise ValueError(f"the number of skipped items cannot be {str(skipped)[:40]}")
        changed = self.opened().resume(state, step)
        self.skipped = skipped if self.first == 0 else 0
        if changed:
            warnings.warn(ScottbenchWarning(
                "the training goes on with another number of micro-batches (processes x --accumulate): the order of items is another from "
                "here on, no item comes twice in this epoch, and the rest of a shuffle buffer is left out of it."), stacklevel=2)


def hold_out(items: StreamedItems, count: int, seed: int) -> Tensor:
    """Choose about `count` items of a stream that can be read: their indices, (h,) int64. Raises DamagedAsset where too many cannot."""
    n = len(items.ids)
    drawn = np.random.default_rng([seed, 1]).choice(n, size=count, replace=False).tolist() if count else []
    found = [item for item, picture in zip(drawn, items.readable(drawn), strict=True) if picture is not None]
    # of few items a single one may be broken, whatever the share
    if len(found) < len(drawn) - max(1, math.ceil(3 * items.broken * len(drawn))):
        broken = next(item for item in drawn if item not in set(found))
        raise DamagedAsset(
            f"{len(drawn) - len(found)} of {len(drawn)} items that were looked at cannot be read, '{one_line(items.ids[broken])}' "
            "among them. Fetch the shards again, or allow more with the dataset's option broken.")
    return torch.tensor(found, dtype=torch.int64)
