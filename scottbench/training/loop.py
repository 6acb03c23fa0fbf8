"""The training loop: data order, learning rate, one step of a trainer after another, log, checkpoints, interruption.

A trainer yields (role, losses, facts) and the loop minimises their sum for that role's network before it resumes, so that
adversarial methods read top to bottom. A step may run as several micro-batches, one after another or on several processes;
each waits at its yield until all have come there, and the role is updated once with the mean of their gradients.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import torch

from scottbench.errors import OutOfMemory, TrainingDiverged, UsageError, lack_of_memory
from scottbench.registry.nouns import Batch, Distillation
from scottbench.store.files import as_read
from scottbench.training import checkpoint
from scottbench.training.average import Average
from scottbench.training.contract import check_gradient, checked_step, checked_yield
from scottbench.training.data import Data, Encoded, epoch_batch
from scottbench.training.distillation import update_ema
from scottbench.training.distributed import agree, average_gradients, full, is_split, total
from scottbench.training.feed import Feed
from scottbench.training.folder import Place, forget_lines_after, kept_step
from scottbench.training.frozen import Frozen
from scottbench.training.ledger import Ledger
from scottbench.training.optimizers import make_optimizer
from scottbench.training.settings import Budget, TrainSettings, learning_rate_scale, micro_batch_seed
from scottbench.training.signals import Interruption
from scottbench.training.sizes import rows_at_once, weighted_means

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scottbench.models.diffusion_model import DiffusionModel, UNet

LOG_EVERY, HELD_OUT_EVERY, CLIP = 10, 50, 1.0
HELD_OUT_ITEMS = 128
"""Held-out items that the trainer's own `evaluate` looks at."""


@dataclass
class State:
    """The point that a training has reached; a checkpoint holds it beside networks and optimizers."""

    step: int = 0
    updates: int = 0
    """Updates of the student; fewer than steps where a trainer has steps that make data."""
    seconds: float = 0.0
    """Time spent in training; points of the metric curve and checkpoints do not count."""
    evaluations: int = 0
    """Forward passes so far of any U-Net, in images, of all processes."""
    passes: int = 0
    """The same with backward passes counted in: what the training has spent, on whatever machine."""
    best: float | None = None
    """Best value of the curve's first metric, and the step it was at."""
    best_step: int | None = None
    since_best: int = 0
    """Points of the curve since then."""
    scaler: dict | None = None
    """State of float16's loss scale."""
    place: dict | None = field(default=None, metadata=checkpoint.LATER)
    """Place in a stream of items, of all processes; None where the step alone says it."""


@dataclass
class MicroBatch:
    """A trainer's `step` on one part of the batch, standing at a loss of `role` or finished."""

    step: Iterator[tuple[str, dict[str, torch.Tensor], Mapping[str, float | torch.Tensor]]]
    role: str | None = None
    finished: bool = False


class Curve(Protocol):
    """The metric curve of a training, as `scottbench.training.validation.Validation` makes it."""

    @property
    def label(self) -> str:
        """Name the metric that decides which student is best."""

    def __call__(self) -> dict[str, float]: ...

    def better(self, value: float, than: float) -> bool:
        """Compare two values of the metric that decides."""


