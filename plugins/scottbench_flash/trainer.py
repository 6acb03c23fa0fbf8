"""Flash Diffusion (Chadebec et al. 2024, arXiv 2406.02347), from the paper's formulas; each choice is an option, and README says where it
is from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from scottbench import Batch, Context, TextCondition
from scottbench.diffusion import add_noise, pseudo_huber, scale, to_x0_eps
from scottbench.models.diffusion_model import run_unet
from scottbench.models.transfer import sent
from scottbench.training.discriminator import accuracies, pair_accuracy, weighted_term
from scottbench.training.distillation import draw_times, guided_teacher, student_copy, time_weight, uniform_guidance
from scottbench.training.lora import add_lora, baked_guidance, sharing_copy
from scottbench_flash.chain import Chain, chain_of, teacher_end
from scottbench_flash.discriminator import FeatureDiscriminator, discriminator_loss, student_loss
from scottbench_flash.options import FlashOptions
from scottbench_flash.times import draw_index, grid_times, phase_of, time_weights

LEAST = 1e-3
"""Least distance that the gradient of distribution matching is divided by."""


@dataclass(frozen=True)
class Look:
    """Levels of noise and the noise itself, for another look at clean latents."""

    t: Tensor
    """(N,) int64."""
    noise: Tensor
    """(N,C,h,w)."""


@dataclass(frozen=True)
class Draws:
    """All that is random in a step."""

    t: Tensor
    """(N,) int64."""
    w: Tensor
    """(N,): the teacher's guidance."""
    noise: Tensor
    """(N,C,h,w)."""
    chain: Chain
    match: Look | None
    """Levels at which the scores are compared; None where they are not."""
    fake: Look | None
    """The discriminator's look at the student's predictions, for their loss; None where it does not count."""
    pair: Look | None
    """Its look at both, for its own update; None where it is not due."""


