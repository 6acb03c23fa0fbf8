"""PCM's discriminator: small heads on what the blocks of the frozen teacher's U-Net say (Wang et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from scottbench import TextCondition
from scottbench.diffusion import wide
from scottbench.models.diffusion_model import UNet, run_unet


class Head(nn.Module):
    """Two 3x3 convolutions, the second beside a short cut, and a 1x1 map to one channel that starts at zero."""

    def __init__(self, channels: int):
        super().__init__()
        groups = math.gcd(32, channels)
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(groups, channels), nn.GELU())
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(groups, channels), nn.GELU())
        self.out = nn.Conv2d(channels, 1, 1)
        for p in self.out.parameters():
            nn.init.zeros_(p)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N,) logits, means over the places of features (N,c,h,w)."""
        found = self.first(features)
        return wide(self.out(self.second(found) + found)).mean((1, 2, 3))


class FeatureDiscriminator(nn.Module):
    """D(z_tau, tau, c) -> (N,K) logits, one a head. The U-Net is the teacher's own, frozen: only the heads learn."""

    def __init__(self, teacher_unet: UNet, heads: int):
        super().__init__()
        self.unet, self.count = teacher_unet, heads
        self.heads = nn.ModuleList(Head(c) for c in block_channels(teacher_unet) for _ in range(heads)).to(teacher_unet.device)
        self.trainable = list(self.heads.parameters())

    def forward(self, z: Tensor, tau: Tensor, text: TextCondition, uncond: TextCondition, learn: bool = True) -> Tensor:
        """Return the logits, (N,K), of z (N,C,h,w) at tau (N,) int64, text (N,L,D). learn=False: gradients reach z only. uncond is not
        looked at."""
        with self.active(learn):
            features: list[Tensor] = []
            handles = [block.register_forward_hook(lambda module, given, out: features.append(first(out))) for block in blocks(self.unet)]
            try:
                run_unet(self.unet, z, tau, text)
            finally:
                for handle in handles:
                    handle.remove()
            seen = [wide(feature) for feature in features for _ in range(self.count)]
            return torch.stack([head(feature) for head, feature in zip(self.heads, seen, strict=True)], dim=1)

    @contextmanager
    def active(self, learn: bool) -> Iterator[None]:
        """Let the heads learn inside, or not."""
        for p in self.trainable:
            p.requires_grad_(learn)
        try:
            yield
        finally:
            for p in self.trainable:
                p.requires_grad_(True)


def blocks(unet: UNet) -> list[nn.Module]:
    """List a U-Net's blocks in the order in which they run: down, middle (where there is one), up."""
    return [*unet.down_blocks, *([] if unet.mid_block is None else [unet.mid_block]), *unet.up_blocks]


def block_channels(unet: UNet) -> list[int]:
    """List the channels of what each of `blocks` gives."""
    widths = list(unet.config.block_out_channels)
    middle = [] if unet.mid_block is None else [widths[-1]]
    return [*widths, *middle, *reversed(widths)]


def first(output: Any) -> Tensor:
    """Return the features, (N,c,h,w), of a block's output; a down block gives what it hands across beside them."""
    return output[0] if isinstance(output, tuple) else output
