"""Where a run computes: device, number format, images per network call."""

from __future__ import annotations

import os

from scottbench.errors import UsageError
from scottbench.registry.presets import Preset
from scottbench.store.folder import CHUNK
from scottbench.text import one_line


def choose_device(asked: str, preset: Preset) -> str:
    """Choose the torch device. "auto" is the preset's choice; where that is "auto" too, a GPU if there is one.

    Raises UsageError: a word that is no device, or a GPU that is not here.
    """
    import torch

    if asked == "auto":
        asked = preset.device
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and os.environ.get("LOCAL_RANK", "").isdigit():
        asked = f"cuda:{os.environ['LOCAL_RANK']}"  # one of several processes that a launcher started on this machine
    kind = asked.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"--device {one_line(asked)}: must be auto, cpu, cuda or cuda:N.")
    if kind == "cuda":
        index = asked.partition(":")[2] or "0"
        if not torch.cuda.is_available() or not index.isdigit() or int(index) >= torch.cuda.device_count():
            raise UsageError(f"--device {one_line(asked)}: no such GPU here (torch sees {torch.cuda.device_count()}). Use --device cpu.")
    return asked


def choose_micro_batch(device: str, latent_shape: tuple[int, int, int]) -> int | None:
    """Choose the images per network call where images must be the same bytes whatever the batch size, worker or shard: on a CPU.

    Matrix kernels sum in another order for another number of rows, so the number is part of the plan: 16 of small latents, which is as
    fast as a whole chunk (16 images of 16x16 stay in a CPU's caches), and 1 of larger ones. None on a GPU, where runs agree within a
    tolerance instead.
    """
    if device != "cpu":
        return None
    return 16 if latent_shape[1] * latent_shape[2] <= 16 * 16 else 1


def choose_dtype(preset: Preset, device: str) -> str:
    """Choose the number format of the run. CPUs lack fast, and in part any, arithmetic in float16: it becomes float32 there."""
    return "float32" if device == "cpu" and preset.dtype == "float16" else preset.dtype


def auto_batch(latent_shape: tuple[int, int, int]) -> int:
    """Choose the images at once where nobody says: a chunk of small latents, (C,h,w) up to 16x16; 8 of larger ones, since 64 guided
    images of 512x512 are more than a usual GPU holds."""
    return CHUNK if latent_shape[1] * latent_shape[2] <= 16 * 16 else 8
