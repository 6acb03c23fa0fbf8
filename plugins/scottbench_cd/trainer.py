"""Latent consistency distillation (Luo et al. 2023, algorithm 1)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from scottbench import Batch, Context, TextCondition
from scottbench.diffusion import add_noise, pseudo_huber, skipping_grid, update
from scottbench.models.diffusion_model import UNet
from scottbench.models.transfer import sent
from scottbench.training.distillation import (
    adapters_off,
    consistency_output,
    draw_grid_times,
    guidance_facts,
    guided_teacher,
    student_copy,
    time_weight,
    uniform_guidance,
)  # fmt: skip
from scottbench.training.lora import add_lora, baked_guidance
from scottbench_cd.options import CDOptions


class ConsistencyDistillation:
    """f(z_n, t_n) is pulled to the EMA network's f at the point one guided DDIM step further, t_m = max(t_n - k, 0).

    Variant lora: the student is the teacher's own U-Net with adapters on; there is no EMA network, the target is the student.
    """

    def __init__(self, context: Context, options: CDOptions):
        self.teacher, self.options = context.teacher, options
        lora = options.variant == "lora"
        unet, o = context.teacher.unet, options
        student = add_lora(unet, o.lora_rank) if lora else student_copy(unet, o.w_min, o.w_max, o.w_start).requires_grad_(True)
        self.networks: dict[str, Any] = {"student": student}
        self.ema: UNet | None = None if lora else copy.deepcopy(student).requires_grad_(False)
        self.learning_rates = {"student": options.lr}
        self.betas: dict[str, tuple[float, float]] = {}
        self.ema_decay = options.ema
        self.grid = torch.tensor(skipping_grid(context.teacher.schedule, options.skip))

    def f(self, network: UNet, z: Tensor, t: Tensor, text: TextCondition, w: Tensor) -> Tensor:
        """Return f(z, t, c, w), (N,C,h,w), of a student's network."""
        return consistency_output(self.teacher, network, z, t, text, w)

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, float]]]:
        """Yield the student's consistency loss, 0-d."""
        o, schedule, generator, device = self.options, self.teacher.schedule, batch["generator"], batch["latents"].device
        x0, text, n = batch["latents"], batch["text"], len(batch["latents"])
        t_n = draw_grid_times(self.grid, n, generator)
        w = uniform_guidance(n, o.w_min, o.w_max, generator)
        t_n, t_m, w, noise = sent((t_n, (t_n - o.skip).clamp_min(0), w, torch.randn(x0.shape, generator=generator)), device)
        z_n = add_noise(schedule, x0, t_n, noise)
        # LoRA's student is its own target: asked without gradients first, autocast would keep its weights' casts without them too
        first = self.f(self.networks["student"], z_n, t_n, text, w) if self.ema is None else None
        with torch.no_grad():
            with self.as_teacher():
                x, eps = guided_teacher(self.teacher, z_n, t_n, text, batch["uncond"], w)
            z_m = update(schedule, x, eps, t_m, rho=1, noise=None)
            target = self.f(self.networks["student"] if self.ema is None else self.ema, z_m, t_m, text, w)
        prediction = self.f(self.networks["student"], z_n, t_n, text, w) if first is None else first
        weight = time_weight(schedule, t_n, o.weight)
        yield "student", {"consistency": pseudo_huber(prediction, target, o.huber_c, o.huber, weight)}, {}

    def as_teacher(self) -> AbstractContextManager[None]:
        """Make the teacher's U-Net the teacher inside; it carries the student's adapters where that is LoRA."""
        return adapters_off(self.teacher.unet) if self.options.variant == "lora" else nullcontext()

    def student_config(self) -> dict[str, Any]:
        """Return the range of the guidance, or that it is baked in, and the grid that the student is sampled on."""
        o = self.options
        if o.variant == "lora":
            return baked_guidance(o.w_min, o.w_max) | {"sampler": {"skip": o.skip}}
        return guidance_facts(o.w_min, o.w_max) | {"sampler": {"skip": o.skip}}