class FlashDistillation:
    """The student's one step from z_t is pulled to the end of the guided teacher's many steps, towards the teacher's law and to data."""

    def __init__(self, context: Context, options: FlashOptions):
        self.teacher, self.options, self.scaler = context.teacher, options, context.scaler
        unet = context.teacher.unet
        if options.variant == "lora":
            student = add_lora(sharing_copy(unet, list(unet.parameters())), options.lora_rank)
        else:
            student = student_copy(unet, 0.0, 0.0, "zero").requires_grad_(True)
        self.networks: dict[str, Any] = {"student": student}
        self.learning_rates = {"student": options.lr}
        self.betas: dict[str, tuple[float, float]] = {}
        self.ema, self.ema_decay = None, 0.0
        if options.adv_weight > 0:
            side = context.teacher.latent_shape[1]
            self.networks["discriminator"] = FeatureDiscriminator(unet, side, options.disc_width)
            self.learning_rates["discriminator"] = options.disc_lr
            self.betas["discriminator"] = (0.0, 0.999)
        self.grid = grid_times(context.teacher.schedule, options.grid)

    # --- one training step -------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Yield the student's distillation, distribution matching and adversarial losses, then, after its update and in every so-many-th
        step, the discriminator's loss; each 0-d."""
        draws = self.draws(batch)
        text, uncond = batch["text"], batch["uncond"]
        z = add_noise(self.teacher.schedule, batch["latents"], draws.t, draws.noise)
        # LoRA's student is asked with gradients first: autocast would else keep its weights' casts without them
        prediction = self.predict(z, draws.t, text)
        with torch.no_grad():
            target = teacher_end(self.teacher, z, draws.chain, (text, uncond), draws.w, self.options.solver)
        losses = {"distillation": self.distance(prediction, target, draws.t)}
        facts = self.add_matching(prediction, draws, batch, losses) | self.add_adversarial(prediction, draws.fake, batch, losses)
        # the graph must not outlive this yield: the student's update is first, D learns from what was stored of it
        fake = prediction.detach()
        del prediction
        yield "student", losses, facts
        del losses
        if draws.pair is not None:
            real, found = self.logits((batch["latents"], fake), draws.pair, text)
            middle = 0.5 if self.options.adv_loss == "lsgan" else 0.0
            loss = discriminator_loss(real, found, self.options.adv_loss)
            yield "discriminator", {self.options.adv_loss: loss}, accuracies(real - middle, found - middle)

    def draws(self, batch: Batch) -> Draws:
        """Draw all that is random in a step on the CPU, and send it together. The chains are planned there too, where nobody waits for
        their lengths."""
        o, generator, shape, device = self.options, batch["generator"], batch["latents"].shape, batch["latents"].device
        weights = time_weights(o.grid, o.modes, phase_of(batch["fraction"], o.phases), o.shift)
        index = draw_index(weights, shape[0], generator)
        w = uniform_guidance(shape[0], o.w_min, o.w_max, generator)
        noise = torch.randn(shape, generator=generator)
        counts = self.ramped(1.0, batch) > 0
        match = self.look(o.dm_t_min, o.dm_t_max, shape, generator) if counts and o.dm_weight > 0 else None
        adversarial = "discriminator" in self.networks
        fake = self.look(o.tau_min, o.tau_max, shape, generator) if counts and adversarial else None
        due = adversarial and batch["step"] % o.disc_every == 0
        pair = self.look(o.tau_min, o.tau_max, shape, generator) if due else None
        return sent(Draws(self.grid[index - 1], w, noise, chain_of(index, self.grid), match, fake, pair), device)

    def look(self, low: int, high: int, shape: torch.Size, generator: torch.Generator) -> Look:
        """Draw levels of low..high, (N,) int64, and noise of a shape (N,C,h,w)."""
        return Look(draw_times(low, high + 1, shape[0], generator), torch.randn(shape, generator=generator))

    def ramped(self, weight: float, batch: Batch) -> float:
        """Return the weight of a loss beside distillation at this point of the training."""
        o = self.options
        if o.ramp == "none" or o.phases == 1:
            return weight
        return weight * phase_of(batch["fraction"], o.phases) / (o.phases - 1)

    def predict(self, z: Tensor, t: Tensor, text: TextCondition) -> Tensor:
        """Return the student's clean latents (N,C,h,w) of z (N,C,h,w) at t (N,), text (N,L,D)."""
        output = run_unet(self.networks["student"], z, t, text)
        return to_x0_eps(self.teacher.schedule, z, t, output, self.teacher.prediction)[0]

    def distance(self, prediction: Tensor, target: Tensor, t: Tensor) -> Tensor:
        """Return the distillation loss, 0-d, of clean latents (N,C,h,w) predicted at t (N,)."""
        o = self.options
        weight = time_weight(self.teacher.schedule, t, o.weight)
        if o.distance == "huber":
            return pseudo_huber(prediction, target, o.huber_c, "element", weight)
        wrong = (prediction - target) ** 2
        return (wrong if weight is None else scale(weight, wrong)).mean()

    # --- distribution matching (DMD, with the student as fake score) ----------------------------------------------------

    def add_matching(self, prediction: Tensor, draws: Draws, batch: Batch, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the term of distribution matching to the student's losses where it counts, and return its gradient's norm, 0-d. prediction
        (N,C,h,w), with its graph."""
        if draws.match is None:
            return {}
        o = self.options
        direction = self.match(prediction.detach(), draws.match, batch["text"], batch["uncond"], draws.w)
        weight = time_weight(self.teacher.schedule, draws.t, o.weight)
        aim = prediction.detach() - (direction if weight is None else scale(weight, direction))
        # half a square, whose gradient at the prediction is that direction, over the number of elements
        term, facts = weighted_term(
            prediction, lambda x0: mse_loss(x0, aim) / 2, {"distillation": losses["distillation"]}, self.ramped(o.dm_weight, batch),
            o.dm_scale, self.scaler)  # fmt: skip
        losses["matching"] = term
        return {"matching_gradient": facts["adversarial_gradient"]}

    @torch.no_grad()
    def match(self, x0: Tensor, look: Look, text: TextCondition, uncond: TextCondition, w: Tensor) -> Tensor:
        """Return the direction (N,C,h,w) that takes predictions x0 (N,C,h,w) away from the student's own law to the teacher's: the
        difference of what both, the teacher with guidance w (N,), make of them at another level of noise."""
        z = add_noise(self.teacher.schedule, x0, look.t, look.noise)
        fake = self.predict(z, look.t, text)
        real, _ = guided_teacher(self.teacher, z, look.t, text, uncond, w)
        if self.options.dm_form == "score":
            return scale(torch.as_tensor(self.teacher.schedule.lam(look.t)) ** -2, fake - real)
        return (fake - real) / (x0 - real).abs().mean((1, 2, 3), keepdim=True).clamp_min(LEAST)

    # --- the adversarial loss ------------------------------------------------------------------------------------------

    def add_adversarial(self, prediction: Tensor, look: Look | None, batch: Batch, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the adversarial term to the student's losses where it counts, and return facts about it, 0-d. prediction (N,C,h,w), with its
        graph."""
        if look is None:
            return {}
        o = self.options

        def loss(x0: Tensor) -> Tensor:
            return student_loss(self.logits((x0,), look, batch["text"], learn=False)[0], o.adv_loss)

        # the way back through the frozen trunk, which the count cannot see: the trunk's decoder has no graph
        self.teacher.passes += len(prediction)
        weight = self.ramped(o.adv_weight, batch)
        losses["adversarial"], facts = weighted_term(
            prediction, loss, {"distillation": losses["distillation"]}, weight, o.adv_scale, self.scaler)  # fmt: skip
        return facts

    def logits(self, latents: tuple[Tensor, ...], look: Look, text: TextCondition, learn: bool = True) -> tuple[Tensor, ...]:
        """Return the discriminator's logits, (N,) each, of batches of clean latents (N,C,h,w) that belong together: all get the same level
        and the same noise. text (N,L,D)."""
        count = len(latents)
        noised = torch.cat([add_noise(self.teacher.schedule, x, look.t, look.noise) for x in latents])
        return self.networks["discriminator"](noised, look.t.repeat(count), text.repeat(count, 1, 1), learn).chunk(count)

    # --- what is measured and exported ---------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return how far, 0-d, the student is from the teacher's end on held-out items, as a mean square over all and by the times of
        four-step sampling, and how often the discriminator tells its predictions from the latents."""
        o, generator, x0, text = self.options, batch["generator"], batch["latents"], batch["text"]
        modes = torch.arange(o.modes, 0, -1) * (o.grid // o.modes)
        index = modes[torch.arange(len(x0)) % o.modes]
        w = uniform_guidance(len(x0), o.w_min, o.w_max, generator)
        drawn = Draws(
            self.grid[index - 1], w, torch.randn(x0.shape, generator=generator), chain_of(index, self.grid), None, None,
            self.look(o.tau_min, o.tau_max, x0.shape, generator))  # fmt: skip
        draws = sent(drawn, x0.device)
        z = add_noise(self.teacher.schedule, x0, draws.t, draws.noise)
        prediction = self.predict(z, draws.t, text)
        target = teacher_end(self.teacher, z, draws.chain, (text, batch["uncond"]), draws.w, o.solver)
        wrong = ((prediction - target) ** 2).mean((1, 2, 3))
        found = {"held_out_distance": wrong.mean()}
        times = self.grid[modes - 1].tolist()
        found |= {f"held_out_distance_t{t}": wrong[number :: o.modes].mean() for number, t in enumerate(times) if number < len(x0)}
        if "discriminator" in self.networks and draws.pair is not None:
            real, fake = self.logits((x0, prediction), draws.pair, text)
            found["held_out_paired_accuracy"] = pair_accuracy(real, fake)
        return found

    def student_config(self) -> dict[str, Any]:
        """Say that guidance is baked in, and at which scale where it is one."""
        return baked_guidance(self.options.w_min, self.options.w_max)
