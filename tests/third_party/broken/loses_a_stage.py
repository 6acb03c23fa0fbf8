"""The teacher of its second stage is in no checkpoint: half-way the student becomes its own teacher, as in progressive distillation."""

from scottbench import Trainer, hookimpl, lazy


@hookimpl
def register_trainers():
    return [Trainer("loses-a-stage", "two stages with a fault", lazy("loses_a_stage:build"))]


def build(context, options):
    """A Distillation."""
    import copy

    import torch
    from torch.nn.functional import mse_loss

    from scottbench.diffusion import add_noise
    from scottbench.models.diffusion_model import run_unet

    class Training:
        def __init__(self):
            self.networks = {"student": copy.deepcopy(context.teacher.unet).requires_grad_(True)}
            self.learning_rates, self.betas = {"student": 1e-3}, {}
            self.ema, self.ema_decay = None, 0.0
            self.master = copy.deepcopy(context.teacher.unet)
            self.memory = {"stage": 1}

        def step(self, batch):  # fault
            if batch["fraction"] >= 0.5 and self.memory["stage"] == 1:
                self.master.load_state_dict(self.networks["student"].state_dict())
                self.memory = {"stage": 2}
            x0, generator = batch["latents"], batch["generator"]
            noise = torch.randn(x0.shape, generator=generator).to(x0.device)
            t = torch.full((len(x0),), 500, device=x0.device)
            z = add_noise(context.teacher.schedule, x0, t, noise)
            with torch.no_grad():
                wanted = run_unet(self.master, z, t, batch["text"])
            yield "student", {"fit": mse_loss(run_unet(self.networks["student"], z, t, batch["text"]), 0.9 * wanted)}, {}

        def student_config(self):
            return {"guidance": "baked"}

    return Training()
