"""A preset: a TOML file of a plug-in that names a model, a dataset, metrics and the protocol of a run.

A file may also lean on a preset of another plug-in: `extends = "NAME"` makes a new preset of it with some keys changed, `adds_to = "NAME"`
gives it students, guidance scales, extractors or training defaults that it lacks. Such files become presets when all plug-ins are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from scottbench.errors import UsageError
from scottbench.registry.fields import TOML, check_keys, describe, fits, make
from scottbench.registry.published import Adopted, Quoted, read_adopted, read_quoted
from scottbench.registry.toml import NoToml, read_table
from scottbench.text import did_you_mean, is_name, one_line

EXTRACTOR_KEYS = (
    "kind", "folder", "model", "pretrained", "file", "revision", "size", "resize", "prefix", "precision", "label", "bytes", "sha256",
    "same_as",
)  # fmt: skip
EXTRACTOR_KINDS = {"bytes": int}
"""Kinds of the keys of [extractors.ROLE] that are no text."""
TRAIN_KEYS = (
    "minutes", "metrics", "options", "batch_size", "accumulate", "precision", "gradient_checkpointing", "optimizer", "frozen", "offload",
    "fsdp", "evaluate_every", "evaluate_steps", "patience", "export", "weights", "average", "lr_schedule", "checkpoint_minutes",
    "checkpoint_steps",
)
TRAIN_KINDS = {"minutes": float, "metrics": list[str], "options": dict[str, dict]}
"""Kinds of the keys of [train] that are no settings of a training."""
OWN_RECIPE_KEYS = ("summary", "trainers", "processes", "max_steps", "passes")
RECIPE_KEYS = (*OWN_RECIPE_KEYS, *TRAIN_KEYS)
RECIPE_KINDS = {**TRAIN_KINDS, "summary": str, "trainers": list[str], "processes": int, "max_steps": int, "passes": int}
"""Kinds of the keys of [recipes.NAME] that are no settings of a training: beside those of [train] a sentence about it, the trainers that it
is for, the number of processes, and a budget of updates or passes."""


@dataclass(frozen=True)
class Preset:
    """One field per key of the TOML file; paths in it are relative to the file's folder (see `path`)."""

    name: str
    summary: str
    model: str
    """Name of the teacher."""
    dataset: str
    """Name of the dataset, whose evaluation split gives prompts and reference images; or a table [dataset] with `kind`, the name, and the
    dataset's options (`scottbench show dataset folder`)."""
    metrics: list[str]
    """Metrics that `run` measures when the user names none."""
    methods: list[str]
    """Methods that `run` samples when the user names none."""
    steps: list[int]
    """Numbers of sampling steps that `run` takes when the user names none."""
    reference: str | None = None
    """Dataset, or folder of pictures, whose images generated ones are compared with, a set apart from the prompts: NAME or NAME@key=value.
    None: that of the dataset, usually one image a prompt."""
    folder: Path = Path(".")
    """Folder of the TOML file; not a key of it."""
    data: dict[str, Any] = field(default_factory=dict)
    """The dataset's options, out of the table [dataset]; not a key of the file."""
    data_folder: Path = Path(".")
    """Folder to which paths in `data` are relative; not a key of the file."""
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
    teachers: str | None = None
    """Folder with features of the teacher's images that a published run made, for metrics that compare with them (`fid_t`)."""
    limits: list[str] = field(default_factory=list)
    """Sentences for the report's Limits section."""
    data_limits: list[str] = field(default_factory=list)
    """Such sentences about the dataset; a run of other data leaves them out."""
    students: dict[str, str] = field(default_factory=dict)
    """Trainer -> student folder."""
    guidance: dict[str, float] = field(default_factory=dict)
    """Method -> guidance scale s (pipelines' form, s = 1 unguided). A method without one takes that of its student: its trainer's."""
    extractors: dict[str, dict] = field(default_factory=dict)
    """Role ("image", "clip") -> which network makes the features."""
    train: dict[str, Any] = field(default_factory=dict)
    """Defaults of `scottbench train` on this preset: minutes, metrics of its curve, options.TRAINER, and fields of
    `scottbench.training.settings.TrainSettings`."""
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> what `scottbench train --recipe NAME` trains by, over `train`: any of its keys, and those that `RECIPE_KEYS` adds."""
    adopted: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of a student -> published weights, as `scottbench.registry.published.Adopted` says; methods sample it by @student=NAME."""
    quoted: list[dict[str, Any]] = field(default_factory=list)
    """Numbers of papers, as `scottbench.registry.published.Quoted` says, for the report."""

    @property
    def published(self) -> dict[str, Adopted]:
        """Return `adopted` as records."""
        return read_adopted(self.adopted, f"preset {self.name}")

    @property
    def papers(self) -> list[Quoted]:
        """Return `quoted` as records."""
        return read_quoted(self.quoted, f"preset {self.name}")

    def path(self, relative: str) -> Path:
        """Return a path of the TOML file as seen from here; an absolute or `~` path is taken as it is."""
        return self.folder / Path(relative).expanduser()


