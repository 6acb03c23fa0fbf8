"""Distillation for notebooks and scripts: `distil` trains as `scottbench train` does; `Student` is what comes out."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from scottbench import DEFAULT_PRESET
from scottbench.errors import UsageError
from scottbench.models.student import read_student
from scottbench.text import did_you_mean, one_line

Folder = str | os.PathLike[str]


class TrainingSettings(TypedDict, total=False):
    """Further arguments of `distil`, each by name; they mean what the flags of `scottbench train` mean."""

    max_steps: int
    """Stop after so many updates of the student."""
    passes: int
    """Stop after so many U-Net passes per image, counted: forward 1, backward 2."""
    batch_size: int
    """Items of one update."""
    accumulate: int
    """Micro-batches of one update, made one after another."""
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    """Number format of the forward passes."""
    evaluate_every: int
    """Metrics on held-out items every so many updates; 0: never."""
    evaluate_steps: int
    """Sampling steps of those."""
    patience: int
    """Stop after so many such points without a better value of the first metric."""
    export: Literal["last", "best"]
    """Which student to keep."""
    weights: Literal["ema", "student", "both"]
    """Which weights to keep."""
    average: float
    """Decay of an average that is exported, apart from the target network."""
    lr_schedule: Literal["cosine", "constant", "none"]
    """The learning rate over the training."""
    seed: int
    """Seed of data order, time steps, noise and guidance."""
    gradient_checkpointing: bool
    """Save memory by computing activations again."""
    fsdp: bool
    """Split student and EMA over several processes."""
    model: str
    """A name, or a pipeline folder, in place of the preset's teacher."""
    allow_unsafe_checkpoint: bool
    """Read pickled weights of `model`."""
    device: str
    """auto, cpu or cuda."""
    tracker: str
    """Name of one of accelerate's trackers."""
    resume: bool
    """Go on from the last checkpoint in the student folder."""
    progress: bool
    """Show progress on stderr. Default: True."""


class Student:
    """A student folder: U-Net and student.json. It may stand wherever a folder may: `benchmark(students={"cd": student})`."""

    folder: Path
    """The folder, absolute."""
    facts: dict[str, Any]
    """Contents of student.json: trainer, options, steps, minutes, digests."""

    def __init__(self, folder: Folder):
        self.folder = Path(folder).expanduser().absolute()
        self.facts = read_student(self.folder)

    @property
    def trainer(self) -> str:
        """The name of the trainer that made it."""
        return str(self.facts["trainer"])

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Student({str(self.folder)!r}, trainer={self.trainer!r})"


def distil(
    trainer: str,
    minutes: float | None = None,
    out: Folder | None = None,
    preset: str = DEFAULT_PRESET,
    options: Mapping[str, object] | None = None,
    **more: Unpack[TrainingSettings],
) -> Student:
    """Distil a student of the preset's model with a trainer, and return it.

    minutes: stop after so many of training; None = the preset's. out: the student folder; None = students/PRESET-TRAINER. options: of the
    trainer. more: see `TrainingSettings`. Raises UsageError, MissingAsset, DamagedAsset and TrainingDiverged, as `scottbench train` ends
    with their codes.
    """
    from scottbench.registry.loader import load_plugins
    from scottbench.store.assets import offline
    from scottbench.text.progress import progress_of
    from scottbench.training.request import TrainRequest

    values = _checked({"trainer": trainer, "minutes": minutes, "out": out, "preset": preset, "options": options, **more})
    shown = values.pop("progress", True)
    folder = None if out is None else Path(out).expanduser()
    request = TrainRequest(trainer, preset, out=folder, **values)
    with offline(), progress_of(not shown) as progress:
        from scottbench.training.train import train

        return Student(train(load_plugins(), request, progress.train_event))


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """What `train` takes by name, of what was given and is not None. Raises UsageError for an unknown name or a number that cannot be."""
    own = ("trainer", "minutes", "out", "preset", "options")
    known = [*own, *TrainingSettings.__annotations__]
    for name in given:
        if name not in known:
            raise UsageError(f"distil() has no argument '{name}'.{did_you_mean(name, known)} Arguments: {', '.join(known)}")
    values = {name: value for name, value in given.items() if value is not None and name not in ("trainer", "out", "preset")}
    for name, kinds in (("minutes", (int, float)), ("max_steps", (int,)), ("passes", (int,))):
        value = values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value <= 0):
            wanted = "a whole number" if kinds == (int,) else "a number"
            raise UsageError(f"{name} must be {wanted} above 0, found {one_line(repr(value))}")
    if not isinstance(values.get("options", {}), Mapping):
        raise UsageError(f"options must be a dict, such as options={{'name': value}}, found {one_line(repr(values['options']))}")
    if "options" in values:
        values["options"] = {str(name): str(value) for name, value in values["options"].items()}
    return values
