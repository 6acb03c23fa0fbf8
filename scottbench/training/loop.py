"""The training loop: data order, learning rate, one step of a trainer after another, log, checkpoints, interruption.

A trainer yields (role, losses, facts) and the loop minimises their sum for that role's network before it resumes, so that
adversarial methods read top to bottom. A step may run as several micro-batches, one after another or on several processes;
each waits at its yield until all have come there, and the role is updated once with the mean of their gradients.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from scottbench.errors import TrainingDiverged
from scottbench.training import checkpoint
from scottbench.training.data import Data, epoch_batch
from scottbench.training.distillation import update_ema
from scottbench.training.distributed import agree, average_gradients, full, is_split, total
from scottbench.training.folder import forget_lines_after
from scottbench.training.settings import Budget, Settings, learning_rate_scale, shard_seed
from scottbench.training.signals import Interruption

LOG_EVERY, HELD_OUT_EVERY, CHECKPOINT_MINUTES, CLIP = 10, 50, 5.0, 1.0


@dataclass
class State:
    """Where a training stands; what a checkpoint holds beside networks and optimizers."""

    step: int = 0
    updates: int = 0
    """Of the student; fewer than steps where a trainer has steps that make data."""
    seconds: float = 0.0
    """Of training; points of the metric curve and checkpoints do not count."""
    evaluations: int = 0
    """Forward passes so far of any U-Net, in images, of all processes."""
    best: float | None = None
    """Best value of the curve's first metric, and the step it was at."""
    best_step: int | None = None
    since_best: int = 0
    """Points of the curve since then."""
    scaler: dict | None = None
    """Of float16's loss scale."""


@dataclass
class MicroBatch:
    """A trainer's `step` on one part of the batch, standing at a loss of `role` or finished."""

    step: Iterator
    role: str | None = None
    finished: bool = False


