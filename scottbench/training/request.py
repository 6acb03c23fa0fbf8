"""Values of a training and where they come from: flag > SCOTTBENCH_* variable > config file > preset > default, as of a run.

Preset, device and model mean the same to a run and have its variables (SCOTTBENCH_PRESET); everything else has one of its own
(SCOTTBENCH_TRAIN_BATCH_SIZE), because a run's batch size or option is not a training's. In a config file they stand under [train].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.plan import request as run_request
from scottbench.plan.request import SHARED
from scottbench.training.settings import SETTINGS

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

NAMES = (*SHARED, "recipe", "options", "minutes", "max_steps", "passes", "metrics", *SETTINGS, "tracker")
"""Values that a variable and a config file may give; flags have the same names with dashes."""


@dataclass(frozen=True)
class TrainRequest:
    """Everything that the user asked a training for; `train` looks the names up. None: the preset's value, else the default."""

    trainer: str
    preset: str
    options: dict[str, str] = field(default_factory=dict)
    """Options of the trainer, as text, over the preset's [train.options.TRAINER]."""
    minutes: float | None = None
    max_steps: int | None = None
    passes: int | None = None
    """Counted U-Net passes; see `scottbench.training.settings.Budget`. None of the three: the preset's minutes, else 30."""
    metrics: list[str] | None = None
    """Metrics of the curve, the first of which decides; None: the preset's under [train], else its first."""
    batch_size: int | None = None
    """This and the fields down to `seed` are those of `scottbench.training.settings.TrainSettings`."""
    accumulate: int | None = None
    precision: str | None = None
    tf32: bool | None = None
    compile: str | None = None
    gradient_checkpointing: bool | None = None
    optimizer: str | None = None
    frozen: str | None = None
    cache: str | None = None
    offload: bool | None = None
    fsdp: bool | None = None
    evaluate_every: int | None = None
    evaluate_steps: int | None = None
    patience: int | None = None
    export: str | None = None
    weights: str | None = None
    average: float | None = None
    lr_schedule: str | None = None
    checkpoint_minutes: float | None = None
    checkpoint_steps: int | None = None
    seed: int = 0
    device: str = "auto"
    out: Path | str | None = None
    """Student folder; None for students/PRESET-TRAINER."""
    resume: bool = False
    """Go on from the last checkpoint in `out`."""
    tracker: str | GeneralTracker | None = None
    """A name that accelerate knows, or a tracker of one's own."""
    model: str | None = None
    """Name of a model, or path of a diffusers pipeline folder, in place of the preset's teacher."""
    dataset: str | None = None
    """Name of a dataset, or a folder or archive of pictures with captions, in place of the preset's; each may have @key=value."""
    prompts: str | None = None
    """File of captions of such a folder."""
    allow_unsafe_checkpoint: bool = False
    """Read pickled weights (.bin) of a `model` folder that has no safetensors."""
    recipe: str | None = None
    """Name of one of the preset's [recipes]: settings and options that stand over those of [train] and below all that is given here."""
    command: str = ""
    origins: dict[str, str] = field(default_factory=dict)
    """Field -> where its value comes from ("flag", "SCOTTBENCH_TRAIN_MINUTES", "file bench.toml"), for those that were given."""


def variable(name: str) -> str:
    """Name the variable of a value: "device" -> "SCOTTBENCH_DEVICE", "batch_size" -> "SCOTTBENCH_TRAIN_BATCH_SIZE"."""
    return run_request.variable(suffix(name))


def suffix(name: str) -> str:
    """Name the part of a variable after SCOTTBENCH_, in small letters: "batch_size" -> "train_batch_size"."""
    return name if name in SHARED else f"train_{name}"


def read_train_config(path: Path) -> dict[str, Any]:
    """Read a config file's [train] table as values of flags, over its own preset, device and model. Relative folders in it are
    relative to the file. Raises UsageError as `scottbench.plan.request.read_config` does."""
    return run_request.read_config(path, NAMES)
