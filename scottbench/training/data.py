"""A training split as latents and text embeddings: encoded once, kept on disk under the digests of what made them.

A second training on the same model and data reads them back. They are memory-mapped, so that a set larger than the memory
(COCO's 118,000 captions take 28 GB) costs what a batch costs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from scottbench.errors import DamagedAsset, UsageError
from scottbench.models.diffusion_model import DiffusionModel, Text
from scottbench.models.transfer import sent
from scottbench.registry.condition import TextCondition
from scottbench.registry.nouns import Items
from scottbench.store.assets import cache_dir
from scottbench.text import one_line
from scottbench.training.encoded import CHUNK, Progress, alone, begin_cache, finish, keeping, note_what_is_lost, read_cache, refuse

PIXELS = 2**18
"""Pixels that the VAE encodes in one call: 64 images of 64x64, one of 512x512 (64 of those would take 40 GiB in float32)."""
HELD_OUT = 256
"""Training items that are never trained on: for a trainer's `evaluate` and for the metric curve."""


class Encoded(TypedDict):
    """Rows of a training split: the part of a `Batch` that comes from the data."""

    latents: torch.Tensor
    """(N,C,h,w) float32."""
    text: TextCondition
    """(N,L,D) float32."""
    uncond: TextCondition
    """(1,L,D) float32."""
    indices: torch.Tensor
    """(N,) int64."""


