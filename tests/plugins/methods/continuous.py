"""Networks in closed form that can be asked between whole time steps, for trainers of continuous time."""

from types import SimpleNamespace

import torch
from analytic import SD

FREQUENCY = 64
"""Which frequency of the embedding of the second input is read back; low enough that it does not wrap."""


def lam_of(tau, schedule=SD):
    """lambda of fractional time steps (N,): ln lambda linear between whole ones, and differentiable."""
    table = ((1 - schedule.alphas_cumprod).log() - schedule.alphas_cumprod.log()) / 2
    below = tau.detach().floor().clamp(0, len(table) - 2).long()
    return (table[below] + (tau - below) * (table[below + 1] - table[below])).exp().view(-1, 1, 1, 1)


def between(n):
    """ln lambda halfway between whole time steps, (n,) float64 over all of the schedule, where a small difference meets no kink."""
    return lam_of(torch.linspace(1, 998, n, dtype=torch.float64).floor() + 0.5).flatten().log()


class Continuous(torch.nn.Module):
    """A U-Net whose prediction of x0 is a function of (z, lambda (N,1,1,1), second input (N,1,1,1)); its output is the noise."""

    def __init__(self, x0, condition=None):
        super().__init__()
        self.x0, self.config = x0, SimpleNamespace(time_cond_proj_dim=condition)
        self.gain = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, z, t, encoder_hidden_states=None, timestep_cond=None, return_dict=False):
        lam, second = lam_of(t), None
        if timestep_cond is not None:
            half = timestep_cond.shape[1] // 2
            turn = torch.atan2(timestep_cond[:, FREQUENCY], timestep_cond[:, half + FREQUENCY])
            second = (turn.double() / (1000 * 1e4 ** (-FREQUENCY / (half - 1)))).view(-1, 1, 1, 1)
        cos = 1 / (1 + lam**2).sqrt()
        return (self.gain * (z - cos * self.x0(z, lam, second)) / (lam * cos),)


def gaussian(s, mean=0.0):
    """E[x0 | z] of data N(mean, s^2); s = 0 is data at one point."""

    def x0(z, lam, second=None):
        y = z * (1 + lam**2).sqrt()
        return mean + s**2 / (s**2 + lam**2) * (y - mean)

    return x0


def teacher_of(x0):
    """The parts of a teacher that such a trainer uses; unguided: its conditional and unconditional halves are equal."""
    unet = Continuous(x0).requires_grad_(False)
    return SimpleNamespace(schedule=SD, prediction="epsilon", unet=unet, passes=0, network=lambda z, t, text: unet(z, t)[0])
