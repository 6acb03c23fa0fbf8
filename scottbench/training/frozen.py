"""Networks that are not trained: kept in half precision, and out of the device's memory while nobody asks them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from scottbench.models.diffusion_model import DiffusionModel
from scottbench.registry.nouns import Distillation
from scottbench.training.lora import LORA


def halve(model: DiffusionModel, distillation: Distillation, half: torch.dtype | None) -> None:
    """Turn what is frozen of the teacher's U-Net and of the networks that are trained into `half`; None: leave all as it is. A target
    network stays, and so do adapters that are not trained, which are a target network's: steps of its average are smaller than the steps
    between numbers of half precision."""
    if half is None:
        return
    for network in (model.unet, *distillation.networks.values()):
        for name, p in network.named_parameters():
            if not p.requires_grad and LORA not in name and p.dtype == torch.float32:
                p.data = p.data.to(half)


def put(model: DiffusionModel, device: str) -> None:
    """Move text encoder and VAE of a model to a device."""
    for network in (model.text_encoder, model.vae, model.wide_vae):
        if network is not None:
            network.to(device)


@contextlib.contextmanager
def fetched(model: DiffusionModel, offloaded: bool) -> Iterator[None]:
    """Have text encoder and VAE on the model's device within the block, where they wait in the CPU's memory."""
    if offloaded:
        put(model, model.device)
    try:
        yield
    finally:
        if offloaded:
            put(model, "cpu")
            if model.device.startswith("cuda"):
                torch.cuda.empty_cache()
