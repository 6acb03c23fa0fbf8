"""Where a run computes: device, number format, images per network call."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scottbench.errors import UsageError
from scottbench.registry.presets import Preset
from scottbench.store.folder import CHUNK
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel


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


def check_compile(kind: str, device: str) -> None:
    """Raise UsageError for a value of `--compile` that is none, or that the device cannot do."""
    from scottbench.models.compiled import check_kind

    if kind != "off":
        check_kind(kind, device)


def check_tf32(word: str) -> None:
    """Raise UsageError for a value of `--tf32` that is none."""
    if word not in ("on", "off"):
        raise UsageError(f"--tf32 {one_line(word)}: must be on or off.")


SHARE = 0.5
"""Part of a GPU's free memory that a batch may take; the rest is for extractors, kernels' workspace and what the allocator loses."""
AT_DENOISE, PIXELS = 80, 4
"""Layers like a U-Net's first that one row of a batch holds at the peak (keys, skips, the wide layer of a transformer block), and float32
copies of an image's pixels. A decoder works by parts of a fixed size, whatever the batch."""


def auto_batch(model: DiffusionModel) -> int:
    """Choose the images at once where nobody says. On a CPU a chunk of small latents, (C,h,w) up to 16x16, else 8; on a GPU a power of two
    up to a chunk that fits its free memory."""
    if model.device.startswith("cuda"):
        import torch

        return fitting(torch.cuda.mem_get_info(model.device)[0], bytes_of_image(model))
    return CHUNK if model.latent_shape[1] * model.latent_shape[2] <= 16 * 16 else 8


def fitting(free: int, each: int) -> int:
    """Return the largest power of two, 1 to a chunk, of images of `each` bytes that take no more than `SHARE` of the free bytes."""
    most = max(1, min(CHUNK, int(SHARE * free / each)))
    return int(2 ** (most.bit_length() - 1))


def bytes_of_image(model: DiffusionModel) -> int:
    """Estimate the bytes that one guided image takes while it is made, by its pixels and the U-Net's width and number format."""
    from scottbench.models.diffusion_model import upscale

    _, height, width = model.latent_shape
    pixels = height * width * upscale(model.vae) ** 2
    denoise = 2 * AT_DENOISE * height * width * model.unet.config.block_out_channels[0] * model.dtype.itemsize
    return int(denoise + PIXELS * 3 * pixels * 4)
