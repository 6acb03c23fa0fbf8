"""Optimizers of a training: AdamW of torch, or of bitsandbytes with moments of 8 bits. Their state, as tensors with names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scottbench.errors import MissingAsset, UsageError
from scottbench.training.distributed import is_split

NESTED = "__bnb_optimizer_quant_state__"
"""The key under which bitsandbytes packs quantised moments in a state_dict."""
BLOCKS = ("absmax1", "absmax2", "qmap1", "qmap2")
"""Parts of quantised moments that have not the shape of their parameter: the scale of each block, and the 256 values of a byte."""
SMALLEST, BLOCK = 4096, 256
"""Numbers of the smallest parameter whose moments are quantised, and of one block."""


def make_optimizer(kind: str, parameters: list[torch.nn.Parameter], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """Make an optimizer "adamw" or "adamw8bit", without weight decay. Raises MissingAsset where the latter's package is not here, and
    UsageError for parameters that are split over processes, which it cannot update."""
    if kind == "adamw8bit":
        return eight_bit(parameters, lr, betas)
    # fused: one pass over the memory, a quarter of the time on a CPU, of one iteration of CD 4 %; not for split tensors on every device
    return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=0.0, fused=not is_split(parameters[0]))


def eight_bit(parameters: list[torch.nn.Parameter], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """Make bitsandbytes' AdamW of 8 bits. Raises MissingAsset or UsageError as `make_optimizer`."""
    if is_split(parameters[0]):
        raise UsageError("--optimizer adamw8bit cannot update a network that --fsdp splits over processes. Use --no-fsdp or adamw.")
    try:
        import bitsandbytes
    except ImportError:
        raise MissingAsset(
            "--optimizer adamw8bit needs the package bitsandbytes, which is not installed. Install it with: pip install "
            "'scottbench[8bit]'; or train with --optimizer adamw, whose moments take four times the memory.") from None
    return bitsandbytes.optim.AdamW8bit(parameters, lr=lr, betas=betas, weight_decay=0.0)


def moments(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """Return {index of a parameter: {name: tensor of any shape, or number}} of an optimizer's state, quantised or not."""
    found = {}
    for index, state in optimizer.state_dict()["state"].items():
        found[index] = {key: value for key, value in state.items() if key != NESTED} | state.get(NESTED, {})
    return found


def is_part(key: str, value: Tensor, parameter: Tensor) -> bool:
    """Tell whether a tensor may be the moment `key` of a parameter, both of any shape: as large as it, or a part of a quantised one."""
    return value.shape == parameter.shape or (key in BLOCKS and value.dim() == 1 and value.numel() <= max(BLOCK, parameter.numel()))


def bytes_of_moments(kind: str, parameters: list[torch.nn.Parameter]) -> int:
    """Count the bytes of an optimizer's state."""
    sizes = [p.numel() for p in parameters]
    if kind == "adamw":
        return sum(8 * size for size in sizes)
    return sum(8 * size if size < SMALLEST else 2 * (size + 4 * -(-size // BLOCK)) for size in sizes)
