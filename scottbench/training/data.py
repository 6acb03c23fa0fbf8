"""A training split as latents and text embeddings: encoded once, kept on disk under the digests of what made them.

A second training on the same model and data reads them back. They are memory-mapped, so that a set larger than the memory
(COCO's 118,000 captions take 28 GB) costs what a batch costs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypedDict

import numpy as np
import torch

from scottbench.errors import UsageError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.registry.nouns import Items
from scottbench.store.assets import cache_dir
from scottbench.store.files import json_bytes, read_json, replace_file, replace_folder
from scottbench.text import bytes_in_words

CHUNK = 64
"""Items encoded in one call; fixed, so that the stored numbers do not depend on the batch size of a training."""
HELD_OUT = 256
"""Training items that are never trained on: for a trainer's `evaluate` and for the metric curve."""
FACTS = "facts.json"


class Encoded(TypedDict):
    """Rows of a training split: the part of a `Batch` that comes from the data."""

    latents: torch.Tensor
    """(N,C,h,w) float32."""
    text: torch.Tensor
    """(N,L,D) float32."""
    uncond: torch.Tensor
    """(1,L,D) float32."""
    indices: torch.Tensor
    """(N,) int64."""


@dataclass
class Data:
    """A training split: (n,C,h,w) and (n,L,D) float32 arrays (memory-mapped), (1,L,D) float32."""

    latents: np.ndarray
    text: np.ndarray
    uncond: torch.Tensor
    train: torch.Tensor
    """(m,) int64 indices trained on."""
    held_out: torch.Tensor
    """(n - m,) int64 indices never trained on."""

    def batch(self, indices: torch.Tensor, device: str) -> Encoded:
        """Return the rows of indices (N,) int64, on `device`; the indices themselves stay as given."""
        rows = indices.numpy()
        latents, text = (torch.from_numpy(array[rows]).to(device) for array in (self.latents, self.text))
        return {"latents": latents, "text": text, "uncond": self.uncond.to(device), "indices": indices}


def held_out_of(n: int, batch_size: int) -> int:
    """Count the items of a training split of n that are held out. Raises UsageError where those left are fewer than one batch."""
    held = min(HELD_OUT, n // 10)
    if n - held < batch_size:
        raise UsageError(
            f"the training split has {n} items ({n - held} after {held} held out), "
            f"fewer than one batch of {batch_size}. Use --batch-size {max(1, n - held)} or less."
        )
    return held


def open_data(model: DiffusionModel, items: Items, batch_size: int, seed: int, progress: Callable[..., None], main: bool = True) -> Data:
    """Open the training split, encoded or read back. Raises UsageError when it is smaller than one batch, or the disk is full.

    main: whether this process encodes; of several processes one does, and the others call this when it has finished.
    """
    n = len(items.ids)
    held = held_out_of(n, batch_size)
    folder = encoded_folder(model, items)
    if main and not is_whole(folder):
        encode(model, items, folder, progress)
    latents, text = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("latents", "text"))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return Data(latents, text, empty_prompt(model), order[held:], order[:held])


def encoded_folder(model: DiffusionModel, items: Items) -> Path:
    """Name the folder of a training split encoded by a model."""
    return cache_dir() / "latents" / hashlib.sha256(f"1/{model.digest}/{items.digest}/{model.dtype}".encode()).hexdigest()[:24]


def empty_prompt(model: DiffusionModel) -> torch.Tensor:
    """Return the (1,L,D) float32 embedding of the empty prompt."""
    return model.encode_prompts([""]).float().cpu().clone()  # an inference tensor cannot be saved for backward


def is_whole(folder: Path) -> bool:
    """Tell whether the folder holds all that `encode` wrote: the facts are written last, and name every file's size."""
    sizes = read_json(folder / FACTS)
    try:
        return sizes is not None and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False


def encode(model: DiffusionModel, items: Items, folder: Path, progress: Callable[..., None]) -> None:
    """Write latents.npy and text.npy in chunks, in a folder of another name until both are whole. Raises UsageError on a full disk."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    n = len(items.ids)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with open(partial / "latents.npy", "wb") as latents, open(partial / "text.npy", "wb") as text:
            for start in range(0, n, CHUNK):
                index = range(start, min(start + CHUNK, n))
                append(latents, model.encode_images(items.images(index)), n, start)
                append(text, model.encode_prompts([items.prompts[i] for i in index]), n, start)
                progress("encode", index.stop, n)
        sizes = {path.name: path.stat().st_size for path in sorted(partial.glob("*.npy"))}
        replace_file(partial / FACTS, json_bytes(sizes))
        replace_folder(partial, folder)
    except OSError as error:
        raise UsageError(
            f"cannot keep the encoded training split in {folder.parent}: {error.strerror}. "
            f"Free some space ({bytes_in_words(size_needed(model, n))} are needed) or set SCOTTBENCH_CACHE to another folder."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def append(stream: IO[bytes], rows: torch.Tensor, n: int, start: int) -> None:
    """Add rows (k, ...) of any shape to an (n, ...) float32 .npy file. They are written, not mapped: a mapped write to a full disk
    kills the process."""
    array = rows.float().cpu().contiguous().numpy()
    if start == 0:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, *array.shape[1:])}
        np.lib.format.write_array_header_1_0(stream, header)
    stream.write(array.tobytes())


def size_needed(model: DiffusionModel, n: int) -> int:
    """Count the bytes of n items' latents and text embeddings."""
    channels, height, width = model.latent_shape
    config: Any = model.text_encoder.config
    return 4 * n * (channels * height * width + model.tokenizer.model_max_length * config.hidden_size)


def epoch_batch(train: torch.Tensor, step: int, batch_size: int, seed: int) -> torch.Tensor:
    """Return the (N,) indices of one step out of train (m,). Each epoch is a permutation that depends on (seed, epoch) only, so that
    a resumed training sees the same order."""
    per_epoch = len(train) // batch_size
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return train[order[position * batch_size : (position + 1) * batch_size]]
