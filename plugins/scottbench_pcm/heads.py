"""PCM's discriminator: small heads on what the blocks of the frozen teacher's U-Net say (Wang et al. 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scottbench import TextCondition
from scottbench.diffusion import wide
from scottbench.models.diffusion_model import UNet, run_unet
from scottbench.training.discriminator import learning, outputs_of


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
        with learning(self.trainable, learn):
            with outputs_of(blocks(self.unet)) as features:
                run_unet(self.unet, z, tau, text)
            seen = [wide(feature) for feature in features for _ in range(self.count)]
            return torch.stack([head(feature) for head, feature in zip(self.heads, seen, strict=True)], dim=1)


def blocks(unet: UNet) -> list[nn.Module]:
    """List a U-Net's blocks in the order in which they run: down, middle (where there is one), up."""
    return [*unet.down_blocks, *([] if unet.mid_block is None else [unet.mid_block]), *unet.up_blocks]


def block_channels(unet: UNet) -> list[int]:
    """List the channels of what each of `blocks` gives."""
    widths = list(unet.config.block_out_channels)
    middle = [] if unet.mid_block is None else [widths[-1]]
    return [*widths, *middle, *reversed(widths)]
