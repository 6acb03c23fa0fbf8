"""Schedule, conversions, guidance, the one update primitive that every sampler here is a case of, consistency sampling.

Notation: z_t = alpha_t x0 + sigma_t eps with alpha_t^2 + sigma_t^2 = 1, lambda_t = sigma_t / alpha_t (noise to signal, grows
with t). Coefficients are float64; they meet latents, noise and network outputs in float32 at least, never in half precision. Time
steps t are an int, or a (N,) int64 tensor, in which case coefficients come back as (N,1,1,1).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

Coefficient = float | Tensor


@dataclass(frozen=True)
class Schedule:
    """A variance-preserving noise schedule, given by its cumulative products of 1 - beta: (T,) float64, falling."""

    alphas_cumprod: Tensor
    """alpha_t^2 for t = 0..T-1."""
    _tables: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The same on other devices: sent there once, not for every coefficient."""

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> Schedule:
        """Stable Diffusion's schedule: sqrt(beta) linear (Rombach et al. 2022)."""
        beta = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
        return cls(torch.cumprod(1 - beta, 0))

    @classmethod
    def linear(cls, beta_start: float = 1e-4, beta_end: float = 0.02, steps: int = 1000) -> Schedule:
        """DDPM's schedule: beta linear (Ho et al. 2020)."""
        beta = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
        return cls(torch.cumprod(1 - beta, 0))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def alpha_bar(self, t: int | Tensor) -> Coefficient:
        """Return alpha_t^2 in float64: a float for an int t, (N,1,1,1) for t of shape (N,)."""
        if isinstance(t, Tensor):
            return self.table(t.device)[t].view(-1, 1, 1, 1)
        return self._numbers[t]

    def table(self, device: torch.device) -> Tensor:
        """Return alpha_bar, (T,) float64, on a device."""
        if device == self.alphas_cumprod.device:
            return self.alphas_cumprod
        if device not in self._tables:
            self._tables[device] = self.alphas_cumprod.to(device)
        return self._tables[device]

    @cached_property
    def _numbers(self) -> list[float]:
        """alpha_bar as numbers: a GPU would be waited for at each."""
        return [float(x) for x in self.alphas_cumprod.tolist()]

    def alpha(self, t: int | Tensor) -> Coefficient:
        """Return alpha_t, the share of the clean latent: a float, or (N,1,1,1) for t of shape (N,)."""
        return self.alpha_bar(t) ** 0.5

    def sigma(self, t: int | Tensor) -> Coefficient:
        """Return sigma_t, the share of the noise: a float, or (N,1,1,1) for t of shape (N,)."""
        return (1 - self.alpha_bar(t)) ** 0.5

    def lam(self, t: int | Tensor) -> Coefficient:
        """Return lambda_t = sigma_t / alpha_t, noise to signal: a float, or (N,1,1,1) for t of shape (N,)."""
        return self.sigma(t) / self.alpha(t)


def wide(z: Tensor) -> Tensor:
    """Return z, of any shape, in float32 at least: rounding of half precision would be more than the steps that are made here."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def scale(coefficient: Coefficient, z: Tensor) -> Tensor:
    """Return coefficient * z, (N,C,h,w), in z's dtype, in float32 where that is half precision. A float64 coefficient must not promote
    float32 latents, and must not be rounded to bfloat16's 8 bits either."""
    z = wide(z)
    return (coefficient.to(z.dtype) if isinstance(coefficient, Tensor) else coefficient) * z


