"""Every random number of a run: a function of (seed, item id, draw) and nothing else.

So an image depends neither on batch size nor on order, shards, workers or resumption. Drawn on the CPU in float32 for every
device: GPU generators give other streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scottbench.models.transfer import sent


def item_seed(seed: int, item_id: str, draw: int) -> int:
    """Return the 63-bit seed of one draw: the head of sha256("seed/draw/id")."""
    digest = hashlib.sha256(f"{seed}/{draw}/{item_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class ItemNoise:
    """Callable noise of a micro-batch: noise(k) -> (N, *shape) float32 standard normal; k = 0 is z_T, k >= 1 the steps'."""

    seed: int
    ids: Sequence[str]
    shape: tuple[int, ...]
    device: str = "cpu"

    def __call__(self, draw: int) -> Tensor:
        rows = []
        for item_id in self.ids:
            generator = torch.Generator().manual_seed(item_seed(self.seed, item_id, draw))
            rows.append(torch.randn(self.shape, generator=generator, dtype=torch.float32))
        return sent(torch.stack(rows), self.device)
