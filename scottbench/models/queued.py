"""Latents to images without waiting for the device: decoded there, copied through pinned memory, read when the copy has arrived.

On a CPU everything is done at once. Numbers and bytes are those of `DiffusionModel.decode_checked`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scottbench.models.sampling import Sampler


@dataclass
class Images:
    """Images that are here, or on their way from the device."""

    pixels: Any
    """(n,H,W,3) uint8, an array, or a tensor of pinned memory that is being written."""
    good: Any
    """(n,) bool, the same: false for an image with a pixel that is NaN or infinite."""
    arrived: Any = None
    """CUDA event behind the copy; None where the images are here."""
    check: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray] | None] | None = None
    """Called once with `good` when it has arrived: raises where the latents were not finite, and decodes images that were not again."""

    @classmethod
    def known(cls, pixels: np.ndarray) -> Images:
        """Take images, (n,H,W,3) uint8, that are here and whose pixels were never anything else."""
        return cls(pixels, np.ones(len(pixels), bool))

    def wait(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images (n,H,W,3) uint8 and good (n,) bool when they have arrived. Raises ScottbenchError as `check`."""
        if self.arrived is None:
            return self.pixels, self.good
        self.arrived.synchronize()
        pixels, good = self.pixels.numpy(), self.good.numpy()
        again = None if self.check is None else self.check(good)
        return (pixels, good) if again is None else again


def decode(sampler: Sampler, latents: Tensor, count: int) -> Images:
    """Decode latents (N,C,h,w) of which the first `count` are kept. `Images.wait` raises ScottbenchError where they were not finite."""
    model = sampler.model
    if not model.device.startswith("cuda"):
        here, whole = model.decode_checked(latents)
        return Images(here[:count], whole[:count])
    with torch.inference_mode():
        found = model.by_part(model.vae, latents)
        # a NaN among the latents spoils its own image at least, and so shows here
        good = torch.isfinite(found).flatten(1).all(1)
        levels = found.nan_to_num(0.0).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        there = _to_host(levels[:count]), _to_host(good[:count])
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(model.device))

    def check(good: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        if good.all():
            return None
        sampler.check_finite(latents)
        again, fine = model.decode_checked(latents)
        return again[:count], fine[:count]

    return Images(*there, arrived, check)


def _to_host(tensor: Tensor) -> Tensor:
    """Begin to copy to pinned memory; the copy is there when an event that is recorded behind it has passed."""
    tensor = tensor.contiguous()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
