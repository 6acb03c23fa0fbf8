"""`scottbench train`: opens teacher and data, drives a Trainer through accelerate, exports a student folder."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scottbench.errors import Incomplete, MissingAsset, ScottbenchWarning, UsageError
from scottbench.models.compiled import compile_unet
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.plan.code import host_code, part_code, short_digest
from scottbench.plan.inputs import model_name, open_model
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Distillation, Items
from scottbench.store.environment import flush_denormals, set_tf32
from scottbench.text import one_line
from scottbench.training.choices import TrainChoices, check_processes, choose
from scottbench.training.context import Context, preset_extractor
from scottbench.training.contract import all_networks, built
from scottbench.training.data import Data, Encoding, chosen_kind, held_out_of, open_data
from scottbench.training.distributed import fsdp
from scottbench.training.export import export, export_best
from scottbench.training.folder import begin, check_folder, claimed
from scottbench.training.frozen import halve, put
from scottbench.training.kept import open_or_recall, remember
from scottbench.training.loop import Curve, Loop
from scottbench.training.request import TrainRequest
from scottbench.training.settings import Budget, TrainSettings
from scottbench.training.validation import Validation

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.tracking import GeneralTracker

    from scottbench.registry.loader import Plugins

LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Variables of a launcher of several processes, which accelerate reads."""
ENCODING_HOURS = 12
"""How long other processes wait for the one that encodes the training split."""


def train(plugins: Plugins, request: TrainRequest, progress: Callable[..., None] | None = None) -> Path:
    """Train a student of the preset's model on its dataset's training split, and return the folder that it is exported to.

    progress: called with ("check", done, total), ("encode", done, total) and ("train", step, spent part of the budget, seconds, logged).
    Raises UsageError, MissingAsset, DamagedAsset, Incomplete (Busy where another process trains in the folder) or TrainingDiverged.
    """
    choices = choose(plugins, request)
    accelerator = open_accelerator(choices.settings, choices.device, request.tracker, choices.out)
    choices = on_device(choices, accelerator)
    set_tf32(choices.settings.tf32)
    check_processes(choices, accelerator.num_processes)
    report = progress if progress is not None and accelerator.is_main_process else (lambda *event: None)
    model = open_teacher(plugins, choices)
    with accelerator.main_process_first():  # it looks through the shards, and the others find what it noted
        items = open_items(plugins, choices)
    config = configuration(choices, model, items, accelerator) | {"made_by": made_by(plugins, choices)}
    main = accelerator.is_main_process  # it alone writes, but for pairs and the like of a trainer
    if main:
        check_folder(choices.out, config, request.resume)
    held_out_of(len(items.ids), choices.settings.batch_size)  # too few items are refused before anything is written
    with claimed(choices.out, config, request.resume) if main else contextlib.nullcontext():
        encoding = Encoding(
            config["cache"], accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone, choices.settings.offload
        )
        data = open_data(model, items, choices.settings.batch_size, choices.settings.seed, report, encoding)
        if main and encoding.kind != "none":
            remember(choices.data, items)
        if request.tracker is not None:
            accelerator.init_trackers("scottbench", {k: v for k, v in config.items() if isinstance(v, (int, float, str))})
        loop = make_loop(plugins, choices, model, data, accelerator)
        if request.resume:
            loop.resume()
        curve = Validation(plugins, choices, model, items, loop) if choices.settings.evaluate_every else None
        if main:
            begin(choices.out, config, request.resume)
        run_and_export(loop, config, choices.budget, report, curve)
    return choices.out


def open_accelerator(settings: TrainSettings, device: str, tracker: str | GeneralTracker | None, out: Path) -> Accelerator:
    """Set up accelerate's processes, precision and tracker. Raises UsageError for a launcher's variable that is no number, and UsageError
    or MissingAsset for a tracker it cannot use."""
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState
    from accelerate.tracking import filter_trackers

    for name in LAUNCHERS:
        if not os.environ.get(name, "0").lstrip("-").isdecimal():
            raise UsageError(f"the variable {name} is '{one_line(os.environ[name])}', no whole number. Unset it, or start with a launcher.")
    if tracker is not None:
        try:
            usable = filter_trackers(tracker, str(out))
        except ValueError as error:
            raise UsageError(f"--tracker {tracker}: {error}") from None
        if not usable:
            raise MissingAsset(f"--tracker {tracker}: its package is not installed. Install it with: pip install {tracker}")
    AcceleratorState._reset_state()  # of an earlier training in this process, perhaps with another precision, which is refused otherwise
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=settings.mixed_precision(device),
        log_with=tracker,
        project_dir=str(out),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=datetime.timedelta(hours=ENCODING_HOURS))],
    )


def on_device(choices: TrainChoices, accelerator: Accelerator) -> TrainChoices:
    """Put a training of several processes on each one's device. Raises UsageError for a batch that cannot be cut, before anything
    is opened."""
    choices.settings.micro_batch_size(accelerator.num_processes)
    return dataclasses.replace(choices, device=str(accelerator.device)) if accelerator.num_processes > 1 else choices