class Loop:
    """One training: networks, optimizers, state; `run` until the budget is spent."""

    def __init__(self, distillation, data: Data, accelerator, out: Path, settings: Settings, device: str):
        self.distillation, self.data, self.accelerator = distillation, data, accelerator
        self.out, self.settings, self.device = out, settings, device
        self.shard_size = settings.shard_size(accelerator.num_processes)
        self.state = State()
        # adversaries first: the student's loss is made with them
        self.roles = sorted(distillation.networks, key=lambda role: (role == "student", role))
        self.parameters = {r: [p for p in net.parameters() if p.requires_grad] for r, net in distillation.networks.items()}
        self.optimizers = {role: accelerator.prepare(self.make_optimizer(role)) for role in distillation.networks}

    def make_optimizer(self, role: str) -> torch.optim.Optimizer:
        d = self.distillation
        betas = d.betas.get(role, (0.9, 0.999))
        parameters = self.parameters[role]
        # fused: one pass over the memory, a quarter of the time on a CPU, of one iteration of CD 4 %; not for split tensors on every device
        fused = not is_split(parameters[0])
        return torch.optim.AdamW(parameters, lr=d.learning_rates[role], betas=betas, weight_decay=0.0, fused=fused)

    # --- one step ----------------------------------------------------------------------------------------------------

    def one_step(self, fraction: float) -> dict[str, float]:
        """One pass of the trainer's `step`: the values to log, means over this process's micro-batches. Raises
        TrainingDiverged at the first term or gradient that is not finite."""
        torch.manual_seed(shard_seed(self.settings.seed, self.state.step, -1 - self.accelerator.process_index))
        running = [MicroBatch(self.distillation.step(batch)) for batch in self.batches(fraction)]
        scale, logged = learning_rate_scale(fraction, self.state.step), {}
        while True:
            for micro in running:
                if micro.role is None and not micro.finished:
                    self.advance(micro, logged)
            counts = total(self.accelerator, [sum(micro.role == role for micro in running) for role in self.roles])
            role, count = next(((r, n) for r, n in zip(self.roles, counts, strict=True) if n), (None, 0))
            if role is None:
                return {key: sum(values) / len(values) for key, values in logged.items()}
            logged.setdefault(f"{role}/grad_norm", []).append(self.update(role, count, scale))
            for micro in running:
                if micro.role == role:
                    micro.role = None

    def batches(self, fraction: float) -> Iterator[dict]:
        """This process's micro-batches of the step, each with the draws of its own generator."""
        indices = epoch_batch(self.data.train, self.state.step, self.settings.batch_size, self.settings.seed)
        first = self.accelerator.process_index * self.settings.accumulate
        for shard in range(first, first + self.settings.accumulate):
            part = indices[shard * self.shard_size : (shard + 1) * self.shard_size]
            generator = torch.Generator().manual_seed(shard_seed(self.settings.seed, self.state.step, shard))
            yield self.data.batch(part, self.device) | {"generator": generator, "step": self.state.step, "fraction": fraction}

    def advance(self, micro: MicroBatch, logged: dict[str, list[float]]) -> None:
        """To the micro-batch's next loss, whose gradient is added to what its role has."""
        losses: dict = {}
        while not losses:  # a yield without losses says something to log
            with self.accelerator.autocast():
                micro.role, losses, facts = next(micro.step, (None, {}, {}))
            if micro.role is None:
                micro.finished = True
                return
            for name, value in facts.items():
                logged.setdefault(f"{micro.role}/{name}", []).append(value)
        for term, value in losses.items():
            number = float(value.detach())
            logged.setdefault(f"{micro.role}/{term}", []).append(number)
            self.check_finite(micro.role, f"{term} loss", number)
        # a split student's graph ends at other tensors than its parameters
        split = is_split(self.parameters[micro.role][0])
        self.accelerator.backward(sum(losses.values()), inputs=None if split else self.parameters[micro.role])

    def update(self, role: str, count: int, scale: float) -> float:
        """One update of a role's network with the mean gradient of `count` micro-batches; the gradient's norm before clipping."""
        optimizer = self.optimizers[role]
        average_gradients(self.accelerator, self.parameters[role], count)
        for group in optimizer.param_groups:
            group["lr"] = self.distillation.learning_rates[role] * scale
        norm = float(full(self.accelerator.clip_grad_norm_(self.parameters[role], CLIP)))
        if self.accelerator.scaler is None:  # float16 leaves such a step out and lowers its loss scale
            self.check_finite(role, "gradient", norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.state.updates += role == "student"
        if role == "student" and self.distillation.ema is not None:
            update_ema(self.distillation.ema, self.distillation.networks["student"], self.distillation.ema_decay)
        return norm

    def check_finite(self, role: str, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise self.diverged(self.state.step, f"the {role}'s {what} is {value}")

    def diverged(self, step: int, what: str) -> TrainingDiverged:
        """The error for a training that went wrong in a step, numbered from 0; says what is left and how to go on."""
        kept, best = checkpoint.step_of(self.out / "checkpoint"), self.out / "best"
        rescue = "No checkpoint had been made yet." if kept is None else (
            f"The checkpoint of step {kept} is kept in {self.out}: export it with --resume --max-steps {kept}.")
        if (best / "student.json").is_file():
            rescue += f" The best student so far is in {best}."
        return TrainingDiverged(f"step {step}: {what}. {rescue} Or train anew with another --out and a lower learning rate (-O lr=...).")

    # --- the whole training ------------------------------------------------------------------------------------------

    def run(self, budget: Budget, progress: Callable, evaluations: Callable[[], int], curve=None, keep_best: Callable | None = None):
        """Until the budget is spent, the curve's patience is, or a signal comes.

        evaluations: counts forward passes so far. curve: () -> {label: value}, with `label` and `better`; keep_best is called
        where it has its best value so far, if that is to be exported.
        """
        before, saved = self.state.evaluations, time.perf_counter()
        with open(self.out / "log.jsonl", "a", encoding="utf-8") as log, Interruption() as interruption:
            while (fraction := budget.fraction(self.state.seconds, self.state.step)) < 1 and not self.patience_is_spent():
                started = time.perf_counter()
                logged = self.one_step(fraction)
                self.state.step += 1
                if self.state.step % HELD_OUT_EVERY == 0:
                    logged |= self.held_out()
                self.state.seconds += time.perf_counter() - started
                self.state.evaluations = before + evaluations() * self.accelerator.num_processes
                if curve is not None and self.state.step % self.settings.evaluate_every == 0:
                    logged |= self.point(curve, keep_best)
                self.log(log, logged, learning_rate_scale(fraction, self.state.step - 1))
                progress("train", self.state.step, budget, self.state.seconds, logged)
                due = time.perf_counter() - saved > 60 * CHECKPOINT_MINUTES
                self.state.seconds, number, due = agree(self.accelerator, [self.state.seconds, interruption.signal, due])
                if number or due:
                    self.save()
                    saved = time.perf_counter()
                interruption.act(int(number))
        self.save()

    def log(self, stream, logged: dict[str, float], scale: float) -> None:
        """A JSON line every few steps, and where there is something to say about held-out items."""
        rare = any(key.startswith(("evaluate/", "curve/")) for key in logged)
        if not self.accelerator.is_main_process or not (rare or self.state.step % LOG_EVERY == 0 or self.state.step == 1):
            return
        line = {"step": self.state.step, "seconds": round(self.state.seconds, 2), "lr_scale": round(scale, 5)}
        stream.write(json.dumps(line | {k: round(v, 6) for k, v in logged.items()}) + "\n")
        stream.flush()
        self.accelerator.log(logged, step=self.state.step)

    def held_out(self) -> dict[str, float]:
        """The trainer's `evaluate` on the held-out items, with the same draws every time."""
        if not hasattr(self.distillation, "evaluate") or len(self.data.held_out) == 0:
            return {}
        batch = self.data.batch(self.data.held_out[:128], self.device) | {"generator": torch.Generator().manual_seed(0)}
        with self.accelerator.autocast():
            return {f"evaluate/{k}": v for k, v in self.distillation.evaluate(batch).items()}

    def point(self, curve, keep_best: Callable) -> dict[str, float]:
        """A point of the metric curve; every process computes it, so that all of them stop alike."""
        values, state = curve(), self.state
        values = dict(zip(values, agree(self.accelerator, list(values.values())), strict=True))
        state.since_best += 1
        if state.best is None or curve.better(values[curve.label], state.best):
            state.best, state.best_step, state.since_best = values[curve.label], state.step, 0
            if self.settings.export == "best":
                keep_best()
        return {f"curve/{label}": value for label, value in values.items()}

    def patience_is_spent(self) -> bool:
        return self.settings.patience is not None and self.state.since_best >= self.settings.patience

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, dict[int, torch.Tensor]]:
        """Trainable tensors by role, and the EMA network's."""
        groups = {role: dict(enumerate(p.detach() for p in parameters)) for role, parameters in self.parameters.items()}
        if self.distillation.ema is not None:
            groups["ema"] = dict(enumerate(p.detach() for p in self.distillation.ema.parameters()))
        return groups

    def memory(self) -> dict[str, dict]:
        """What the trainer itself has to remember, if it does."""
        return {"memory": self.distillation.memory} if hasattr(self.distillation, "memory") else {}

    def save(self) -> None:
        self.state.scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
        flat = checkpoint.flatten(self.tensors(), self.optimizers)
        if broken := sorted({name.split("/")[0] for name, tensor in flat.items() if not torch.isfinite(tensor).all()}):
            # the last update did it; what is kept must not be written over
            raise self.diverged(self.state.step - 1, f"weights or moments are no longer finite ({', '.join(broken)})")
        if self.accelerator.is_main_process:
            checkpoint.save(self.out / "checkpoint", flat, asdict(self.state) | self.memory())
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        state = checkpoint.load(self.out / "checkpoint", self.tensors(), self.optimizers)
        if "memory" in state:
            self.distillation.memory = state.pop("memory")
        self.state = State(**state)
        if self.state.scaler is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(self.state.scaler)
        if self.accelerator.is_main_process:
            forget_lines_after(self.out, self.state.step)
