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

import numpy as np
import torch

from scottbench.errors import UsageError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.store.assets import cache_dir, in_words
from scottbench.store.files import json_bytes, read_json, replace_file, replace_folder

CHUNK = 64
"""Items encoded in one call; fixed, so that the stored numbers do not depend on the batch size of a training."""
HELD_OUT = 256
"""Training items that are never trained on: for a trainer's `evaluate` and for the metric curve."""
FACTS = "facts.json"


@dataclass
class Data:
    """A training split: (n,C,h,w) and (n,L,D) float32 arrays (memory-mapped), (1,L,D) float32."""

    latents: np.ndarray
    text: np.ndarray
    uncond: torch.Tensor
    train: torch.Tensor
    """Indices trained on."""
    held_out: torch.Tensor

    def batch(self, indices: torch.Tensor, device: str) -> dict[str, torch.Tensor]:
        """latents (N,C,h,w), text (N,L,D), uncond (1,L,D), all float32 on `device`; indices (N,) int64, as given."""
        rows = indices.numpy()
        arrays = {"latents": self.latents[rows], "text": self.text[rows]}
        tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        return tensors | {"uncond": self.uncond.to(device), "indices": indices}


def held_out_of(n: int, batch_size: int) -> int:
    """How many of a training split's n items are held out. Raises UsageError where those left are fewer than one batch."""
    held = min(HELD_OUT, n // 10)
    if n - held < batch_size:
        raise UsageError(
            f"the training split has {n} items ({n - held} after {held} held out), "
            f"fewer than one batch of {batch_size}. Use --batch-size {max(1, n - held)} or less."
        )
    return held


def open_data(model: DiffusionModel, items, batch_size: int, seed: int, progress: Callable[..., None], main: bool = True) -> Data:
    """The training split, encoded or read back. Raises UsageError when it is smaller than one batch, or the disk is full.

    main: whether this process encodes; of several processes one does, and the others call this when it has finished.
    """
    n = len(items.ids)
    held = held_out_of(n, batch_size)
    folder = cache_dir() / "latents" / hashlib.sha256(f"1/{model.digest}/{items.digest}/{model.dtype}".encode()).hexdigest()[:24]
    if main and not is_whole(folder):
        encode(model, items, folder, progress)
    latents, text = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("latents", "text"))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    uncond = model.encode_prompts([""]).float().cpu().clone()  # an inference tensor cannot be saved for backward
    return Data(latents, text, uncond, order[held:], order[:held])


def is_whole(folder: Path) -> bool:
    """Whether the folder holds what `encode` wrote: the facts are written last, and name every file's size."""
    sizes = read_json(folder / FACTS)
    try:
        return sizes is not None and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False


def encode(model: DiffusionModel, items, folder: Path, progress: Callable[..., None]) -> None:
    """Writes latents.npy and text.npy in chunks, in a folder of another name until both are whole."""
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
            f"Free some space ({in_words(size_needed(model, n))} are needed) or set SCOTTBENCH_CACHE to another folder."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def append(stream, rows: torch.Tensor, n: int, start: int) -> None:
    """Rows of an (n, ...) float32 .npy file. Written, not mapped: a mapped write to a full disk kills the process."""
    array = rows.float().cpu().contiguous().numpy()
    if start == 0:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, *array.shape[1:])}
        np.lib.format.write_array_header_1_0(stream, header)
    stream.write(array.tobytes())


def size_needed(model: DiffusionModel, n: int) -> int:
    """Bytes of n items' latents and text embeddings."""
    channels, height, width = model.latent_shape
    config = model.text_encoder.config
    return 4 * n * (channels * height * width + model.tokenizer.model_max_length * config.hidden_size)


def epoch_batch(train: torch.Tensor, step: int, batch_size: int, seed: int) -> torch.Tensor:
    """Indices of one step: each epoch is a permutation that depends on (seed, epoch) only, so that a resumed training sees
    the same order."""
    per_epoch = len(train) // batch_size
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return train[order[position * batch_size : (position + 1) * batch_size]]
