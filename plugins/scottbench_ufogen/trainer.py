"""UFOGen-like training (Xu et al. 2023; methods.md 5): a GAN between data and predictions that are both noised to an earlier time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, softplus

from scottbench import Batch, Context
from scottbench.diffusion import add_noise, to_x0_eps, wide
from scottbench.models.diffusion_model import run_unet
from scottbench.models.pipeline import fast_layout
from scottbench.models.transfer import sent
from scottbench.training.discriminator import Discriminator, accuracies, cross_entropy, pair_accuracy, trainable_share, weighted_term
from scottbench.training.distillation import draw_times
from scottbench_ufogen.options import UFOGenOptions


class DiffusionGAN:
    """The generator starts as the teacher, unguided; the discriminator D(x_t', t', c) as the teacher with a zero output map."""

    def __init__(self, context: Context, options: UFOGenOptions):
        self.teacher, self.options, self.scaler = context.teacher, options, context.scaler
        student = fast_layout(copy.deepcopy(context.teacher.unet))
        self.ema = copy.deepcopy(student).requires_grad_(False)
        self.ema_decay = options.ema
        discriminator = Discriminator(context.teacher.unet, options.discriminator, options.disc_rank, patches=True)
        self.networks: dict[str, Any] = {"student": student.requires_grad_(True), "discriminator": discriminator}
        self.learning_rates = {"student": options.lr, "discriminator": options.disc_lr}
        self.betas = {"discriminator": (0.0, 0.999)}

    # --- one training step -------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Yield the generator's reconstruction and adversarial losses, then, after its update and in every so-many-th step, the
        discriminator's loss; each 0-d."""
        o, schedule, generator = self.options, self.teacher.schedule, batch["generator"]
        x0, text, uncond, n = batch["latents"], batch["text"], batch["uncond"], len(batch["latents"])
        t = draw_times(1, len(schedule), n, generator)
        draws = t, (t - o.delta).clamp_min(0), self.normal(x0, generator), self.normal(x0, generator)
        t, t_next, noise, renoise = sent(draws, x0.device)
        z = add_noise(schedule, x0, t, noise)
        output = wide(run_unet(self.networks["student"], z, t, text))

        def diffused(output: Tensor) -> Tensor:
            # the prediction is diffused forward anew: the posterior q(x_t' | x_t, x0) would tie it to x_t
            return add_noise(schedule, self.both(z, t, output)[0], t_next, renoise)

        prediction, eps = self.both(z, t, output)
        wrong = mse_loss(eps, noise) if o.recon == "snr" else mse_loss(prediction, x0)
        losses = {"reconstruction": o.recon_weight * wrong} if o.recon_weight > 0 else {}
        facts: dict[str, Tensor] = {}
        if o.adv_weight > 0 and batch["step"] >= o.disc_warmup:
            loss = lambda f: generator_loss(  # noqa: E731
                self.networks["discriminator"](diffused(f), t_next, text, uncond, learn=False), o.clamp)
            losses["adversarial"], facts = weighted_term(output, loss, losses, o.adv_weight, o.adv_scale, self.scaler)
        # the graph must not outlive this yield: the generator's update is first, D learns from what was stored of it
        output = output.detach()
        del prediction, eps, wrong
        yield "student", losses, facts
        del losses
        if batch["step"] % o.disc_every == 0:
            # the noise of the fake: D is to see their difference, not that of two draws
            real = add_noise(schedule, x0, t_next, renoise)
            both = torch.cat([real, diffused(output)]), torch.cat([t_next, t_next]), text.repeat(2, 1, 1)
            logits = self.networks["discriminator"](*both, uncond)
            right = accuracies(logits[:n].mean((1, 2)), logits[n:].mean((1, 2)))
            yield "discriminator", {"bce": discriminator_loss(logits[:n], logits[n:], o.clamp)}, right

    def both(self, z: Tensor, t: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x0, eps) of a generator's output at z_t, both (N,C,h,w)."""
        return to_x0_eps(self.teacher.schedule, z, t, output, self.teacher.prediction)

    def normal(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw standard normal noise of the shape of `like`, on the CPU."""
        return torch.randn(like.shape, generator=generator)

    # --- what is measured and exported -------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return how often, 0-d, the discriminator is right on held-out latents and on predictions made from them at the times of
        four-step sampling, both at the time t' that it sees in training."""
        schedule, generator, x0, text = self.teacher.schedule, batch["generator"], batch["latents"], batch["text"]
        last = len(schedule) - 1
        quarters = [last, last * 3 // 4, last // 2, last // 4]
        t = torch.tensor(quarters)[torch.arange(len(x0)) % 4].to(x0.device)
        t_next = (t - self.options.delta).clamp_min(0)
        noise, renoise = sent((self.normal(x0, generator), self.normal(x0, generator)), x0.device)
        z = add_noise(schedule, x0, t, noise)
        prediction, _ = self.both(z, t, run_unet(self.networks["student"], z, t, text))
        both = [add_noise(schedule, x, t_next, renoise) for x in (x0, prediction)]
        real, fake = (self.networks["discriminator"](x, t_next, text, batch["uncond"]).mean((1, 2)) for x in both)
        by_time = {f"held_out_accuracy_t{q}": pair_accuracy(real[t == q], fake[t == q]) for q in quarters if (t == q).any()}
        return {f"held_out_{k}": v for k, v in accuracies(real, fake).items()} | by_time

    def student_config(self) -> dict[str, Any]:
        """Say that guidance is baked in: the student is trained on data and without guidance, so all that there is, is in the data."""
        share = trainable_share(self.networks["discriminator"])
        return {"guidance": "baked", "discriminator_trainable_share": round(share, 5)}


def discriminator_loss(real: Tensor, fake: Tensor, clamp: float | None) -> Tensor:
    """Return BCE(D(real), 1) + BCE(D(fake), 0) of logits (N,h,w), mean over patches; 2 ln 2 when D says nothing. clamp: real logits
    above it and fake logits below its negative count as at it, so that they give no gradient."""
    if clamp is not None:
        real, fake = real.clamp(max=clamp), fake.clamp(min=-clamp)
    return cross_entropy(real, fake)


def generator_loss(fake: Tensor, clamp: float | None) -> Tensor:
    """Return BCE(D(fake), 1) of logits (N,h,w): ln 2 when D says nothing. clamp: logits above it give no gradient."""
    return softplus(-(fake if clamp is None else fake.clamp(max=clamp))).mean()