OF_FILE = ("folder", "data", "data_folder")
"""Fields that are no keys of a preset file."""
KEYS = {item.name: item for item in fields(Preset) if item.name not in OF_FILE}
"""The keys of a preset file, with the fields that they fill."""
TABLES = ("students", "guidance", "extractors", "train", "recipes", "adopted")
"""Keys whose entries a preset that extends another takes over one by one."""
ADDED = ("students", "guidance", "extractors", "train", "limits")
"""Keys that a file may add entries of to another plug-in's preset."""


@dataclass(frozen=True)
class Draft:
    """A preset file that leans on another preset, before that one is at hand."""

    name: str
    base: str
    """Name of the preset that it leans on."""
    table: dict[str, Any]
    """The file's other keys."""
    path: Path
    adds: bool
    """True: it adds to `base`; false: it is a preset of its own that extends `base`."""

    @property
    def where(self) -> str:
        """Name the file in messages."""
        return f"preset {self.path}"


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a plug-in's TOML file. Raises UsageError, which names `what` it is to be ("preset") and the file."""
    try:
        return read_table(path)
    except NoToml as error:
        raise UsageError(f"{what} {path}: cannot be read ({error})") from None


def read_preset(path: Path) -> Preset:
    """Parse and check one TOML file that leans on no other. Raises UsageError: unreadable, unknown or missing key, value of a wrong
    type."""
    found = read_draft(path)
    if isinstance(found, Draft):
        raise UsageError(f"{found.where}: it {'adds to' if found.adds else 'extends'} '{found.base}', and no other preset is at hand here")
    return found


def read_draft(path: Path) -> Preset | Draft:
    """Parse one TOML file: a Preset, checked, or a Draft where it leans on another. Raises UsageError as `read_preset`."""
    path = Path(path)
    table, where = read_toml(path, "preset"), f"preset {path}"
    leans = [key for key in ("extends", "adds_to") if key in table]
    if not leans:
        return _made(table, where, path.resolve().parent)
    base = table.pop(leans[0])
    if len(leans) > 1 or not isinstance(base, str):
        raise UsageError(f"{where}: give the name of one other preset, as extends = \"NAME\" or as adds_to = \"NAME\"")
    if leans == ["adds_to"]:
        check_keys(table, ADDED, where, "the file, which adds to a preset")
        return Draft(f"{base}+{path.stem}", base, table, path, adds=True)
    if not isinstance(table.get("name"), str):
        raise UsageError(f"{where}: key 'name' is missing, or no string; a preset that extends another has a name of its own")
    return Draft(table["name"], base, table, path, adds=False)


