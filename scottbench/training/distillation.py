"""Shared by distillation trainers: the copy of a teacher that becomes the student, the teacher's guided pass, the student's function f,
time steps, weights over time, and how far a student follows its guidance input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from scottbench.diffusion import Schedule, add_noise, consistency_function, guidance_embedding, guide, to_x0_eps, update, wide
from scottbench.models.diffusion_model import DiffusionModel, Text, UNet, run_unet
from scottbench.models.pipeline import fast_layout
from scottbench.registry.condition import TextCondition, joined

GuidanceStart = Literal["random", "zero"]
"""How the map of the guidance embedding starts: random, as torch and LCM do, or at zero."""
TimeWeight = Literal["one", "alpha", "snr-clipped"]
"""Weight lambda(t) of the consistency loss; see `time_weight`."""
SNR_LIMIT = 5.0
"""The gamma of min-SNR weights (Hang et al. 2023)."""
SLOPE_TIMES, SLOPE_ITEMS, SLOPE_STEPS = (999, 759, 499), 16, 10


def student_copy(unet: UNet, w_min: float, w_max: float, start: GuidanceStart) -> UNet:
    """Make a student's trainable U-Net from its teacher's: a plain copy where the guidance is fixed (w_min = w_max) and baked in, a
    w-conditioned one where it is an input."""
    if w_min < w_max:
        return w_conditioned_copy(unet, start=start)
    return fast_layout(copy.deepcopy(unet))


def guidance_facts(w_min: float, w_max: float) -> dict[str, object]:
    """Return what student.json says about the guidance: its range, or that it is baked in and at which scale s = 1 + w."""
    if w_min < w_max:
        return {"w_min": w_min, "w_max": w_max}
    return {"guidance": "baked", "baked_guidance_scale": 1 + w_min}


def w_conditioned_copy(unet: UNet, embedding_dim: int = 256, start: GuidanceStart = "zero") -> UNet:
    """Make a trainable copy of a U-Net that takes the guidance scale as an input.

    The embedding of w enters through a bias-free linear map before the time MLP (LCM). start: "zero" makes it equal to the original
    for every w. From zero, at a small learning rate, the map learns nothing to speak of (methods-2, section 1); "random" is torch's
    own start, as in LCM's scripts.
    """
    from diffusers import UNet2DConditionModel

    # without `_use_default_values`: where an old config.json does not name a key, diffusers would undo the change of it
    config = {key: value for key, value in unet.config.items() if key != "_use_default_values"}
    student = UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": embedding_dim})
    missing, unexpected = student.load_state_dict(unet.state_dict(), strict=False)
    assert missing == ["time_embedding.cond_proj.weight"] and not unexpected, (missing, unexpected)
    if start == "zero":
        torch.nn.init.zeros_(student.time_embedding.cond_proj.weight)
    fast_layout(student)  # the teacher's layout: another one would round differently
    return student.to(unet.device)


# --- time steps and weights ------------------------------------------------------------------------------------------


def stratified(n: int, generator: torch.Generator) -> Tensor:
    """Draw (n,) float64 in [0, 1), one from each of n equal parts: (p_i + u_i) / n with a random order p of 0..n-1 and uniform u. The mean
    over a batch varies less than with independent draws, and each draw alone is uniform."""
    return (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator, dtype=torch.float64)) / n


def draw_grid_times(grid: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw (n,) int64 time steps of a grid (K,), stratified over it."""
    return grid[(stratified(n, generator) * len(grid)).long().clamp(max=len(grid) - 1)]


def draw_times(low: int, high: int, n: int, generator: torch.Generator) -> Tensor:
    """Draw (n,) int64 time steps of low, ..., high - 1, stratified over them."""
    return low + (stratified(n, generator) * (high - low)).long().clamp(max=high - low - 1)


def time_weight(schedule: Schedule, t: Tensor, kind: TimeWeight) -> Tensor | None:
    """Return lambda(t) of t (N,) as (N,1,1,1) float64; None for 1.

    one: 1 (LCM). alpha: alpha_t, which makes the gradient's norm about the same at every t. snr-clipped: min(SNR, 5) / 5.
    """
    if kind == "one":
        return None
    return weight_of(torch.as_tensor(schedule.alpha(t)), torch.as_tensor(schedule.sigma(t)), kind)


def weight_of(alpha: Tensor, sigma: Tensor, kind: TimeWeight) -> Tensor | None:
    """Return lambda of `time_weight` where the time is given by alpha and sigma, (N,...) each; None for 1."""
    if kind == "one":
        return None
    return alpha if kind == "alpha" else ((alpha / sigma) ** 2).clamp(max=SNR_LIMIT) / SNR_LIMIT


# --- networks --------------------------------------------------------------------------------------------------------