def open_teacher(plugins: Plugins, choices: TrainChoices) -> DiffusionModel:
    """Open the preset's model, or the one asked for in its place, in float32. Raises UsageError, MissingAsset or DamagedAsset."""
    request = RunRequest(choices.preset.name, model=choices.request.model, allow_unsafe_checkpoint=choices.request.allow_unsafe_checkpoint)
    in_float32 = dataclasses.replace(choices.preset, dtype="float32")
    return open_model(plugins, in_float32, request, choices.device)[1]


def open_items(plugins: Plugins, choices: TrainChoices) -> Items:
    """Open the training split of the preset's dataset, or of the one asked for; without pictures where it was encoded and they are not here
    any more. Raises UsageError, MissingAsset or DamagedAsset."""
    items = open_or_recall(choices.data)
    for line in getattr(items, "remarks", []):  # what was left out, and why
        warnings.warn(ScottbenchWarning(line), stacklevel=2)
    return items


def configuration(choices: TrainChoices, model: DiffusionModel, items: Items, accelerator: Accelerator) -> dict[str, Any]:
    """Return the facts that a resumed training must share with the one it continues; they also head student.json."""
    settings = choices.settings
    return {
        "trainer": choices.trainer.name,
        "preset": choices.preset.name,
        "options": dataclasses.asdict(choices.options),
        "teacher_digest": model.digest,
        "dataset_digest": items.digest,
        "batch_size": settings.batch_size,
        "micro_batches": settings.accumulate * accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "average": settings.average,
        "lr_schedule": settings.lr_schedule,
        "optimizer": settings.optimizer,
        "frozen": settings.frozen,
        "cache": chosen_kind(settings.cache, model, items),
        "tf32": settings.tf32,
        "compile": settings.compile,
        "seed": settings.seed,
    }


def made_by(plugins: Plugins, choices: TrainChoices) -> dict[str, str]:
    """Return the trainer's package and version, and heads of the digests of all code that makes the student: of plug-ins, of the host."""
    trainer = plugins.of("trainer", choices.trainer)
    used = [trainer, plugins.of("dataset", choices.data.dataset)]
    used += [model] if (model := plugins.named("model", model_name(choices.preset, choices.request))) is not None else []
    host = host_code("students")
    code = {name: digest for name, digest in part_code("students", plugins, used).items() if name not in host}
    lying = [plugin for plugin in plugins.plugins if plugin.name == trainer.plugin and plugin.by_path]
    version = lying[0].version_and_source if lying else trainer.version
    return {"package": trainer.distribution, "version": version, "code": short_digest(code), "host_code": short_digest(host)}


def make_loop(plugins: Plugins, choices: TrainChoices, model: DiffusionModel, data: Data, accelerator: Accelerator) -> Loop:
    """Build the trainer's networks and the loop that trains them. Raises as the trainer."""
    flush_denormals()
    torch.manual_seed(choices.settings.seed)  # LoRA's random A matrices are drawn from the global generator
    context = Context(
        model, choices.device, choices.out, data,
        find_method=lambda name: plugins.find("method", name).noun,
        open_extractor=lambda role: preset_extractor(plugins, choices.preset, role, choices.device),
        scaler=accelerator.scaler,
    )  # fmt: skip
    distillation = built(choices.trainer, context, choices.options)
    prepare(distillation, model, choices.settings, accelerator.num_processes)
    halve(model, distillation, choices.settings.half(accelerator.mixed_precision))
    if choices.settings.offload:
        put(model, "cpu")
    compile_networks(distillation, model, choices.settings.compile)
    return Loop(distillation, data, accelerator, choices.out, choices.settings, model)


def prepare(distillation: Distillation, model: DiffusionModel, settings: TrainSettings, processes: int) -> None:
    """Let the networks save memory and split them over the processes where that is asked for; count their evaluations from zero."""
    student = distillation.networks["student"]
    if settings.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    # of a LoRA student little is trained, and the rest is the teacher
    if settings.fsdp and processes > 1 and not getattr(student, "peft_config", None):
        for network in filter(None, [student, distillation.ema]):
            fsdp(network, processes)
    for network in all_networks(distillation):
        model.count_also(network)
    model.evaluations = model.passes = 0


def compile_networks(distillation: Distillation, model: DiffusionModel, kind: str) -> None:
    """Compile the blocks of every U-Net of a training, each once. Raises UsageError where that cannot be."""
    for network in (model.unet, *all_networks(distillation)):
        compile_unet(getattr(network, "unet", network), kind)


def run_and_export(loop: Loop, config: dict[str, Any], budget: Budget, report: Callable[..., None], curve: Curve | None) -> None:
    """Train until the budget is spent, then write the student. Raises TrainingDiverged, or Incomplete where it cannot be written."""
    loop.run(budget, report, curve, lambda: export(loop, config, loop.out / "best"))
    export(loop, config, loop.out)
    # without a point of the curve, what lies in best/ is of a part of this training that was lost
    if loop.settings.export == "best" and loop.state.best is not None and loop.accelerator.is_main_process:
        try:
            export_best(loop.out)
        except OSError as error:
            raise Incomplete(
                f"cannot copy the best student to {loop.out}: {error}. It is kept in {loop.out / 'best'}, and its training too: make room "
                "and go on with --resume."
            ) from None
    loop.accelerator.end_training()
