"""DMD2 (Yin et al. 2024): a generator driven by the difference of two scores, that of the teacher and that of its own samples."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, softplus

from scottbench import Batch, Context, TextCondition
from scottbench.diffusion import Schedule, add_noise, scale, to_x0_eps, wide
from scottbench.models.diffusion_model import run_unet
from scottbench.models.pipeline import fast_layout
from scottbench.models.transfer import Ahead
from scottbench.training.discriminator import accuracies, cross_entropy, weighted_term
from scottbench.training.distillation import draw_times, guided_teacher, stratified, time_weight
from scottbench_dmd2.fake_score import FakeScore
from scottbench_dmd2.options import DMD2Options
from scottbench_dmd2.sampler import timesteps


class DistributionMatching:
    """Generator and fake score both start as the teacher. Every step updates the fake score, every so-many-th the generator before it."""

    def __init__(self, context: Context, options: DMD2Options):
        self.teacher, self.options, self.scaler = context.teacher, options, context.scaler
        student = fast_layout(copy.deepcopy(context.teacher.unet)).requires_grad_(True)
        self.ema = copy.deepcopy(student).requires_grad_(False) if options.ema > 0 else None
        self.ema_decay = options.ema
        self.networks: dict[str, Any] = {"student": student, "fake": FakeScore(context.teacher.unet, options.gan)}
        self.learning_rates = {"student": options.lr, "fake": options.fake_lr}
        self.betas: dict[str, tuple[float, float]] = {}
        self.times = timesteps(context.teacher.schedule, options.steps)

    # --- one training step -------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Yield, in every so-many-th step, the generator's matching and adversarial losses, and always the fake score's denoising and
        head losses on the samples that were made; each 0-d."""
        due = self.is_due(batch)
        places, draws = self.draws(batch, due)
        with torch.no_grad():
            z, t = self.inputs(batch, places, draws)
        if due:
            sample = self.generate(z, t, batch["text"])
            losses, facts = self.generator_losses(sample, time_weight(self.teacher.schedule, t, self.options.weight), batch, draws)
            # the graph must not outlive this yield: the fake score learns from what was stored of it
            sample = sample.detach()
            yield "student", losses, facts
            del losses
        else:
            with torch.no_grad():
                sample = self.generate(z, t, batch["text"])
        yield "fake", *self.fake_losses(sample, batch, draws)

    def draws(self, batch: Batch, due: bool) -> tuple[Tensor, Ahead]:
        """Draw all that is random in a step: the place (N,) int64 of each item in the schedule, falling, on the CPU; and in the order in
        which it is taken t (N,), z_T and the noise of each later step that some item reaches, then (t, noise) for each look at the
        samples."""
        o, generator, (n, *shape) = self.options, batch["generator"], batch["latents"].shape
        places = (stratified(n, generator) * o.steps).long().clamp(max=o.steps - 1).sort(descending=True).values
        normal = lambda count: torch.randn((count, *shape), generator=generator)  # noqa: E731
        found = [torch.tensor(self.times)[places], normal(n)]
        found += [normal(reached) for reached in counts(places)] if o.inputs == "simulated" else []
        if due:
            found += [draw_times(o.t_min, o.t_max + 1, n, generator), normal(n)]
            found += [self.any_time(n, generator), normal(n)] if self.adversarial(batch["fraction"]) else []
        return places, Ahead([*found, self.any_time(n, generator), normal(n)], batch["latents"].device)

    def any_time(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw (n,) int64 of all time steps, stratified."""
        return draw_times(0, len(self.teacher.schedule), n, generator)

    def is_due(self, batch: Batch) -> bool:
        """Tell whether a step updates the generator."""
        return batch["step"] % self.options.fake_updates == 0 and batch["fraction"] >= self.options.fake_alone

    def with_head(self, fraction: float) -> bool:
        """Tell whether the head learns, of a step at a part of the budget."""
        return self.options.gan and fraction >= self.options.gan_from

    def adversarial(self, fraction: float) -> bool:
        """Tell whether the adversarial term counts in the generator's loss."""
        return self.with_head(fraction) and fraction >= self.options.adv_from

    # --- the generator -----------------------------------------------------------------------------------------------

    def inputs(self, batch: Batch, places: Tensor, draws: Ahead) -> tuple[Tensor, Tensor]:
        """Return the generator's inputs z (N,C,h,w) and their times t (N,). At the first place of the schedule they are noise; at a later
        one the generator's own predictions, from noise on, noised as in sampling, or noised data."""
        t, z = draws.take(), draws.take()
        if self.options.inputs == "data":
            reached = int((places > 0).sum())
            return torch.cat([add_noise(self.teacher.schedule, batch["latents"][:reached], t[:reached], z[:reached]), z[reached:]]), t
        for k, reached in enumerate(counts(places)):
            x = self.generate(z[:reached], self.times[k], batch["text"][:reached])
            z = torch.cat([add_noise(self.teacher.schedule, x, self.times[k + 1], draws.take()), z[reached:]])
        return z, t

    def generate(self, z: Tensor, t: Tensor | int, text: TextCondition, network: Any = None) -> Tensor:
        """Return the generator's clean prediction (N,C,h,w) of z (N,C,h,w) at t (N,), text (N,L,D)."""
        output = wide(run_unet(self.networks["student"] if network is None else network, z, t, text))
        return to_x0_eps(self.teacher.schedule, z, t, output, self.teacher.prediction)[0]

    def generator_losses(
        self, sample: Tensor, weight: Tensor | None, batch: Batch, draws: Ahead
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the generator's losses of its samples (N,C,h,w), which have their graph, each item with its weight (N,1,1,1) or 1, and
        facts to log; 0-d each."""
        o, schedule, fake = self.options, self.teacher.schedule, self.networks["fake"]
        t, noise = draws.take(), draws.take()
        with torch.no_grad():
            z = add_noise(schedule, sample, t, noise)
            real = self.real_prediction(z, t, batch["text"], batch["uncond"])
            own, _ = to_x0_eps(schedule, z, t, fake(z, t, batch["text"]), self.teacher.prediction)
            direction = matching_direction(schedule, sample, real, own, t, o.normalise)
        losses = {"matching": 0.5 * weighted_mean((sample - (sample.detach() - direction)) ** 2, weight)}
        if not self.adversarial(batch["fraction"]):
            return losses, {}
        t, noise = draws.take(), draws.take()

        def loss(x: Tensor) -> Tensor:
            # the way back from the features, which the counter does not see: it looks at the network's output
            self.teacher.passes += len(x)
            return weighted_mean(softplus(-fake.frozen_logits(add_noise(schedule, x, t, noise), t, batch["text"])), weight)

        losses["adversarial"], facts = weighted_term(sample, loss, dict(losses), o.gan_weight, o.gan_scale, self.scaler)
        return losses, facts

    def real_prediction(self, z: Tensor, t: Tensor, text: TextCondition, uncond: TextCondition) -> Tensor:
        """Return the guided teacher's clean prediction (N,C,h,w) of z (N,C,h,w) at t (N,); unguided in one pass."""
        w = torch.full((len(z),), self.options.w, device=z.device) if self.options.w else None
        return guided_teacher(self.teacher, z, t, text, uncond, w)[0]

    # --- the fake score ----------------------------------------------------------------------------------------------

    def fake_losses(self, sample: Tensor, batch: Batch, draws: Ahead) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the fake score's losses of the generator's samples (N,C,h,w), without graph, and facts to log; 0-d each."""
        o, schedule, fake, text = self.options, self.teacher.schedule, self.networks["fake"], batch["text"]
        t, noise = draws.take(), draws.take()
        n, target = len(sample), target_of(schedule, sample, noise, t, self.teacher.prediction)
        z = add_noise(schedule, sample, t, noise)
        if not self.with_head(batch["fraction"]):
            return {"denoising": mse_loss(fake(z, t, text), target)}, {}
        # the noise of the sample: the head is to see their difference, not that of two draws
        both = torch.cat([z, add_noise(schedule, batch["latents"], t, noise)])
        output, logits = fake.with_logits(both, t.repeat(2), text.repeat(2, 1, 1))
        losses = {"denoising": mse_loss(output[:n], target), "gan": o.gan_fake_weight * cross_entropy(logits[n:], logits[:n])}
        return losses, accuracies(logits[n:], logits[:n])

    # --- what is measured and exported -------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return, 0-d each, on held-out prompts and data: the size of the matching direction before it is normalised (0 where the scores
        agree), the fake score's denoising loss, and how often the head is right."""
        schedule, fake, text, n = self.teacher.schedule, self.networks["fake"], batch["text"], len(batch["latents"])
        places, draws = self.draws(batch, due=True)
        sample = self.generate(*self.inputs(batch, places, draws), text)
        t, noise = draws.take(), draws.take()
        z = add_noise(schedule, sample, t, noise)
        real = self.real_prediction(z, t, text, batch["uncond"])
        output = fake(z, t, text)
        own, _ = to_x0_eps(schedule, z, t, output, self.teacher.prediction)
        target = target_of(schedule, sample, noise, t, self.teacher.prediction)
        found = {"held_out_score_gap": mse_loss(own, real).sqrt(), "held_out_denoising": mse_loss(output, target)}
        if self.options.gan:
            both = torch.cat([z, add_noise(schedule, batch["latents"], t, noise)])
            logits = fake.with_logits(both, t.repeat(2), text.repeat(2, 1, 1))[1]
            found |= {f"held_out_{name}": value for name, value in accuracies(logits[n:], logits[:n]).items()}
        return found

    def student_config(self) -> dict[str, Any]:
        """Say that the real score's guidance is baked in, and which number of steps the generator was trained for."""
        return {"guidance": "baked", "baked_guidance_scale": 1 + self.options.w, "made_for": [self.options.steps]}


def counts(places: Tensor) -> list[int]:
    """Return, for k = 0, 1, ..., how many items go on from place k of the schedule, as long as there are any; places (N,) int64."""
    return [int((places > k).sum()) for k in range(int(places.max()))]


def matching_direction(schedule: Schedule, sample: Tensor, real: Tensor, fake: Tensor, t: Tensor, normalise: str) -> Tensor:
    """Return the gradient of the matching term at each sample, (N,C,h,w): w_t alpha_t (s_fake - s_real) with w_t = sigma_t^2 / alpha_t
    over the sample's mean |x - real| (DMD, eq. 8), which is alpha_t (fake - real) / mean |x - real|.

    sample, real, fake: (N,C,h,w), the generator's sample and the two clean predictions of it noised to t (N,). normalise: as the option.
    """
    difference = fake - real
    if normalise != "none":
        difference = difference / (sample - real).abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-6)
    return difference if normalise == "one" else scale(schedule.alpha(t), difference)


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean, 0-d, of values (N,...), those of an item times its weight (N,1,1,1); None for 1."""
    return (values if weight is None else values * weight.to(values.dtype).view(-1, *[1] * (values.dim() - 1))).mean()


def target_of(schedule: Schedule, x0: Tensor, noise: Tensor, t: Tensor, prediction: str) -> Tensor:
    """Return the raw output (N,C,h,w) of a network that knows x0 and noise, (N,C,h,w) each, at t (N,)."""
    if prediction == "v_prediction":
        return scale(schedule.alpha(t), noise) - scale(schedule.sigma(t), x0)
    return noise if prediction == "epsilon" else x0
