"""U-Nets compiled by torch.compile: block by block, or as a whole with CUDA graphs. Off unless it is asked for (`--compile`).

Compiled code may round otherwise, so it is part of a run's identity, and a run with it agrees with another within a tolerance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from scottbench.errors import UsageError
from scottbench.text import one_line

KINDS = ("off", "blocks", "graphs")
"""Values of `--compile`. "blocks": each residual and transformer block, so that one compilation serves all blocks of a shape. "graphs":
the whole network, and its kernels replayed as CUDA graphs."""
BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock")
"""diffusers' classes of the repeated blocks."""


def check_kind(kind: str, device: str) -> None:
    """Raise UsageError for an unknown kind, or one that the device cannot do."""
    if kind not in KINDS:
        raise UsageError(f"--compile {one_line(kind)}: must be {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    if kind == "graphs" and not device.startswith("cuda"):
        raise UsageError(f"--compile graphs: CUDA graphs need a GPU, and this run is on '{device}'. Use --compile blocks.")


def compile_unet(unet: Any, kind: str) -> None:
    """Compile a U-Net in place, once; it is made when it is first called. Hooks and counts stay as they are.

    Raises UsageError for a U-Net without such blocks; a call raises it where torch cannot compile on this machine.
    """
    if kind == "off" or getattr(unet, "compiled_kind", "off") == kind:
        return
    _make_room()
    if kind == "graphs":
        unet.forward = _replayed(_told(torch.compile(unet.forward, mode="reduce-overhead", dynamic=False)))
    else:
        blocks = [module for module in unet.modules() if type(module).__name__ in BLOCKS]
        if not blocks:
            raise UsageError(f"--compile {kind}: this U-Net has none of {', '.join(BLOCKS)}. Leave --compile out.")
        for block in blocks:
            block.forward = _told(torch.compile(block.forward, dynamic=False))
    unet.compiled_kind = kind


def _make_room() -> None:
    """Let one piece of code be compiled for many shapes: torch's 8 are fewer than a U-Net's blocks have, and it would go on uncompiled."""
    import torch._dynamo

    name = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, name, max(128, getattr(torch._dynamo.config, name)))


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the function, but turn torch's answer where it cannot compile into one line. Raises UsageError."""
    from torch._dynamo.exc import TorchDynamoException

    @functools.wraps(function)
    def call(*given: Any, **words: Any) -> Any:
        try:
            return function(*given, **words)
        except TorchDynamoException as error:
            line = one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)[:200]
            raise UsageError(f"--compile: torch cannot compile this network here ({line}). On a CPU it needs a C++ compiler, on a GPU "
                             "triton. Leave --compile out, or install that.") from None

    return call


def _replayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the function with outputs of their own: those of a graph lie in memory that its next call writes to."""

    @functools.wraps(function)
    def call(*given: Any, **words: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return tuple(part.clone() for part in function(*given, **words))

    return call
