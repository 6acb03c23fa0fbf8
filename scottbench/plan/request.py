"""Where a value of a run comes from: flag > SCOTTBENCH_* variable > config file > preset > default, and how it is kept.

The order between the first three and the defaults is click's; here are the names, the config file, and the record that a run folder
keeps of what was asked for, from which `scottbench resume` asks for the same again.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from scottbench.errors import IntegrityError, UsageError
from scottbench.registry.toml import NoToml, read_table
from scottbench.text import closest, did_you_mean, one_line

if TYPE_CHECKING:
    from scottbench.registry.presets import Preset

PREFIX = "SCOTTBENCH_"
NAMES = ("preset", "methods", "steps", "metrics", "limit", "seeds", "guidance", "options", "device", "students", "model", "dataset",
         "prompts", "batch_size", "compile", "tf32", "reference")
"""Settings that a variable and a config file may give; flags have the same names with dashes."""
LISTS, TABLES = {"methods", "steps", "metrics", "seeds"}, {"options", "students"}
PATHS = {"students", "model", "dataset", "prompts", "reference"}
OF_PRESET = ("methods", "steps", "metrics", "device", "model", "dataset", "guidance", "students", "reference")
NOT_KEPT = ("command", "origins")
SWITCHES = {"gradient_checkpointing", "fsdp", "offload", "tf32"}
"""Settings of a training that a config file gives as true or false."""
OTHERS = ("SCOTTBENCH_CACHE",)
"""Variables that look like a setting and are none: the folder of large files, for one like a training's cache."""
SECTION, SHARED = "train", ("preset", "device", "model", "dataset", "prompts")
"""The table of a config file that `scottbench train` reads, and the run's keys that count for it too."""


def variable(name: str) -> str:
    """Name the variable of a setting: "batch_size" -> "SCOTTBENCH_BATCH_SIZE"."""
    return PREFIX + name.upper()


def misspelt(environment: Mapping[str, str], names: Iterable[str] = NAMES) -> list[str]:
    """One warning for each SCOTTBENCH_* variable that looks like a setting and is none; plug-ins have variables of their own."""
    names = list(names)
    known, lines = [variable(name) for name in names], []
    for name in sorted(environment):
        # the shared prefix would make every name look like every other
        meant = closest(name.removeprefix(PREFIX), names) if name.startswith(PREFIX) and name not in (*known, *OTHERS) else None
        if meant is not None:
            lines.append(f"warning: {one_line(name)} is no setting. Did you mean {variable(meant)}?")
    return lines


