"""Networks that are not trained: kept in half precision, out of the device's memory while nobody asks them, and in checkpoints where a
trainer changed them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from scottbench.models.diffusion_model import DiffusionModel
from scottbench.registry.nouns import Distillation
from scottbench.training.contract import BrokenTrainer, frozen_networks
from scottbench.training.lora import LORA


def halve(model: DiffusionModel, distillation: Distillation, half: torch.dtype | None) -> None:
    """Turn what is frozen of the teacher's U-Net and of the networks that are trained into `half`; None: leave all as it is. A target
    network stays, and so do adapters that are not trained, which are a target network's: steps of its average are smaller than the steps
    between numbers of half precision."""
    if half is None:
        return
    for network in (model.unet, *distillation.networks.values(), *frozen_networks(distillation).values()):
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


class Frozen:
    """The networks that a trainer asks without training them. One that it changes, as the teacher of a later stage, is kept in checkpoints;
    others are made anew by its `build`."""

    def __init__(self, distillation: Distillation):
        self.distillation, self.networks = distillation, frozen_networks(distillation)
        self.built = {name: _versions(network) for name, network in self.networks.items()}

    def tensors(self) -> dict[str, dict[int, torch.Tensor]]:
        """Return the weights and buffers of all, each of any shape, by "frozen NAME". Raises BrokenTrainer for a network that was put into
        another's place."""
        now = frozen_networks(self.distillation)
        for name in self.networks.keys() | now.keys():
            if now.get(name) is not self.networks.get(name):
                raise BrokenTrainer(self.distillation, f"its frozen network '{name}' is another than `build` made.",
                                    "Name every one in build, and change it by load_state_dict.")  # fmt: skip
        return {f"frozen {name}": dict(enumerate(_tensors(network))) for name, network in now.items()}

    def changed(self) -> dict[str, dict[int, torch.Tensor]]:
        """Return those of `tensors`, each of any shape, whose network was written into since it was built. Raises as `tensors`."""
        found = self.tensors()
        written = [name for name, network in self.networks.items() if _versions(network) != self.built[name]]
        return {f"frozen {name}": found[f"frozen {name}"] for name in written}


def _tensors(network: torch.nn.Module) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]


def _versions(network: torch.nn.Module) -> list[tuple[int, int]]:
    """Which tensors it has, and how often each was written into."""
    return [(id(tensor), tensor._version) for tensor in (*network.parameters(), *network.buffers())]
