"""Continuous-time consistency distillation (Lu & Song 2024, algorithm 1, sCD)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from scottbench import Batch, Context, TextCondition
from scottbench.diffusion import scale
from scottbench.models.diffusion_model import UNet
from scottbench.models.transfer import sent
from scottbench.training.continuous import angles, chosen_derivative, derivative, difference_behind, time_of_angle
from scottbench.training.distillation import (
    conditioned_output,
    guidance_facts,
    guided_output,
    stratified,
    student_copy,
    uniform_guidance,
    weight_of,
)  # fmt: skip
from scottbench_scm.options import SCMOptions
from scottbench_scm.trigflow import Velocity, normalised, tangent


class TimeWeight(torch.nn.Module):
    """w(t), a learnt number for each time, 0 at the start: a linear map of sines and cosines of ln tan(angle)."""

    def __init__(self, frequencies: int = 8):
        super().__init__()
        self.frequencies = frequencies
        self.map = torch.nn.Linear(2 * frequencies + 1, 1)
        torch.nn.init.zeros_(self.map.weight)
        torch.nn.init.zeros_(self.map.bias)

    def forward(self, log_lam: Tensor) -> Tensor:
        """Return w, (N,) float32, of ln lambda (N,)."""
        x = log_lam.float()[:, None]
        angle = x * (0.25 * torch.arange(1, self.frequencies + 1, device=x.device))
        return self.map(torch.cat([x / 4, angle.sin(), angle.cos()], 1))[:, 0].float()


class ContinuousConsistencyDistillation:
    """The student's velocity F is pulled along cos(t) df/dt, the derivative of its own consistency function on the guided teacher's path.

    There is no EMA target; the host's average (`--average`), if any, is exported.
    """

    def __init__(self, context: Context, options: SCMOptions):
        self.teacher, self.options, o = context.teacher, options, options
        student = student_copy(context.teacher.unet, o.w_min, o.w_max, o.w_start).requires_grad_(True)
        self.networks: dict[str, Any] = {"student": student}
        self.learning_rates = {"student": o.lr}
        if o.adaptive:
            self.networks["weight"] = TimeWeight().to(context.device)
            self.learning_rates["weight"] = o.adaptive_lr
        self.betas: dict[str, tuple[float, float]] = {}
        self.ema, self.ema_decay = None, 0.0
        low, high = angles(context.teacher.schedule)
        self.range = math.log(math.tan(low)), math.log(math.tan(high))
        self.how = ""

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Yield the student's consistency loss, then that of the weight over time; 0-d."""
        o, x0, text, n = self.options, batch["latents"], batch["text"], len(batch["latents"])
        log_lam = self.draw_times(n, batch["generator"])
        w = uniform_guidance(n, o.w_min, o.w_max, batch["generator"])
        noise = torch.randn(x0.shape, generator=batch["generator"])
        log_lam, w, noise = sent((log_lam, w, noise), x0.device)
        angle = log_lam.exp().atan()
        t = angle.view(-1, 1, 1, 1)
        x = scale(t.cos(), x0) + scale(t.sin(), noise)
        velocity, g = self.velocity_and_tangent(x, angle, text, batch["uncond"], w, min(1.0, batch["step"] / max(o.warmup, 1)))
        error = (velocity - (velocity.detach() + normalised(g, o.tangent_c, o.normalise))).square().flatten(1).mean(1)
        factor = 1 if (fixed := weight_of(angle.cos(), angle.sin(), o.weight)) is None else fixed
        learnt = self.networks["weight"](log_lam) if o.adaptive else None
        own = 1.0 if learnt is None else learnt.detach().exp()
        yield "student", {"consistency": (factor * own * error).mean()}, {"tangent": g.detach().square().mean().sqrt()}
        error = error.detach()  # no graph is kept over a yield
        if learnt is not None:
            yield "weight", {"weight": (learnt.exp() * error - learnt).mean()}, {}

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw (n,) float64 ln tan(angle), normal around p_mean, stratified, within the schedule."""
        normal = torch.special.ndtri(stratified(n, generator).clamp(1e-9, 1 - 1e-9))
        return (self.options.p_mean + self.options.p_std * normal).clamp(*self.range)

    def velocity_and_tangent(
        self, x: Tensor, angle: Tensor, text: TextCondition, uncond: TextCondition, w: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """Return the student's velocity F(x, t), (N,C,h,w), with a graph, and cos(t) df/dt, (N,C,h,w), without one.

        angle (N,) float64; text (N,L,D); uncond (1,L,D); w (N,); share: of the part of the tangent that needs a derivative.
        """
        student, teacher = self.networks["student"], self.teacher
        tau, rate = time_of_angle(teacher.schedule, angle)
        of = Velocity.of(angle, teacher.prediction)
        # the student first: asked without gradients before, autocast would keep its weights' casts without them
        output = conditioned_output(student, x, tau, text, w)
        with torch.no_grad():
            dx = of(guided_output(teacher, x, tau, text, uncond, w), x)
            self.how = self.how or chosen_derivative(self.options.derivative, student)
            step = angle.sin() * angle.cos()  # d angle / d ln tan(angle): the path is walked in ln tan(angle)
            along = scale(step.view(-1, 1, 1, 1), dx), step * rate
            fixed = output.detach()
            asked = lambda x, tau: conditioned_output(student, x, tau, text, w)  # noqa: E731
            if self.how == "backward":
                change = difference_behind(asked, (x, tau), along, self.options.width, fixed)
            else:
                change = derivative(teacher, asked, (x, tau), along, self.how, self.options.width)
            change = of.change(fixed, x, change, along[0], step.view(-1, 1, 1, 1))
            g = tangent(angle, x, of(fixed, x), dx, change, share)
        return of(output, x), g

    def f(self, network: UNet, z: Tensor, t: Tensor, text: TextCondition, w: Tensor) -> Tensor:
        """Return f(z, t, c, w), (N,C,h,w), of a student's network at whole time steps t (N,) int64: its prediction x0."""
        lam = torch.as_tensor(self.teacher.schedule.lam(t)).flatten()
        angle = lam.atan()
        velocity = Velocity.of(angle, self.teacher.prediction)(conditioned_output(network, z, t, text, w), z)
        column = angle.view(-1, 1, 1, 1)
        return scale(column.cos(), z) - scale(column.sin(), velocity)

    def student_config(self) -> dict[str, Any]:
        """Return the range of the guidance, or that it is baked in."""
        return guidance_facts(self.options.w_min, self.options.w_max)
