"""A distance between decoded images in the features of a preset's extractor, with gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from scottbench import OpenExtractor

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel


class FeatureDistance:
    """The mean over the batch of |f(a)/|f(a)| - f(b)/|f(b)||^2, between 0 and 4, where f are image features of decoded latents.

    Takes the place of LPIPS, whose weights no preset has. Images are resized by torch's antialiased bicubic filter, which is the
    metrics' own rule only where no resizing is needed.
    """

    def __init__(self, model: DiffusionModel, extractor: OpenExtractor):
        self.model, self.extractor, self.digest = model, extractor, extractor.source.digest

    def features(self, latents: Tensor) -> Tensor:
        """Return the features, (N,d) of length 1, of images decoded from latents (N,C,h,w)."""
        images, size = self.model.pixels(latents), self.extractor.size
        if images.shape[-2:] != (size, size):
            images = interpolate(images, (size, size), mode="bicubic", antialias=True)
        return normalize(self.extractor.image_tower(images.to(self.extractor.device)))

    def __call__(self, made: Tensor, wanted: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.features(wanted)
        return (self.features(made) - target).square().sum(1).mean()
