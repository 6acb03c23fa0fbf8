"""Coupled pairs (noise, data at the end of an ODE) of a training: in memory, and in its folder for a resumed training."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from scottbench.errors import DamagedAsset, Incomplete

KEYS = ("noise", "data", "w", "items")


class Pairs:
    """Pairs in the order they were made. noise, data (N,C,h,w) float32; w (N,) float32 = s - 1; items (N,) int64, whose prompts the
    data were made for. One safetensors file per batch: folder/00000.safetensors, ...; folder None keeps them in memory only."""

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
            self.write(self.path(self.folder, len(self.batches)), batch)
        self.batches.append(batch)
        self.table = None

    @staticmethod
    def write(path: Path, batch: dict[str, Tensor]) -> None:
        """Write one batch, of the shapes of `add`. Raises Incomplete where it cannot be written."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(batch, path.with_suffix(".new"))
            os.replace(path.with_suffix(".new"), path)
        except (OSError, SafetensorError) as error:
            raise Incomplete(f"cannot write the pairs {path}: {error}. Make room and go on with --resume.") from None

    def load(self, batches: int) -> None:
        """Read the first `batches` batches from the folder, in place of those that are here. Raises DamagedAsset where one cannot be
        read, or where there is no folder."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.batches, self.table = [], None
        if self.folder is None:
            raise DamagedAsset("pairs that were kept in memory only are lost. Start again without --resume, in another --out.")
        for number in range(batches):
            path = self.path(self.folder, number)
            try:
                batch = load_file(path)
                self.batches.append({key: batch[key] for key in KEYS})
            except (OSError, KeyError, SafetensorError) as error:
                raise DamagedAsset(f"cannot read the pairs {path} ({error}). Start again without --resume, in another --out.") from None

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n pairs with replacement, {"noise", "data": (n,C,h,w), "w", "items": (n,)}. The coupling is kept: noise i always comes
        with data i."""
        table = self.table
        if table is None:
            table = self.table = {key: torch.cat([batch[key] for batch in self.batches]) for key in KEYS}
        chosen = torch.randint(len(self), (n,), generator=generator)
        return {key: tensor[chosen] for key, tensor in table.items()}
