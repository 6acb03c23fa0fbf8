"""A preset: a TOML file of a plug-in that names a model, a dataset, metrics and the protocol of a run."""

from __future__ import annotations

import tomllib
import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from scottbench.errors import UsageError
from scottbench.text import did_you_mean, is_name

EXTRACTOR_KEYS = (
    "kind", "folder", "model", "pretrained", "file", "revision", "size", "resize", "prefix", "label", "bytes", "sha256", "same_as",
)  # fmt: skip
TRAIN_KEYS = (
    "minutes", "metrics", "options", "batch_size", "accumulate", "precision", "gradient_checkpointing", "fsdp",
    "evaluate_every", "evaluate_steps", "patience", "export", "weights",
)

DTYPES = ("float32", "float16", "bfloat16")


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
    """What `run` measures when the user names no metric."""
    methods: list[str]
    """What `run` samples when the user names no method."""
    steps: list[int]
    """Numbers of sampling steps, likewise."""
    folder: Path = Path(".")
    """Folder of the TOML file; not a key of it."""
    device: str = "cpu"
    """What `--device auto` means: cpu, cuda, or "auto" for a GPU if there is one."""
    dtype: str = "float32"
    """Of the networks that generate; "float16" is meant for a GPU and becomes float32 on a CPU."""
    sample_items: int = 8
    """How many items the report's sample grid shows."""
    model_card: str | None = None
    """JSON file with the measured quality of the model, shown in the report."""
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
        """A path of the TOML file, made absolute; an absolute or `~` path is taken as it is."""
        return self.folder / Path(relative).expanduser()


KEYS = {item.name: item for item in fields(Preset) if item.name != "folder"}
TYPES = typing.get_type_hints(Preset)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """A plug-in's TOML file as a table. Raises UsageError naming `what` it is to be."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{what} {path}: cannot be read ({error})") from None


def read_preset(path: Path) -> Preset:
    """Parse and check one TOML file. Raises UsageError: unreadable, unknown or missing key, value of a wrong type."""
    path = Path(path)
    table = read_toml(path, "preset")
    for key, value in table.items():
        if key not in KEYS:
            raise UsageError(f"preset {path}: unknown key '{key}'.{did_you_mean(key, KEYS)}")
        if not fits(value, TYPES[key]):
            raise UsageError(f"preset {path}: '{key}' must be {describe(TYPES[key])}, found {value!r}")
    missing = [key for key, item in KEYS.items() if key not in table and item.default is MISSING and item.default_factory is MISSING]
    if missing:
        raise UsageError(f"preset {path}: key '{missing[0]}' is missing; needed: {', '.join(missing)}")
    preset = Preset(folder=path.resolve().parent, **table)
    _check(preset, path)
    return preset


def _check(preset: Preset, path: Path) -> None:
    if not is_name(preset.name):
        raise UsageError(f"preset {path}: name {preset.name!r} may have letters, digits, '_', '.' and '-' only")
    if preset.dtype not in DTYPES:
        hint = did_you_mean(preset.dtype, DTYPES)
        raise UsageError(f"preset {path}: dtype must be one of {', '.join(DTYPES)}, found {preset.dtype!r}.{hint}")
    if not preset.steps or min(preset.steps) < 1:
        raise UsageError(f"preset {path}: steps must be numbers of at least 1, found {preset.steps}")
    tables = [("train", preset.train, TRAIN_KEYS)]
    tables += [(f"extractors.{role}", table, EXTRACTOR_KEYS) for role, table in preset.extractors.items()]
    for title, table, allowed in tables:
        for key in table:
            if key not in allowed:
                raise UsageError(f"preset {path}: unknown key '{key}' in [{title}].{did_you_mean(key, allowed)}")
    for role, extractor in preset.extractors.items():
        same_as = extractor.get("same_as")
        if same_as is not None and same_as not in preset.extractors:
            raise UsageError(f"preset {path}: [extractors.{role}] is the same as '{same_as}', which is not there")
        if same_as is not None and len(extractor) > 1:
            other = next(key for key in extractor if key != "same_as")
            raise UsageError(f"preset {path}: [extractors.{role}] is the same as '{same_as}' and cannot have '{other}' of its own")


def fits(value: object, kind: Any) -> bool:
    """Whether a TOML value has the annotated type. An integer may stand for a float; true and false are no numbers."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def describe(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return describe(arguments[0])
    if origin is list:
        return f"a list of {describe(arguments[0])}s"
    if origin is dict:
        return "a table"
    return {str: "string", int: "whole number", float: "number", dict: "table"}.get(kind, getattr(kind, "__name__", str(kind)))
