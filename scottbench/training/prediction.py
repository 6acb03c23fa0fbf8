"""The cost of a training told from configs alone, before weights and data are here: memory, FLOPs, time, disk, what is to be fetched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scottbench.errors import MissingAsset
from scottbench.models.blank import blank_of, text_width, tokens_of
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.probe import Needs, Speed, needs, speed
from scottbench.plan.inputs import model_name
from scottbench.store.folder import CHUNK
from scottbench.training.choices import TrainChoices
from scottbench.training.context import Context
from scottbench.training.data import SMALL
from scottbench.training.memory import NotPredicted, UpdateCost, update_cost
from scottbench.training.settings import FORMATS, WORDS
from scottbench.training.sizes import rows_at_once

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins


@dataclass(frozen=True)
class Prediction:
    """The cost of a training that was not begun."""

    missing: str
    """All that has to be fetched or made first, as planning tells it."""
    processes: int
    micro_batch_size: int
    items: int | None
    """Items of the training split; None where nobody knows before it is here."""
    update: UpdateCost | None
    """One micro-batch on one process; None where the trainer's step cannot be counted."""
    reason: str
    """Why it cannot."""
    mixed: str
    needs: Needs
    speed: Speed
    update_flops: int
    """One update, on one process."""
    steps: int
    seconds: float
    """The whole training; 0.0 where it is not known."""
    encoding: float | None
    """Seconds to encode the training split."""
    encoded_bytes: int | None
    checkpoint_bytes: int
    student_bytes: int

    @property
    def look_bytes(self) -> int:
        """Return the peak bytes of encoding the split, or decoding a point of the curve, on top of all networks in float32."""
        return max(self.needs.encode_bytes, self.needs.decode_bytes, self.needs.unet_bytes)


def blank_teacher(plugins: Plugins, choices: TrainChoices) -> DiffusionModel | None:
    """Make the networks of a training's teacher without numbers; None where its configs are not known."""
    return blank_of(plugins, model_name(choices.preset, choices.request))


def mixed_of(choices: TrainChoices) -> str:
    """Return accelerate's word for the precision of a training: of one on a GPU where the preset takes one if there is one, wherever it is
    told. Raises UsageError as `TrainSettings.mixed_precision`."""
    settings = choices.settings
    if choices.device == "cpu" and choices.request.device == choices.preset.device == "auto":
        return {"auto": "bf16", **WORDS}[settings.precision]
    return settings.mixed_precision(choices.device)


def count_update(plugins: Plugins, choices: TrainChoices, model: DiffusionModel, processes: int, mixed: str) -> UpdateCost:
    """Count one micro-batch of a training. model: of `blank_teacher`. Raises NotPredicted, or UsageError for a batch that cannot be cut."""
    size = choices.settings.micro_batch_size(processes)
    context = Context(model, "meta", find_method=lambda name: plugins.find("method", name).noun)
    return update_cost(context, choices.trainer, choices.options, choices.settings, size, mixed)


def predict(plugins: Plugins, choices: TrainChoices, missing: MissingAsset) -> Prediction | None:
    """Tell what a training will cost whose weights or data are not here; None where nothing is known of its teacher. Raises UsageError."""
    model = blank_teacher(plugins, choices)
    if model is None:
        return None
    settings, processes, mixed = choices.settings, choices.processes, mixed_of(choices)
    size = settings.micro_batch_size(processes)
    parts = needs(model, rows_at_once(model.latent_shape[1:], CHUNK), 1)
    rate = speed(model, choices.device, "float32" if choices.device == "cpu" else FORMATS[mixed], parts.unet_flops)
    update, reason = None, ""
    try:
        update = count_update(plugins, choices, blank_teacher(plugins, choices) or model, processes, mixed)
    except NotPredicted as error:
        reason = str(error)
    flops = 0 if update is None else update.flops * settings.accumulate
    steps, seconds = whole(choices, flops / rate.flops)
    n = choices.data.dataset.sizes.get("train")
    each = row_bytes(model)
    if settings.cache == "latents" or (settings.cache == "auto" and n is not None and n * each > SMALL):
        each = math.prod(model.latent_shape) * 2
    return Prediction(
        str(missing), processes, size, n, update, reason, mixed, parts, rate, flops, steps, seconds,
        None if n is None else n * (parts.encode_flops + parts.text_flops) / rate.flops, None if n is None else n * each,
        0 if update is None else kept_bytes(update, model), 2 * sum(p.numel() for p in model.unet.parameters()))


def whole(choices: TrainChoices, each: float) -> tuple[int, float]:
    """Return (updates, seconds) of a training whose updates take `each` seconds; (0, 0.0) where neither is known."""
    budget = choices.budget
    if each <= 0:
        return budget.max_steps or 0, 0.0 if budget.minutes is None else 60 * budget.minutes
    limits = [budget.max_steps] if budget.max_steps is not None else []
    limits += [int(60 * budget.minutes / each)] if budget.minutes is not None else []
    steps = min(limits) if limits else 0
    return steps, steps * each


def row_bytes(model: DiffusionModel) -> int:
    """Count the bytes of one item of an encoded training split: latents and hidden states in float32."""
    channels, height, width = model.latent_shape
    return 4 * (channels * height * width + tokens_of(model) * text_width(model))


def kept_bytes(update: UpdateCost, model: DiffusionModel) -> int:
    """Count the bytes of a checkpoint: trained weights, moments, the average, and a target network as large as the student."""
    trained = sum(update.trained.values())
    return 4 * trained + update.moments + update.average + 4 * update.trained.get("student", 0)