def read_config(path: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """A config file as values of flags: {name: text, or list of texts}. Relative folders in it are relative to the file.

    names: keys of the [train] table, which is read then, over the keys at the top that a training shares with a run.
    Raises UsageError: unreadable, an unknown key (with a suggestion), a value of a wrong kind.
    """
    path = Path(path)
    try:
        table = read_table(path)
    except NoToml as error:
        raise UsageError(f"config file {path} cannot be read: {one_line(error)}") from None
    section = table.pop(SECTION, {})
    found = _known(path, table, NAMES, "" if names is None else f". Those of a training stand under [{SECTION}].")
    if names is None:
        return found
    if not isinstance(section, dict):
        raise UsageError(f"config file {path}: '{SECTION}' must be a table: [{SECTION}]")
    return {key: value for key, value in found.items() if key in SHARED} | _known(path, section, names, "", f" in [{SECTION}]")


def _known(path: Path, table: Mapping[str, Any], names: Sequence[str], hint: str, where: str = "") -> dict[str, Any]:
    for key in table:
        if key not in names:
            listed = f"{did_you_mean(key, names)} Keys: {', '.join(names)}{hint}"
            raise UsageError(f"config file {path}: unknown key '{one_line(key)}'{where}.{listed}")
    return {key: _values(path, key, value) for key, value in table.items()}


def _values(path: Path, key: str, value: Any) -> Any:
    if key in SWITCHES and isinstance(value, bool):
        return value
    if key in TABLES:
        if not isinstance(value, dict) or any(isinstance(item, (dict, list)) for item in value.values()):
            raise UsageError(f"config file {path}: '{key}' must be a table of values: [{key}]")
        return [f"{name}={_beside(path, str(item)) if key in PATHS else item}" for name, item in value.items()]
    if key in LISTS and isinstance(value, list):
        value = ",".join(map(str, value))
    if isinstance(value, (dict, list, bool)) or value == "":
        raise UsageError(f"config file {path}: '{key}' must be {'a list' if key in LISTS else 'one value'}, found {one_line(repr(value))}")
    text = _beside(path, value) if key in PATHS and isinstance(value, str) else str(value)
    return [text] if key in LISTS - {"seeds"} else text


def _beside(path: Path, text: str) -> str:
    """A relative path of the file, seen from where we are; a name stays a name."""
    return str(path.parent / text) if text.startswith(".") or (os.sep in text and not text.startswith((os.sep, "~"))) else text


def parse_seeds(text: str) -> list[int]:
    """Read "0..2" as [0, 1, 2]; "0,1,7" as [0, 1, 7]; "3" as [3]. Raises UsageError: not whole numbers of at least 0, falling, twice."""
    seeds: list[int] = []
    for piece in text.split(","):
        first, dots, last = piece.strip().partition("..")
        try:
            ends = int(first), int(last) if dots else int(first)
        except ValueError:
            ends = (-1, -1)
        if not 0 <= ends[0] <= ends[1] < 2**63:
            raise UsageError(f"--seeds must be whole numbers of at least 0 such as 0, 0,1,2 or 0..2, found '{one_line(text)}'")
        if ends[1] - ends[0] >= 1000:
            raise UsageError(f"--seeds {one_line(text)}: more than 1000 seeds")
        seeds += range(ends[0], ends[1] + 1)
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {one_line(text)} names a seed twice; name each once")
    return seeds


def recorded(request: Any, preset: Preset, filled: Mapping[str, Any] | None = None) -> dict[str, dict]:
    """{name: {"value", "origin"}} of everything that was asked for or filled in, for plan.lock.json and `scottbench config show`.

    request: a RunRequest, or another with `origins`. filled: the preset's values by name, where they are not its fields.
    """
    of_preset = {name: getattr(preset, name) for name in OF_PRESET} if filled is None else filled
    found = {}
    for item in dataclasses.fields(request):
        if item.name in NOT_KEPT:
            continue
        value = getattr(request, item.name)
        default = item.default_factory() if item.default is dataclasses.MISSING and callable(item.default_factory) else item.default
        if item.name in request.origins:
            origin = request.origins[item.name]
        elif value != default:
            origin = "call"
        elif of_preset.get(item.name):
            value, origin = unplaced(of_preset[item.name], preset.folder), f"preset {preset.name}"
        else:
            origin = "default"
        found[item.name] = {"value": value, "origin": origin}
    return found


def unplaced(value: Any, folder: Path) -> Any:
    """Return a preset's value without the machine's folders: paths below the preset's folder from there on, others from the outermost
    package that they lie in. It is for readers, for a preset's values are looked up again."""
    if isinstance(value, Mapping):
        return {key: unplaced(one, folder) for key, one in value.items()}
    if not isinstance(value, str) or not os.path.isabs(value):
        return value
    path = Path(value)
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    packages = [parent for parent in path.parents if (parent / "__init__.py").is_file()]
    return path.relative_to(packages[-1].parent).as_posix() if packages else value


def request_of(settings: Mapping[str, dict], changes: Mapping[str, Any], command: str) -> RunRequest:
    """Make the request of a run folder again from its settings; values of the preset and defaults are looked up again.

    changes: other values, by name. Raises UsageError for settings that are of another version, IntegrityError for damaged ones.
    """
    known = {item.name for item in dataclasses.fields(RunRequest)} - set(NOT_KEPT)
    given = {name: entry for name, entry in settings.items() if name == "preset" or not _filled_in(entry.get("origin", ""))}
    if not given.keys() <= known or "preset" not in given:
        raise UsageError("the run folder does not say what was asked for: another version wrote it. Make a new run.")
    origins = {name: entry["origin"] for name, entry in given.items() if entry["origin"] != "call"}
    values = {name: entry.get("value") for name, entry in given.items()}
    if unfit := [name for name, value in values.items() if not _fits(name, value)]:
        found = one_line(repr(values[unfit[0]]))[:80]
        raise IntegrityError(f"the run folder's plan.lock.json is damaged: nobody can ask for '{unfit[0]}' {found}. Put it back as it was.")
    if "students" in changes:  # those that have not moved stay where they were
        changes = {**changes, "students": {**(values.get("students") or {}), **changes["students"]}}
    return RunRequest(**{**values, **changes}, origins=origins, command=command)


def _fits(name: str, value: object) -> bool:
    """Whether a value has the kind that a request's field of that name has."""
    from jsonschema import Draft202012Validator

    from scottbench.store.schemas.of_types import schema_of

    return bool(Draft202012Validator(schema_of(get_type_hints(RunRequest)[name])).is_valid(value))


def _filled_in(origin: str) -> bool:
    return origin == "default" or origin.startswith("preset ")


def origins(
    sources: Iterable[tuple[str, str]], config: str | None, variable: Callable[[str], str] = variable
) -> dict[str, str]:
    """{name: origin in words} from (name, click's source): "flag", "SCOTTBENCH_STEPS", "file bench.toml"."""
    words = {"COMMANDLINE": lambda name: "flag", "ENVIRONMENT": variable, "DEFAULT_MAP": lambda name: f"file {Path(str(config)).name}"}
    return {name: words[source](name) for name, source in sources if source in words}


@dataclass(frozen=True)
class RunRequest:
    """Everything that the user asked for, as text was parsed; names are looked up by `make_plan`."""

    preset: str
    methods: list[str] = field(default_factory=list)
    """Each a name, or name@key=value,...; [] for the preset's."""
    steps: list[int] = field(default_factory=list)
    """Numbers of sampling steps, for the methods that have none of their own (name@steps=N); [] for the preset's."""
    metrics: list[str] | None = None
    limit: int | None = None
    """Only the first `limit` items of the evaluation split; the reference is the images of the same items, unless it is a set of its
    own, which stays whole."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Each a cell of every method and step count."""
    guidance: float | None = None
    options: dict[str, str] = field(default_factory=dict)
    """For every method of the run that has an option of that name."""
    device: str = "auto"
    students: dict[str, str] = field(default_factory=dict)
    """Trainer, or the S of a method's @student=S, -> student folder, in place of the preset's."""
    model: str | None = None
    """Name of a model, or path of a diffusers pipeline folder, in place of the preset's."""
    allow_unsafe_checkpoint: bool = False
    """Read pickled weights (.bin) of a `model` folder that has no safetensors; the run and its report say so."""
    dataset: str | None = None
    """Name of a dataset, or a folder or archive of pictures with captions, in place of the preset's; each may have @key=value."""
    prompts: str | None = None
    """File of captions: of a `dataset` that is a folder, or of the `pictures` that are scored."""
    pictures: dict[str, str] = field(default_factory=dict)
    """Row -> folder or archive of pictures that were made elsewhere."""
    compile: str = "off"
    """"off", "blocks" or "graphs": how U-Nets are compiled; see `scottbench.models.compiled.KINDS`."""
    tf32: str = "off"
    """"on": a GPU's products in float32 may be in TF32; see `scottbench.store.environment.set_tf32`."""
    scoring: bool = False
    """Measure `pictures` alone: no method is sampled and no model opened."""
    reference: str | None = None
    """Name of a dataset, or a folder or archive, whose images are the reference. None: of a run the preset's, else the dataset's own; of
    pictures that are scored there is none, only their prompts."""
    command: str = ""
    origins: dict[str, str] = field(default_factory=dict)
    """Field -> where its value comes from ("flag", "SCOTTBENCH_STEPS", "file bench.toml"), for those that were given."""
