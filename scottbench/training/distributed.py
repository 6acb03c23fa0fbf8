"""Several processes, one training: numbers they agree on, gradients they average.

Networks are not wrapped: adversarial methods run one network several times between two updates, and share frozen parts between
networks, which torch's DistributedDataParallel forbids. The sums here give the same gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scottbench.training.unet import UNet

if TYPE_CHECKING:
    from accelerate import Accelerator

BUCKET = 2**24
"""Numbers sent at once (64 MB of float32)."""


def agree(accelerator: Accelerator, values: list[float]) -> list[float]:
    """Return the largest of each value over all processes, so that all of them decide alike."""
    if accelerator.num_processes == 1:
        return values
    return accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device), "max").tolist()


def total(accelerator: Accelerator, counts: list[int]) -> list[int]:
    """Sum each count over all processes."""
    if accelerator.num_processes == 1:
        return counts
    return accelerator.reduce(torch.tensor(counts, device=accelerator.device), "sum").tolist()


def average_gradients(accelerator: Accelerator, parameters: list[torch.nn.Parameter], count: int) -> None:
    """Sum .grad over the processes and divide by `count`, the number of micro-batches that had a loss. FSDP has averaged the
    gradients of split parameters over the processes already."""
    if is_split(parameters[0]):
        count //= accelerator.num_processes
    elif accelerator.num_processes > 1:
        for bucket in buckets([gradient(p) for p in parameters]):
            flat = accelerator.reduce(torch.cat([g.flatten() for g in bucket]), "sum")
            parts = flat.split([g.numel() for g in bucket])
            torch._foreach_copy_(bucket, [part.view_as(g) for part, g in zip(parts, bucket, strict=True)])
    if count > 1:
        torch._foreach_div_([p.grad for p in parameters if p.grad is not None], count)


def gradient(parameter: torch.nn.Parameter) -> Tensor:
    """Return .grad, of the shape of the parameter, made of zeros where the process has none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield runs of consecutive tensors of any shape and one dtype, with at most BUCKET numbers (or one larger tensor)."""
    held: list[torch.Tensor] = []
    for tensor in tensors:
        if held and (held[0].dtype != tensor.dtype or sum(t.numel() for t in held) + tensor.numel() > BUCKET):
            yield held
            held = []
        held.append(tensor)
    if held:
        yield held


def fsdp(unet: UNet, processes: int) -> None:
    """Split a U-Net over the processes in place, block by block. Its parameters are DTensors afterwards. FSDP2 cannot split
    channels-last ones."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    unet.to(memory_format=torch.contiguous_format)
    mesh = init_device_mesh(unet.device.type, (processes,))
    for part in [*unet.down_blocks, unet.mid_block, *unet.up_blocks, unet]:
        # by default the outermost part stays whole until a backward pass, which EMA never has
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def is_split(tensor: Tensor) -> bool:
    """Tell whether a tensor of any shape is a part of one that several processes hold."""
    return hasattr(tensor, "full_tensor")


def full(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor of any shape; every process must ask."""
    split: Any = tensor
    return split.full_tensor() if is_split(tensor) else tensor


def like(whole: Tensor, tensor: Tensor) -> Tensor:
    """Return `whole`, split as `tensor` is; both of one shape."""
    if not is_split(tensor):
        return whole
    split: Any = tensor  # a DTensor, which FSDP2 made of a parameter
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(tensor.device), split.device_mesh, split.placements)


def gathered(unet: UNet) -> UNet:
    """Return the U-Net itself, or an undivided copy of a split one; every process must ask."""
    if not any(is_split(p) for p in unet.parameters()):
        return unet
    from diffusers import UNet2DConditionModel

    whole = UNet2DConditionModel.from_config(unet.config).to(unet.device)
    whole.load_state_dict({name: full(tensor) for name, tensor in unet.state_dict().items()})
    return whole.requires_grad_(False)
