"""Rectified flow (Liu et al. 2022): its time, its straight paths, and what a U-Net's output means on them (methods.md 4).

u is the flow's time: 0 is noise, 1 is data; X_u = (1 - u) noise + u data, and the velocity is data - noise. Other models (Stable
Diffusion 3) count time the other way round and flip the sign. u is a float, or a (N,) float64 tensor with one time per sample.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scottbench.diffusion import Schedule, scale, to_x0_eps

Time = float | Tensor


def interpolate(noise: Tensor, data: Tensor, u: Time) -> Tensor:
    """Return X_u = (1 - u) noise + u data, (N,C,h,w)."""
    u = _column(u, data)
    return scale(1 - u, noise) + scale(u, data)


def euler(field: Callable[[Tensor, float], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Return X_1 of dX/du = field(X, u) from X_0 = noise, (N,C,h,w), in `steps` equal Euler steps, at u = 0, 1/n, ..., (n - 1)/n."""
    x = noise
    for j in range(steps):
        x = x + field(x, j / steps) / steps
    return x


def network_input(schedule: Schedule, x: Tensor, u: Time, form: str) -> tuple[Tensor, Time]:
    """Return (z (N,C,h,w), t) to feed the U-Net with at X_u = x; t a float, or (N,) float64 where u is.

    official: X_u itself and t = T (1 - u). exact: the point of the teacher's variance-preserving process with the same noise to
    signal ratio lambda = (1 - u) / u, which is z = X_u / sqrt(u^2 + (1 - u)^2), and the (fractional) time step tau with that lambda.
    """
    z = x if form == "official" else scale(1 / _length(_column(u, x)), x)
    return z, network_time(schedule, u, form)


def network_time(schedule: Schedule, u: Time, form: str) -> Time:
    """Return the time step t of `network_input` alone: a float, or (N,) float64 where u is."""
    if form == "official":
        return len(schedule) * (1 - u)
    tau = time_of(schedule, noise_to_signal(torch.as_tensor(u, dtype=torch.float64)).flatten())
    return tau if isinstance(u, Tensor) else float(tau)


def velocity(schedule: Schedule, x: Tensor, u: Time, output: Tensor, form: str, prediction: str) -> Tensor:
    """Return the velocity at X_u = x from the U-Net's output at `network_input`, (N,C,h,w). prediction: as of `to_x0_eps`.

    exact: v = x0 - eps, both from the teacher's parametrisation at lambda: the teacher's ODE in the flow's time. The schedule ends
    at lambda_T (u = 0.064 for Stable Diffusion's); before that x0 is the prediction for lambda_T, and eps is what X_u leaves over:
    at u = 0 the noise itself.
    """
    if form == "official":
        return output
    u_ = _column(u, x)
    lam = noise_to_signal(u_)
    capped = lam.clamp_max(float(schedule.lam(len(schedule) - 1)))
    # a schedule of just these noise levels, one "time step" per sample
    levels = Schedule((1 / (1 + capped**2)).flatten())
    index = torch.arange(len(levels), device=x.device)
    x0, eps = to_x0_eps(levels, scale(1 / _length(u_), x), index, output, prediction)
    rest = scale(1 / (1 - u_).clamp_min(1e-6), x - scale(u_, x0))
    return x0 - torch.where(lam > capped, rest, eps)


def noise_to_signal(u: Tensor) -> Tensor:
    """Return lambda(u) = (1 - u) / u, of the shape of u, infinite at u = 0."""
    return (1 - u) / u


def time_of(schedule: Schedule, lam: Tensor) -> Tensor:
    """Return the fractional time step tau with noise to signal ratio lam, (N,) float64: ln lambda is linear between whole time steps,
    and tau stays within 0..T-1."""
    table = torch.as_tensor(schedule.lam(torch.arange(len(schedule), device=lam.device))).flatten().log()
    wanted = lam.log().clamp(table[0], table[-1])
    above = torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
    return above - 1 + (wanted - table[above - 1]) / (table[above] - table[above - 1])


def _column(u: Time, like: Tensor) -> Tensor:
    """u as (N,1,1,1) or (1,1,1,1) float64 on `like`'s device."""
    if isinstance(u, Tensor):
        return u.to(like.device, torch.float64).view(-1, 1, 1, 1)
    return torch.full((1, 1, 1, 1), u, dtype=torch.float64, device=like.device)  # filled there: nothing is copied


def _length(u: Tensor) -> Tensor:
    return (u**2 + (1 - u) ** 2).sqrt()
