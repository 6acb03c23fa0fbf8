"""Several processes, one training: numbers they agree on, gradients they average.

Networks are not wrapped: adversarial methods run one network several times between two updates, and share frozen parts between
networks, which torch's DistributedDataParallel forbids. The sums here give the same gradients.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from scottbench.training.sharding import is_split

BUCKET = 2**24
"""Numbers sent at once (64 MB of float32)."""


def agree(accelerator, values: list[float]) -> list[float]:
    """The largest of each value over all processes, so that all of them decide alike."""
    if accelerator.num_processes == 1:
        return values
    return accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device), "max").tolist()


def total(accelerator, counts: list[int]) -> list[int]:
    """Sums over all processes."""
    if accelerator.num_processes == 1:
        return counts
    return accelerator.reduce(torch.tensor(counts, device=accelerator.device), "sum").tolist()


def average_gradients(accelerator, parameters: list[torch.nn.Parameter], count: int) -> None:
    """Sums .grad over the processes and divides by `count`, the number of micro-batches that had a loss. FSDP has averaged the
    gradients of split parameters over the processes already."""
    if is_split(parameters[0]):
        count //= accelerator.num_processes
    elif accelerator.num_processes > 1:
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        for bucket in buckets([p.grad for p in parameters]):
            flat = accelerator.reduce(torch.cat([g.flatten() for g in bucket]), "sum")
            parts = flat.split([g.numel() for g in bucket])
            torch._foreach_copy_(bucket, [part.view_as(g) for part, g in zip(parts, bucket, strict=True)])
    if count > 1:
        torch._foreach_div_([p.grad for p in parameters if p.grad is not None], count)


def buckets(tensors: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Runs of consecutive tensors of one dtype with at most BUCKET numbers (or one larger tensor)."""
    held: list[torch.Tensor] = []
    for tensor in tensors:
        if held and (held[0].dtype != tensor.dtype or sum(t.numel() for t in held) + tensor.numel() > BUCKET):
            yield held
            held = []
        held.append(tensor)
    if held:
        yield held
