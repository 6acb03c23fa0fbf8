"""Its noise stays on the CPU."""

from scottbench import Trainer, hookimpl, lazy


@hookimpl
def register_trainers():
    return [Trainer("stays-on-the-cpu", "a diffusion training with a fault", lazy("stays_on_the_cpu:build"))]


def build(context, options):
    """A Distillation."""
    import copy

    import torch
    from torch.nn.functional import mse_loss

    from scottbench.diffusion import add_noise
    from scottbench.models.diffusion_model import run_unet

    class Training:
        def __init__(self):
            student = copy.deepcopy(context.teacher.unet).requires_grad_(True)
            self.networks = {"student": student, "critic": torch.nn.Conv2d(4, 1, 1).to(context.device)}
            self.learning_rates, self.betas = {"student": 1e-4, "critic": 1e-4}, {}
            self.ema, self.ema_decay = None, 0.0

        def step(self, batch):
            x0, generator = batch["latents"], batch["generator"]
            noise = torch.randn(x0.shape, generator=generator)
            t = torch.full((len(x0),), 500, device=x0.device)
            z = add_noise(context.teacher.schedule, x0, t, noise)  # fault
            output = run_unet(self.networks["student"], z, t, batch["text"])
            yield "student", {"fit": mse_loss(output, noise)}, {}
            output = output.detach()
            score = self.networks["critic"](noise).mean() - self.networks["critic"](output).mean()
            yield "critic", {"difference": score}, {}

        def student_config(self):
            return {"guidance": "baked"}

    return Training()
