"""`scottbench train`: opens teacher and data, drives a Trainer through accelerate, exports a student folder."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from scottbench.errors import MissingAsset, UsageError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.registry.options import make_options
from scottbench.store.environment import flush_denormals
from scottbench.training.context import Context, preset_extractor
from scottbench.training.data import Data, held_out_of, open_data
from scottbench.training.distributed import shard
from scottbench.training.export import export, export_best
from scottbench.training.folder import begin, check_folder, make_folder
from scottbench.training.loop import Loop
from scottbench.training.settings import Budget, Settings, make_settings
from scottbench.training.validation import Curve

ENCODING_HOURS = 12
"""How long other processes wait for the one that encodes the training split."""


def configuration(preset: str, trainer: str, options, model: DiffusionModel, items, settings: Settings, accelerator) -> dict:
    """What a resumed training must share with the one it continues; also the head of student.json."""
    return {
        "trainer": trainer,
        "preset": preset,
        "options": asdict(options),
        "teacher_digest": model.digest,
        "dataset_digest": items.digest,
        "batch_size": settings.batch_size,
        "micro_batches": settings.accumulate * accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "seed": settings.seed,
    }


def open_accelerator(settings: Settings, device: str, tracker: Any, out: Path):
    """accelerate's view of processes, precision and tracker. Raises UsageError or MissingAsset for a tracker it cannot use."""
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.tracking import filter_trackers

    if tracker is not None:
        try:
            usable = filter_trackers(tracker, str(out))
        except ValueError as error:
            raise UsageError(f"--tracker {tracker}: {error}") from None
        if not usable:
            raise MissingAsset(f"--tracker {tracker}: its package is not installed. Install it with: pip install {tracker}")
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=settings.mixed_precision(device),
        log_with=tracker,
        project_dir=str(out),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=datetime.timedelta(hours=ENCODING_HOURS))],
    )


def train(
    plugins,
    preset_name: str,
    trainer_name: str,
    out: Path,
    *,
    minutes: float | None = None,
    max_steps: int | None = None,
    resume: bool = False,
    options: dict | None = None,
    device: str = "cpu",
    tracker: Any = None,
    progress: Callable[..., None] | None = None,
    **flags,
) -> Path:
    """Trains a student of the preset's model on its dataset's training split and exports it to `out`, which is returned.

    options: name -> text, over the preset's [train.options.NAME], over the trainer's defaults. flags: fields of `Settings`,
    over the preset's [train]. tracker: a name that accelerate knows, or a `GeneralTracker`. Raises ScottbenchErrors.
    """
    preset = plugins.find("preset", preset_name).noun
    trainer = plugins.find("trainer", trainer_name).noun
    chosen = trainer_options(preset, trainer, options)
    settings = make_settings(preset.train, flags)
    if minutes is None and max_steps is None:
        minutes = preset.train.get("minutes", 30.0)
    out = Path(out)
    accelerator = open_accelerator(settings, device, tracker, out)
    settings.shard_size(accelerator.num_processes)  # a batch that cannot be cut is refused before anything is opened
    device = str(accelerator.device) if accelerator.num_processes > 1 else device
    report = progress if progress is not None and accelerator.is_main_process else (lambda *event: None)
    model = plugins.find("model", preset.model).noun.open(device, "float32")
    items = plugins.find("dataset", preset.dataset).noun.open("train")
    config = configuration(preset_name, trainer_name, chosen, model, items, settings, accelerator)
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            check_folder(out, config, resume)
            held_out_of(len(items.ids), settings.batch_size)  # too few items are refused before anything is written
            make_folder(out)
        data = open_data(model, items, settings.batch_size, settings.seed, report, accelerator.is_main_process)
    if tracker is not None:
        accelerator.init_trackers("scottbench", {k: v for k, v in config.items() if isinstance(v, (int, float, str))})

    flush_denormals()
    torch.manual_seed(settings.seed)  # LoRA's random A matrices are drawn from the global generator
    find_method = lambda name: plugins.find("method", name).noun  # noqa: E731
    context = Context(model, device, out, data, find_method, lambda role: preset_extractor(preset, role, device))
    distillation = trainer.build(context, chosen)
    loop = prepare(distillation, model, data, accelerator, out, settings, device)
    if resume:
        loop.resume()
    curve = Curve(plugins, preset, trainer_name, model, data, items, loop) if settings.evaluate_every else None
    if accelerator.is_main_process:
        begin(out, config, resume)
    run_and_export(loop, model, config, Budget(minutes, max_steps), report, curve)
    return out


def trainer_options(preset, trainer, options: dict | None) -> Any:
    """An instance of the trainer's options: text given by the user, over the preset's table, over the defaults."""
    table = preset.train.get("options", {}).get(trainer.name, {})
    return make_options(trainer.options, table | ({} if options is None else options), f"trainer '{trainer.name}'")


def run_and_export(loop: Loop, model: DiffusionModel, config: dict, budget: Budget, report: Callable, curve: Curve | None) -> None:
    loop.run(budget, report, lambda: model.evaluations, curve, lambda: export(loop, config, loop.out / "best"))
    export(loop, config, loop.out)
    # without a point of the curve, what lies in best/ is of a part of this training that was lost
    if loop.settings.export == "best" and loop.state.best is not None and loop.accelerator.is_main_process:
        export_best(loop.out)
    loop.accelerator.end_training()


def prepare(distillation, model: DiffusionModel, data: Data, accelerator, out: Path, settings: Settings, device: str) -> Loop:
    """The loop of a distillation, whose networks are counted and, where asked for, save memory."""
    student = distillation.networks["student"]
    if settings.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    # of a LoRA student little is trained, and the rest is the teacher
    if settings.shard and accelerator.num_processes > 1 and not getattr(student, "peft_config", None):
        for network in filter(None, [student, distillation.ema]):
            shard(network, accelerator.num_processes)
    loop = Loop(distillation, data, accelerator, out, settings, device)
    for network in [distillation.ema, *distillation.networks.values()]:
        if network is not None:
            model.count_also(network)
    model.evaluations = 0
    return loop
