"""Stochastic consistency distillation (SCott, arXiv 2403.01505). Formulas: methods.md section 3; each choice is an option."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scottbench import Batch, Context, TextCondition
from scottbench.diffusion import add_noise, pseudo_huber, rho_ddim, skipping_grid, update
from scottbench.models.diffusion_model import UNet
from scottbench.models.transfer import Ahead, sent
from scottbench.training.discriminator import Discriminator, accuracies, hinge, pair_accuracy, trainable_share, weighted_term
from scottbench.training.distillation import (
    consistency_output,
    draw_grid_times,
    draw_times,
    guidance_facts,
    guided_teacher,
    student_copy,
    time_weight,
    uniform_guidance,
)  # fmt: skip
from scottbench.training.lora import baked_guidance, lora_student
from scottbench_scott.noise_functions import rho_er_sde, second_order_term
from scottbench_scott.options import SCottOptions

Draws = Ahead | torch.Generator
"""Random numbers drawn beforehand, or the generator to draw them from."""


@dataclass(frozen=True)
class Shown:
    """The part of a micro-batch that the discriminator looks at, without graphs: M of its N items."""

    chosen: Tensor
    """(M,) int64: their places."""
    real: Tensor
    """(M,C,h,w)."""
    fake: Tensor
    """(M,C,h,w): the student's f, of before its update."""
    t: Tensor
    """(M,) int64."""
    text: TextCondition
    """(M,L,D)."""
    uncond: TextCondition
    """(1,L,D)."""