def _made(
    table: Mapping[str, Any], where: str, folder: Path, data: dict[str, Any] | None = None, data_folder: Path | None = None
) -> Preset:
    """The preset of a table, checked. data, data_folder: the dataset's options where [dataset] is no table."""
    table, dataset = dict(table), table.get("dataset")
    data, data_folder = {} if data is None else data, folder if data_folder is None else data_folder
    if isinstance(dataset, dict):
        if not isinstance(dataset.get("kind"), str):
            raise UsageError(f"{where}: [dataset] needs 'kind', the name of a dataset: scottbench list datasets")
        table["dataset"], data_folder = dataset["kind"], folder
        data = {key: value for key, value in dataset.items() if key != "kind"}
    preset = make(Preset, table, where, folder=folder, data=data, data_folder=data_folder)
    _check(preset, where)
    return preset


# --- presets that lean on others -------------------------------------------------------------------------------------


def settle(found: Mapping[str, Preset | Draft]) -> tuple[dict[str, Preset], dict[str, str]]:
    """Make presets of all drafts. found: everything that plug-ins registered, by name.

    Returns the presets by name, and why drafts cannot be one, by their name: the base is not there, leans on the draft itself, or has what
    the draft adds. No UsageError leaves it.
    """
    settled: dict[str, Preset] = {}
    faults: dict[str, str] = {}
    names = [name for name, one in found.items() if not (isinstance(one, Draft) and one.adds)]

    def settle_one(name: str, below: tuple[str, ...]) -> Preset:
        if name in settled:
            return settled[name]
        if name in faults:
            raise UsageError(faults[name])
        one = found[name]
        if isinstance(one, Draft):
            _check_base(one, names, (*below, name))
            one = extended(settle_one(one.base, (*below, name)), one)
        settled[name] = one
        for draft in found.values():
            if isinstance(draft, Draft) and draft.adds and draft.base == name:
                try:
                    settled[name] = added(settled[name], draft)
                except UsageError as error:
                    faults[draft.name] = str(error)
        return settled[name]

    for name, one in found.items():
        try:
            if name in names:
                settle_one(name, ())
            elif isinstance(one, Draft):
                _check_base(one, names, ())
        except UsageError as error:
            faults[name] = str(error)
    return settled, faults


def _check_base(draft: Draft, names: Sequence[str], below: Sequence[str]) -> None:
    """Raise UsageError where there is no preset of the name that a draft leans on, or that one leans on the draft. below: those that do."""
    if draft.base in below:
        raise UsageError(f"{draft.where}: it extends '{draft.base}', which extends it")
    if draft.base not in names:
        hint = did_you_mean(draft.base, names)
        raise UsageError(f"{draft.where}: there is no preset '{one_line(draft.base)}' for it to lean on.{hint}")


