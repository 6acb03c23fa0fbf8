"""The batches of a training, where it runs: all of a step in one copy, and on a GPU that of the next step made ready beside the present."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from scottbench.models.transfer import Parcel, packed, sent
from scottbench.training.data import Data, Encoded, Rows


class Feed:
    """Rows of a training split by step. parts: step -> indices of each of its micro-batches, (N,) int64 each."""

    def __init__(self, data: Data, device: str, parts: Callable[[int], Sequence[Tensor]], ahead: bool | None = None):
        self.data, self.device, self.parts = data, device, parts
        # on a CPU the thread would take the time that the networks need
        self.ahead = torch.device(device).type != "cpu" if ahead is None else ahead
        self.pool: ThreadPoolExecutor | None = None
        self.waiting: tuple[int, Future[Any]] | None = None

    def batches(self, step: int) -> list[Encoded]:
        """Return the micro-batches of a step."""
        if not self.ahead:
            read = self.data.read(self.parts(step), step)
            self.data.note(step, read)
            return self.data.placed(sent([rows.tensors for rows in read], self.device), read, self.device)
        if self.waiting is not None and self.waiting[0] == step:
            read, parcel = self.waiting[1].result()
        else:
            read, parcel = self.pack(step)
        # what is read ahead must know which spares are taken
        self.data.note(step, read)
        if self.pool is None:
            self.pool = ThreadPoolExecutor(1, "batches")
        self.waiting = step + 1, self.pool.submit(self.pack, step + 1)
        return self.data.placed(parcel.sent(self.device), read, self.device)

    def pack(self, step: int) -> tuple[list[Rows], Parcel]:
        """Read the rows of a step, (N,...) each, into pinned memory."""
        read = self.data.read(self.parts(step), step)
        return read, packed([rows.tensors for rows in read])

    def close(self) -> None:
        """End the thread."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            self.pool = self.waiting = None
