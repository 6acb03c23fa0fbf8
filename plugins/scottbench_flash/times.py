"""The time steps that a Flash Diffusion student is trained at: the grid, and its distribution pi, which moves with the phases."""

from __future__ import annotations

import torch
from torch import Tensor

from scottbench.diffusion import Schedule
from scottbench.training.distillation import stratified


def grid_times(schedule: Schedule, count: int) -> Tensor:
    """Return the grid, (K,) int64, rising: round(T k / K) - 1 for k = 1..K. A sampler's trailing time steps lie on it where their number
    divides K."""
    return torch.tensor([round(len(schedule) * k / count) - 1 for k in range(1, count + 1)])


def phase_of(fraction: float, phases: int) -> int:
    """Return the phase, 0 for the warm-up, when `fraction` of the budget is spent; all phases are equally long."""
    return min(int(fraction * phases), phases - 1)


def time_weights(count: int, modes: int, phase: int, shift: float = 1.0) -> Tensor:
    """Return pi over the grid's K points, (K,) float64 that sum to 1: a mixture of Gaussians in k / K of variance 0.5 / K^2.

    In the warm-up (phase 0) they stand at all K points with equal weights; in phase p at `modes` points K j / M, j = 1..M, with weights
    that go like (j / M)^(shift (p - 1)): equal in phase 1, then more and more on full noise.
    """
    k = torch.arange(1, count + 1, dtype=torch.float64)
    share = torch.arange(1, modes + 1, dtype=torch.float64) / modes
    means, beta = (k, torch.ones_like(k)) if phase == 0 else (count * share, share ** (shift * (phase - 1)))
    density = (beta * torch.exp(-((k[:, None] - means) ** 2))).sum(1)
    return density / density.sum()


def draw_index(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw (n,) int64 of 1..K by probabilities (K,), stratified: each draw alone has that law."""
    found = torch.searchsorted(weights.cumsum(0), stratified(n, generator), right=True)
    return found.clamp(max=len(weights) - 1) + 1
