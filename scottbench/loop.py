"""The training loop: data order, learning rate, one step of a trainer after another, log, checkpoints, interruption.

A trainer yields (role, losses, facts) and the loop minimises their sum for that role's network before it resumes, so that
adversarial methods read top to bottom. Time steps, noise, guidance and data order come from one generator whose state is in
the checkpoint.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from scottbench import checkpoint
from scottbench.distillation import update_ema
from scottbench.errors import TrainingDiverged, UsageError
from scottbench.model import DiffusionModel

HELD_OUT = 256
"""Training items that are never trained on, for a trainer's `evaluate`."""


@dataclass
class Budget:
    """Stops after `minutes` of training (resumed time counted in) or `max_steps`, whichever is first."""

    minutes: float | None
    max_steps: int | None

    def fraction(self, seconds: float, step: int) -> float:
        """0 at the start, 1 when spent."""
        by_time = 0.0 if self.minutes is None else seconds / (60 * self.minutes)
        by_step = 0.0 if self.max_steps is None else step / self.max_steps
        return max(by_time, by_step)


@dataclass
class Data:
    """A training split as latents and text embeddings, computed once: (n,C,h,w) float32, (n,L,D) float32, (1,L,D)."""

    latents: torch.Tensor
    text: torch.Tensor
    uncond: torch.Tensor
    train: torch.Tensor
    """Indices trained on."""
    held_out: torch.Tensor

    def batch(self, indices: torch.Tensor, generator: torch.Generator, device: str) -> dict:
        return {
            "latents": self.latents[indices].to(device),
            "text": self.text[indices].to(device),
            "uncond": self.uncond.to(device),
            "indices": indices,
            "generator": generator,
        }


@dataclass
class State:
    """Where a training stands; what a checkpoint holds beside networks and optimizers."""

    step: int = 0
    updates: int = 0
    """Of the student; fewer than steps where a trainer has steps that make data."""
    seconds: float = 0.0
    evaluations: int = 0
    """Forward passes so far of any U-Net, in images."""


def prepare_data(model: DiffusionModel, items, batch_size: int, seed: int, progress) -> Data:
    """Encodes a training split. Raises UsageError when it is smaller than one batch."""
    n = len(items.ids)
    held = min(HELD_OUT, n // 10)
    if n - held < batch_size:
        raise UsageError(
            f"the training split has {n} items ({n - held} after {held} held out), "
            f"fewer than one batch of {batch_size}. Use --batch-size {max(1, n - held)} or less."
        )
    latents, text = [], []
    for start in range(0, n, 64):
        index = range(start, min(start + 64, n))
        latents.append(model.encode_images(items.images(index)).cpu())
        text.append(model.encode_prompts([items.prompts[i] for i in index]).float().cpu())
        progress("encode", min(start + 64, n), n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    uncond = model.encode_prompts([""]).float().cpu()
    # inference tensors cannot be saved for backward
    return Data(torch.cat(latents).clone(), torch.cat(text).clone(), uncond.clone(), order[held:], order[:held])


def epoch_batch(train: torch.Tensor, step: int, batch_size: int, seed: int) -> torch.Tensor:
    """Indices of one step: each epoch is a permutation that depends on (seed, epoch) only, so that a resumed training sees
    the same order."""
    per_epoch = len(train) // batch_size
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return train[order[position * batch_size : (position + 1) * batch_size]]


def learning_rate_scale(fraction: float, step: int, warmup: int = 20, decay_from: float = 0.4) -> float:
    """Linear warm-up over `warmup` steps, constant, then a cosine to zero over the last part of the budget."""
    rise = min(1.0, (step + 1) / warmup)
    if fraction <= decay_from:
        return rise
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - decay_from) / (1 - decay_from))))


class Interruption:
    """Holds Ctrl-C and SIGTERM back until the step in hand is finished and saved; a second one acts at once."""

    def __init__(self):
        self.signal, self.before = None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number, frame):
        if self.signal is not None:
            self.signal = number
            self.act()
        self.signal = number

    def act(self):
        if self.signal is not None:
            raise KeyboardInterrupt if self.signal == signal.SIGINT else SystemExit(128 + self.signal)


