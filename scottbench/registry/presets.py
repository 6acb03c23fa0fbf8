"""A preset: a TOML file of a plug-in that names a model, a dataset, metrics and the protocol of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from scottbench.errors import UsageError
from scottbench.registry.fields import TOML, check_keys, describe, fits, make
from scottbench.registry.toml import NoToml, read_table
from scottbench.text import is_name, one_line

EXTRACTOR_KEYS = (
    "kind", "folder", "model", "pretrained", "file", "revision", "size", "resize", "prefix", "label", "bytes", "sha256", "same_as",
)  # fmt: skip
EXTRACTOR_KINDS = {"bytes": int}
"""Kinds of the keys of [extractors.ROLE] that are no text."""
TRAIN_KEYS = (
    "minutes", "metrics", "options", "batch_size", "accumulate", "precision", "gradient_checkpointing", "fsdp",
    "evaluate_every", "evaluate_steps", "patience", "export", "weights", "average", "lr_schedule",
)
TRAIN_KINDS = {"minutes": float, "metrics": list[str], "options": dict[str, dict]}
"""Kinds of the keys of [train] that are no settings of a training."""


@dataclass(frozen=True)
class Preset:
    """One field per key of the TOML file; paths in it are relative to the file's folder (see `path`)."""

    name: str
    summary: str
    model: str
    """Name of the teacher."""
    dataset: str
    """Name of the dataset, whose evaluation split gives prompts and reference images."""
    metrics: list[str]
    """Metrics that `run` measures when the user names none."""
    methods: list[str]
    """Methods that `run` samples when the user names none."""
    steps: list[int]
    """Numbers of sampling steps that `run` takes when the user names none."""
    folder: Path = Path(".")
    """Folder of the TOML file; not a key of it."""
    device: str = "cpu"
    """The device that `--device auto` means: cpu, cuda, or "auto" for a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """The number format of the networks that generate; "float16" is meant for a GPU and becomes float32 on a CPU."""
    sample_items: int = 8
    """How many items the report's sample grid shows."""
    model_card: str | None = None
    """JSON file with the measured quality of the model, shown in the report."""
    recorded: str | None = None
    """JSON file with rows of a published run, such as the teacher's: shown beside a run's own where N, prompts and extractors are equal."""
    limits: list[str] = field(default_factory=list)
    """Sentences for the report's Limits section."""
    students: dict[str, str] = field(default_factory=dict)
    """Trainer -> student folder."""
    guidance: dict[str, float] = field(default_factory=dict)
    """Method -> guidance scale s (pipelines' form, s = 1 unguided)."""
    extractors: dict[str, dict] = field(default_factory=dict)
    """Role ("image", "clip") -> which network makes the features."""
    train: dict[str, Any] = field(default_factory=dict)
    """Defaults of `scottbench train` on this preset: minutes, metrics of its curve, options.TRAINER, and fields of
    `scottbench.training.settings.TrainSettings`."""

    def path(self, relative: str) -> Path:
        """Return a path of the TOML file as seen from here; an absolute or `~` path is taken as it is."""
        return self.folder / Path(relative).expanduser()


KEYS = {item.name: item for item in fields(Preset) if item.name != "folder"}
"""The keys of a preset file, with the fields that they fill."""


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a plug-in's TOML file. Raises UsageError, which names `what` it is to be ("preset") and the file."""
    try:
        return read_table(path)
    except NoToml as error:
        raise UsageError(f"{what} {path}: cannot be read ({error})") from None


def read_preset(path: Path) -> Preset:
    """Parse and check one TOML file. Raises UsageError: unreadable, unknown or missing key, value of a wrong type."""
    path = Path(path)
    preset = make(Preset, read_toml(path, "preset"), f"preset {path}", folder=path.resolve().parent)
    _check(preset, f"preset {path}")
    return preset


def _check(preset: Preset, where: str) -> None:
    """Raise UsageError for what no annotation says: names, numbers of steps, keys of tables, extractors that are the same as another."""
    if not is_name(preset.name):
        raise UsageError(f"{where}: name {preset.name!r} may have letters, digits, '_', '.' and '-' only")
    if not preset.steps or min(preset.steps) < 1:
        raise UsageError(f"{where}: steps must be numbers of at least 1, found {preset.steps}")
    check_keys(preset.train, TRAIN_KEYS, where, "train")
    _check_kinds(preset.train, TRAIN_KINDS, where, "train")
    for role, extractor in preset.extractors.items():
        check_keys(extractor, EXTRACTOR_KEYS, where, f"extractors.{role}")
        _check_kinds(extractor, {key: EXTRACTOR_KINDS.get(key, str) for key in EXTRACTOR_KEYS}, where, f"extractors.{role}")
    for role, extractor in preset.extractors.items():
        same_as = extractor.get("same_as")
        if same_as is not None and same_as not in preset.extractors:
            raise UsageError(f"{where}: [extractors.{role}] is the same as '{same_as}', which is not there")
        if same_as is not None and len(extractor) > 1:
            other = next(key for key in extractor if key != "same_as")
            raise UsageError(f"{where}: [extractors.{role}] is the same as '{same_as}' and cannot have '{other}' of its own")


def _check_kinds(table: dict[str, Any], kinds: dict[str, Any], where: str, title: str) -> None:
    """Raise UsageError for a value of the TOML table [title] that is of another kind than its key's."""
    for key, kind in kinds.items():
        if key in table and not fits(table[key], kind):
            raise UsageError(f"{where}: '{key}' in [{title}] must be {describe(kind, TOML)}, found {one_line(repr(table[key]))[:80]}")