def add_noise(schedule: Schedule, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
    """Return z_t = alpha_t x0 + sigma_t noise, (N,C,h,w)."""
    return scale(schedule.alpha(t), x0) + scale(schedule.sigma(t), noise)


def x0_from_eps(schedule: Schedule, z: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
    """Return x0 = (z - sigma_t eps) / alpha_t, (N,C,h,w)."""
    return scale(1 / schedule.alpha(t), z - scale(schedule.sigma(t), eps))


def eps_from_x0(schedule: Schedule, z: Tensor, t: int | Tensor, x0: Tensor) -> Tensor:
    """Return eps = (z - alpha_t x0) / sigma_t, (N,C,h,w)."""
    return scale(1 / schedule.sigma(t), z - scale(schedule.alpha(t), x0))


def x0_from_v(schedule: Schedule, z: Tensor, t: int | Tensor, v: Tensor) -> Tensor:
    """Return x0 = alpha_t z - sigma_t v, (N,C,h,w), where v = alpha_t eps - sigma_t x0 (Salimans & Ho 2022)."""
    return scale(schedule.alpha(t), z) - scale(schedule.sigma(t), v)


def eps_from_v(schedule: Schedule, z: Tensor, t: int | Tensor, v: Tensor) -> Tensor:
    """Return eps = alpha_t v + sigma_t z, (N,C,h,w)."""
    return scale(schedule.alpha(t), v) + scale(schedule.sigma(t), z)


def to_x0_eps(schedule: Schedule, z: Tensor, t: int | Tensor, output: Tensor, prediction: str) -> tuple[Tensor, Tensor]:
    """Turn a network's raw output into (x0, eps), each (N,C,h,w), in float32 at least. prediction: "epsilon", "v_prediction" or "sample"
    (diffusers' names)."""
    output = wide(output)
    if prediction == "epsilon":
        return x0_from_eps(schedule, z, t, output), output
    if prediction == "v_prediction":
        return x0_from_v(schedule, z, t, output), eps_from_v(schedule, z, t, output)
    assert prediction == "sample", prediction
    return output, eps_from_x0(schedule, z, t, output)


def guide(cond: Tensor, uncond: Tensor, w: Coefficient) -> Tensor:
    """Return cond + w (cond - uncond), (N,C,h,w). w = s - 1, where s is the pipelines' guidance scale; w = 0 is unguided.

    For VP models guiding x0 or eps is the same thing: the map between them is affine with weights that sum to one.
    """
    cond = wide(cond)  # before the difference, of which w makes a multiple
    return cond + scale(w, cond - uncond)


def update(schedule: Schedule, x0: Tensor, eps: Tensor, t: int | Tensor, rho: Coefficient, noise: Tensor | None) -> Tensor:
    """Return the primitive z_t = alpha_t x0 + sigma_t (rho eps + sqrt(1 - rho^2) noise), (N,C,h,w), 0 <= rho <= 1.

    DDIM with a partly refreshed noise direction. rho = 1 is the ODE step (DDIM eta = 0, DPM-Solver++ order 1), rho = 0 is
    the re-noising of consistency sampling, rho = lambda_t / lambda_s is ancestral (DDIM eta = 1). noise may be None only
    if rho == 1.
    """
    direction = scale(rho, eps)
    if noise is not None:
        direction = direction + scale(_complement(rho), noise)
    else:
        assert not isinstance(rho, Tensor) and rho == 1, "a stochastic step needs noise"
    return scale(schedule.alpha(t), x0) + scale(schedule.sigma(t), direction)


def _complement(rho: Coefficient) -> Coefficient:
    """sqrt(1 - rho^2) without cancellation near rho = 1: (1 - rho)(1 + rho) is exact where 1 - rho*rho is not."""
    if isinstance(rho, Tensor):
        return ((1 - rho) * (1 + rho)).clamp_min(0).sqrt()
    return math.sqrt(max(0.0, (1 - rho) * (1 + rho)))


def rho_ddim(schedule: Schedule, s: int | Tensor, t: int | Tensor, eta: float) -> Coefficient:
    """Return rho of DDIM(eta) for a step s -> t: rho^2 = 1 - eta^2 (1 - lambda_t^2 / lambda_s^2) (Song et al. 2021, eq. 16)."""
    ratio = schedule.lam(t) / schedule.lam(s)
    squared = 1 - eta**2 * (1 - ratio) * (1 + ratio)
    return squared.clamp_min(0).sqrt() if isinstance(squared, Tensor) else math.sqrt(max(0.0, squared))


def boundary_scalings(t: int | Tensor, timestep_scaling: float = 10.0, sigma_data: float = 0.5) -> tuple[Coefficient, Coefficient]:
    """Return (c_skip, c_out) of f(z,t) = c_skip z + c_out x0, so that f(z,0) = z (LCM: Luo et al. 2023).

    c_out lacks the factor sigma_data of the consistency-model paper: the published LCM weights assume this form.
    """
    s = timestep_scaling * (t.double().view(-1, 1, 1, 1) if isinstance(t, Tensor) else float(t))
    c_skip = sigma_data**2 / (s**2 + sigma_data**2)
    c_out = s / (s**2 + sigma_data**2) ** 0.5
    return c_skip, c_out


def consistency_function(z: Tensor, t: int | Tensor, x0: Tensor) -> Tensor:
    """Return f(z,t) = c_skip(t) z + c_out(t) x0, (N,C,h,w): the student's clean latent with the boundary condition built in."""
    c_skip, c_out = boundary_scalings(t)
    return scale(c_skip, z) + scale(c_out, x0)


def guidance_embedding(w: Tensor, dim: int = 256) -> Tensor:
    """Return the sinusoidal embedding of w = s - 1: (N,) -> (N, dim) float32, [sin, cos] of 1000 w at dim/2 frequencies (LCM)."""
    half = dim // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, dtype=torch.float64, device=w.device) / (half - 1))
    angle = 1000.0 * w.double()[:, None] * frequency[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def pseudo_huber(
    prediction: Tensor, target: Tensor, c: float = 1e-3, form: str = "element", weight: Tensor | None = None
) -> Tensor:
    """Return the mean over the batch (N,...) of sqrt(d^2 + c^2) - c, 0-d; d is each element's difference ("element": LCM) or each
    sample's L2 norm ("norm": improved consistency training, Song & Dhariwal 2024). In float32 at least: c^2 = 1e-6 underflows in
    fp16. weight: (N,) or (N,1,1,1), a factor of each sample's distance; None for 1."""
    d2 = (wide(prediction) - wide(target)) ** 2
    if form == "norm":
        d2 = d2.flatten(1).sum(1)
    else:
        assert form == "element", form
    distance = torch.sqrt(d2 + c**2) - c
    if weight is not None:
        distance = distance * weight.to(distance.dtype).view(-1, *[1] * (distance.dim() - 1))
    return distance.mean()


def even_edges(schedule: Schedule, parts: int) -> list[int]:
    """List the edges of n equal parts of the schedule, rising: floor((T - 1) j / n), for 4 parts 0, 249, 499, 749, 999."""
    last = len(schedule) - 1
    return [last * j // parts for j in range(parts + 1)]


def trailing(schedule: Schedule, steps: int) -> list[int]:
    """List time steps by the rule called trailing spacing, falling: round(T (1 - j / n)) - 1, for 4 steps 999, 749, 499, 249."""
    return [round(len(schedule) * (1 - j / steps)) - 1 for j in range(steps)]


def nearest(rising: Sequence[float], wanted: float) -> int:
    """Return the place in rising numbers of the one nearest to `wanted`; of two as near, the greater."""
    above = min(bisect_left(rising, wanted), len(rising) - 1)
    return above - (above > 0 and wanted - rising[above - 1] < rising[above] - wanted)


def skipping_grid(schedule: Schedule, skip: int) -> list[int]:
    """List training time steps from the top, T-1, T-1-skip, ..., all > 0: LCM's 999, 979, ..., 19 for skip 20."""
    return list(range(len(schedule) - 1, 0, -skip))


def spread(grid: list[int], steps: int) -> list[int]:
    """Pick `steps` time steps of a falling grid, evenly by index: grid[floor(len * j / steps)] (LCM's inference rule)."""
    return [grid[len(grid) * j // steps] for j in range(steps)]


def consistency_sample(run: Any, times: list[int]) -> Tensor:
    """Sample clean latents (N,C,h,w) in several consistency steps (Luo et al. 2023, algorithm 3): `renoised_sample` of f, which is z at
    time 0. run: a `scottbench.Sampling`."""
    return renoised_sample(run, times, consistency_function)


def renoised_sample(run: Any, times: list[int], clean: Callable[[Tensor, int, Tensor], Tensor] | None = None) -> Tensor:
    """Sample clean latents (N,C,h,w): predict them at each of the times, and re-noise (rho = 0) to the next; no noise after the last, so
    that one step is deterministic given z_T.

    run: a `scottbench.Sampling`; clean: (z, t, x0) -> what is taken for clean, (N,C,h,w) each; None: the prediction x0 itself.
    """
    z = run.noise(0)
    for k, t in enumerate(times):
        x, eps = run.denoise(z, t)
        if clean is not None:
            x = clean(z, t, x)
        if k + 1 < len(times):
            z = update(run.schedule, x, eps, times[k + 1], rho=0, noise=run.noise(k + 1))
    return x
