"""MeanFlow (Geng et al. 2025, algorithm 1) with the guided teacher's velocity in place of the conditional one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from scottbench import Batch, Context, TextCondition
from scottbench.diffusion import scale
from scottbench.models.diffusion_model import UNet
from scottbench.models.transfer import sent
from scottbench.training.continuous import chosen_derivative, derivative, difference_behind, time_of_angle
from scottbench.training.distillation import conditioned_output, guidance_facts, guided_output, stratified, w_conditioned_copy
from scottbench_meanflow.line import LineVelocity, Point, embedded_interval, last_time
from scottbench_meanflow.options import MeanFlowOptions


class MeanFlow:
    """u(X, r, t) is pulled to v - (t - r) du/dt, v the guided teacher's velocity, du/dt the derivative of the student's own u along v.

    There is no EMA target; the host's average (`--average`), if any, is exported.
    """

    def __init__(self, context: Context, options: MeanFlowOptions):
        self.teacher, self.options = context.teacher, options
        student = w_conditioned_copy(context.teacher.unet, start=options.interval_start).requires_grad_(True)
        self.networks: dict[str, Any] = {"student": student}
        self.learning_rates = {"student": options.lr}
        self.betas = {"student": (0.9, options.beta2)}
        self.ema, self.ema_decay = None, 0.0
        schedule = context.teacher.schedule
        self.last = last_time(float(schedule.lam(len(schedule) - 1)))
        self.how = ""

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Yield the student's loss, 0-d."""
        x0, text, o = batch["latents"], batch["text"], self.options
        t, r = self.draw_times(len(x0), batch["generator"])
        count = int((r < t).sum())  # these come first
        noise = torch.randn(x0.shape, generator=batch["generator"])
        t, r, noise = sent((t, r, noise), x0.device)
        at = Point.at(t)
        x = scale(1 - at.t, x0) + scale(at.t, noise)
        u, target, moved = self.average_and_target(x, t, r, text, batch["uncond"], count)
        error = (u - target).square().flatten(1).sum(1)
        weight = (error.detach() + o.power_c) ** -o.power if o.power else torch.full_like(error, 1 / x0[0].numel())
        if o.weight == "alpha":
            weight = weight * at.angle.cos().to(weight.dtype)
        facts = {"mean_square": error.detach().mean() / x0[0].numel(), "change": moved.square().mean().sqrt()}
        yield "student", {"meanflow": (weight * error).mean()}, facts

    def draw_times(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw times t and r <= t, (n,) float64 each, up to the schedule's end; r < t for the first of them, `different` of all,
        and r = 0 for the first `to_data` of these."""
        o = self.options
        u = torch.stack([stratified(n, generator), stratified(n, generator)])
        if o.times == "lognorm":
            u = torch.sigmoid(o.p_mean + o.p_std * torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)))
        u = u.clamp(1e-4, self.last) if o.times == "lognorm" else 1e-4 + (self.last - 1e-4) * u
        t, r = u.amax(0), u.amin(0)
        count = min(n, max(round(o.different * n), int(o.different > 0)))
        order = torch.arange(n)
        first = order < count
        r = torch.where(order < round(o.to_data * count), 0.0, r)
        # where r = t the time is one draw, not the greater of two
        return torch.where(first, t, u[0]), torch.where(first, r, u[0])

    def average_and_target(
        self, x: Tensor, t: Tensor, r: Tensor, text: TextCondition, uncond: TextCondition, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return u(X, r, t) with a graph, its target v - (t - r) du/dt without one, (N,C,h,w) each, and du/dt of the first `count`.

        t, r (N,) float64, r = t behind the first `count`; text (N,L,D); uncond (1,L,D).
        """
        teacher, at = self.teacher, Point.at(t)
        z, of = at.from_line(x), LineVelocity.of(at, teacher.prediction)
        tau, _ = time_of_angle(teacher.schedule, at.angle)
        # the student first: asked without gradients before, autocast would keep its weights' casts without them
        output = self.output(self.networks["student"], z, tau, t - r, text)
        u = of(output, z)
        with torch.no_grad():
            w = torch.full((len(x),), self.options.w, device=x.device)
            v = of(guided_output(teacher, z, tau, text, uncond, w), z)
            if count == 0:
                return u, v, v[:0].new_zeros(1)
            moved = self.change(x[:count], v[:count], t[:count], r[:count], text[:count], output.detach()[:count])
            span = (t - r)[:count].view(-1, 1, 1, 1)
            met = v[:count] - scale(span, moved)
            if self.how == "backward":
                # the same identity, solved for u(t): its own u is in `moved` (t - r) / step times, far more than once at late times
                step = self.options.width * self.pace(t, r)[:count].view(-1, 1, 1, 1)
                met = u[:count] + scale(step / (step + span), met - u[:count])
            return u, torch.cat([met, v[count:]]), moved

    def pace(self, t: Tensor, r: Tensor) -> Tensor:
        """Return how far t moves, (N,), for a step of 1 in ln(t / (1 - t)): differences are even there, not in t. A backward one stays
        within [r, t], as r itself is where u is v."""
        pace = t * (1 - t)
        return torch.minimum(pace, (t - r) / self.options.width).clamp_min(1e-9) if self.how == "backward" else pace

    def change(self, x: Tensor, v: Tensor, t: Tensor, r: Tensor, text: TextCondition, output: Tensor) -> Tensor:
        """Return du/dt, (N,C,h,w), where X moves by v, t by 1, and r stays; t, r (N,); text (N,L,D). output: the student's raw one."""
        student, teacher = self.networks["student"], self.teacher
        at = Point.at(t)
        z, dz = at.from_line(x), at.direction(x, v)
        tau, rate = time_of_angle(teacher.schedule, at.angle)
        self.how = self.how or chosen_derivative(self.options.derivative, student)
        pace = self.pace(t, r)
        along = scale(pace.view(-1, 1, 1, 1), dz), pace * rate / at.n.flatten() ** 2, pace
        asked = lambda z, tau, interval: self.output(student, z, tau, interval, text)  # noqa: E731
        if self.how == "backward":
            d_output = difference_behind(asked, (z, tau, t - r), along, self.options.width, output)
        else:
            d_output = derivative(teacher, asked, (z, tau, t - r), along, self.how, self.options.width)
        d_output = scale(1 / pace.view(-1, 1, 1, 1), d_output)
        return LineVelocity.of(at, teacher.prediction).change(output, z, d_output, dz)

    def output(self, network: UNet, z: Tensor, tau: Tensor, interval: Tensor, text: TextCondition) -> Tensor:
        """Return the network's raw output, (N,C,h,w), at the teacher's z and time tau (N,), for an interval t - r (N,)."""
        return conditioned_output(network, z, tau, text, embedded_interval(interval, self.options.interval_scale))

    def student_config(self) -> dict[str, Any]:
        """Return that the guidance is baked in, what the second input is, and what the sampler needs."""
        facts = {"second_input": "t - r", "prediction": self.teacher.prediction, "sampler": {"interval_scale": self.options.interval_scale}}
        return guidance_facts(self.options.w, self.options.w) | facts
