"""The teacher's many steps from z_t to a clean latent, for samples that have different numbers of steps to go."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scottbench import TextCondition
from scottbench.diffusion import Schedule, scale, update
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.training.distillation import guided_teacher


@dataclass(frozen=True)
class Chain:
    """A plan that is made on the CPU, where the numbers of steps are known: the longest ways first, so that those on their way are the
    first rows."""

    order: Tensor
    """(N,) int64: the samples, longest way first."""
    back: Tensor
    """(N,) int64: the way back from that order."""
    times: list[Tensor]
    """The time steps of each step, (n,) int64, of the n samples that are on their way."""


def chain_of(index: Tensor, grid: Tensor) -> Chain:
    """Plan chains from the grid's points, (K,) int64 and rising, at `index` (N,) int64 of 1..K: the k-th goes by all points below it and
    has k steps."""
    order = torch.argsort(index, descending=True, stable=True)
    counts = index[order].tolist()
    times = []
    for done in range(counts[0]):
        times.append(grid[torch.tensor([k - 1 - done for k in counts if k > done])])
    return Chain(order, torch.argsort(order), times)


def teacher_end(
    teacher: DiffusionModel, z: Tensor, chain: Chain, prompts: tuple[TextCondition, TextCondition], w: Tensor, solver: str
) -> Tensor:
    """Return the clean latents (N,C,h,w) that the guided teacher makes of z (N,C,h,w) at the first time step of each chain: the
    prediction at the last one. prompts: text (N,L,D) and uncond (1,L,D); w (N,) = s - 1."""
    text, uncond = prompts
    z, text, w = z[chain.order], text[chain.order], w[chain.order]
    ends: list[Tensor] = []
    before: tuple[Tensor, Tensor] | None = None
    for t, t_next in zip(chain.times, [*chain.times[1:], chain.times[0][:0]], strict=True):
        n, on = len(t), len(t_next)
        x0, eps = guided_teacher(teacher, z[:n], t, text[:n], uncond, w[:n])
        ends.append(x0[on:])
        x0, eps, t = x0[:on], eps[:on], t[:on]
        if not on:
            break
        if solver == "ddim":
            z = update(teacher.schedule, x0, eps, t_next, rho=1, noise=None)
        else:
            z, before = second_order(teacher.schedule, z[:on], (t, t_next), x0, before)
    return torch.cat(ends[::-1])[chain.back]


def second_order(
    schedule: Schedule, z: Tensor, step: tuple[Tensor, Tensor], x0: Tensor, before: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Make a step of DPM-Solver++ 2M from z (N,C,h,w) at s to t, both (N,), with x0 (N,C,h,w) at s, and return (z_t, the things that the
    next step needs). before: those of the step before, of these samples or of more; None at the first, which is DDIM's."""
    s, t = step
    h = torch.as_tensor(torch.log(torch.as_tensor(schedule.lam(s) / schedule.lam(t))))
    middle = x0
    if before is not None:
        x0_before, h_before = before[0][: len(x0)], before[1][: len(x0)]
        middle = x0 + scale(h / (2 * h_before), x0 - x0_before)
    ratio = schedule.sigma(t) / schedule.sigma(s)
    return scale(ratio, z) + scale(schedule.alpha(t) - ratio * schedule.alpha(s), middle), (x0, h)
