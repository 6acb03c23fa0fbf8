"""Shared by adversarial trainers: a discriminator that is the teacher's own U-Net with trainable parts and a one-channel
output, the hinge loss, and how often it is right.

Teacher and discriminator share one frozen U-Net: adapters off, it is the teacher bit for bit; adapters on, the
discriminator. "full" and "whole" own a copy of the U-Net instead, whose up blocks or all blocks are trained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from scottbench.diffusion import wide
from scottbench.models.diffusion_model import Text, UNet, run_unet
from scottbench.training import lora

ADAPTER = "discriminator"
OWN = ("full", "whole")
"""Kinds that train a copy of the teacher's U-Net."""
TARGETS = r"up_blocks\..*\.(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|conv1|conv2)"
"""Attention, feed-forward and ResNet convolutions of the decoder: 3.65 % of SD 1.5 at rank 64 (methods.md 3.4)."""


class Discriminator(nn.Module):
    """D(z_tau, tau, c) -> (N,) logits, the mean of the patch logits; patches=True: all of them, (N,h,w). Zero at the start: hinge
    loss 2, generator loss 0.

    kind: "lora", "unconditional" (lora without text and time), "full" (all of the decoder) or "whole" (all of the U-Net).
    """

    def __init__(self, teacher_unet: UNet, kind: str, rank: int, patches: bool = False):
        super().__init__()
        self.kind, self.patches = kind, patches
        own = kind in OWN
        self.unet: UNet = copy.deepcopy(teacher_unet).requires_grad_(False) if own else add_lora(teacher_unet, rank)
        out = self.unet.conv_out
        self.head = nn.Conv2d(out.in_channels, 1, out.kernel_size, padding=out.padding).to(teacher_unet.device)
        for p in self.head.parameters():
            nn.init.zeros_(p)
        self.trainable = [p for name, p in self.named_parameters() if self.learns(name)]
        for p in self.trainable:
            p.requires_grad_(True)

    def learns(self, name: str) -> bool:
        """Tell whether the parameter of this name is trained."""
        if name.startswith("head."):
            return True
        if self.kind == "whole":
            return not name.startswith("unet.conv_out.")  # its output is not used
        return "up_blocks" in name if self.kind == "full" else lora.LORA in name

    def forward(self, z: Tensor, tau: Tensor, text: Text, uncond: Text, learn: bool = True) -> Tensor:
        """Return the logits, (N,) or (N,h,w), of z (N,C,h,w) at tau (N,) int64, text (N,L,D), uncond (1,L,D). learn=False: gradients
        reach z only."""
        if self.kind == "unconditional":
            text, tau = uncond.expand(len(z), -1, -1), torch.zeros_like(tau)
        features: list[Tensor] = []
        hook = self.unet.conv_out.register_forward_pre_hook(lambda module, arguments: features.append(arguments[0]))
        try:
            with self.active(learn):
                run_unet(self.unet, z, tau, text)
                # a mean over patches and the losses are no place for half precision, nor is the head outside of autocast
                logits = wide(self.head(wide(features[0])))[:, 0]
                return logits if self.patches else logits.mean((1, 2))
        finally:
            hook.remove()

    @contextmanager
    def active(self, learn: bool) -> Iterator[None]:
        """Switch the adapters on inside; outside they are off, and the U-Net is the teacher. peft's switch also sets requires_grad
        (on: True, off: False), so it is set here after each switch."""
        if self.kind not in OWN:
            self.unet.enable_adapters()
        for p in self.trainable:
            p.requires_grad_(learn)
        try:
            yield
        finally:
            if self.kind not in OWN:
                self.unet.disable_adapters()
            for p in self.trainable:
                p.requires_grad_(True)


@contextmanager
def learning(parameters: Sequence[nn.Parameter], learn: bool) -> Iterator[None]:
    """Let gradients reach parameters inside, or not; outside they do."""
    for p in parameters:
        p.requires_grad_(learn)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def middle_block(unet: UNet) -> nn.Module:
    """Return the block with the smallest features: the middle one, or the last that goes down where there is none."""
    return unet.down_blocks[-1] if unet.mid_block is None else unet.mid_block


