"""A GPU without one: tensors on "cuda" that have shapes and no numbers, and a count of what would make a real one wait or be copied to.

Tensors on the CPU are real. Tensors on "cuda" are torch's FakeTensors: an operation on tensors of two devices raises, as it does there.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
LIBRARIES = ("/torch/", "/diffusers/", "/peft/", "/accelerate/", "/transformers/")
"""Parts of the paths of libraries' files."""
SHAPED_BY_NUMBERS = {aten.nonzero.default, aten.masked_select.default, aten._unique2.default}


class FakeGpu(TorchDispatchMode):
    """Within it "cuda" can be used. Counts copies from the CPU, and syncs: numbers asked for, copies back, shapes made of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []
        self.syncs: list[str] = []
        self.numberless = FakeTensorMode()

    @staticmethod
    def here() -> str:
        """Name the lines that ask for the present operation, the last first; those of libraries are left out."""
        frames = [f for f in traceback.extract_stack() if not any(part in f.filename for part in LIBRARIES) and __file__ != f.filename]
        return " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in reversed(frames[-3:]))

    def without_numbers(self, tensor: torch.Tensor) -> torch.Tensor:
        """Take a tensor, of any shape, for one without numbers."""
        return tensor if isinstance(tensor, FakeTensor) else self.numberless.from_tensor(tensor, static_shapes=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        device = kwargs.get("device")
        if not any(isinstance(one, FakeTensor) for one in tensors) and (device is None or torch.device(device).type == "cpu"):
            with _disable_current_modes():
                return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            self.syncs.append(self.here())
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        masks = [i for i in args[1] if i is not None and i.dtype == torch.bool] if func is aten.index.Tensor else []
        if func in SHAPED_BY_NUMBERS or masks:
            self.syncs.append(self.here())
            return args[0] if masks else args[0].new_zeros((2, args[0].dim()), dtype=torch.int64)
        args, kwargs = tree_map_only(torch.Tensor, self.without_numbers, (args, kwargs))
        found = func(*args, **kwargs)
        if func in (aten._to_copy.default, aten.copy_.default):
            source, target = (args[1], args[0]) if func is aten.copy_.default else (args[0], found)
            if source.device.type == "cpu" != target.device.type:
                self.copies.append(self.here())
            if target.device.type == "cpu" != source.device.type:
                self.syncs.append(self.here())
        return found


def _apply(module: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> torch.nn.Module:
    """Stand in the place of torch.nn.Module._apply, which cannot exchange a parameter for one without numbers."""
    for child in module.children():
        child._apply(change)
    for name, p in module._parameters.items():
        if p is not None:
            module._parameters[name] = torch.nn.Parameter(change(p.detach()), p.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


class Patches:
    """Attributes that are others for a while; pytest's monkeypatch serves as well."""

    def __init__(self) -> None:
        self.before: list[tuple[Any, str, Any]] = []

    def setattr(self, target: Any, name: str, value: Any, raising: bool = True) -> None:
        """Give an object another attribute. Raises AttributeError where it has none of the name, but with raising=False."""
        if raising and not hasattr(target, name):
            raise AttributeError(name)
        self.before.append((target, name, vars(target).get(name, self)))
        setattr(target, name, value)

    def undo(self) -> None:
        """Put back what there was."""
        for target, name, value in reversed(self.before):
            if value is self:
                delattr(target, name)
            else:
                setattr(target, name, value)
        self.before.clear()


@contextlib.contextmanager
def fake_gpu(patch: Any) -> Iterator[FakeGpu]:
    """Give a FakeGpu within the block. patch: `Patches`, or pytest's monkeypatch; whoever gave it undoes it."""
    mode = FakeGpu()

    def tolist(tensor: torch.Tensor) -> Any:
        mode.syncs.append(mode.here())
        return torch.ones(tensor.shape).tolist()

    def grad(outputs: Any, inputs: Any, **words: Any) -> tuple[torch.Tensor, ...]:
        # a backward pass has its own threads, which a GPU's driver starts
        return tuple(torch.zeros_like(one) for one in ([inputs] if isinstance(inputs, torch.Tensor) else inputs))

    patch.setattr(torch.nn.Module, "_apply", _apply)
    patch.setattr(FakeTensor, "tolist", tolist, raising=False)
    # a copy of a network would have a mode of its own
    patch.setattr(FakeTensorMode, "__deepcopy__", lambda self, memo: self, raising=False)
    patch.setattr(torch.autograd, "grad", grad)
    with mode.numberless, mode:
        yield mode


def backward(parameters: Callable[[], list[torch.nn.Parameter]]) -> Callable[..., None]:
    """Stand in for a backward pass: gradients without numbers."""

    def call(loss: Any, inputs: Any = None, **words: Any) -> None:
        for p in parameters() if inputs is None else inputs:
            p.grad = torch.zeros_like(p)

    return call


def weights_at_once(patch: Any) -> None:
    """Let diffusers make a U-Net of a config on the fake GPU: weights without numbers cannot be loaded into real ones."""
    from diffusers import UNet2DConditionModel

    from_config = UNet2DConditionModel.from_config

    def at_once(config: Any, **words: Any) -> Any:
        with torch.device("cuda"):
            return from_config(config, **words)

    patch.setattr(UNet2DConditionModel, "from_config", at_once)
