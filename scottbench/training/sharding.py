"""A student split over processes with torch's FSDP2: each holds a part of its weights, gradients, moments and EMA.

Only student and EMA are split. The discriminator shares the teacher's frozen U-Net, of which every process keeps a copy.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shard(unet: torch.nn.Module, processes: int) -> None:
    """Splits a U-Net in place, block by block. Its parameters are DTensors afterwards; FSDP2 cannot split channels-last ones."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    unet.to(memory_format=torch.contiguous_format)
    mesh = init_device_mesh(unet.device.type, (processes,))
    for part in [*unet.down_blocks, unet.mid_block, *unet.up_blocks, unet]:
        # by default the outermost part stays whole until a backward pass, which EMA never has
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def is_split(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor; every process must ask."""
    return tensor.full_tensor() if is_split(tensor) else tensor


def like(whole: Tensor, tensor: Tensor) -> Tensor:
    """`whole`, split as `tensor` is."""
    if not is_split(tensor):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(tensor.device), tensor.device_mesh, tensor.placements)


def gathered(unet: torch.nn.Module) -> torch.nn.Module:
    """The U-Net itself, or an undivided copy of a split one; every process must ask."""
    if not any(is_split(p) for p in unet.parameters()):
        return unet
    from diffusers import UNet2DConditionModel

    whole = UNet2DConditionModel.from_config(unet.config).to(unet.device)
    whole.load_state_dict({name: full(tensor) for name, tensor in unet.state_dict().items()})
    return whole.requires_grad_(False)