@contextmanager
def outputs_of(blocks: Sequence[nn.Module], graph: bool = True) -> Iterator[list[Tensor]]:
    """Keep the features, (N,c,h,w) each, that blocks of a U-Net give inside, in the order in which they run; a down block gives what it
    hands across beside them. graph=False: what runs behind the last of them gets no graph."""
    found: list[Tensor] = []
    before = torch.is_grad_enabled()

    def keep(module: nn.Module, given: Any, made: Any) -> None:
        found.append(made[0] if isinstance(made, tuple) else made)
        if not graph and len(found) == len(blocks):
            torch.set_grad_enabled(False)

    hooks = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        torch.set_grad_enabled(before)


def add_lora(unet: UNet, rank: int) -> UNet:
    """Add the adapter (B = 0: features equal the teacher's at the start) and leave it switched off."""
    adapted = lora.add_lora(unet, rank, TARGETS, ADAPTER)
    adapted.disable_adapters()
    return adapted


def trainable_share(discriminator: Discriminator) -> float:
    """Divide the number of trainable parameters by that of all, both of the discriminator."""
    total = sum(p.numel() for p in discriminator.parameters())
    return sum(p.numel() for p in discriminator.trainable) / total


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Return E[relu(1 - D(real))] + E[relu(1 + D(fake))] of logits (N,): 2 when D says nothing."""
    return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()


def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """Return BCE(D(real), 1) + BCE(D(fake), 0) of logits (N,...): 2 ln 2 when D says nothing."""
    return softplus(-real).mean() + softplus(fake).mean()


class LossScale(Protocol):
    """The part of torch's GradScaler that is used here."""

    def scale(self, outputs: Tensor) -> Tensor:
        """Multiply a loss, 0-d, by the scale of the moment."""


class _GivenGradient(torch.autograd.Function):
    """A 0-d loss of known value whose gradient at `output` (N,C,h,w) is known too."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        return above[0] * ctx.saved_tensors[0], None, None


def weighted_term(
    output: Tensor, adversarial: Callable[[Tensor], Tensor], beside: dict[str, Tensor], weight: float | Tensor, scale: str,
    scaler: LossScale | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Return the student's adversarial loss as a term of its total loss, and the gradient norms of both terms at the student's output,
    0-d each.

    output: (N,C,h,w), made by the student, with its graph; adversarial: output -> scalar loss; beside: {name: the other loss of
    the same output}, or {}, which scale "fixed" does without. weight: a number, or 0-d. scaler: float16's (`Context.scaler`): the
    gradient passes through the discriminator at its scale, as through the student, or most of it would be less than float16 has.
    scale: "fixed", weight * adversarial(output), or "gradient", scaled so that at the output its gradient's norm is `weight` times
    that of the other loss; a discriminator that says nothing yet, gradient 0, counts 0. The gradient is taken at the output first, where
    its size can be seen and set, and handed on to the student from there: one pass through the discriminator serves both.
    """
    leaf = output.detach().requires_grad_()
    loss = adversarial(leaf)
    if scaler is None:
        (own,) = torch.autograd.grad(loss, leaf)
    else:
        factor = scaler.scale(torch.ones_like(loss.detach()))
        (own,) = torch.autograd.grad(loss * factor, leaf)
        own = own / factor
    norms = {"adversarial_gradient": own.norm()}
    for name, other in beside.items():
        (gradient,) = torch.autograd.grad(other, output, retain_graph=True)
        norms[f"{name}_gradient"] = gradient.norm()
        if scale == "gradient":
            there = norms["adversarial_gradient"]
            weight = weight * torch.where(there > 0, norms[f"{name}_gradient"] / there.clamp_min(1e-12), 0.0)
    return _GivenGradient.apply(output, weight * own, weight * loss.detach()), norms


def accuracies(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Return, of logits (N,) each, 0-d, accuracy: the share with the right sign (a zero counts half), and paired_accuracy: the share of
    (real, fake) pairs ranked right."""
    signs = torch.cat([torch.sign(real), -torch.sign(fake)]).detach()
    return {"accuracy": (signs.float().mean() + 1) / 2, "paired_accuracy": pair_accuracy(real, fake)}


def pair_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Return the share, 0-d, of pairs (real[i], fake[i]) of logits (N,) with D(real) > D(fake); a tie counts half."""
    return (torch.sign(real - fake).detach().float().mean() + 1) / 2
