"""Bytes and FLOPs of code that runs networks, without their weights: it runs on the meta device, where tensors have shapes and no numbers.

`Meter` sees every operation. Each storage that comes to be counts until it is gone, so its peak is that of torch's own count
(`torch.cuda.max_memory_allocated`) but for the rounding of the allocator and the workspaces of libraries. FLOPs are by torch's own table.
Attention counts as the fused kernels make it: they keep inputs, output and one number a row, never the matrix. Autocast, which the meta
device does not have, is laid over it by the rules of CUDA's: matrix products and convolutions in half precision, norms in float32, and a
half-precision copy of each trained weight kept until `forget`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as functions
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

HALF = {
    functions.linear, torch.conv1d, torch.conv2d, torch.conv_transpose2d, functions.conv1d, functions.conv2d, functions.conv_transpose2d,
    torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.Tensor.matmul, torch.Tensor.__matmul__,
    functions.scaled_dot_product_attention,
}  # fmt: skip
"""Functions that autocast runs in half precision."""
FULL = {
    functions.group_norm, functions.layer_norm, torch.group_norm, torch.layer_norm, functions.softmax, torch.softmax, functions.mse_loss,
}  # fmt: skip
"""Functions that autocast runs in float32."""
ATTENTION = functions.scaled_dot_product_attention
BACKWARD = {Tensor.backward, torch.autograd.backward, torch.autograd.grad}


class Meter(TorchDispatchMode):
    """Counts bytes of storages and FLOPs of operations inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, Any] = {}
        self.now, self.peak, self.flops = 0, 0, 0

    def note(self, tensor: Tensor) -> None:
        """Count a tensor's storage, of any shape, until it is gone. What exists before the block is counted by its owner's call."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.live or tensor.device.type != "meta":
            return
        self.live[key] = weakref.ref(storage, lambda gone: self._drop(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _drop(self, key: int, size: int) -> None:
        if self.live.pop(key, None) is not None:
            self.now -= size

    def note_all(self, *modules: torch.nn.Module | None) -> int:
        """Count parameters and buffers of networks, and return the bytes counted now."""
        for module in filter(None, modules):
            for tensor in (*module.parameters(), *module.buffers()):
                self.note(tensor.detach())
        return self.now

    def __torch_dispatch__(self, function: Any, types: Any, arguments: tuple = (), words: dict | None = None) -> Any:
        words = {} if words is None else words
        out = function(*arguments, **words)
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.flops += count(*arguments, **words, out_val=out)
        if isinstance(out, Tensor):
            self.note(out)
        elif isinstance(out, (tuple, list)):
            for one in out:
                if isinstance(one, Tensor):
                    self.note(one)
        return out


class _Attention(torch.autograd.Function):
    """Attention as a fused kernel keeps it: inputs, output, a float32 number a row. FLOPs are counted by the caller."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return an output of the shape of q but for its last side, v's."""
        out = q.new_empty((*q.shape[:-1], v.shape[-1]))
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return gradients of the three inputs."""
        q, k, v, *_ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


class WithoutNumbers(TorchFunctionMode):
    """Makes the weights of networks on the meta device; tables that are made of numbers, by torch.tensor and the like, keep them."""

    def __torch_function__(self, function: Any, types: Any, arguments: tuple = (), words: dict | None = None) -> Any:
        words = {} if words is None else words
        if function in FACTORIES and words.get("device") is None and words.get("generator") is None:
            words = {**words, "device": "meta"}
        return function(*arguments, **words)


FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}
"""Functions by which modules make their parameters and buffers."""


class Stage(TorchFunctionMode):
    """Lets code for a GPU run on the meta device: attention, autocast in `half` (None: none), answers where a number is asked for."""

    def __init__(self, meter: Meter, half: torch.dtype | None = None):
        super().__init__()
        self.meter, self.half = meter, half
        self.kept: dict[int, tuple[Tensor, Tensor]] | None = {}

    def forget(self) -> None:
        """Leave the half-precision copies of weights, as the end of autocast's block does."""
        self.kept = {}

    def __torch_function__(self, function: Any, types: Any, arguments: tuple = (), words: dict | None = None) -> Any:
        words = {} if words is None else words
        answer = ANSWERS.get(function)
        if answer is not None and isinstance(arguments[0], Tensor) and arguments[0].device.type == "meta":
            return answer(arguments[0])
        if self.half is not None and (function in HALF or function in FULL):
            to = self.half if function in HALF else torch.float32
            arguments = tuple(self.cast(one, to) for one in arguments)
            words = {key: self.cast(one, to) for key, one in words.items()}
        if function is ATTENTION:
            return self.attention(*arguments[:3], **words)
        if function in BACKWARD:
            return self.run_backward(function is torch.autograd.grad, *arguments, **words)
        return function(*arguments, **words)

    def run_backward(
        self, returned: bool, outputs: Any, *rest: Any, inputs: Any = (), retain_graph: bool | None = None, **words: Any
    ) -> Any:
        """Run autograd's engine with this mode on, which is off where a function is handled: checkpointed blocks run again in it.
        returned: give the gradients back, of the shape of each of `inputs`, in place of adding them to .grad."""
        given = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        if returned and rest:
            inputs = rest[0]
        asked = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs or ())
        kept, self.kept = self.kept, None
        with self:
            found = torch.autograd.Variable._execution_engine.run_backward(
                given, tuple(map(torch.ones_like, given)), bool(retain_graph), False, asked, allow_unreachable=True,
                accumulate_grad=not returned)  # fmt: skip
        self.kept = kept
        return found if returned else None

    def cast(self, value: Any, to: torch.dtype) -> Any:
        """Return a value, a tensor of any shape in another number format; a trained weight's copy is kept."""
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype in (to, torch.float64):
            return value
        if self.kept is None or not (value.requires_grad and value.is_leaf and torch.is_grad_enabled()):
            return value.to(to)
        if id(value) not in self.kept:
            self.kept[id(value)] = (value, value.to(to))
        return self.kept[id(value)][1]

    def attention(self, q: Tensor, k: Tensor, v: Tensor, **words: Any) -> Tensor:
        """Return the output (B,h,L,d) of attention of q (B,h,L,e), k (B,h,S,e), v (B,h,S,d), and count it: two products, five more in the
        backward pass."""
        products = 2 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
        forward = products * (q.shape[3] + v.shape[3])
        self.meter.flops += forward
        out = _Attention.apply(q, k, v)
        if out.requires_grad:
            out.register_hook(lambda gradient: setattr(self.meter, "flops", self.meter.flops + forward * 5 // 2))
        return out


def _every(tensor: Tensor) -> tuple[Tensor, ...] | Tensor:
    """All places of a tensor: the most that a search may find."""
    places = torch.arange(tensor.numel(), device="meta")[:, None]
    return places.expand(-1, max(1, tensor.dim()))


ANSWERS: dict[Any, Callable[[Tensor], Any]] = {
    Tensor.__bool__: lambda tensor: True, Tensor.__float__: lambda tensor: 1.0, Tensor.__int__: lambda tensor: 1,
    Tensor.item: lambda tensor: 1.0, Tensor.tolist: lambda tensor: torch.ones(tensor.shape).tolist(),
    Tensor.cpu: lambda tensor: torch.ones(tensor.shape, dtype=tensor.dtype), Tensor.nonzero: _every, torch.nonzero: _every,
}  # fmt: skip
"""What a tensor without numbers says where code asks for one: yes, 1, and all places."""


@contextlib.contextmanager
def metered(half: torch.dtype | None = None) -> Iterator[tuple[Meter, Stage]]:
    """Count inside the block; half: the number format of autocast, None for float32 throughout."""
    meter = Meter()
    stage = Stage(meter, half)
    with meter, stage:
        yield meter, stage
