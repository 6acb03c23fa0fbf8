"""Stochastic consistency distillation (SCott, arXiv 2403.01505). Formulas: methods.md section 3; each choice is an option."""

from __future__ import annotations

import copy

import torch

from scottbench.diffusion import add_noise, pseudo_huber, rho_ddim, scale, skipping_grid, update
from scottbench.training.discriminator import Discriminator, accuracies, hinge, pair_accuracy, trainable_share, weighted_term
from scottbench.training.distillation import consistency_output, guided_teacher, uniform_guidance, w_conditioned_copy
from scottbench_scott.noise_functions import rho_er_sde, second_order_weight


class StochasticConsistencyDistillation:
    """f(z_n, t_n) is pulled to the EMA network's f at the end of h SDE steps of the guided teacher, and towards data by a GAN."""

    def __init__(self, context, options):
        self.teacher, self.options = context.teacher, options
        student = w_conditioned_copy(context.teacher.unet)
        self.ema = copy.deepcopy(student).requires_grad_(False)
        self.ema_decay = options.ema
        self.networks = {"student": student.requires_grad_(True)}
        self.learning_rates = {"student": options.lr}
        self.betas = {}
        if options.discriminator != "none":
            discriminator = Discriminator(context.teacher.unet, options.discriminator, options.disc_rank)
            self.networks["discriminator"] = discriminator
            self.learning_rates["discriminator"] = options.disc_lr
            self.betas["discriminator"] = (0.0, 0.999)
        self.grid = torch.tensor(skipping_grid(context.teacher.schedule, options.skip))

    # --- one training step -------------------------------------------------------------------------------------------

    def step(self, batch):
        o, schedule, generator = self.options, self.teacher.schedule, batch["generator"]
        x0, text = batch["latents"], batch["text"]
        t_n = self.draw_times(len(x0), generator).to(x0.device)
        w = uniform_guidance(len(x0), o.w_min, o.w_max, generator).to(x0.device)
        z_n = add_noise(schedule, x0, t_n, self.normal(x0, generator))
        with torch.no_grad():
            z_m, t_m = self.teacher_chain(z_n, t_n, text, batch["uncond"], w, generator)
            target = self.f(self.ema, z_m, t_m, text, w)
        prediction = self.f(self.networks["student"], z_n, t_n, text, w)

        adversarial = "discriminator" in self.networks and bool((t_n >= o.adv_t_min).any())
        if adversarial:
            chosen = (t_n >= o.adv_t_min).nonzero()[:, 0]
            real = (target if o.disc_input == "target" else x0)[chosen]
            fake, c, n = prediction[chosen], text[chosen], len(chosen)
            for _ in range(o.disc_steps):
                logits = self.discriminate(torch.cat([real, fake.detach()]), torch.cat([c, c]), batch["uncond"], generator)
                yield "discriminator", {"hinge": hinge(logits[:n], logits[n:])}, accuracies(logits[:n], logits[n:])

        losses, facts = {"consistency": pseudo_huber(prediction, target, o.huber_c, o.huber)}, {}
        if adversarial and batch["step"] >= o.disc_warmup:
            adversarial_loss = lambda f: self.generator_loss(f[chosen], c, batch["uncond"], generator)  # noqa: E731
            losses["adversarial"], facts = weighted_term(prediction, adversarial_loss, losses, o.adv_weight, o.adv_scale)
        yield "student", losses, facts

    def f(self, network, z, t, text, w):
        return consistency_output(network, self.teacher.schedule, self.teacher.prediction, z, t, text, w)

    def normal(self, like, generator):
        return torch.randn(like.shape, generator=generator).to(like.device)

    def draw_times(self, n, generator):
        if self.options.t_sampling == "grid":
            return self.grid[torch.randint(len(self.grid), (n,), generator=generator)]
        return torch.randint(self.options.skip, len(self.teacher.schedule), (n,), generator=generator)

    # --- the stochastic teacher (methods.md 3.3) ---------------------------------------------------------------------

    def teacher_chain(self, z, t_n, text, uncond, w, generator):
        """h guided SDE sub-steps from t_n to t_m = max(t_n - skip, 0): (z_m, t_m). Guidance enters at every sub-step."""
        t_m = (t_n - self.options.skip).clamp_min(0)
        times = [t_n - torch.round((t_n - t_m) * j / self.options.h).long() for j in range(self.options.h + 1)]
        before = None
        for s, t in zip(times, times[1:]):
            x0, eps = guided_teacher(self.teacher, z, s, text, uncond, w)
            z = update(self.teacher.schedule, x0, eps, t, self.rho(s, t), self.normal(z, generator))
            if self.options.order == 2 and before is not None:
                z = z + self.correction(s, t, x0, *before)
            before = (s, x0)
        return z, t_m

    def rho(self, s, t):
        o, schedule = self.options, self.teacher.schedule
        if o.solver == "er-sde":
            return rho_er_sde(schedule, s, t, o.noise_function, o.strength)
        return rho_ddim(schedule, s, t, o.eta if o.solver == "ddim" else 0.0)

    def correction(self, s, t, x0, s_before, x0_before):
        """What second-order ER-SDE adds: alpha_t times its weight times the slope of x0 over lambda since the sub-step before."""
        o, schedule = self.options, self.teacher.schedule
        formula, strength = (o.noise_function, o.strength) if o.solver == "er-sde" else ("x", 1.0)
        gap = schedule.lam(s) - schedule.lam(s_before)
        slope = torch.where(gap == 0, 0.0, 1 / gap)  # near t = 0 sub-times may coincide
        return scale(schedule.alpha(t) * second_order_weight(schedule, s, t, formula, strength) * slope, x0 - x0_before)

    # --- the adversarial loss (methods.md 3.4) -----------------------------------------------------------------------

    def discriminate(self, x, text, uncond, generator, learn=True):
        """Logits (N,) of clean latents x, re-noised to tau ~ U{tau_min..tau_max} unless the input axis says otherwise."""
        if self.options.disc_input == "clean":
            tau = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            return self.networks["discriminator"](x, tau, text, uncond, learn)
        tau = torch.randint(self.options.tau_min, self.options.tau_max + 1, (len(x),), generator=generator).to(x.device)
        return self.networks["discriminator"](add_noise(self.teacher.schedule, x, tau, self.normal(x, generator)), tau, text, uncond, learn)

    def generator_loss(self, fake, text, uncond, generator):
        """-E[D(fake)] (hinge) or E[relu(1 - D(fake))]; gradients reach the student only."""
        logits = self.discriminate(fake, text, uncond, generator, learn=False)
        return torch.relu(1 - logits).mean() if self.options.adv_loss == "relu" else -logits.mean()

    @torch.no_grad()
    def evaluate(self, batch):
        """Discriminator's accuracy on held-out real latents and on fakes made from them at the t_n of four-step sampling."""
        if "discriminator" not in self.networks:
            return {}
        schedule, generator, x0, text = self.teacher.schedule, batch["generator"], batch["latents"], batch["text"]
        quarters = self.grid[[len(self.grid) * j // 4 for j in range(4)]]
        t = quarters[torch.arange(len(x0)) % 4].to(x0.device)
        w = uniform_guidance(len(x0), self.options.w_min, self.options.w_max, generator).to(x0.device)
        fake = self.f(self.networks["student"], add_noise(schedule, x0, t, self.normal(x0, generator)), t, text, w)
        logits = self.discriminate(torch.cat([x0, fake]), torch.cat([text, text]), batch["uncond"], generator)
        real, fake = logits[: len(x0)], logits[len(x0) :]
        by_time = {f"held_out_accuracy_t{int(q)}": pair_accuracy(real[t == q], fake[t == q]) for q in quarters}
        return {f"held_out_{k}": v for k, v in accuracies(real, fake).items()} | by_time

    def student_config(self):
        facts = {"w_min": self.options.w_min, "w_max": self.options.w_max}
        if "discriminator" in self.networks:
            facts["discriminator_trainable_share"] = round(trainable_share(self.networks["discriminator"]), 5)
        return facts