class StochasticConsistencyDistillation:
    """f(z_n, t_n) is pulled to the EMA network's f at the end of h SDE steps of the guided teacher, and towards data by a GAN."""

    def __init__(self, context: Context, options: SCottOptions):
        self.teacher, self.options, self.scaler = context.teacher, options, context.scaler
        if options.variant == "lora":  # before the discriminator adds its own adapters to the teacher
            student, self.ema = lora_student(context.teacher.unet, options.lora_rank)
        else:
            student = student_copy(context.teacher.unet, options.w_min, options.w_max, options.w_start).requires_grad_(True)
            self.ema = copy.deepcopy(student).requires_grad_(False)
        self.ema_decay = options.ema
        self.networks: dict[str, Any] = {"student": student}
        self.learning_rates = {"student": options.lr}
        self.betas: dict[str, tuple[float, float]] = {}
        if options.discriminator != "none":
            discriminator = Discriminator(context.teacher.unet, options.discriminator, options.disc_rank)
            self.networks["discriminator"] = discriminator
            self.learning_rates["discriminator"] = options.disc_lr
            self.betas["discriminator"] = (0.0, 0.999)
        self.margins: list[Tensor] = []
        """D(real) - D(fake), 0-d each, of the micro-batches of D's last update; still on the device."""
        self.margins_of: tuple[int, int] | None = None
        """That update: number and round."""
        self.grid = torch.tensor(skipping_grid(context.teacher.schedule, options.skip))

    # --- one training step -------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Make one chain of the teacher, then, for each of `reuse` updates, yield the student's consistency and adversarial losses and,
        after its update, the discriminator's hinge losses, if there is one; each 0-d."""
        o, schedule, x0, text = self.options, self.teacher.schedule, batch["latents"], batch["text"]
        draws = self.draws(batch)
        t_n, chosen, w = draws.take(), draws.take(), draws.take()
        z_n = add_noise(schedule, x0, t_n, draws.take())
        with torch.no_grad():
            z_m, t_m = self.teacher_chain(z_n, t_n, text, batch["uncond"], w, draws)
        weight = time_weight(schedule, t_n, o.weight)
        for number in self.updates(batch["step"]):
            with torch.no_grad():
                target = self.f(self.ema, z_m, t_m, text, w)
            prediction = self.f(self.networks["student"], z_n, t_n, text, w)
            losses = {"consistency": pseudo_huber(prediction, target, o.huber_c, o.huber, weight)}
            shown = self.shown(batch, chosen, prediction.detach(), target, t_n)
            facts = self.add_adversarial(number, prediction, shown, losses, draws)
            # the graph must not outlive this yield: the student's update is first, D learns from what was stored of it
            del prediction
            yield "student", losses, facts
            del losses
            if shown is not None and number % o.disc_every == 0:
                yield from self.teach_discriminator(number, shown, draws)

    def updates(self, step: int) -> range:
        """Give the numbers of the student's updates in a step."""
        return range(step * self.options.reuse, (step + 1) * self.options.reuse)

    def draws(self, batch: Batch) -> Ahead:
        """Draw all that is random in a step, in the order in which it is taken: t_n (N,), the items that D sees (M,), w (N,), noise of
        z_n and of each sub-step (N,C,h,w), then for each look of D a level (M,) and noise (M,C,h,w)."""
        o, generator, (n, *shape) = self.options, batch["generator"], batch["latents"].shape
        t_n = self.draw_times(n, generator)
        chosen = (t_n >= o.adv_t_min).nonzero()[:, 0] if "discriminator" in self.networks else t_n[:0]
        found = [t_n, chosen, uniform_guidance(n, o.w_min, o.w_max, generator)]
        found += [torch.randn((n, *shape), generator=generator) for _ in range(1 + o.h)]
        looks = sum((number >= o.disc_warmup) + (number % o.disc_every == 0) * o.disc_steps for number in self.updates(batch["step"]))
        if len(chosen) and o.disc_input != "clean":
            for _ in range(looks):
                found += [self.level(len(chosen), generator), torch.randn((len(chosen), *shape), generator=generator)]
        return Ahead(found, batch["latents"].device)

    def shown(self, batch: Batch, chosen: Tensor, fake: Tensor, target: Tensor, t_n: Tensor) -> Shown | None:
        """Give the items that the discriminator looks at, chosen (M,) int64; None where it looks at none. fake, target (N,C,h,w) without
        graph; t_n (N,)."""
        if not len(chosen):
            return None
        real = target if self.options.disc_input == "target" else batch["latents"]
        return Shown(chosen, real[chosen], fake[chosen], t_n[chosen], batch["text"][chosen], batch["uncond"])

    def add_adversarial(
        self, number: int, prediction: Tensor, shown: Shown | None, losses: dict[str, Tensor], draws: Draws
    ) -> dict[str, Tensor]:
        """Add the adversarial term of update `number` to the student's losses where it counts, and return facts about it, 0-d.
        prediction (N,C,h,w), with its graph."""
        o = self.options
        if shown is None or number < o.disc_warmup:
            return {}
        loss = lambda f: self.generator_loss(f[shown.chosen], shown.t, shown.text, shown.uncond, draws)  # noqa: E731
        weight = o.adv_weight if o.adv_fade == "none" else o.adv_weight * (self.margin() / 2).clamp(0, 1)
        losses["adversarial"], facts = weighted_term(prediction, loss, losses, weight, o.adv_scale, self.scaler)
        return facts

    def teach_discriminator(
        self, number: int, shown: Shown, draws: Draws
    ) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Yield the discriminator's losses, 0-d, in the rounds after the student's update `number`."""
        for round_ in range(self.options.disc_steps):
            real, fake = self.discriminate((shown.real, shown.fake), shown.t, shown.text, shown.uncond, draws)
            if self.margins_of != (number, round_):
                self.margins_of, self.margins = (number, round_), []
            self.margins.append((real - fake).mean().detach())
            yield "discriminator", {"hinge": hinge(real, fake)}, accuracies(real, fake)

    def margin(self) -> Tensor:
        """Return the mean of D(real) - D(fake), 0-d, when D was last updated; 0 where it was not yet."""
        return torch.stack(self.margins).mean() if self.margins else torch.zeros((), device=self.teacher.device)

    @property
    def memory(self) -> dict[str, Any] | None:
        """Give the margin, which the next update needs, where the adversarial term fades with it."""
        return None if self.options.adv_fade == "none" else {"margin": float(self.margin())}

    @memory.setter
    def memory(self, found: dict[str, Any]) -> None:
        """Put the margin of a checkpoint back."""
        self.margins, self.margins_of = [torch.tensor(float(found["margin"]), device=self.teacher.device)], None

    def f(self, network: UNet, z: Tensor, t: Tensor, text: TextCondition, w: Tensor) -> Tensor:
        """Return f(z, t, c, w), (N,C,h,w), of a student's network."""
        return consistency_output(self.teacher, network, z, t, text, w)

    def normal(self, like: Tensor, draws: Draws) -> Tensor:
        """Take standard normal noise of the shape of `like`, or draw it."""
        return draws.take() if isinstance(draws, Ahead) else sent(torch.randn(like.shape, generator=draws), like.device)

    def level(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw levels of re-noising, (n,) int64."""
        return torch.randint(self.options.tau_min, self.options.tau_max + 1, (n,), generator=generator)

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw t_n, (n,) int64, stratified over the grid or over skip..T-1."""
        if self.options.t_sampling == "grid":
            return draw_grid_times(self.grid, n, generator)
        return draw_times(self.options.skip, len(self.teacher.schedule), n, generator)

    # --- the stochastic teacher (methods.md 3.3) ---------------------------------------------------------------------

    def teacher_chain(
        self, z: Tensor, t_n: Tensor, text: TextCondition, uncond: TextCondition, w: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Take z (N,C,h,w) from t_n (N,) to t_m = max(t_n - skip, 0) by h guided SDE sub-steps and return (z_m, t_m). Guidance enters
        at every sub-step."""
        o, t_m = self.options, (t_n - self.options.skip).clamp_min(0)
        times = [t_n - torch.round((t_n - t_m) * j / o.h).long() for j in range(o.h + 1)]
        before: tuple[Tensor, Tensor] | None = None
        for s, t in zip(times, times[1:]):
            x0, eps = guided_teacher(self.teacher, z, s, text, uncond, w)
            z = update(self.teacher.schedule, x0, eps, t, self.rho(s, t), self.normal(z, draws))
            if o.order == 2 and before is not None:
                formula, strength = (o.noise_function, o.strength) if o.solver == "er-sde" else ("x", 1.0)
                z = z + second_order_term(self.teacher.schedule, (s, t), x0, before, formula, strength)
            before = (s, x0)
        return z, t_m

    def rho(self, s: Tensor, t: Tensor) -> Tensor:
        """Return the solver's rho of the sub-step s -> t, (N,) float64."""
        o, schedule = self.options, self.teacher.schedule
        if o.solver == "er-sde":
            return rho_er_sde(schedule, s, t, o.noise_function, o.strength)
        return torch.as_tensor(rho_ddim(schedule, s, t, o.eta if o.solver == "ddim" else 0.0))

    # --- the adversarial loss (methods.md 3.4) -----------------------------------------------------------------------

    def discriminate(
        self, latents: tuple[Tensor, ...], t: Tensor, text: TextCondition, uncond: TextCondition, draws: Draws,
        learn: bool = True,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return the logits, (N,) each, of one or several batches of clean latents (N,C,h,w) that belong together: the members of a
        pair get the same time and the same noise. t (N,): the student's time; text (N,L,D)."""
        time, network, count = t, self.networks["discriminator"], len(latents)
        if self.options.disc_input != "clean":
            time = draws.take() if isinstance(draws, Ahead) else sent(self.level(len(t), draws), t.device)
            noise = self.normal(latents[0], draws)
            latents = tuple(add_noise(self.teacher.schedule, x, time, noise) for x in latents)
        logits = network(torch.cat(latents), time.repeat(count), text.repeat(count, 1, 1), uncond, learn)
        return logits.chunk(count)

    def generator_loss(self, fake: Tensor, t: Tensor, text: TextCondition, uncond: TextCondition, draws: Draws) -> Tensor:
        """Return -E[D(fake)] (hinge) or E[relu(1 - D(fake))], 0-d, of clean latents (N,C,h,w) made at t (N,), text (N,L,D); gradients
        reach the student only."""
        (logits,) = self.discriminate((fake,), t, text, uncond, draws, learn=False)
        return torch.relu(1 - logits).mean() if self.options.adv_loss == "relu" else -logits.mean()

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return the discriminator's accuracy, 0-d, on held-out real latents and on fakes made from them at the t_n of four-step
        sampling."""
        if "discriminator" not in self.networks:
            return {}
        schedule, generator, x0, text = self.teacher.schedule, batch["generator"], batch["latents"], batch["text"]
        quarters = self.grid[[len(self.grid) * j // 4 for j in range(4)]]
        t = quarters[torch.arange(len(x0)) % 4].to(x0.device)
        w = uniform_guidance(len(x0), self.options.w_min, self.options.w_max, generator).to(x0.device)
        fake = self.f(self.networks["student"], add_noise(schedule, x0, t, self.normal(x0, generator)), t, text, w)
        real, fake = self.discriminate((x0, fake), t, text, batch["uncond"], generator)
        by_time = {f"held_out_accuracy_t{int(q)}": pair_accuracy(real[t == q], fake[t == q]) for q in quarters}
        return {f"held_out_{k}": v for k, v in accuracies(real, fake).items()} | by_time

    def student_config(self) -> dict[str, Any]:
        """Return the range of the guidance, the grid to sample on, and how much of the discriminator is trained."""
        o = self.options
        facts = guidance_facts(o.w_min, o.w_max) if o.variant == "full" else baked_guidance(o.w_min, o.w_max)
        facts |= {"sampler": {"skip": o.skip}}
        if "discriminator" in self.networks:
            facts["discriminator_trainable_share"] = round(trainable_share(self.networks["discriminator"]), 5)
        return facts
