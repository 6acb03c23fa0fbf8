"""A trainer whose other loss was never tried: a misspelt key."""

from dataclasses import dataclass
from typing import Literal

from scottbench import Trainer, hookimpl, lazy


@dataclass(frozen=True)
class Options:
    """Options of the trainer."""

    loss: Literal["mse", "huber"] = "mse"
    """How the difference is counted."""


@hookimpl
def register_trainers():
    return [Trainer("breaks-a-choice", "a second loss with a fault", lazy("breaks_a_choice:build"), Options)]


def build(context, options):
    """A Distillation."""
    import copy

    import torch
    from torch.nn import functional

    from scottbench.diffusion import add_noise
    from scottbench.models.diffusion_model import run_unet

    losses = {"mse": functional.mse_loss, "hubert": functional.huber_loss}

    class Training:
        def __init__(self):
            self.networks = {"student": copy.deepcopy(context.teacher.unet).requires_grad_(True)}
            self.learning_rates, self.betas = {"student": 1e-3}, {}
            self.ema, self.ema_decay = None, 0.0

        def step(self, batch):
            x0, generator = batch["latents"], batch["generator"]
            noise = torch.randn(x0.shape, generator=generator).to(x0.device)
            t = torch.full((len(x0),), 500, device=x0.device)
            z = add_noise(context.teacher.schedule, x0, t, noise)
            with torch.no_grad():
                wanted = run_unet(context.teacher.unet, z, t, batch["text"])
            loss = losses[options.loss](run_unet(self.networks["student"], z, t, batch["text"]), 0.9 * wanted)  # fault
            yield "student", {"fit": loss}, {}

        def student_config(self):
            return {"guidance": "baked"}

    return Training()
