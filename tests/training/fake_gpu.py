"""A GPU without one: tensors on "cuda" that have shapes and no numbers, and a count of what would make a real one wait or be copied to.

Tensors on the CPU are real. Tensors on "cuda" are torch's FakeTensors: an operation on tensors of two devices raises, as it does there.
"""

from __future__ import annotations

import contextlib
import traceback

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
SHAPED_BY_NUMBERS = {aten.nonzero.default, aten.masked_select.default, aten._unique2.default}


class FakeGpu(TorchDispatchMode):
    """Within it "cuda" can be used. Counts copies from the CPU, and syncs: numbers asked for, copies back, shapes made of numbers."""

    def __init__(self):
        super().__init__()
        self.copies, self.syncs = [], []

    @staticmethod
    def here() -> str:
        """Where the present operation is asked for, in our code."""
        frames = [f for f in traceback.extract_stack() if "scottbench" in f.filename and "fake_gpu" not in f.filename]
        return " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in reversed(frames[-3:]))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
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
        found = func(*args, **kwargs)
        if func in (aten._to_copy.default, aten.copy_.default):
            source, target = (args[1], args[0]) if func is aten.copy_.default else (args[0], found)
            if source.device.type == "cpu" != target.device.type:
                self.copies.append(self.here())
            if target.device.type == "cpu" != source.device.type:
                self.syncs.append(self.here())
        return found


def _apply(module, change, recurse=True):
    """In the place of torch.nn.Module._apply, which cannot exchange a parameter for one without numbers."""
    for child in module.children():
        child._apply(change)
    for name, p in module._parameters.items():
        if p is not None:
            module._parameters[name] = torch.nn.Parameter(change(p.detach()), p.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


@contextlib.contextmanager
def fake_gpu(patch):
    """Give a FakeGpu within the block. patch: pytest's monkeypatch."""
    mode = FakeGpu()

    def tolist(tensor, original=torch.Tensor.tolist):
        if not isinstance(tensor, FakeTensor):
            return original(tensor)
        mode.syncs.append(mode.here())
        return torch.ones(tensor.shape).tolist()

    patch.setattr(torch.nn.Module, "_apply", _apply)
    patch.setattr(torch.Tensor, "tolist", tolist)
    # a backward pass has its own threads, which a GPU's driver starts
    patch.setattr(torch.autograd, "grad", lambda loss, inputs, **words: (torch.zeros_like(inputs),))
    with FakeTensorMode(allow_non_fake_inputs=True), mode:
        yield mode


def backward(parameters):
    """Stand in for a backward pass: gradients without numbers."""

    def call(loss, inputs=None, **words):
        for p in parameters() if inputs is None else inputs:
            p.grad = torch.zeros_like(p)

    return call