class Loop:
    """One training: networks, optimizers, state; `run` until the budget is spent."""

    def __init__(self, distillation, data: Data, accelerator, out: Path, batch_size: int, seed: int, clip: float = 1.0):
        self.distillation, self.data, self.accelerator = distillation, data, accelerator
        self.out, self.batch_size, self.seed, self.clip = out, batch_size, seed, clip
        self.generator = torch.Generator().manual_seed(seed)
        self.state = State()
        self.parameters = {r: [p for p in net.parameters() if p.requires_grad] for r, net in distillation.networks.items()}
        self.optimizers = {
            role: torch.optim.AdamW(
                self.parameters[role],
                lr=distillation.learning_rates[role],
                betas=distillation.betas.get(role, (0.9, 0.999)),
                weight_decay=0.0,
            )
            for role in distillation.networks
        }
        for role, network in distillation.networks.items():
            distillation.networks[role], self.optimizers[role] = accelerator.prepare(network, self.optimizers[role])

    def one_step(self, scale: float, fraction: float) -> dict:
        """One pass of the trainer's `step`, with `fraction` of the budget spent: the values to log. Raises
        TrainingDiverged at the first non-finite term."""
        indices = epoch_batch(self.data.train, self.state.step, self.batch_size, self.seed)
        batch = self.data.batch(indices, self.generator, str(self.accelerator.device))
        batch |= {"step": self.state.step, "fraction": fraction}
        logged = {}
        for role, losses, facts in self.distillation.step(batch):
            logged |= {f"{role}/{k}": v for k, v in facts.items()}
            if not losses:
                continue
            for term, value in losses.items():
                logged[f"{role}/{term}"] = float(value.detach())
                if not math.isfinite(logged[f"{role}/{term}"]):
                    raise TrainingDiverged(
                        f"step {self.state.step}: the {role}'s {term} loss is {logged[f'{role}/{term}']}; "
                        f"the last checkpoint in {self.out} is kept. Lower the learning rate (-O lr=...) and --resume."
                    )
            optimizer = self.optimizers[role]
            for group in optimizer.param_groups:
                group["lr"] = self.distillation.learning_rates[role] * scale
            self.accelerator.backward(sum(losses.values()))
            logged[f"{role}/grad_norm"] = float(self.accelerator.clip_grad_norm_(self.parameters[role], self.clip))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if role == "student":
                update_ema(
                    self.distillation.ema, self.accelerator.unwrap_model(self.distillation.networks["student"]), self.distillation.ema_decay
                )
                self.state.updates += 1
        return logged

    def held_out(self) -> dict:
        """The trainer's `evaluate` on the held-out items, with the same draws every time."""
        if not hasattr(self.distillation, "evaluate") or len(self.data.held_out) == 0:
            return {}
        batch = self.data.batch(self.data.held_out[:128], torch.Generator().manual_seed(0), str(self.accelerator.device))
        return {f"evaluate/{k}": v for k, v in self.distillation.evaluate(batch).items()}

    def run(self, budget: Budget, progress, log_every: int = 10, evaluate_every: int = 50, checkpoint_minutes: float = 5.0) -> None:
        started, before, saved = time.perf_counter(), self.state.seconds, time.perf_counter()
        with open(self.out / "log.jsonl", "a", encoding="utf-8") as log, Interruption() as interruption:
            while (fraction := budget.fraction(self.state.seconds, self.state.step)) < 1:
                scale = learning_rate_scale(fraction, self.state.step)
                logged = self.one_step(scale, fraction)
                self.state.step += 1
                self.state.seconds = before + time.perf_counter() - started
                if self.state.step % evaluate_every == 0:
                    logged |= self.held_out()
                if self.state.step % log_every == 0 or self.state.step == 1 or any(k.startswith("evaluate/") for k in logged):
                    line = {
                        "step": self.state.step,
                        "seconds": round(self.state.seconds, 2),
                        "lr_scale": round(scale, 5),
                        **{k: round(v, 6) for k, v in logged.items()},
                    }
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                progress("train", self.state.step, budget, self.state.seconds, logged)
                if interruption.signal is not None or time.perf_counter() - saved > 60 * checkpoint_minutes:
                    self.save()
                    saved = time.perf_counter()
                interruption.act()
        self.save()

    def tensors(self) -> dict:
        """Trainable tensors by role, and the EMA network."""
        groups = {role: dict(enumerate(p.detach() for p in parameters)) for role, parameters in self.parameters.items()}
        groups["ema"] = dict(enumerate(self.distillation.ema.parameters()))
        return groups

    def save(self) -> None:
        state = asdict(self.state) | {"memory": getattr(self.distillation, "memory", None)}
        checkpoint.save(self.out / "checkpoint", self.tensors(), self.optimizers, self.generator, state)

    def resume(self) -> None:
        state = checkpoint.load(self.out / "checkpoint", self.tensors(), self.optimizers, self.generator)
        memory = state.pop("memory", None)
        if memory is not None:
            self.distillation.memory = memory
        self.state = State(**state)