@contextmanager
def adapters_off(unet: UNet) -> Iterator[None]:
    """Make a U-Net with LoRA adapters its frozen self again inside, so that teacher and student can share one. Outside the adapters
    are trainable again (peft's switch sets requires_grad too)."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def guided_teacher(teacher: DiffusionModel, z: Tensor, t: Tensor, text: Text, uncond: Text, w: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (x0, eps) of the teacher at the raw output F(text) + w (F(text) - F(uncond)), conditional and unconditional pass in one batch.

    z (N,C,h,w); t (N,) int64; text (N,L,D); uncond (1,L,D); w (N,) = s - 1, or None: unguided, the conditional pass alone.
    """
    return to_x0_eps(teacher.schedule, z, t, guided_output(teacher, z, t, text, uncond, w), teacher.prediction)


def guided_output(teacher: DiffusionModel, z: Tensor, t: Tensor, text: Text, uncond: Text, w: Tensor | None) -> Tensor:
    """Return the teacher's raw output with guidance w per sample, (N,C,h,w) float32 at least; t (N,), whole or fractional, and the rest as
    for `guided_teacher`."""
    if w is None:
        return wide(teacher.network(z, t, text))
    both = joined([text, TextCondition.of(uncond).expand(len(text))])
    cond, unc = wide(teacher.network(torch.cat([z, z]), torch.cat([t, t]), both)).chunk(2)
    return guide(cond, unc, w.view(-1, 1, 1, 1))


def consistency_output(
    teacher: DiffusionModel, unet: UNet, z: Tensor, t: Tensor, text: Text, w: Tensor
) -> Tensor:
    """Return f(z, t, c, w) = c_skip(t) z + c_out(t) x0(z, t, c, w) of a student's U-Net, its clean latent with the boundary condition,
    (N,C,h,w). The teacher gives schedule and parametrisation; z, t, text and w as for `guided_teacher`."""
    x0, _ = to_x0_eps(teacher.schedule, z, t, conditioned_output(unet, z, t, text, w), teacher.prediction)
    return consistency_function(z, t, x0)


def conditioned_output(unet: UNet, z: Tensor, t: Tensor | float, text: Text, w: Tensor) -> Tensor:
    """Return the network's raw output, (N,C,h,w) float32 at least. A network that takes no guidance scale is given none:
    one guidance is baked into it."""
    size = unet.config.time_cond_proj_dim
    condition = None if size is None else guidance_embedding(w, size).to(z.dtype)
    return wide(run_unet(unet, z, t, text, condition))


def uniform_guidance(n: int, w_min: float, w_max: float, generator: torch.Generator) -> Tensor:
    """Draw (n,) float32 guidance values w ~ U[w_min, w_max]."""
    return w_min + (w_max - w_min) * torch.rand(n, generator=generator)


@torch.no_grad()
def update_ema(target: torch.nn.Module, source: torch.nn.Module, decay: float) -> None:
    """Set theta_minus <- decay * theta_minus + (1 - decay) * theta, all tensors in one fused operation."""
    pairs = [(p, q) for p, q in zip(target.parameters(), source.parameters(), strict=True) if p is not q]
    torch._foreach_lerp_([p for p, _ in pairs], [q.detach().to(p.dtype) for p, q in pairs], 1 - decay)


# --- does the student follow its guidance? ---------------------------------------------------------------------------


@torch.no_grad()
def guidance_slope(
    teacher: DiffusionModel, f: Callable[..., Tensor], z: tuple[Tensor, Tensor],
    prompts: tuple[Text, Text], scales: tuple[float, float], times: tuple[int, ...] = SLOPE_TIMES,
) -> dict[str, float]:  # fmt: skip
    """Return, for each time step t of `times`, how far f(z_t, t, c, w) moves between two guidances, as a share of the way that the ends
    of the guided teacher's ODE lie apart, measured along that way: 1 where it is learnt, 0 where w is not heard.

    f: (z (N,C,h,w), t (N,), text (N,L,D), w (N,)) -> (N,C,h,w). z: clean latents and noise, (N,C,h,w) each. prompts: text (N,L,D) and
    uncond (1,L,D). scales: the two guidances w.
    """
    x0, noise = z
    text, found = prompts[0], {}
    for t in times:
        at = torch.full((len(x0),), t, dtype=torch.int64, device=x0.device)
        z_t = add_noise(teacher.schedule, x0, t, noise)
        own, exact = [], []
        for scale in scales:
            w = torch.full((len(x0),), scale, device=x0.device)
            own.append(f(z_t, at, text, w))
            exact.append(_ode_end(teacher, z_t, t, prompts, w))
        way = exact[1] - exact[0]
        found[f"t{t}"] = float(((own[1] - own[0]) * way).sum() / (way * way).sum().clamp_min(1e-12))
    return found


def _ode_end(teacher: DiffusionModel, z: Tensor, t: int, prompts: tuple[Text, Text], w: Tensor) -> Tensor:
    """Solve the guided teacher's ODE from z (N,C,h,w) at t to 0 by DDIM in at most SLOPE_STEPS steps; prompts: (N,L,D) and (1,L,D)."""
    times = torch.linspace(t, 0, min(SLOPE_STEPS, t) + 1).round().long().tolist()
    for s, t_next in zip(times, times[1:]):
        at = torch.full((len(z),), s, dtype=torch.int64, device=z.device)
        x, eps = guided_teacher(teacher, z, at, *prompts, w)
        z = update(teacher.schedule, x, eps, t_next, rho=1, noise=None)
    return z
