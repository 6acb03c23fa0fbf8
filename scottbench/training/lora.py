"""LoRA students: adapters over a frozen U-Net, and copies that share its weights and have adapters of their own."""

from __future__ import annotations

import copy

import torch

from scottbench.models.diffusion_model import UNet

TARGETS = [
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
]
"""LCM-LoRA's: 67.25 M parameters of SD 1.5 at rank 64."""
LORA = "lora_"
"""Stands in the name of an adapter's weights, of any network."""


def add_lora(unet: UNet, rank: int, targets: list[str] | str = TARGETS, name: str = "student") -> UNet:
    """Add trainable adapters to a frozen U-Net, switched on (B = 0: at the start it is what it was). targets: endings of the modules that
    get one, or a regular expression of all their names."""
    from peft import LoraConfig

    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), name)
    return unet


def sharing_copy(unet: UNet, shared: list[torch.nn.Parameter]) -> UNet:
    """Copy a U-Net but for the parameters `shared`, of any shape, which both have: the same tensors, once in memory."""
    return copy.deepcopy(unet, {id(p): p for p in shared})


def lora_student(teacher: UNet, rank: int) -> tuple[UNet, UNet]:
    """Make a student of a teacher's frozen U-Net with trainable adapters, and its target network with adapters of its own, not trained.
    All three share the teacher's weights."""
    base = list(teacher.parameters())
    student = add_lora(sharing_copy(teacher, base), rank)
    target = sharing_copy(student, base)
    for name, p in target.named_parameters():
        if LORA in name:
            p.requires_grad_(False)
    return student, target


def baked_guidance(w_min: float, w_max: float) -> dict[str, object]:
    """Return what student.json says of the guidance of a LoRA student, which has no input for it: it is baked in, and where one scale
    s = 1 + w was trained, at which."""
    return {"guidance": "baked"} | ({"baked_guidance_scale": 1 + w_min} if w_min == w_max else {})
