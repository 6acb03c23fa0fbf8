"""Shared by distillation trainers: the w-conditioned copy of a teacher, its guided pass, the student's function f."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from scottbench.diffusion import consistency_function, guidance_embedding, guide, to_x0_eps
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.pipeline import fast_layout
from scottbench.training.unet import UNet


def w_conditioned_copy(unet: UNet, embedding_dim: int = 256) -> UNet:
    """Make a trainable copy of a U-Net that takes the guidance scale as an input, equal to the original for every w.

    The embedding of w enters through a bias-free linear map before the time MLP (LCM); it starts at zero here, where
    diffusers' script leaves it random, so that the student starts as exactly its teacher (methods.md 2.3).
    """
    from diffusers import UNet2DConditionModel

    # without `_use_default_values`: where an old config.json does not name a key, diffusers would undo the change of it
    config = {key: value for key, value in unet.config.items() if key != "_use_default_values"}
    student = UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": embedding_dim})
    missing, unexpected = student.load_state_dict(unet.state_dict(), strict=False)
    assert missing == ["time_embedding.cond_proj.weight"] and not unexpected, (missing, unexpected)
    torch.nn.init.zeros_(student.time_embedding.cond_proj.weight)
    fast_layout(student)  # the teacher's layout: another one would round differently
    return student.to(unet.device)


@contextmanager
def adapters_off(unet: UNet) -> Iterator[None]:
    """Make a U-Net with LoRA adapters its frozen self again inside, so that teacher and student can share one. Outside the adapters
    are trainable again (peft's switch sets requires_grad too)."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def guided_teacher(teacher: DiffusionModel, z: Tensor, t: Tensor, text: Tensor, uncond: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x0, eps) of the teacher with guidance w per sample, conditional and unconditional pass in one batch.

    z (N,C,h,w); t (N,) int64; text (N,L,D); uncond (1,L,D); w (N,) = s - 1.
    """
    both = torch.cat([text, uncond.expand_as(text)])
    cond, unc = teacher.network(torch.cat([z, z]), torch.cat([t, t]), both).chunk(2)
    return to_x0_eps(teacher.schedule, z, t, guide(cond, unc, w.view(-1, 1, 1, 1)), teacher.prediction)


def consistency_output(
    teacher: DiffusionModel, unet: UNet, z: Tensor, t: Tensor, text: Tensor, w: Tensor
) -> Tensor:
    """Return f(z, t, c, w) of a student's U-Net, its clean latent with the boundary condition, (N,C,h,w). The teacher gives schedule
    and parametrisation; z, t, text and w as for `guided_teacher`."""
    x0, _ = to_x0_eps(teacher.schedule, z, t, conditioned_output(unet, z, t, text, w), teacher.prediction)
    return consistency_function(z, t, x0)


def conditioned_output(unet: UNet, z: Tensor, t: Tensor | float, text: Tensor, w: Tensor) -> Tensor:
    """Return the network's raw output, (N,C,h,w). A network that does not take the guidance scale as an input (LoRA) is given none: one
    guidance is baked into it."""
    size = unet.config.time_cond_proj_dim
    condition = None if size is None else guidance_embedding(w, size).to(z.dtype)
    return unet(z, t, encoder_hidden_states=text, timestep_cond=condition, return_dict=False)[0]


def uniform_guidance(n: int, w_min: float, w_max: float, generator: torch.Generator) -> Tensor:
    """Draw (n,) float32 guidance values w ~ U[w_min, w_max]."""
    return w_min + (w_max - w_min) * torch.rand(n, generator=generator)


@torch.no_grad()
def update_ema(target: torch.nn.Module, source: torch.nn.Module, decay: float) -> None:
    """Set theta_minus <- decay * theta_minus + (1 - decay) * theta, all tensors in one fused operation."""
    pairs = list(zip(target.parameters(), source.parameters(), strict=True))
    torch._foreach_lerp_([p for p, _ in pairs], [q.detach().to(p.dtype) for p, q in pairs], 1 - decay)
