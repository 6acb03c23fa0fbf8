"""Teachers and students in closed form, for the invariants of methods.md section 7: Gaussian data, mixtures, linear networks."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from scottbench_scott.options import SCottOptions
from scottbench_scott.trainer import StochasticConsistencyDistillation

from scottbench.diffusion import Schedule, boundary_scalings, eps_from_x0, skipping_grid

SD = Schedule.scaled_linear()


def column(values) -> torch.Tensor:
    """(N,1,1,1) float64: one number a sample, in the shape of latents."""
    return torch.as_tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


class Network(torch.nn.Module):
    """A U-Net in closed form: eps of x0(z, t), for x0 a function of (z, t) with t int or (N,) int64."""

    config = SimpleNamespace(time_cond_proj_dim=None)

    def __init__(self, x0, schedule=SD):
        super().__init__()
        self.x0, self.schedule = x0, schedule

    def forward(self, z, t, encoder_hidden_states=None, timestep_cond=None, return_dict=False):
        return (eps_from_x0(self.schedule, z, t, self.x0(z, t)),)


def gaussian(s: float, schedule=SD):
    """E[x0 | z] of data N(0, s^2): s^2 / (s^2 + lambda^2) z / alpha."""
    return lambda z, t: s**2 / (s**2 + schedule.lam(t) ** 2) * z / schedule.alpha(t)


def consistency(s: float, schedule=SD):
    """The exact consistency function of that data, s y / sqrt(s^2 + lambda^2) with y = z / alpha, followed to lambda = 0."""
    return lambda z, t: s * z / schedule.alpha(t) / (s**2 + schedule.lam(t) ** 2) ** 0.5


def behind_the_boundary(f):
    """x0 that a network must predict for c_skip z + c_out x0 = f."""

    def x0(z, t):
        c_skip, c_out = boundary_scalings(t)
        return (f(z, t) - c_skip * z) / c_out

    return x0


def trainer(kind, options, teacher, student=None, schedule=SD):
    """A CD or SCott trainer over networks in closed form; the constructors, which copy U-Nets, are passed by. The teacher is
    unguided: its conditional and unconditional halves are equal."""
    made = object.__new__(kind)
    made.options = options
    made.teacher = SimpleNamespace(schedule=schedule, prediction="epsilon", unet=teacher, network=lambda z, t, text: teacher(z, t)[0])
    made.networks, made.ema, made.ema_decay = {"student": student}, student, options.ema
    made.grid = torch.tensor(skipping_grid(schedule, options.skip))
    return made


def scott(teacher, student=None, **options):
    options = SCottOptions(**{"discriminator": "none", "w_min": 0.0, "w_max": 0.0} | options)
    return trainer(StochasticConsistencyDistillation, options, teacher, student)


def cd(teacher, student=None, **options):
    return trainer(ConsistencyDistillation, CDOptions(**{"w_min": 0.0, "w_max": 0.0} | options), teacher, student)


TEXT = torch.zeros(1, 1, 1)


def chain_slopes(made, z=None):
    """Where the mean of SCott's teacher chain goes for z = 1, at every time of the grid: ((N,) slopes in z, (N,) t_m)."""
    made.normal = lambda like, generator: torch.zeros_like(like)
    n = len(made.grid)
    z = column([1.0] * n) if z is None else z
    z_m, t_m = made.teacher_chain(z, made.grid, TEXT.expand(n, -1, -1), TEXT, torch.zeros(n), None)
    return z_m.flatten(), t_m


def fixed_point(made) -> dict[int, float]:
    """Slope of the optimal student in z, by time: f*(z, t_n) = E f*(z_m, t_m) (methods.md 3.6). The table there ends the
    recursion at y_0 = z_0 / alpha_0; the trained f ends at z_0, which is 0.04 % less."""
    slopes, ends = chain_slopes(made)
    f = {0: 1 / SD.alpha(0)}
    for t, slope, end in sorted(zip(made.grid.tolist(), slopes.tolist(), ends.tolist(), strict=True)):
        f[t] = slope * f[end]
    return f


def sampled_variance(f: dict[int, float], times: list[int], s: float, schedule=SD) -> float:
    """Variance of multistep consistency sampling with a linear student, over the data's, from z_T ~ q_T."""
    variance = None
    for t in times:
        data = s**2 if variance is None else variance
        variance = f[t] ** 2 * (schedule.alpha(t) ** 2 * data + schedule.sigma(t) ** 2)
    return variance / s**2


class Mixture:
    """A one-dimensional mixture of Gaussians: its denoiser, and its flow, which is the quantile map (methods.md 7.1)."""

    def __init__(self, weights, means, stds):
        self.w, self.m, self.s = (torch.tensor(v, dtype=torch.float64) for v in (weights, means, stds))

    def parts(self, y, lam):
        """(posterior weights, posterior means, posterior variances) by component, for y of any shape."""
        variance = self.s**2 + lam**2
        log = self.w.log() - 0.5 * (y[..., None] - self.m) ** 2 / variance - 0.5 * variance.log()
        means = self.m + self.s**2 / variance * (y[..., None] - self.m)
        return log.softmax(-1), means, self.s**2 * lam**2 / variance

    def mean(self, y, lam):
        """E[x0 | y]."""
        weights, means, _ = self.parts(y, lam)
        return (weights * means).sum(-1)

    def variance(self, y, lam):
        """Var[x0 | y]."""
        weights, means, variances = self.parts(y, lam)
        return (weights * (variances + means**2)).sum(-1) - (weights * means).sum(-1) ** 2

    def density(self, y, lam):
        std = (self.s**2 + lam**2).sqrt()
        return (self.w / (std * math.sqrt(2 * math.pi)) * torch.exp(-0.5 * ((y[..., None] - self.m) / std) ** 2)).sum(-1)

    def cdf(self, y, lam):
        return (self.w * torch.special.ndtr((y[..., None] - self.m) / (self.s**2 + lam**2).sqrt())).sum(-1)

    def flow(self, y, lam_s, lam_t):
        """Where the probability-flow ODE takes y from lambda_s to lambda_t: F_t^-1(F_s(y)), by bisection."""
        target = self.cdf(y, lam_s)
        low, high = torch.full_like(y, -100.0), torch.full_like(y, 100.0)
        for _ in range(200):
            middle = (low + high) / 2
            below = self.cdf(middle, lam_t) < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


def log_uniform(n: int) -> Schedule:
    """A schedule of n steps, uniform in ln lambda from 0.029167 (t = 0) to 14.61464 (t = n)."""
    lam = torch.logspace(math.log10(0.029167), math.log10(14.61464), n + 1, dtype=torch.float64)
    return Schedule(1 / (1 + lam**2))