class Loop:
    """One training: networks, optimizers, state; `run` goes on until the budget is spent."""

    def __init__(
        self, distillation: Distillation, data: Data, accelerator: Accelerator, out: Path, settings: TrainSettings, model: DiffusionModel
    ):
        self.distillation, self.data, self.accelerator, self.frozen = distillation, data, accelerator, Frozen(distillation)
        self.out, self.settings, self.model, self.device = out, settings, model, model.device
        self.begun = False
        """A network was updated in the step that runs."""
        self.micro_batch_size = settings.micro_batch_size(accelerator.num_processes)
        self.state, self.place, self.writer = State(), Place(out), checkpoint.Writer()
        # adversaries first: a micro-batch with nothing for them may stand at the student's next loss already
        self.roles = sorted(distillation.networks, key=lambda role: (role == "student", role))
        self.parameters: dict[str, list[torch.nn.Parameter]] = {
            role: [p for p in network.parameters() if p.requires_grad] for role, network in distillation.networks.items()}
        self.optimizers = {role: accelerator.prepare(self.make_optimizer(role)) for role in distillation.networks}
        self.average = None if settings.average is None else Average(self.parameters["student"], settings.average)
        if data.stream is not None:
            lanes, first = settings.accumulate * accelerator.num_processes, settings.accumulate * accelerator.process_index
            data.stream.cut(lanes, self.micro_batch_size, first)
        on_cpu = torch.device(self.device).type == "cpu"
        self.feed, self.ledger = Feed(data, self.device, self.parts), Ledger(self.refuse, at_once=on_cpu)
        self.settle_every = 1 if on_cpu else LOG_EVERY
        """Steps between two looks at what was noted; a GPU would have nothing to do meanwhile, a CPU is where the numbers are."""

    def make_optimizer(self, role: str) -> torch.optim.Optimizer:
        """Make AdamW for the parameters of a role, with the trainer's learning rate and betas."""
        d = self.distillation
        betas = d.betas.get(role, (0.9, 0.999))
        parameters = self.parameters[role]
        return make_optimizer(self.settings.optimizer, parameters, d.learning_rates[role], betas)

    # --- one step ----------------------------------------------------------------------------------------------------

    def one_step(self, fraction: float) -> dict[str, float]:
        """Run the trainer's `step` once and return the values to log, means over this process's micro-batches. Raises
        TrainingDiverged at the first term or gradient that is not finite."""
        self.queue_step(fraction)
        return self.ledger.settle()

    def queue_step(self, fraction: float) -> None:
        """Run the trainer's `step` once; the values to log go to the ledger, where nobody has looked at them yet."""
        torch.manual_seed(micro_batch_seed(self.settings.seed, self.state.step, -1 - self.accelerator.process_index))
        steps = (self.distillation.step(batch) for batch in self.batches(fraction))
        running = [MicroBatch(checked_step(self.distillation, step)) for step in steps]
        scale = learning_rate_scale(self.settings.lr_schedule, fraction, self.state.step)
        while True:
            for micro in running:
                if micro.role is None and not micro.finished:
                    self.advance(micro)
            counts = total(self.accelerator, [sum(micro.role == role for micro in running) for role in self.roles])
            role, count = next(((r, n) for r, n in zip(self.roles, counts, strict=True) if n), (None, 0))
            if role is None:
                return
            self.update(role, count, scale)
            for micro in running:
                if micro.role == role:
                    micro.role = None

    def parts(self, step: int) -> list[torch.Tensor]:
        """Return the indices of this process's micro-batches of a step, (N,) int64 each."""
        if self.data.stream is not None:
            return self.data.stream.parts(step, self.settings.accumulate)
        indices = epoch_batch(self.data.train, step, self.settings.batch_size, self.settings.seed)
        first, size = self.accelerator.process_index * self.settings.accumulate, self.micro_batch_size
        return [indices[number * size : (number + 1) * size] for number in range(first, first + self.settings.accumulate)]

    def batches(self, fraction: float) -> Iterator[Batch]:
        """Yield this process's micro-batches of the step, each with a generator of its own."""
        first = self.accelerator.process_index * self.settings.accumulate
        for number, rows in enumerate(self.feed.batches(self.state.step), start=first):
            yield self.seeded(rows, micro_batch_seed(self.settings.seed, self.state.step, number), fraction)

    def batch(self, indices: torch.Tensor, seed: int, fraction: float) -> Batch:
        """Make the batch of indices (N,), whose draws come from the seed."""
        return self.seeded(self.data.batch(indices, self.device), seed, fraction)

    def seeded(self, rows: Encoded, seed: int, fraction: float) -> Batch:
        """Make a batch of rows, whose draws come from the seed."""
        return {**rows, "generator": torch.Generator().manual_seed(seed), "step": self.state.step, "fraction": fraction}

    def advance(self, micro: MicroBatch) -> None:
        """Run the trainer's step up to its next loss and backpropagate it; gradients accumulate on that role's parameters."""
        losses: dict[str, torch.Tensor] = {}
        step = self.state.step
        while not losses:  # a yield without losses says something to log
            with self.accelerator.autocast():
                reached = next(micro.step, None)
            if reached is None:
                micro.role, micro.finished = None, True
                return
            role, losses, facts = checked_yield(self.distillation, reached, micro.step)
            for name, fact in facts.items():
                self.ledger.note(step, f"{role}/{name}", fact)
        micro.role = role
        for term, loss in losses.items():
            self.ledger.note(step, f"{role}/{term}", loss, f"the {role}'s {term} loss")
        check_gradient(self.distillation, role, losses, micro.step)
        # a split student's graph ends at other tensors than its parameters
        split = is_split(self.parameters[role][0])
        self.accelerator.backward(sum(losses.values()), inputs=None if split else self.parameters[role])

    def update(self, role: str, count: int, scale: float) -> None:
        """Update a role's network with the mean gradient of `count` micro-batches; note the gradient's norm before clipping."""
        optimizer = self.optimizers[role]
        average_gradients(self.accelerator, self.parameters[role], count)
        for group in optimizer.param_groups:
            group["lr"] = self.distillation.learning_rates[role] * scale
        norm = full(self.accelerator.clip_grad_norm_(self.parameters[role], CLIP))
        # float16 leaves a step that is not finite out and lowers its loss scale
        self.ledger.note(self.state.step, f"{role}/grad_norm", norm, f"the {role}'s gradient" if self.accelerator.scaler is None else None)
        self.begun = True
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.state.updates += role == "student"
        if role == "student" and self.distillation.ema is not None:
            update_ema(self.distillation.ema, self.distillation.networks["student"], self.distillation.ema_decay)
        if role == "student" and self.average is not None:
            self.average.update(self.state.updates)

    def refuse(self, step: int, what: str) -> NoReturn:
        """Raise TrainingDiverged, which names role and term."""
        raise self.diverged(step, what)

    def diverged(self, step: int, what: str) -> TrainingDiverged:
        """Return the error for a training that went wrong in a step, numbered from 0: it says what is left and how to go on."""
        self.writer.join()
        kept, best = kept_step(self.out), self.out / "best"
        rescue = "No checkpoint had been made yet." if kept is None else (
            f"The checkpoint of step {kept} is kept in {self.out}: export it with --resume --max-steps {kept}.")
        if (best / "student.json").is_file():
            rescue += f" The best student so far is in {best}."
        return TrainingDiverged(f"step {step}: {what}. {rescue} Or train anew with another --out and a lower learning rate (-O lr=...).")

    # --- the whole training ------------------------------------------------------------------------------------------

    def run(
        self, budget: Budget, progress: Callable[..., None], curve: Curve | None = None, keep_best: Callable[[], None] | None = None
    ) -> None:
        """Train until the budget or the curve's patience is spent, or a signal comes; then save. Raises as `one_step`.

        keep_best: called where the curve has its best value so far, if that is to be exported. Points of the curve and the trainer's
        own look at held-out items cost nothing of the budget.
        """
        saved, self.place = (time.perf_counter(), self.state.step), Place(self.out)
        self.memory()  # what cannot be kept is told now, not at the first checkpoint
        with Interruption() as interruption, self.to_the_end():
            while (fraction := self.spent(budget)) < 1 and not self.patience_is_spent():
                logged = self.fitting(lambda: self.counted_step(fraction))
                if self.state.step % HELD_OUT_EVERY == 0:
                    logged |= self.fitting(self.held_out)
                if curve is not None and self.state.step % self.settings.evaluate_every == 0:
                    logged |= self.fitting(lambda: self.point(curve, keep_best))
                self.log(logged, learning_rate_scale(self.settings.lr_schedule, fraction, self.state.step - 1))
                progress("train", self.state.step, self.spent(budget), self.state.seconds, logged)
                late = self.is_late(*saved)
                self.state.seconds, number, due = agree(self.accelerator, [self.state.seconds, interruption.signal, late])
                if number or due:
                    self.save(wait=bool(number) or self.place.trouble())
                    saved = time.perf_counter(), self.state.step
                interruption.act(int(number))
            self.save()
            interruption.act(int(agree(self.accelerator, [interruption.signal])[0]))

    def fitting(self, do: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return what a function gives. Where memory is not enough for it, raise OutOfMemory: what is trained is saved, unless the step had
        changed a network already, and the line says what to lower."""
        try:
            return do()
        except Exception as error:
            lack = lack_of_memory(error)
            if lack is None:
                raise
        # here the error is gone, and with it the frames that held the memory
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        if self.accelerator.num_processes == 1 and not self.begun and self.state.step:
            self.save()
        self.writer.join()
        kept = kept_step(self.out)
        saved = "No checkpoint had been made yet" if kept is None else f"The checkpoint of step {kept} is kept in {self.out}"
        raise OutOfMemory(f"{lack} in step {self.state.step}. {saved}. {self.settings.what_to_lower()}")

    def spent(self, budget: Budget) -> float:
        """Return the part of the budget that is spent, 0 to 1."""
        return budget.fraction(self.state.seconds, self.state.step, self.state.passes)

    def counted_step(self, fraction: float) -> dict[str, float]:
        """Run one step as `one_step`, and add its time, evaluations and passes to the state."""
        started, evaluations, passes, self.begun = time.perf_counter(), self.model.evaluations, self.model.passes, False
        self.queue_step(fraction)
        state, processes = self.state, self.accelerator.num_processes
        state.step += 1
        self.begun = False
        if self.is_looked_at(state.step):
            self.ledger.settle()
        state.seconds += time.perf_counter() - started
        state.evaluations += (self.model.evaluations - evaluations) * processes
        state.passes += (self.model.passes - passes) * processes
        skipped = {} if self.data.stream is None or not self.data.stream.skipped else {"data/skipped": float(self.data.stream.skipped)}
        return dict(self.ledger.last) | skipped

    def is_looked_at(self, step: int) -> bool:
        """Tell whether the numbers of a step, counted from 1, are looked at, because they are due or will be logged."""
        every = [self.settle_every, LOG_EVERY, HELD_OUT_EVERY, *filter(None, [self.settings.evaluate_every])]
        return step == 1 or any(step % each == 0 for each in every)

    def log(self, logged: dict[str, float], scale: float) -> None:
        """Write a JSON line every few steps, and where there is something to say about held-out items."""
        rare = any(key.startswith(("evaluate/", "curve/")) for key in logged)
        if not self.accelerator.is_main_process or not (rare or self.state.step % LOG_EVERY == 0 or self.state.step == 1):
            return
        state = self.state
        line = {"step": state.step, "seconds": round(state.seconds, 2), "passes": state.passes, "lr_scale": round(scale, 5)}
        self.place.append(line | {k: round(v, 6) for k, v in logged.items()})
        self.accelerator.log(logged, step=self.state.step)

    def held_out(self) -> dict[str, float]:
        """Run the trainer's `evaluate`, if it has one, on the held-out items, with the same draws every time."""
        evaluate = getattr(self.distillation, "evaluate", None)
        if evaluate is None or len(self.data.held_out) == 0:
            return {}
        chosen, found = self.data.held_out[:HELD_OUT_ITEMS], []
        for seed, part in enumerate(chosen.split(rows_at_once(self.data.size, len(chosen)))):
            with self.accelerator.autocast(), self.model.uncounted():
                found.append((len(part), {f"evaluate/{k}": float(v) for k, v in evaluate(self.batch(part, seed, 0.0)).items()}))
        return weighted_means(found)

    def point(self, curve: Curve, keep_best: Callable[[], None] | None) -> dict[str, float]:
        """Compute a point of the metric curve; every process does, so that all of them stop alike."""
        values, state = curve(), self.state
        values = dict(zip(values, agree(self.accelerator, list(values.values())), strict=True))
        state.since_best += 1
        if math.isfinite(values[curve.label]) and (state.best is None or curve.better(values[curve.label], state.best)):
            state.best, state.best_step, state.since_best = values[curve.label], state.step, 0
            if keep_best is not None and self.settings.export == "best":
                keep_best()
        return {f"curve/{label}": value for label, value in values.items()}

    def patience_is_spent(self) -> bool:
        """Tell whether the curve has gone without a better value for as many points as the patience allows."""
        return self.settings.patience is not None and self.state.since_best >= self.settings.patience

    # --- what is exported ----------------------------------------------------------------------------------------------

    def kept(self) -> list[str]:
        """Name the weights that are exported, "average", "ema" or "student"; the second of two goes to a folder of its name."""
        averaged = "average" if self.average is not None else "ema" if self.distillation.ema is not None else "student"
        if self.settings.weights == "student" or averaged == "student":
            return ["student"]
        return [averaged, "student"] if self.settings.weights == "both" else [averaged]

    @contextlib.contextmanager
    def weights(self, name: str) -> Iterator[UNet]:
        """Give the network that holds weights of `kept` within the block; the average is put into theta's own."""
        if name == "ema":
            yield self.distillation.ema
            return
        with self.average.applied() if name == "average" and self.average is not None else contextlib.nullcontext():
            yield self.distillation.networks["student"]

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, dict[int, torch.Tensor]]:
        """Return the trainable tensors by role, and the EMA network's; each of any shape."""
        groups = {role: dict(enumerate(p.detach() for p in parameters)) for role, parameters in self.parameters.items()}
        if self.distillation.ema is not None:
            pairs = zip(self.distillation.ema.parameters(), self.distillation.networks["student"].parameters(), strict=True)
            groups["ema"] = {i: p.detach() for i, (p, q) in enumerate(pairs) if p is not q}  # a LoRA student and its target share a base
        if self.average is not None:
            groups["average"] = dict(enumerate(self.average.tensors))
        return groups

    def memory(self) -> dict[str, Any]:
        """Return {"memory": the things that the trainer itself has to remember}; {} where it has none. Raises UsageError where a checkpoint
        cannot hold them."""
        memory = getattr(self.distillation, "memory", None)
        if memory is None:
            return {}
        try:
            found = as_read({"memory": memory})
            checkpoint.check_memory(found["memory"], {})
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the trainer's memory cannot be kept in a checkpoint: {error}. It has to be a dict of finite JSON values.") from None
        return found

    def is_late(self, seconds: float, step: int) -> bool:
        """Tell whether a checkpoint is due, the last having been made at `seconds` (of the clock) and `step`, or the training is in
        trouble."""
        s = self.settings
        by_time = bool(s.checkpoint_minutes) and time.perf_counter() - seconds > 60 * s.checkpoint_minutes
        by_step = s.checkpoint_steps is not None and self.state.step - step >= s.checkpoint_steps
        return by_time or by_step or self.place.trouble() or self.writer.error is not None

    @contextlib.contextmanager
    def to_the_end(self) -> Iterator[None]:
        """Leave the block only when no checkpoint is being written and no batch is being read."""
        try:
            yield
        finally:
            self.feed.close()
            self.writer.join()

    def save(self, wait: bool = True) -> None:
        """Write a checkpoint; wait: until it is written, else beside the training. Raises TrainingDiverged, and keeps the one before, where
        a tensor is not finite; Incomplete where this or the one before cannot be written."""
        self.ledger.settle()  # bad numbers are told by role and term, before anything is written
        self.writer.wait()  # one copy of the training in the CPU's memory, not two
        main = self.accelerator.is_main_process
        self.state.scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
        self.state.place = self.place_in_stream()
        flat = checkpoint.flatten(self.tensors() | self.frozen.changed(), self.optimizers, main)
        broken = sorted({name.split("/")[0] for name, tensor in flat.items() if not torch.isfinite(tensor).all()})
        if agree(self.accelerator, [bool(broken)])[0]:
            # the last update did it; what is kept must not be written over
            raise self.diverged(self.state.step - 1, f"weights or moments are no longer finite ({', '.join(broken)})")
        if main:
            folder = self.place.to_save_in()
            self.writer.begin(folder / "checkpoint", flat, asdict(self.state) | self.memory())
            if wait:
                self.writer.wait()
                self.place.stop_if_in_trouble(folder, self.state.step)
        if wait:
            self.accelerator.wait_for_everyone()

    def place_in_stream(self) -> dict[str, Any] | None:
        """Return the place of all processes in the stream; None where there is none. Every process must ask."""
        if self.data.stream is None:
            return None
        state = self.data.stream.state(self.state.step)
        first, own = self.data.stream.first, self.settings.accumulate
        mine = [count if first <= lane < first + own else 0 for lane, count in enumerate(state["used"])]
        *used, skipped = total(self.accelerator, [*mine, state["skipped"]])
        return state | {"used": used, "skipped": skipped}

    def resume(self) -> None:
        """Go back to the last checkpoint of the folder. Raises as `scottbench.training.checkpoint.load`."""
        folder = self.out / "checkpoint"
        self.state, memory = checkpoint.load(folder, State, self.tensors(), self.optimizers, self.frozen.tensors())
        trainer: Any = self.distillation  # `memory` and `check_memory` are optional
        try:
            if self.data.stream is not None:
                self.data.stream.resume(self.state.place, self.state.step)
            checkpoint.same_memory(memory, self.memory())
            if memory is not None:
                getattr(trainer, "check_memory", lambda memory: None)(memory)
                trainer.memory = memory
            if self.state.scaler is not None and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(self.state.scaler)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise checkpoint.broken(folder, error) from None
        if self.accelerator.is_main_process:
            forget_lines_after(self.out, self.state.step)
