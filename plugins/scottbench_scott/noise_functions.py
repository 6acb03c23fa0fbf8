"""Noise functions phi of ER-SDE (Cui et al. 2023, arXiv 2309.06169) and the rho they give.

Named by formula, because three numberings are in use (methods.md 3.2). phi is admissible if psi(x) = phi(x) / x does not
fall: then 0 <= rho <= 1. The order of noise: kappa = d ln phi / d ln x - 1, kappa = eta^2 of an equivalent DDIM.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from scottbench.diffusion import Schedule, scale

Time = int | Tensor

LOG_PSI: dict[str, Callable[[Tensor], Tensor]] = {
    "x": lambda x: torch.zeros_like(x),
    "x^1.5": lambda x: 0.5 * x.log(),
    "x^2": lambda x: x.log(),
    "x^2.5": lambda x: 1.5 * x.log(),
    "x(exp(-1/x)+10)": lambda x: torch.log(torch.exp(-1 / x) + 10),
    "x^0.9*log10(1+100x^1.5)": lambda x: torch.log(torch.log1p(100 * x**1.5)) - 0.1 * x.log(),
    "x(exp(x^0.3)+10)": lambda x: torch.log(torch.exp(x**0.3) + 10),
}
"""Formula of phi -> ln psi, up to a constant, of a float64 tensor lambda > 0."""


def rho_er_sde(schedule: Schedule, s: Time, t: Time, formula: str, strength: float = 1.0) -> Tensor:
    """Return rho(s -> t) = (psi(lambda_t) / psi(lambda_s))^strength, float64; s, t: int or (N,) int64."""
    log_psi = LOG_PSI[formula]
    lam_s, lam_t = (torch.as_tensor(schedule.lam(u), dtype=torch.float64) for u in (s, t))
    return torch.exp(strength * (log_psi(lam_t) - log_psi(lam_s)))


def second_order_weight(schedule: Schedule, s: Time, t: Time, formula: str, strength: float = 1.0) -> Tensor:
    """Return (lambda_t - lambda_s) + phi(lambda_t) * integral of du / phi(u) from lambda_t to lambda_s, float64, (N,) as s and t
    are. It multiplies the slope of x0 over lambda in second-order ER-SDE (arXiv 2309.06169, eq. 17 in VP form). phi = x psi^strength."""
    lam_s, lam_t = (torch.as_tensor(schedule.lam(u), dtype=torch.float64) for u in (s, t))
    return (lam_t - lam_s) + _integral(lam_s, lam_t, formula, strength, 0)


def second_order_term(
    schedule: Schedule, step: tuple[Time, Time], x0: Tensor, before: tuple[Time, Tensor], formula: str, strength: float = 1.0
) -> Tensor:
    """Return the term that order 2 adds to a step, (N,C,h,w): alpha_t times its weight times the slope of x0 over lambda since the
    evaluation before. step: (s, t); x0 (N,C,h,w) at s; before: (time, x0) of the evaluation before; times int or (N,) int64."""
    s, t = step
    gap = torch.as_tensor(schedule.lam(s) - schedule.lam(before[0]))
    slope = torch.where(gap == 0, 0.0, 1 / gap)  # near t = 0 sub-times may coincide
    return scale(schedule.alpha(t) * second_order_weight(schedule, s, t, formula, strength) * slope, x0 - before[1])


def third_order_weight(schedule: Schedule, s: Time, t: Time, formula: str, strength: float = 1.0) -> Tensor:
    """Return (lambda_t - lambda_s)^2 / 2 + phi(lambda_t) * integral of (u - lambda_s) du / phi(u) from lambda_t to lambda_s, float64, (N,)
    as s and t are. It multiplies the curvature of x0 over lambda in third-order ER-SDE (arXiv 2309.06169, in VP form)."""
    lam_s, lam_t = (torch.as_tensor(schedule.lam(u), dtype=torch.float64) for u in (s, t))
    return (lam_t - lam_s) ** 2 / 2 + _integral(lam_s, lam_t, formula, strength, 1)


@functools.cache
def _gauss_legendre(device: torch.device) -> tuple[Tensor, Tensor]:
    """16 nodes and weights, (16,) float64 each, sent to a device once."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    return torch.as_tensor(nodes, device=device), torch.as_tensor(weights, device=device)


def _integral(lam_s: Tensor, lam_t: Tensor, formula: str, strength: float, power: int) -> Tensor:
    """phi(lambda_t) * integral of (u - lambda_s)^power du / phi(u) from lambda_t to lambda_s, (N,): 16 Gauss-Legendre nodes."""
    nodes, weights = _gauss_legendre(lam_s.device)
    half = (lam_s - lam_t) / 2
    u = lam_t[..., None] + half[..., None] * (1 + nodes)

    def log_phi(x: Tensor) -> Tensor:
        return x.log() + strength * LOG_PSI[formula](x)

    ratio = torch.exp(log_phi(lam_t)[..., None] - log_phi(u)) * (u - lam_s[..., None]) ** power
    return half * (weights * ratio).sum(-1)
