"""DMD2's second network: the score of the generator's samples, with a head on its middle features that tells data from samples."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from scottbench.diffusion import wide
from scottbench.models.diffusion_model import Text, UNet, run_unet
from scottbench.models.pipeline import fast_layout
from scottbench.training.discriminator import learning, middle_block, outputs_of


class FakeScore(nn.Module):
    """A trainable copy of the teacher's U-Net; with a head, it gives one logit an image too. The logit is 0 at the start."""

    def __init__(self, teacher_unet: UNet, head: bool):
        super().__init__()
        self.unet: UNet = fast_layout(copy.deepcopy(teacher_unet)).requires_grad_(True)
        self.head: Head | None = Head(self.unet.config.block_out_channels[-1]).to(teacher_unet.device) if head else None

    def forward(self, z: Tensor, t: Tensor, text: Text) -> Tensor:
        """Return the network's raw output, (N,C,h,w) float32 at least, of z (N,C,h,w) at t (N,) int64, text (N,L,D)."""
        return wide(run_unet(self.unet, z, t, text))

    def with_logits(self, z: Tensor, t: Tensor, text: Text, graph: bool = True) -> tuple[Tensor, Tensor]:
        """Return the output as `forward` and the logits (N,), high for data, in one pass. graph=False: the logits alone have one."""
        with outputs_of([middle_block(self.unet)], graph) as features:
            output = self(z, t, text)
        assert self.head is not None
        return output, self.head(wide(features[0]))

    def frozen_logits(self, z: Tensor, t: Tensor, text: Text) -> Tensor:
        """Return the logits (N,) of z (N,C,h,w) with gradients that reach z only. Of the half of the network after
        the features no graph is kept."""
        with learning(list(self.parameters()), False):
            return self.with_logits(z, t, text, graph=False)[1]


class Head(nn.Module):
    """Features (N,C,h,w) to logits (N,): two 3x3 convolutions, the second with stride 2, a mean over places and a linear map."""

    def __init__(self, channels: int):
        super().__init__()
        groups = max(g for g in (1, 2, 4, 8, 16, 32) if channels % g == 0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(groups, channels), nn.SiLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.GroupNorm(groups, channels), nn.SiLU(),
        )  # fmt: skip
        self.out = nn.Linear(channels, 1)
        for p in self.out.parameters():
            nn.init.zeros_(p)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (N,) in float32 at least."""
        made: Any = wide(self.layers(features))
        return wide(self.out(made.mean((2, 3))))[:, 0]
