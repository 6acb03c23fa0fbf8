"""Continuous time on a teacher's discrete schedule, for trainers whose loss holds a derivative with respect to time.

A schedule names whole time steps. Between them a time is an angle, arctan(lambda), and the network is asked at the fractional time step of
that noise-to-signal ratio. The derivative of a network along a path is exact (forward mode), or a difference: central, or backward.

A loss that pulls a network along its own derivative carries what is known at the start of the path (t = 0, or r) on to later times, a
little with each update: it solves an advection equation. There the exact derivative lets errors that vary fast in time grow with each
update (forward in time, centred in space): the faster they vary, the smaller an update must be. So does a central difference, down to its
width. The difference to the side that the knowledge comes from does not, while updates are small beside its width (Courant, Isaacson & Rees
1952, "upwind").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from scottbench.diffusion import Schedule, wide
from scottbench.errors import UsageError
from scottbench.models.diffusion_model import DiffusionModel, UNet

Derivative = Literal["auto", "jvp", "finite", "backward"]
"""How `derivative` is taken; auto: jvp where `has_forward_mode`, else finite."""
TORCH_ATTENTION = {"AttnProcessor", "AttnProcessor2_0"}
"""diffusers' attention processors that are torch operations alone; others call kernels that have no forward mode."""


def angles(schedule: Schedule) -> tuple[float, float]:
    """Return the least and the greatest angle, arctan(lambda), that a schedule has, as numbers."""
    ends = torch.tensor([schedule.lam(0), schedule.lam(len(schedule) - 1)], dtype=torch.float64).atan()
    return float(ends[0]), float(ends[1])


def time_of_angle(schedule: Schedule, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fractional time step tau with arctan(lambda_tau) = angle, and d tau / d angle; both (N,) float64, as angle is.

    ln lambda is linear between whole time steps. Outside of the schedule tau is its first or last time step, and does not move; at the
    first and the last itself it moves as within.
    """
    table = schedule.table(angle.device)
    log_lam = ((1 - table).log() - table.log()) / 2
    wanted = angle.tan().log()
    # the ends belong to it, one-step sampling asks there; an angle's way there and back loses a few of the last digits
    inside = (wanted > log_lam[0] - 1e-9) & (wanted < log_lam[-1] + 1e-9)
    wanted = wanted.clamp(log_lam[0], log_lam[-1])
    above = torch.searchsorted(log_lam, wanted).clamp(1, len(log_lam) - 1)
    width = log_lam[above] - log_lam[above - 1]
    per_angle = 1 / (angle.sin() * angle.cos()).clamp_min(1e-12)  # d ln tan(angle) / d angle
    return above - 1 + (wanted - log_lam[above - 1]) / width, torch.where(inside, per_angle / width, 0.0)


def has_forward_mode(unet: UNet) -> bool:
    """Tell whether a U-Net can be differentiated in forward mode: its attention is torch's own, and no block is compiled."""
    processors = getattr(unet, "attn_processors", {})
    compiled = any(getattr(module, "_compiled_call_impl", None) is not None for module in unet.modules())
    return not compiled and {type(each).__name__ for each in processors.values()} <= TORCH_ATTENTION


def chosen_derivative(asked: Derivative, unet: UNet) -> Literal["jvp", "finite", "backward"]:
    """Return the way that `derivative` will go for a U-Net."""
    if asked == "auto":
        return "jvp" if has_forward_mode(unet) else "finite"
    return asked


def derivative(
    model: DiffusionModel, network: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...], how: str, width: float
) -> Tensor:
    """Return d network(at + x along) / dx at x = 0, (N,C,h,w) float32 at least, without a graph.

    at, along: tensors of the same shapes, the first (N,C,h,w). how: "jvp", forward mode, counted as two passes an image, which is what the
    value and its derivative cost together; "finite", two evaluations `width` before and behind; "backward", `difference_behind`. Raises
    UsageError for a network without forward mode.
    """
    if how == "backward":
        return difference_behind(network, at, along, width)
    # half precision would leave little of a difference, and has no forward mode: the network's weights are in float32
    with torch.no_grad(), torch.autocast(at[0].device.type, enabled=False):
        if how == "finite":
            behind, ahead = (network(*(p + step * d for p, d in zip(at, along, strict=True))) for step in (-width, width))
            return (wide(ahead) - wide(behind)) / (2 * width)
        try:
            # the fused kernels of attention have no forward mode
            with sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
                output = network(*(forward_ad.make_dual(p, d) for p, d in zip(at, along, strict=True)))
                found = forward_ad.unpack_dual(output).tangent
        except (NotImplementedError, RuntimeError) as error:
            if "forward" not in str(error).lower() and "jvp" not in str(error).lower():
                raise
            raise UsageError(
                f"a layer of this U-Net has no derivative in forward mode ({first_line(error)}). "
                "Use differences: -O derivative=finite, or backward"
            ) from None
        model.passes += len(at[0])  # the hook counted the value; its derivative costs the same again
        return torch.zeros_like(wide(at[0])) if found is None else wide(found)


def difference_behind(
    network: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...], width: float, value: Tensor | None = None
) -> Tensor:
    """Return (network(at) - network(at - width along)) / width, (N,C,h,w) float32 at least, without a graph.

    at, along: tensors of the same shapes, the first (N,C,h,w). value: network(at), (N,C,h,w), which is evaluated anew where it is not
    given, or autocast was on as it was made.
    """
    exact = not torch.is_autocast_enabled(at[0].device.type)
    with torch.no_grad(), torch.autocast(at[0].device.type, enabled=False):
        here = value if value is not None and exact else network(*at)
        return (wide(here) - wide(network(*(p - width * d for p, d in zip(at, along, strict=True))))) / width


def first_line(error: Any) -> str:
    """Return the first line of an error's message, at most 120 characters."""
    return (str(error).splitlines() or [""])[0][:120]
