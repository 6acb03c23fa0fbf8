"""Latent consistency distillation (Luo et al. 2023, algorithm 1)."""

from __future__ import annotations

import copy

import torch

from scottbench.diffusion import add_noise, pseudo_huber, skipping_grid, update
from scottbench.distillation import consistency_output, guided_teacher, uniform_guidance, w_conditioned_copy


class ConsistencyDistillation:
    """f(z_n, t_n) is pulled to the EMA network's f at the point one guided DDIM step further, t_m = max(t_n - k, 0)."""

    def __init__(self, context, options):
        self.teacher, self.options = context.teacher, options
        student = w_conditioned_copy(context.teacher.unet)
        self.networks = {"student": student.requires_grad_(True)}
        self.ema = copy.deepcopy(student).requires_grad_(False)
        self.learning_rates = {"student": options.lr}
        self.betas = {}
        self.ema_decay = options.ema
        self.grid = torch.tensor(skipping_grid(context.teacher.schedule, options.skip))

    def f(self, network, z, t, text, w):
        return consistency_output(network, self.teacher.schedule, self.teacher.prediction, z, t, text, w)

    def step(self, batch):
        schedule, generator, device = self.teacher.schedule, batch["generator"], batch["latents"].device
        x0, text, n = batch["latents"], batch["text"], len(batch["latents"])
        t_n = self.grid[torch.randint(len(self.grid), (n,), generator=generator)].to(device)
        t_m = (t_n - self.options.skip).clamp_min(0)
        w = uniform_guidance(n, self.options.w_min, self.options.w_max, generator).to(device)
        z_n = add_noise(schedule, x0, t_n, torch.randn(x0.shape, generator=generator).to(device))
        with torch.no_grad():
            z_m = update(schedule, *guided_teacher(self.teacher, z_n, t_n, text, batch["uncond"], w), t_m, rho=1, noise=None)
            target = self.f(self.ema, z_m, t_m, text, w)
        prediction = self.f(self.networks["student"], z_n, t_n, text, w)
        yield "student", {"consistency": pseudo_huber(prediction, target, self.options.huber_c, self.options.huber)}, {}

    def student_config(self):
        return {"w_min": self.options.w_min, "w_max": self.options.w_max}
