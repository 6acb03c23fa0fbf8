"""Teachers in closed form: data of each prompt are Gaussian around its own mean, or that mean alone, so the best prediction is known.

They have Stable Diffusion's schedule, latents (4,8,8) and images of 16x16 pixels, and open in no time. Their numbers never depend on what
else is in a batch.
"""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from scottbench.diffusion import Schedule, eps_from_x0
from scottbench.models.diffusion_model import DiffusionModel

SHAPE = (4, 8, 8)
"""Latents of the teacher, (C, h, w)."""
TOKENS, WIDTH = 8, 16
"""Tokens of a prompt, and numbers of a token's embedding."""
SPREAD = 0.5
"""Standard deviation of the Gaussian data."""
Form = Literal["epsilon", "v_prediction", "sample", "velocity"]
"""The thing that a network predicts: diffusers' names, and "velocity", data - noise on the straight path of a rectified flow."""
FORMS: tuple[Form, ...] = ("epsilon", "v_prediction", "sample", "velocity")


def analytic_model(student: dict[str, Any] | None = None, spread: float = SPREAD, form: Form = "epsilon") -> DiffusionModel:
    """Open a teacher in closed form.

    student: its student.json, for a U-Net that takes the guidance scale as an input, as students do. spread: standard deviation of the
    data; 0 for a point mass, whose mean is the prediction everywhere. form: what the network's raw output is.
    """
    schedule = Schedule.scaled_linear()
    unet = Network(schedule, student is not None, spread, form)
    prediction = "epsilon" if form == "velocity" else form
    return DiffusionModel("0" * 64, schedule, prediction, Tokens(), Text(), unet, Decoder(), student=student)


def mean_of(text: Any) -> Tensor:
    """Return the mean of the data of prompts, (N,C,h,w), from their embeddings (N,L,D)."""
    return _tiled(text.mean(1))


def _tiled(mean: Tensor) -> Tensor:
    return mean.view(-1, SHAPE[0], 2, 2).repeat(1, 1, SHAPE[1] // 2, SHAPE[2] // 2)


class Network(torch.nn.Module):
    """A U-Net in closed form; `times` are the time steps that it was asked at."""

    def __init__(self, schedule: Schedule, takes_guidance: bool, spread: float = SPREAD, form: Form = "epsilon"):
        super().__init__()
        self.schedule, self.dtype, self.spread, self.form = schedule, torch.float32, spread, form
        dim = 256 if takes_guidance else None
        self.config = SimpleNamespace(sample_size=SHAPE[1], in_channels=SHAPE[0], time_cond_proj_dim=dim)
        self.times: list[float] = []

    def forward(
        self, z: Tensor, t: Any, encoder_hidden_states: Tensor, timestep_cond: Tensor | None = None, return_dict: bool = False
    ) -> tuple[Tensor]:
        """Predict from z (N,C,h,w) at one time step t, a number; text (N,L,D)."""
        self.times.append(float(t))
        at = min(int(t), len(self.schedule) - 1)  # a flow may ask at T itself
        mean = encoder_hidden_states.mean(1)
        if timestep_cond is not None and self.spread:
            mean = mean + 0.1 * timestep_cond[:, :WIDTH]
        mean = _tiled(mean)
        if self.form == "velocity":  # on the straight path u = 1 - t / T, of a point mass
            return ((mean - z) * len(self.schedule) / max(float(t), 1e-6),)
        pull = self.spread**2 / (self.spread**2 + float(self.schedule.lam(at)) ** 2)
        x0 = mean + pull * (z / float(self.schedule.alpha(at)) - mean)
        eps = eps_from_x0(self.schedule, z, at, x0)
        if self.form == "v_prediction":
            return (float(self.schedule.alpha(at)) * eps - float(self.schedule.sigma(at)) * x0,)
        return (x0 if self.form == "sample" else eps,)


class Tokens:
    """A tokenizer: each word has a number."""

    model_max_length = TOKENS

    def __call__(self, prompts: list[str], **form: Any) -> SimpleNamespace:
        rows = [[zlib.crc32(word.encode()) % 997 + 1 for word in prompt.split()[:TOKENS]] for prompt in prompts]
        return SimpleNamespace(input_ids=torch.tensor([row + [0] * (TOKENS - len(row)) for row in rows]))


class Text(torch.nn.Module):
    """A text encoder without weights."""

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        """Turn token numbers (N,L) into embeddings (N,L,D)."""
        return (torch.cos(tokens[..., None] * torch.arange(1, WIDTH + 1)),)


class Decoder(torch.nn.Module):
    """A VAE without weights."""

    dtype, config = torch.float32, SimpleNamespace(scaling_factor=1.0, block_out_channels=(1, 1))

    def decode(self, z: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """Turn latents (N,4,h,w) into images (N,3,2h,2w)."""
        return ((z[:, :3] + 0.1 * z[:, 3:]).repeat_interleave(2, 2).repeat_interleave(2, 3),)