@dataclass
class Data:
    """A training split: (n,C,h,w) and (n,L,D) float32 arrays (memory-mapped), (1,L,D) float32."""

    latents: np.ndarray
    text: np.ndarray
    uncond: Text
    train: torch.Tensor
    """(m,) int64 indices trained on."""
    held_out: torch.Tensor
    """(n - m,) int64 indices never trained on."""
    pooled: np.ndarray | None = None
    """(n,P) float32, where the model takes one vector a prompt too."""

    def __post_init__(self) -> None:
        self.empty: dict[str, TextCondition] = {}
        """The condition of the unconditional pass by device: sent there once."""

    def batch(self, indices: torch.Tensor, device: str) -> Encoded:
        """Return the rows of indices (N,) int64, on `device`; the indices themselves stay as given."""
        return self.batches([indices], device)[0]

    def batches(self, parts: Sequence[torch.Tensor], device: str) -> list[Encoded]:
        """Return the rows of each of several (N,) int64 indices, on `device`, in one copy."""
        return self.placed(sent([self.rows(indices) for indices in parts], device), parts, device)

    def rows(self, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        """Read the rows of indices (N,) int64: latents (N,C,h,w), text (N,L,D) and, where there is, pooled (N,P)."""
        rows = indices.numpy()
        found = {"latents": torch.from_numpy(self.latents[rows]), "text": torch.from_numpy(self.text[rows])}
        return found if self.pooled is None else found | {"pooled": torch.from_numpy(self.pooled[rows])}

    def placed(self, rows: Sequence[dict[str, torch.Tensor]], parts: Sequence[torch.Tensor], device: str) -> list[Encoded]:
        """Make batches of rows that are on `device`, (N,...) each; parts: their indices, (N,) int64."""
        uncond = self.on(device)
        made: list[Encoded] = []
        for one, indices in zip(rows, parts, strict=True):
            made.append({"latents": one["latents"], "text": self.condition(one, uncond), "uncond": uncond, "indices": indices})
        return made

    def condition(self, rows: dict[str, torch.Tensor], uncond: TextCondition) -> TextCondition:
        """Return the (N,L,D) condition of rows, with the sizes that `uncond`, (1,L,D), has."""
        if "pooled" not in rows or uncond.ids is None:
            return TextCondition(rows["text"])
        # all pictures of a model have one size
        return TextCondition(rows["text"], rows["pooled"], uncond.ids.expand(len(rows["text"]), -1))

    def on(self, device: str) -> TextCondition:
        """Return the (1,L,D) condition of the unconditional pass on a device."""
        if device not in self.empty:
            self.empty[device] = TextCondition.of(self.uncond).to(device)
        return self.empty[device]

    def texts(self, indices: torch.Tensor, device: str) -> TextCondition:
        """Return the (N,L,D) condition of the prompts of indices (N,) int64, on `device`."""
        rows = {name: tensor for name, tensor in self.rows(indices).items() if name != "latents"}
        return self.condition(sent(rows, device), self.on(device))


def held_out_of(n: int, batch_size: int) -> int:
    """Count the items of a training split of n that are held out. Raises UsageError where those left are fewer than one batch."""
    held = min(HELD_OUT, n // 10)
    if n - held < batch_size:
        raise UsageError(
            f"the training split has {n} items ({n - held} after {held} held out), "
            f"fewer than one batch of {batch_size}. Use --batch-size {max(1, n - held)} or less."
        )
    return held


def open_data(model: DiffusionModel, items: Items, batch_size: int, seed: int, progress: Progress, main: bool = True) -> Data:
    """Open the training split, encoded or read back. Raises UsageError when it is smaller than one batch, or the cache cannot be
    written; Incomplete when the disk is full; DamagedAsset for an image without latents.

    main: whether this process encodes; of several processes one does, and the others call this when it has finished.
    """
    n = len(items.ids)
    held = held_out_of(n, batch_size)
    folder = encoded_folder(model, items)
    if main:
        encode_what_is_missing(model, items, folder, progress)
    cache = read_cache(folder, n)
    try:
        if cache is None:
            raise refuse(folder)
        arrays = cache.arrays()
    except (OSError, ValueError):
        raise refuse(folder) from None
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return Data(arrays["latents"], arrays["text"], empty_prompt(model), order[held:], order[:held], arrays.get("pooled"))


def encoded_folder(model: DiffusionModel, items: Items) -> Path:
    """Name the folder of a training split encoded by a model."""
    return cache_dir() / "latents" / hashlib.sha256(f"1/{model.digest}/{items.digest}/{model.dtype}".encode()).hexdigest()[:24]


def empty_prompt(model: DiffusionModel) -> TextCondition:
    """Return the (1,L,D) float32 condition of the unconditional pass."""
    return model.empty_prompt().map(lambda part: part.float().cpu().clone())  # an inference tensor cannot be saved for backward


def is_whole(folder: Path, n: int) -> bool:
    """Tell whether the folder holds n encoded items; their digests are compared when a training begins."""
    cache = read_cache(folder, n)
    return cache is not None and cache.is_whole()


def encode_what_is_missing(model: DiffusionModel, items: Items, folder: Path, progress: Progress) -> None:
    """Encode every chunk that is not there, or whose bytes are not what was written. A killed training has kept all but its last chunk.
    Raises UsageError, Incomplete or DamagedAsset as `open_data`."""
    n = len(items.ids)
    cache = read_cache(folder, n)
    if cache is not None and not cache.damaged(progress):
        return  # nothing is written, so that a cache that is read only serves as well
    needed = size_needed(model, n)
    with keeping(folder, needed):
        folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        cache = read_cache(folder, n)
        missing = list(range(0, n, CHUNK)) if cache is None else cache.damaged(progress)
        note_what_is_lost(folder, cache, missing)
        if cache is not None and len(missing) == len(cache.chunks()):
            cache = None  # nothing is left of it, or a file is no such array: begin anew
        if cache is not None:
            with keeping(folder, needed):
                cache.keep()
        while missing:
            first = missing.pop(0)
            rows = encode_rows(model, items, range(first, min(first + CHUNK, n)))
            shapes = {name: array.shape[1:] for name, array in rows.items()}
            with keeping(folder, needed):
                if cache is None or cache.shapes != shapes:
                    cache = begin_cache(folder, n, shapes)
                    missing = [other for other in cache.chunks() if other != first]
                cache.write(first, rows)
                if not missing:
                    finish(cache)
            progress("encode", sum(map(cache.rows, cache.digests)) if missing else n, n)


def encode_rows(model: DiffusionModel, items: Items, index: Sequence[int]) -> dict[str, np.ndarray]:
    """Encode items: {"latents": (k,C,h,w), "text": (k,L,D)}, float32, and "pooled" (k,P) where there is. The VAE gets `PIXELS` at once,
    or one image. Raises DamagedAsset where an item's latents are not finite."""
    images = items.images(index)
    size = max(1, min(CHUNK, PIXELS // (images.shape[1] * images.shape[2])))
    parts = [model.encode_images(images[start : start + size]).float().cpu() for start in range(0, len(images), size)]
    text = model.encode_prompts([items.prompts[i] for i in index])
    rows = {"latents": torch.cat(parts), "text": text.hidden.float().cpu()}
    if text.pooled is not None:
        rows["pooled"] = text.pooled.float().cpu()
    for i, latents in zip(index, rows["latents"], strict=True):
        if not torch.isfinite(latents).all():
            raise DamagedAsset(
                f"the model's VAE gives NaN or infinite latents for item '{one_line(items.ids[i])}' of the training split. Check the VAE.")
    return {name: np.ascontiguousarray(array.numpy(), dtype="<f4") for name, array in rows.items()}


def size_needed(model: DiffusionModel, n: int) -> int:
    """Count the bytes of n items' latents and text embeddings."""
    channels, height, width = model.latent_shape
    return 4 * n * channels * height * width + n * TextCondition(*model.empty_prompt().parts[:2]).to(torch.float32).nbytes


def epoch_batch(train: torch.Tensor, step: int, batch_size: int, seed: int) -> torch.Tensor:
    """Return the (N,) indices of one step out of train (m,). Each epoch is a permutation that depends on (seed, epoch) only, so that
    a resumed training sees the same order."""
    per_epoch = len(train) // batch_size
    epoch, position = divmod(step, per_epoch)
    return train[epoch_order(len(train), epoch, seed)[position * batch_size : (position + 1) * batch_size]]


@lru_cache(maxsize=2)
def epoch_order(n: int, epoch: int, seed: int) -> torch.Tensor:
    """Return the (n,) permutation of an epoch; of 118,000 items it takes as long as a small network's step."""
    return torch.randperm(n, generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63))
