"""Weights of a scorer against its network: every name and shape, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import DamagedAsset

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

CONVERT = "python -m scottbench_scorers.build.convert {name} {{folder}}/{pickle} --allow-unsafe-checkpoint"
"""The line that makes safetensors of a published pickle, which no run reads."""


def fetched(name: str, fetch: str, pickle: str) -> str:
    """Write the lines that fetch a published pickle and convert it. fetch: with {folder}, where it goes."""
    return f"{fetch}, then: {CONVERT.format(name=name, pickle=pickle)}"


def read(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file, float32 of any shape. Raises SafetensorError or OSError."""
    from safetensors.torch import load_file

    return {name: tensor.float() for name, tensor in load_file(path).items()}


def load_exactly(network: Module, weights: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load weights that have every name and shape of a network, and no other. Raises DamagedAsset, which names the first that differs.

    what: the architecture, for the message.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name, shape in wanted.items():
        if found.get(name) != shape:
            has = f"has it as {found[name]}" if name in found else "lacks it"
            raise DamagedAsset(f"{path} is of another model: {what} has {name} as {shape}, and the file {has}. Fetch the weights again.")
    extra = sorted(found.keys() - wanted.keys())
    if extra:
        raise DamagedAsset(f"{path} is of another model: it has {extra[0]}, which {what} has not. Fetch the weights again.")
    network.load_state_dict(dict(weights), strict=True)