def rooted(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return keys of a preset file in `folder` with paths that lead to the same files from any folder; what is no path stays."""
    found = dict(table)
    for key in ("model_card", "recorded", "teachers"):
        if key in found:
            found[key] = _path(folder, found[key])
    if isinstance(found.get("reference"), str) and found["reference"].startswith((".", "~", "/")):
        found["reference"] = _path(folder, found["reference"])
    if isinstance(found.get("students"), dict):
        found["students"] = {name: _path(folder, one) for name, one in found["students"].items()}
    for key in ("adopted", "extractors"):
        if isinstance(found.get(key), dict):
            found[key] = {
                name: {**one, "folder": _path(folder, one["folder"])} if isinstance(one, dict) and "folder" in one else one
                for name, one in found[key].items()
            }
    return found


def _path(folder: Path, value: Any) -> Any:
    return str(folder / Path(value).expanduser()) if isinstance(value, str) else value


def _table(preset: Preset) -> dict[str, Any]:
    """The keys of a preset as a TOML file would have them, paths rooted."""
    return rooted({key: value for key in KEYS if (value := getattr(preset, key)) is not None}, preset.folder)


def extended(base: Preset, draft: Draft) -> Preset:
    """Make a preset of another: the keys of its file in place of the other's, tables entry by entry. Raises UsageError as `read_preset`."""
    table = _table(base)
    for key, value in draft.table.items():
        table[key] = _over(table.get(key, {}), value) if key in TABLES and isinstance(value, dict) else value
    if "dataset" in draft.table and "data_limits" not in draft.table:
        table["data_limits"] = []  # they are about the other's data
    if {"model", "dataset"} & draft.table.keys() and "quoted" not in draft.table:
        table["quoted"] = []
    if "dataset" in draft.table and "reference" not in draft.table:
        table.pop("reference", None)
    if {"model", "dataset"} & draft.table.keys() and "model_card" not in draft.table:
        table.pop("model_card", None)
    data = {} if "dataset" in draft.table else base.data
    return _made(table, draft.where, draft.path.resolve().parent, data, base.data_folder if data else None)


def _over(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Entries of two tables, the new one's first; options of trainers are merged option by option."""
    merged = {**old, **new}
    if isinstance(old.get("options"), dict) and isinstance(new.get("options"), dict):
        merged["options"] = {**old["options"]}
        for trainer, options in new["options"].items():
            both = isinstance(options, dict) and isinstance(old["options"].get(trainer), dict)
            merged["options"][trainer] = {**old["options"][trainer], **options} if both else options
    return merged


def added(preset: Preset, draft: Draft) -> Preset:
    """Give a preset what a draft adds. Raises UsageError where it has one of the entries already, and as `read_preset`."""
    table, own = _table(preset), rooted(draft.table, draft.path.resolve().parent)
    train, limits = own.pop("train", {}), own.pop("limits", [])
    if not isinstance(train, dict) or train.keys() - {"options"} or not isinstance(limits, list):
        raise UsageError(f"{draft.where}: [train] may add options of trainers only ([train.options.NAME]), and limits must be a list")
    table["limits"] = [*table["limits"], *limits]
    for key, entries in own.items():
        table[key] = _with(table[key], entries, key, preset.name, draft.where)
    if train:
        options = _with(table["train"].get("options", {}), train["options"], "train.options", preset.name, draft.where)
        table["train"] = {**table["train"], "options": options}
    return _made(table, draft.where, preset.folder, preset.data, preset.data_folder)


def _with(there: dict[str, Any], entries: Any, key: str, name: str, where: str) -> dict[str, Any]:
    """A table of preset `name` with more entries, none in the place of another. Raises UsageError."""
    if not isinstance(entries, dict):
        raise UsageError(f"{where}: '{key}' must be a table")
    if taken := [entry for entry in entries if entry in there]:
        raise UsageError(
            f"{where}: preset '{name}' has {key}.{one_line(taken[0])} already; what a preset has is not changed from outside. "
            f"Make a preset of your own: extends = \"{name}\"")
    return {**there, **entries}


def _check(preset: Preset, where: str) -> None:
    """Raise UsageError for what no annotation says: names, numbers of steps, keys of tables, extractors that are the same as another."""
    if not is_name(preset.name):
        raise UsageError(f"{where}: name {preset.name!r} may have letters, digits, '_', '.' and '-' only")
    if not preset.steps or min(preset.steps) < 1:
        raise UsageError(f"{where}: steps must be numbers of at least 1, found {preset.steps}")
    read_adopted(preset.adopted, where)
    read_quoted(preset.quoted, where)
    if both := preset.adopted.keys() & preset.students.keys():
        raise UsageError(f"{where}: student {sorted(both)[0]} stands in [students] and in [adopted]")
    check_keys(preset.train, TRAIN_KEYS, where, "train")
    _check_kinds(preset.train, TRAIN_KINDS, where, "train")
    for name, recipe in preset.recipes.items():
        if not is_name(name):
            raise UsageError(f"{where}: recipe {one_line(name)!r} may have letters, digits, '_', '.' and '-' only")
        check_keys(recipe, RECIPE_KEYS, where, f"recipes.{name}")
        _check_kinds(recipe, RECIPE_KINDS, where, f"recipes.{name}")
        if recipe.get("processes", 1) < 1:
            raise UsageError(f"{where}: processes in [recipes.{name}] must be at least 1, found {recipe['processes']}")
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
