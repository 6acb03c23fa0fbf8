"""Coupled pairs (noise, data at the end of an ODE) of a training: in memory, and in its folder for a resumed training."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor

from scottbench.errors import DamagedAsset, ScottbenchWarning
from scottbench.training.tensors import damaged, read_tensors, write_tensors

KEYS = ("noise", "data", "w", "items")


class Pairs:
    """Pairs in the order they were made. noise, data (N,C,h,w) float32; w (N,) float32 = s - 1; items (N,) int64, whose prompts the
    data were made for. One safetensors file per batch, with its digest: folder/00000.safetensors, ...; folder None keeps them in memory
    only."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.batches: list[dict[str, Tensor]] = []
        self.table: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return sum(len(batch["items"]) for batch in self.batches)

    def path(self, folder: Path, number: int) -> Path:
        """Name the file of a batch; each process of a distributed training keeps its own pairs."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        process = f"-process{torch.distributed.get_rank()}" if distributed else ""
        return folder / f"{number:05d}{process}.safetensors"

    def add(self, noise: Tensor, data: Tensor, w: Tensor, items: Tensor) -> None:
        """Add one batch: noise, data (N,C,h,w), w (N,), items (N,). Raises Incomplete where it cannot be written."""
        batch = {key: tensor.cpu().contiguous() for key, tensor in zip(KEYS, (noise, data, w, items), strict=True)}
        if self.folder is not None:
            number = len(self.batches)
            write_tensors(self.path(self.folder, number), batch, facts_of(self.folder, number))
        self.batches.append(batch)
        self.table = None

    def load(self, batches: int, items: int | None = None) -> None:
        """Read the first `batches` batches from the folder, in place of those that are here. items: number of items of the training
        split, which no pair may exceed. Raises DamagedAsset where one cannot be read or is not what was written, or where there is no
        folder."""
        self.batches, self.table = [], None
        if self.folder is None:
            raise DamagedAsset("pairs that were kept in memory only are lost. Start again without --resume, in another --out.")
        unchecked = 0
        for number in range(batches):
            path = self.path(self.folder, number)
            batch, with_digest = read_tensors(path, KEYS, facts_of(self.folder, number))
            if not are_pairs(batch, items):
                raise damaged(path, "its tensors are no pairs of this training split")
            self.batches.append(batch)
            unchecked += not with_digest
        if unchecked:
            told = f"{unchecked} of {batches} files in {self.folder} have no digests (of an older version): they cannot be checked."
            warnings.warn(ScottbenchWarning(told), stacklevel=2)

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n pairs with replacement, {"noise", "data": (n,C,h,w), "w", "items": (n,)}. The coupling is kept: noise i always comes
        with data i."""
        table = self.table
        if table is None:
            table = self.table = {key: torch.cat([batch[key] for batch in self.batches]) for key in KEYS}
        chosen = torch.randint(len(self), (n,), generator=generator)
        return {key: tensor[chosen] for key, tensor in table.items()}


def facts_of(folder: Path, number: int) -> dict[str, str]:
    """Say which file of a set a batch is, for its metadata."""
    return {"pairs": folder.name, "batch": str(number)}


def are_pairs(batch: dict[str, Tensor], items: int | None) -> bool:
    """Tell whether tensors are of one batch of pairs: noise and data of one shape (N,C,h,w), w (N,) float32, items (N,) int64 of a split of
    so many."""
    noise, data, w, index = (batch[key] for key in KEYS)
    formed = noise.dim() == 4 and noise.shape == data.shape and w.shape == index.shape == noise.shape[:1] and len(index) > 0
    typed = all(tensor.dtype == torch.float32 for tensor in (noise, data, w)) and index.dtype == torch.int64
    return formed and typed and int(index.min()) >= 0 and (items is None or int(index.max()) < items)
