"""A distillation without U-Nets, of two roles, that trains in milliseconds: what the training loop does, seen from outside."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator

from scottbench.training.data import Data
from scottbench.training.loop import Loop
from scottbench.training.settings import TrainSettings


class Toy:
    """student: linear, fitted to the latents' sum; discriminator: linear, with a loss only where the batch has a positive item.

    random: draws from the batch's generator, and drops out by the global one. fail: {step: term}, terms that become NaN there.
    """

    def __init__(self, random: bool = True, fail: dict | None = None, lr: float = 0.05):
        torch.manual_seed(0)
        self.networks = {"student": torch.nn.Linear(4, 1), "discriminator": torch.nn.Linear(4, 1)}
        self.learning_rates = {"student": lr, "discriminator": lr}
        self.betas = {"discriminator": (0.0, 0.999)}
        self.ema, self.ema_decay = copy.deepcopy(self.networks["student"]).requires_grad_(False), 0.9
        self.random, self.fail, self.seen = random, {} if fail is None else fail, []

    def step(self, batch):
        x, nan = batch["latents"].flatten(1), self.fail.get(batch["step"])
        self.seen.append((batch["step"], batch["fraction"], x))
        if self.random:
            x = torch.nn.functional.dropout(x + torch.randn(x.shape, generator=batch["generator"]), 0.1)
        bad = torch.tensor(float("nan"))
        if (x[:, 0] > 0).any():
            chosen = x[x[:, 0] > 0]
            yield "discriminator", {"d": bad if nan == "d" else (self.networks["discriminator"](chosen) - 1).square().sum()}, {}
        prediction = self.networks["student"](x)
        losses = {"fit": (prediction - x.sum(1, keepdim=True)).square().mean()}
        if nan == "fit":
            losses["fit"] = losses["fit"] * bad
        if nan == "gradient":
            losses["root"] = (0 * prediction).sum().sqrt()  # 0, with an infinite slope
        yield "student", losses, {"mean": float(prediction.detach().mean())}

    def student_config(self):
        return {}


def toy_data(n: int = 24) -> Data:
    latents = np.random.default_rng(0).normal(size=(n, 1, 2, 2)).astype(np.float32)
    return Data(latents, np.zeros((n, 1, 1), np.float32), torch.zeros(1, 1, 1), torch.arange(n - 4), torch.arange(n - 4, n))


def counts(device: str = "cpu") -> SimpleNamespace:
    """Stand in for the model of a loop: a device, and counts that stay at 0."""
    return SimpleNamespace(device=device, evaluations=0, passes=0, uncounted=nullcontext)


def toy_loop(out: Path, toy: Toy | None = None, accelerator=None, **settings) -> Loop:
    out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(cpu=True) if accelerator is None else accelerator
    return Loop(Toy() if toy is None else toy, toy_data(), accelerator, out, TrainSettings(**{"batch_size": 8} | settings), counts())


def weights(loop: Loop) -> torch.Tensor:
    """Every trainable number and the EMA's, in one row."""
    return torch.cat([t.flatten() for group in loop.tensors().values() for t in group.values()]).clone()
