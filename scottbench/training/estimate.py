"""The work of `scottbench train NAME --dry-run`: the size and the cost of a training, from a few timed steps in a temporary folder."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from scottbench.models.diffusion_model import DiffusionModel
from scottbench.registry.nouns import Items
from scottbench.store.assets import gather
from scottbench.training.choices import TrainChoices
from scottbench.training.data import (
    Data,
    Encoding,
    Maker,
    chosen_kind,
    empty_prompt,
    encode_rows,
    encoded_folder,
    held_out_of,
    is_whole,
    open_data,
    read_back,
)
from scottbench.training.folder import check_folder
from scottbench.training.loop import Loop
from scottbench.training.memory import NotPredicted, UpdateCost
from scottbench.training.prediction import blank_teacher, count_update
from scottbench.training.settings import Budget
from scottbench.training.train import configuration, make_loop, on_device, open_accelerator, open_items, open_teacher

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scottbench.registry.loader import Plugins

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of the budget at which a step is timed: a training with stages has steps of several kinds."""
ENOUGH = 60.0
"""Seconds of timed steps after which no further one is made."""


@dataclass(frozen=True)
class TrainEstimate:
    """The size of a training and its cost."""

    teacher: str
    """Digest of the model's weights."""
    items: int
    held_out: int
    micro_batch_size: int
    parameters: dict[str, int]
    """Role -> number of parameters that are trained."""
    encoding: float | None
    """Seconds to encode the training split; None where that is done."""
    times: list[float]
    """Seconds of each timed step."""
    steps: int
    seconds: float
    memory: UpdateCost | None = None
    """The cost of one micro-batch, counted without numbers; None where that cannot be."""
    not_counted: str = ""
    """Why it cannot."""
    kind: str = "both"
    """The part of the training split that is kept encoded; see `TrainSettings.cache`."""


def estimate(plugins: Plugins, choices: TrainChoices) -> TrainEstimate:
    """Open everything that the training would, and time a few steps of it; nothing is written but in a temporary folder that is gone
    afterwards. Raises what `train` raises before its first step."""
    accelerator = open_accelerator(choices.settings, choices.device, choices.request.tracker, choices.out)
    choices = on_device(choices, accelerator)
    found = gather({"model": lambda: open_teacher(plugins, choices), "items": lambda: open_items(plugins, choices)})
    model, items = found["model"], found["items"]
    check_folder(choices.out, configuration(choices, model, items, accelerator), choices.request.resume)
    held_out = held_out_of(len(items.ids), choices.settings.batch_size)
    data, encoding = small_data(choices, model, items)
    with tempfile.TemporaryDirectory(prefix="scottbench-") as folder:
        elsewhere = dataclasses.replace(choices, out=Path(folder))
        loop = make_loop(plugins, elsewhere, model, data, accelerator)
        times = timed_steps(loop)
    steps, seconds = whole_training(choices.budget, times, round(loop.model.passes / loop.state.step))
    memory, reason = counted(plugins, choices, accelerator)
    parameters = {role: sum(p.numel() for p in parameters) for role, parameters in loop.parameters.items()}
    return TrainEstimate(
        model.digest, len(items.ids), held_out, loop.micro_batch_size, parameters, encoding, times, steps, seconds,
        memory, reason, chosen_kind(choices.settings.cache, model, items))


def counted(plugins: Plugins, choices: TrainChoices, accelerator: Accelerator) -> tuple[UpdateCost | None, str]:
    """Count the memory of one micro-batch, or say why that cannot be."""
    model = blank_teacher(plugins, choices)
    if model is None:
        return None, "the configs of its model are not known"
    try:
        return count_update(plugins, choices, model, accelerator.num_processes, accelerator.mixed_precision), ""
    except NotPredicted as error:
        return None, str(error)


def small_data(choices: TrainChoices, model: DiffusionModel, items: Items) -> tuple[Data, float | None]:
    """Open the encoded training split, or encode one batch of it in memory: then the seconds that all of it would take come second."""
    n, settings, batch_size = len(items.ids), choices.settings, choices.settings.batch_size
    how = Encoding(chosen_kind(settings.cache, model, items), offload=settings.offload)
    if how.kind == "none":
        return open_data(model, items, batch_size, settings.seed, lambda *event: None, how), None
    if is_whole(encoded_folder(model, items, how.kind), n, how.kind):
        return read_back(model, items, held_out_of(n, batch_size), settings.seed, how), None
    index = range(batch_size)
    started = time.perf_counter()
    rows, _ = encode_rows(model, items, index, how.kind)
    seconds = (time.perf_counter() - started) * n / batch_size
    maker = None if "text" in rows else Maker(model, items.prompts, how.offload)
    return Data(rows["latents"], rows.get("text"), empty_prompt(model), torch.arange(batch_size), torch.arange(0), rows.get("pooled"),
                maker), seconds


def timed_steps(loop: Loop) -> list[float]:
    """Make a step that is not timed, then one at each part of the budget; return the seconds of each."""
    times: list[float] = []
    for position, fraction in enumerate((0.0, *FRACTIONS)):
        started = time.perf_counter()
        loop.one_step(fraction)
        loop.state.step += 1
        if position > 0:
            times.append(time.perf_counter() - started)
        if position > 0 and sum(times) > ENOUGH:
            break
    return times


def whole_training(budget: Budget, times: list[float], passes: int) -> tuple[int, float]:
    """Return (steps, seconds) of a training within the budget, each part of which has steps like the one that was timed there.
    passes: of a mean step."""
    mean = sum(times) / len(times)
    if budget.passes is not None:
        by_passes = max(1, budget.passes // max(1, passes))
        return whole_training(Budget(budget.minutes, min(by_passes, budget.max_steps or by_passes)), times, passes)
    if budget.minutes is None:
        steps = 0 if budget.max_steps is None else budget.max_steps
        return steps, steps * mean
    per_second = sum(1 / seconds for seconds in times) / len(times)
    steps = max(1, round(60 * budget.minutes * per_second))
    if budget.max_steps is not None and budget.max_steps * mean < 60 * budget.minutes:
        return budget.max_steps, budget.max_steps * mean
    return steps, 60 * budget.minutes
