"""How fast a device is and what networks need, told from configs: a pass of the U-Net with made-up weights is timed, the rest counted."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scottbench.models.blank import blank_text, bytes_of, tokens_of
from scottbench.models.cost import metered
from scottbench.models.diffusion_model import DTYPES, DiffusionModel, run_unet, upscale

WEIGHT = 0.01
"""The value of every made-up weight: what is computed says nothing, and takes as long as with any other."""
MANY = 1e11
"""FLOPs of a pass from which on a CPU takes so long for it that a layer is timed in its place."""
LONG = 3.0
"""Seconds of a first pass from which on no second one is timed."""


@dataclass(frozen=True)
class Needs:
    """FLOPs and peak bytes of parts of a model, of blank networks. Bytes are of what comes on top of the weights."""

    weights: int
    """U-Net, VAE and text encoder."""
    unet_flops: int
    """One image, one pass."""
    unet_bytes: int
    decode_flops: int
    decode_bytes: int
    encode_flops: int
    encode_bytes: int
    text_flops: int


@dataclass(frozen=True)
class Speed:
    """The throughput of a device in passes of one U-Net."""

    flops: float
    """A second."""
    told: str
    """How it was measured, in words."""


def needs(model: DiffusionModel, images: int, decoded: int) -> Needs:
    """Count a blank model's passes without gradients: the U-Net on `images` rows, the VAE on `decoded` pictures at once."""
    tokens, side = tokens_of(model), model.latent_shape[1] * upscale(model.vae)
    latents = torch.empty((images, *model.latent_shape), device="meta", dtype=model.dtype)
    pictures = torch.empty((decoded, 3, side, side), device="meta", dtype=model.vae.dtype)
    found = {
        "unet": count(model, lambda: one_pass(model, latents, tokens), images),
        "decode": count(model, lambda: model.pixels(latents[:1].expand(decoded, -1, -1, -1)), decoded),
        "encode": count(model, lambda: model.vae.encode(pictures), decoded),
        "text": count(model, lambda: model.text_encoder(torch.zeros((1, tokens), dtype=torch.int64, device="meta")), 1)
        if hasattr(model.text_encoder, "config") else (0, 0),
    }  # fmt: skip
    weights = bytes_of(model.unet, model.vae, model.text_encoder)
    return Needs(weights, *found["unet"], *found["decode"], *found["encode"], found["text"][0])


def count(model: DiffusionModel, do: Callable[[], object], n: int) -> tuple[int, int]:
    """Return (FLOPs of one of n items, peak bytes on top of the weights) of a function on a blank model."""
    with metered() as (meter, _), torch.no_grad():
        before = meter.note_all(model.unet, model.vae, model.text_encoder)
        meter.peak = meter.now
        do()
        return meter.flops // n, meter.peak - before


def one_pass(model: DiffusionModel, latents: Tensor, tokens: int) -> Tensor:
    """Run a blank model's U-Net on latents (n,C,h,w) and return its output, (n,C,h,w)."""
    n = len(latents)
    text = blank_text(model, n, tokens, model.dtype)
    return run_unet(model.unet, latents, torch.zeros(n, dtype=torch.int64, device=latents.device), text)


def speed(model: DiffusionModel, device: str, dtype: str, flops: int) -> Speed:
    """Time a pass of a blank model's U-Net on a device with made-up weights; on a CPU, where that is long, a convolution of its first
    level. flops: of one image, one pass. Raises MemoryError or torch's OutOfMemoryError where the network does not fit."""
    if device == "cpu" and flops > MANY:
        return speed_of_layer(model)
    kind, n = DTYPES[dtype], 4 if device.startswith("cuda") else 1
    unet = copy.deepcopy(model.unet)
    unet._forward_hooks.clear()
    for p in unet.parameters():
        p.data = p.data.to(kind)
    unet.to_empty(device=device)
    with torch.inference_mode():
        for tensor in (*unet.parameters(), *unet.buffers()):
            tensor.fill_(WEIGHT)
        text = blank_text(model, n, tokens_of(model)).map(lambda part: torch.full(part.shape, WEIGHT, device=device, dtype=kind))
        latents = torch.full((n, *model.latent_shape), 0.5, device=device, dtype=kind)
        times = torch.full((n,), 500, device=device)
        seconds = timed(lambda: run_unet(unet, latents, times, text), device)
        if seconds < LONG:  # the first pass prepares kernels and memory
            seconds = min(timed(lambda: run_unet(unet, latents, times, text), device) for _ in range(3))
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"a CPU with {torch.get_num_threads()} threads"
    rate = n * flops / seconds
    return Speed(rate, f"{rate / 1e12:.3g} TFLOP/s, one pass of the U-Net with made-up weights in {dtype} on {where}")


def speed_of_layer(model: DiffusionModel) -> Speed:
    """Time a convolution of a U-Net's first level on the CPU, in float32."""
    channels, (_, height, width) = model.unet.config.block_out_channels[0], model.latent_shape
    x = torch.full((1, channels, height, width), 0.5).to(memory_format=torch.channels_last)
    weights = torch.full((channels, channels, 3, 3), WEIGHT).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        seconds = min(timed(lambda: torch.conv2d(x, weights, padding=1), "cpu") for _ in range(4))
    rate = 2 * 9 * channels**2 * height * width / seconds
    threads = torch.get_num_threads()
    return Speed(rate, f"{rate / 1e12:.3g} TFLOP/s, one convolution of the U-Net's first level in float32 on a CPU with {threads} "
                       f"thread{'' if threads == 1 else 's'}; the whole network is slower")


def timed(do: Callable[[], object], device: str) -> float:
    """Return the seconds that a function takes on a device."""
    started = time.perf_counter()
    do()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
