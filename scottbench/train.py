"""`scottbench train`: opens teacher and data, drives a Trainer through accelerate, exports a student folder."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from scottbench.environment import flush_denormals
from scottbench.errors import UsageError
from scottbench.loop import Budget, Loop, State, prepare_data
from scottbench.model import DiffusionModel, weights_digest


@dataclass
class Context:
    """What a trainer may use: the frozen teacher and where it runs."""

    teacher: DiffusionModel
    device: str


def count_evaluations(state: State, networks) -> None:
    """Counts the images that pass through every U-Net given."""
    for network in {id(n): n for n in networks}.values():
        network.register_forward_hook(
            lambda module, arguments, output: setattr(state, "evaluations", state.evaluations + len(arguments[0]))
        )


def export(loop: Loop, facts: dict) -> None:
    """Writes the student folder: unet/ (fp16 safetensors of the EMA weights) and student.json."""
    # safetensors refuses the channels-last layout of training
    student = copy.deepcopy(loop.distillation.ema).half().to(memory_format=torch.contiguous_format)
    student.save_pretrained(loop.out / "unet", safe_serialization=True)
    facts = {
        "schema": "scottbench.student/1",
        **facts,
        **loop.distillation.student_config(),
        "weights": "ema",
        "steps": loop.state.step,
        "samples_seen": loop.state.step * loop.batch_size,
        "minutes": round(loop.state.seconds / 60, 2),
        "network_evaluations": loop.state.evaluations,
    }
    facts["weights_digest"] = weights_digest(loop.out / "unet")
    (loop.out / "student.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def configuration(preset: str, trainer: str, options, teacher: DiffusionModel, data_digest: str, batch_size: int, seed: int) -> dict:
    """What a resumed training must share with the one it continues; also the head of student.json."""
    return {
        "trainer": trainer,
        "preset": preset,
        "options": asdict(options),
        "teacher_digest": teacher.digest,
        "dataset_digest": data_digest,
        "batch_size": batch_size,
        "seed": seed,
    }


def check_folder(out: Path, config: dict, resume: bool) -> None:
    """Refuses a folder in use by another training; remembers the configuration in training.json."""
    path = out / "training.json"
    if path.is_file():
        found = json.loads(path.read_text())
        if not resume:
            raise UsageError(
                f"{out} already holds a training of '{found.get('trainer')}'. Continue it with --resume, or give another --out."
            )
        different = sorted(k for k in config if found.get(k) != json.loads(json.dumps(config[k])))
        if different:
            raise UsageError(
                f"{out} was trained with another configuration ({', '.join(different)} differ). Give the same one, or another --out."
            )
    elif resume:
        raise UsageError(f"nothing to resume at {out}: no training.json. Start without --resume.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}. Give another folder with --out.") from None


def train(
    plugins,
    preset_name: str,
    trainer_name: str,
    out: Path,
    *,
    minutes: float | None = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    options: dict | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress=None,
) -> Path:
    """Trains a student of the preset's model on its dataset's training split and exports it to `out`.

    options: name -> text, over the preset's [train.options.NAME], over the trainer's defaults. Returns `out`.
    """
    from accelerate import Accelerator

    from scottbench.options import make_options

    preset = plugins.find("preset", preset_name).noun
    trainer = plugins.find("trainer", trainer_name).noun
    settings = preset.train
    chosen = make_options(
        trainer.options, {**settings.get("options", {}).get(trainer_name, {}), **(options or {})}, f"trainer '{trainer_name}'"
    )
    size = settings.get("batch_size", 32) if batch_size is None else batch_size
    if minutes is None and max_steps is None:
        minutes = settings.get("minutes", 30.0)
    report = progress if progress is not None else (lambda *event: None)

    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
    model = plugins.find("model", preset.model).noun.open(device, "float32")
    items = plugins.find("dataset", preset.dataset).noun.open("train")
    config = configuration(preset_name, trainer_name, chosen, model, items.digest, size, seed)
    check_folder(Path(out), config, resume)
    data = prepare_data(model, items, size, seed, report)
    flush_denormals()
    torch.manual_seed(seed)  # LoRA's random A matrices are drawn from the global generator
    distillation = trainer.build(Context(model, device), chosen)
    loop = Loop(distillation, data, accelerator, Path(out), size, seed)
    if resume:
        loop.resume()
    networks = [model.unet, distillation.ema, distillation.networks["student"]]
    networks += [d.unet for d in distillation.networks.values() if hasattr(d, "unet")]
    count_evaluations(loop.state, networks)
    loop.run(Budget(minutes, max_steps), report)
    export(
        loop,
        {
            **config,
            "held_out_items": len(data.held_out),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    )
    return Path(out)
