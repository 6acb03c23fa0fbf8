"""The adversary of Flash Diffusion: the teacher's encoder, frozen, and a small trainable head on its coarsest features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scottbench.diffusion import wide
from scottbench.models.diffusion_model import Text, UNet, run_unet
from scottbench.training.discriminator import hinge, learning, middle_block, outputs_of

GROUPS = 8
"""Groups of the head's normalisation."""


class FeatureDiscriminator(nn.Module):
    """D(z_tau, tau, c) -> (N,) logits, the mean over places; zero at the start. Only the head learns, so that real and fake cost one
    forward pass of the trunk each and no backward pass."""

    def __init__(self, teacher_unet: UNet, side: int, width: int):
        super().__init__()
        self.unet = teacher_unet
        channels = teacher_unet.config.block_out_channels
        self.head = head(channels[-1], width, side >> (len(channels) - 1)).to(teacher_unet.device)
        self.trainable = list(self.head.parameters())

    def forward(self, z: Tensor, tau: Tensor, text: Text, learn: bool = True) -> Tensor:
        """Return the logits, (N,), of z (N,C,h,w) at tau (N,) int64, text (N,L,D). learn=True: gradients reach the head only; False: they
        reach z only."""
        with torch.set_grad_enabled(not learn and torch.is_grad_enabled()):
            features = self.features(z, tau, text)
        with learning(self.trainable, learn):
            # a mean over places and the losses are no place for half precision, nor is the head outside of autocast
            return wide(self.head(wide(features))).mean((1, 2, 3))

    def features(self, z: Tensor, tau: Tensor, text: Text) -> Tensor:
        """Return the output of the frozen U-Net's middle block, or of its last down block where it has none, (N,C,h,w), for z (N,C,h,w)."""
        # the decoder is not used and needs no graph; it runs all the same: a network that is broken off would not be counted
        with outputs_of([middle_block(self.unet)], graph=False) as found:
            run_unet(self.unet, z, tau, text)
        return found[0]


def head(channels: int, width: int, side: int) -> nn.Sequential:
    """Make the head: a 3x3 convolution, then strided 4x4 ones down to less than 4 places a side, each with group normalisation and SiLU,
    and a last map to one logit a place that starts at zero. side: of the features that it is given."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(GROUPS, width), nn.SiLU()]
    while side >= 4:
        layers += [nn.Conv2d(width, width, 4, stride=2, padding=1), nn.GroupNorm(GROUPS, width), nn.SiLU()]
        side //= 2
    last = nn.Conv2d(width, 1, 1)
    for p in last.parameters():
        nn.init.zeros_(p)
    return nn.Sequential(*layers, last)


def discriminator_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """Return the head's loss, 0-d, of logits (N,) each. lsgan: (E[(D(real) - 1)^2] + E[D(fake)^2]) / 2; hinge: as elsewhere."""
    if kind == "lsgan":
        return (((real - 1) ** 2).mean() + (fake**2).mean()) / 2
    return hinge(real, fake)


def student_loss(fake: Tensor, kind: str) -> Tensor:
    """Return the student's adversarial loss, 0-d, of logits (N,): E[(D(fake) - 1)^2] / 2 (lsgan), or -E[D(fake)] (hinge)."""
    return ((fake - 1) ** 2).mean() / 2 if kind == "lsgan" else -fake.mean()
