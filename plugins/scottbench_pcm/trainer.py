"""Phased consistency distillation (Wang et al. 2024): the student names the end of the phase that it is in, not that of the whole path."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from scottbench import Batch, Context, TextCondition
from scottbench.diffusion import add_noise, pseudo_huber, scale, to_x0_eps, update, wide
from scottbench.models.diffusion_model import UNet, run_unet
from scottbench.models.pipeline import fast_layout
from scottbench.models.transfer import sent
from scottbench.training.discriminator import Discriminator, accuracies, hinge, trainable_share, weighted_term
from scottbench.training.distillation import draw_grid_times, guided_teacher, uniform_guidance
from scottbench.training.lora import baked_guidance, lora_student
from scottbench_pcm.heads import FeatureDiscriminator
from scottbench_pcm.options import PCMOptions
from scottbench_pcm.phases import Phases

Levels = tuple[Tensor, Tensor, Tensor]
"""ends (N,) int64; tau (N,) int64, in the phase above each end; noise (N,C,h,w)."""


class PhasedConsistencyDistillation:
    """f(z_t, t), the DDIM form's jump to the end e of t's phase, is pulled to theta_minus's f one guided DDIM step of the teacher further,
    and, where there is a discriminator, towards what that is like in law."""

    def __init__(self, context: Context, options: PCMOptions):
        self.teacher, self.options, self.scaler = context.teacher, options, context.scaler
        unet, self.ema_decay = context.teacher.unet, options.ema
        if options.variant == "lora":  # before the discriminator adds its own adapters to the teacher
            student, self.ema = lora_student(unet, options.lora_rank)
        else:
            student = fast_layout(copy.deepcopy(unet)).requires_grad_(True)
            self.ema = copy.deepcopy(student).requires_grad_(False)
        self.networks: dict[str, Any] = {"student": student}
        self.learning_rates = {"student": options.lr}
        self.betas: dict[str, tuple[float, float]] = {}
        if options.discriminator != "none":
            self.networks["discriminator"] = (
                FeatureDiscriminator(unet, options.disc_heads) if options.discriminator == "heads"
                else Discriminator(unet, options.discriminator, options.disc_rank))  # fmt: skip
            self.learning_rates["discriminator"] = options.disc_lr
            self.betas["discriminator"] = (0.0, 0.999)
        self.phases = Phases.of(context.teacher.schedule, options.phases, options.skip)

    # --- one training step -------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Yield the student's consistency and adversarial losses and, after its update, the discriminator's; each 0-d."""
        o, schedule, x0, step = self.options, self.teacher.schedule, batch["latents"], batch["step"]
        t, e, t_m, tau, w, noise, renoise, which = self.draws(len(x0), x0.shape[1:], batch["generator"], x0.device)
        uncond = TextCondition.of(batch["uncond"])
        text = TextCondition.of(batch["text"]) if which is None else chosen(batch["text"], uncond, which)
        z = add_noise(schedule, x0, t, noise)
        with torch.no_grad():
            z_m = self.teacher_step(z, t, t_m, text, uncond, w)
            target = self.f(self.ema, z_m, t_m, e, text)
        prediction = self.f(self.networks["student"], z, t, e, text)
        losses = {"consistency": pseudo_huber(prediction, target, o.huber_c, o.huber, self.weight(t, e))}
        facts: dict[str, Tensor] = {}
        levels, fake = (e, tau, renoise), prediction.detach()
        if "discriminator" in self.networks and step >= o.disc_warmup and o.adv_weight > 0:
            loss = lambda f: self.generator_loss(f, levels, text, uncond)  # noqa: E731
            losses["adversarial"], facts = weighted_term(prediction, loss, losses, o.adv_weight, o.adv_scale, self.scaler)
        # the graph must not outlive this yield: the student's update is first, D learns from what was stored of it
        del prediction
        yield "student", losses, facts
        del losses
        if "discriminator" in self.networks and step % o.disc_every == 0:
            real, wrong = self.discriminate((target, fake), levels, text, uncond)
            yield "discriminator", {"hinge": hinge(real, wrong)}, accuracies(real, wrong)

    def draws(
        self, n: int, shape: torch.Size, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Draw all that is random in a step, on the CPU, and send it together: t, end, t_m = max(t - skip, end) and tau, (n,) int64 each; w
        (n,); noise of z and of D's levels, (n,*shape); and the places of the prompts, (n,) int64, or None where none is left out."""
        o, p = self.options, self.phases
        index = draw_grid_times(torch.arange(len(p.times)), n, generator)
        t, e, top = p.times[index], p.ends[index], p.tops[index]
        w = uniform_guidance(n, o.w_min, o.w_max, generator)
        noise, renoise = (torch.randn((n, *shape), generator=generator) for _ in range(2))
        tau = e + (torch.rand(n, generator=generator, dtype=torch.float64) * (top - e)).long()
        which = None
        if o.empty_prompts > 0:
            which = torch.where(torch.rand(n, generator=generator) < o.empty_prompts, n, torch.arange(n))
        return sent((t, e, torch.maximum(t - o.skip, e), tau, w, noise, renoise, which), device)

    def f(self, network: UNet, z: Tensor, t: Tensor, end: Tensor, text: TextCondition) -> Tensor:
        """Return f(z, t) at the end of the phase, (N,C,h,w): alpha_e x0 + sigma_e eps of a student's network; z itself where t is the end
        already."""
        x0, eps = to_x0_eps(self.teacher.schedule, z, t, wide(run_unet(network, z, t, text)), self.teacher.prediction)
        jump = update(self.teacher.schedule, x0, eps, end, rho=1, noise=None)
        return torch.where((t == end).view(-1, 1, 1, 1), wide(z), jump)

    def teacher_step(self, z: Tensor, t: Tensor, t_m: Tensor, text: TextCondition, uncond: TextCondition, w: Tensor) -> Tensor:
        """Return z (N,C,h,w) after one DDIM step of the teacher from t to t_m, guided by w (N,); unguided it costs one evaluation."""
        found = guided_teacher(self.teacher, z, t, text, uncond, w if self.options.w_max else None)
        return update(self.teacher.schedule, *found, t_m, rho=1, noise=None)

    def weight(self, t: Tensor, end: Tensor) -> Tensor | None:
        """Return the weight of each item's loss, (N,1,1,1) float64; None for 1. alpha_t / alpha_e: errors of z_e / alpha_e, in the units
        of the data, count alpha_t, as CD's do."""
        if self.options.weight == "one":
            return None
        return torch.as_tensor(self.teacher.schedule.alpha(t)) / torch.as_tensor(self.teacher.schedule.alpha(end))

    # --- the adversarial consistency loss ----------------------------------------------------------------------------

    def discriminate(
        self, latents: tuple[Tensor, ...], levels: Levels, text: TextCondition, uncond: TextCondition, learn: bool = True
    ) -> tuple[Tensor, ...]:
        """Return the logits, (N,) or (N,K) each, of one or several batches (N,C,h,w) at the ends of phases, text (N,L,D). All are noised
        from there to one tau of the phase, with one noise: D is to see their difference."""
        end, tau, noise = levels
        noised = torch.cat([renoised(self.teacher.schedule, z, end, tau, noise) for z in latents])
        count = len(latents)
        logits = self.networks["discriminator"](noised, tau.repeat(count), text.repeat(count, 1, 1), uncond, learn)
        return logits.chunk(count)

    def generator_loss(self, fake: Tensor, levels: Levels, text: TextCondition, uncond: TextCondition) -> Tensor:
        """Return E[relu(1 - D(fake))] or -E[D(fake)], 0-d, of latents (N,C,h,w); gradients reach the student only."""
        (logits,) = self.discriminate((fake,), levels, text, uncond, learn=False)
        return torch.relu(1 - logits).mean() if self.options.adv_loss == "relu" else -logits.mean()

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return the consistency loss, 0-d, and the discriminator's accuracy, if there is one, on held-out items."""
        o, schedule, x0 = self.options, self.teacher.schedule, batch["latents"]
        t, e, t_m, tau, w, noise, renoise, _ = self.draws(len(x0), x0.shape[1:], batch["generator"], x0.device)
        text, uncond = TextCondition.of(batch["text"]), TextCondition.of(batch["uncond"])
        z = add_noise(schedule, x0, t, noise)
        target = self.f(self.ema, self.teacher_step(z, t, t_m, text, uncond, w), t_m, e, text)
        fake = self.f(self.networks["student"], z, t, e, text)
        found = {"held_out_consistency": pseudo_huber(fake, target, o.huber_c, o.huber, self.weight(t, e))}
        if "discriminator" in self.networks:
            real, wrong = self.discriminate((target, fake), (e, tau, renoise), text, uncond)
            found |= {f"held_out_{name}": value for name, value in accuracies(real, wrong).items()}
        return found

    def student_config(self) -> dict[str, Any]:
        """Return that the guidance is baked in, or is free where the teacher had none, the number of steps to sample with, and how much of
        the discriminator is trained."""
        o = self.options
        facts = {} if o.w_max == 0 else baked_guidance(o.w_min, o.w_max)
        facts |= {"made_for": [o.phases]}
        if "discriminator" in self.networks:
            facts["discriminator_trainable_share"] = round(trainable_share(self.networks["discriminator"]), 5)
        return facts


def renoised(schedule: Any, z: Tensor, s: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Return z (N,C,h,w), whose time is s, noised to t >= s, (N,) each: (alpha_t / alpha_s) z + sqrt(1 - (alpha_t / alpha_s)^2) noise."""
    ratio = schedule.alpha(t) / schedule.alpha(s)
    return scale(ratio, z) + scale(((1 - ratio) * (1 + ratio)).clamp_min(0).sqrt(), noise)


def chosen(text: Any, uncond: TextCondition, which: Tensor) -> TextCondition:
    """Return the prompts at `which` (N,) int64 of text (N,L,D) and, as the last one, uncond (1,L,D)."""
    parts: list[Any] = [TextCondition.of(text), uncond]
    both: Any = torch.cat(parts)  # torch.cat of conditions is one
    return both[which]
