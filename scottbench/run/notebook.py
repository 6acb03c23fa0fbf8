"""The benchmark for notebooks and scripts: `benchmark` makes a run as `scottbench run` does, `open_run` opens one, `Run` shows it."""

from __future__ import annotations

import functools
import operator
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from scottbench import DEFAULT_PRESET
from scottbench.errors import IntegrityError, ScottbenchWarning, UsageError
from scottbench.store.contents import decoded, unpack_pictures
from scottbench.store.files import check_name
from scottbench.store.reader import Records, chunks_of
from scottbench.store.record import CellRecord, read_record
from scottbench.store.runs import find_run
from scottbench.text import counts_in_words, did_you_mean, one_line

if TYPE_CHECKING:
    import polars as pl
    from PIL.Image import Image

    from scottbench.plan.request import RunRequest
    from scottbench.registry.loader import Plugins
    from scottbench.run.own_prompts import Samples

Folder = str | os.PathLike[str]


class RunSettings(TypedDict, total=False):
    """Further arguments of `benchmark`, each by name; they mean what the flags of `scottbench run` mean."""

    metrics: str | Iterable[str]
    """Names, each also as NAME@key=value. Default: the preset's."""
    seeds: int | Iterable[int]
    """Seeds of all noise, a cell each. Default: 0."""
    guidance: float
    """Guidance scale of all methods, 1 = unguided. For one: NAME@guidance=S."""
    options: Mapping[str, object]
    """Options of the methods, for each that has one of the name."""
    students: Mapping[str, Folder]
    """Trainer -> student folder or `Student`, in place of the preset's."""
    model: Folder
    """Teacher: a name, or a Stable Diffusion pipeline folder."""
    dataset: Folder
    """Data in place of the preset's: a name, or a folder of pictures with captions."""
    prompts: Folder
    """File of captions of such a folder."""
    pictures: Mapping[str, Folder]
    """Row -> folder of pictures made elsewhere, beside the methods."""
    device: str
    """auto, cpu, cuda or cuda:N."""
    batch_size: int
    """Images at once: speed only."""
    tf32: str
    """"on": TF32 for a GPU's products in float32; part of the run's identity. Default: "off"."""
    compile: str
    """"blocks" or "graphs": compile the U-Nets; part of the run's identity. Default: "off"."""
    allow_unsafe_checkpoint: bool
    """Read pickled weights of `model`; the report says so."""
    progress: bool
    """Show progress on stderr. Default: True."""


def benchmark(
    methods: str | Iterable[str] | None = None,
    steps: int | Iterable[int] | None = None,
    preset: str = DEFAULT_PRESET,
    limit: int | None = 256,
    out: Folder | None = None,
    **more: Unpack[RunSettings],
) -> Run:
    """Sample with each method and number of steps, measure, and return the run.

    methods, steps: one or several; None = the preset's. limit: only the first so many prompts; None = all. out: the run folder; one of
    the same plan is gone on with; None = a new one in runs/. more: see `RunSettings`. A run in which some cells failed is returned too,
    with a ScottbenchWarning that gives the reasons. Raises UsageError, MissingAsset, DamagedAsset, IntegrityError and Incomplete, as
    `scottbench run` ends with their codes.
    """
    from scottbench.plan.plan import make_plan
    from scottbench.run.execute import default_folder
    from scottbench.run.outcome import attempt
    from scottbench.text.progress import progress_of

    request = _request({"methods": methods, "steps": steps, "preset": preset, "limit": limit, **more})
    size = more.get("batch_size")
    plugins = _plugins()
    with progress_of(not more.get("progress", True)) as progress:
        made = make_plan(plugins, request)
        for line in made.warnings:
            warnings.warn(line, ScottbenchWarning, stacklevel=2)
        folder = default_folder(made) if out is None else Path(out).expanduser()
        outcome = attempt(made, plugins, folder, None if size is None else _whole("batch_size", size)[0], progress.run_event)
    if outcome.failure is not None:
        warnings.warn(str(outcome.failure), ScottbenchWarning, stacklevel=2)
    return Run(outcome.folder)


class SampleSettings(TypedDict, total=False):
    """Further arguments of `sample`, each by name; they mean what the flags of `scottbench sample` mean."""

    guidance: float
    """Guidance scale of all methods, 1 = unguided. For one: NAME@guidance=S."""
    options: Mapping[str, object]
    """Options of the methods, for each that has one of the name."""
    students: Mapping[str, Folder]
    """Trainer -> student folder or `Student`, in place of the preset's."""
    model: Folder
    """Teacher: a name, or a Stable Diffusion pipeline folder."""
    device: str
    """auto, cpu, cuda or cuda:N."""
    allow_unsafe_checkpoint: bool
    """Read pickled weights of `model`."""
    out: Folder
    """Folder to write PNGs, sheet and record to. Default: nothing is written."""
    progress: bool
    """Show progress on stderr. Default: True."""


def sample(
    prompts: str | Iterable[str],
    methods: str | Iterable[str] | None = None,
    steps: int | Iterable[int] | None = None,
    preset: str = DEFAULT_PRESET,
    seeds: int | Iterable[int] = 0,
    **more: Unpack[SampleSettings],
) -> Samples:
    """Make a picture of each prompt with each method, number of steps and seed, and return them; a notebook shows them on one sheet.

    methods, steps: one or several; None = the preset's. more: see `SampleSettings`. A method that could not make its pictures is a
    ScottbenchWarning that gives the reason. Raises UsageError, MissingAsset and DamagedAsset, as `scottbench sample` ends with their codes.
    """
    from scottbench.run.own_prompts import Samples, check_folder, checked, make, open_session
    from scottbench.text.progress import progress_of

    known = ["prompts", "methods", "steps", "preset", "seeds", *SampleSettings.__annotations__]
    asked = {name: value for name, value in more.items() if name not in ("out", "progress")}
    request = _request({"methods": methods, "steps": steps, "preset": preset, "seeds": seeds, **asked}, "sample", known)
    out, plugins, found = more.get("out"), _plugins(), [prompts] if isinstance(prompts, str) else list(prompts)
    if not all(isinstance(prompt, str) for prompt in found):
        raise UsageError(f"prompts must be text, such as prompts='a red apple', found {one_line(repr(prompts))[:80]}")
    with progress_of(not more.get("progress", True)) as progress:
        texts, remarks = checked(found)
        session = open_session(plugins, request, texts)
        session.remarks[:0] = remarks
        if out is not None:
            check_folder(Path(out).expanduser(), session)
        for line in session.remarks:
            warnings.warn(line, ScottbenchWarning, stacklevel=2)
        made = Samples(session, list(make(session, progress.run_event)))
    if out is not None:
        made.save(Path(out), request.command)
    for cell, why in session.failures.items():
        warnings.warn(f"{cell}: {why}", ScottbenchWarning, stacklevel=2)
    return made


def open_run(run: Folder) -> Run:
    """Open a finished run: a run folder, its name below runs/, or the head of its plan's hash.

    Raises UsageError: nothing or more than one goes by that name, or the folder is unfinished or damaged.
    """
    return Run(find_run(os.fspath(run)))


class Run:
    """A finished run. Its tables are polars frames and its images PIL images; a notebook shows its results and a row of samples."""

    folder: Path
    """The run folder, absolute."""

    def __init__(self, folder: Folder):
        self.folder = Path(folder).expanduser().absolute()
        self._record = read_record(self.folder)

    @functools.cached_property
    def results(self) -> pl.DataFrame:
        """One row per cell and metric, with its interval; of several seeds also one per method, number of steps and metric."""
        return self._frame("results.parquet")

    @functools.cached_property
    def pairs(self) -> pl.DataFrame:
        """Paired differences: methods at equal steps, and each method at neighbouring numbers of steps."""
        return self._frame("pairs.parquet")

    @functools.cached_property
    def items(self) -> pl.DataFrame:
        """Per cell, metric and prompt: its influence on the value, and its own value where the metric is a mean."""
        return self._frame("items.parquet")

    @functools.cached_property
    def timings(self) -> pl.DataFrame:
        """Seconds per cell and stage."""
        return self._frame("timings.parquet")

    @property
    def claims(self) -> list[dict[str, Any]]:
        """The papers' claims, judged: "name", "statement", "verdict", "evidence" and more of each."""
        return self._record.claims

    @property
    def report(self) -> Path:
        """The HTML report. Raises UsageError where it was not built."""
        path = self.folder / "report" / "index.html"
        if not path.is_file():
            raise UsageError(f"{self.folder} has no report. Build it: scottbench report {self.folder}")
        return path

    def image(self, method: str, steps: int, id: str | int, seed: int | None = None) -> Image:
        """Return one generated image. id: of a prompt, or its place 0, 1, ... in the run; seed: None = the run's first.

        Raises UsageError, which says what there is, and IntegrityError where the stored image is damaged.
        """
        import PIL.Image

        cell = self._cell(method, steps, seed)
        folder, place = chunks_of(self.folder, self._record.manifest), ("images", check_name(str(cell.facts["id"]), "cell id"))
        chunks = folder.stored(place)
        ids = [item_id for span in chunks for item_id in chunks[span]]
        if not ids:
            command = one_line(self._record.manifest["command"])
            raise UsageError(f"{self.folder} holds no images of {cell.name}, only its tables. To have them, make the run again: {command}")
        if isinstance(id, int) and 0 <= id < len(ids):
            id = ids[id]
        if id not in ids:
            raise UsageError(f"no image '{one_line(id)}' of {cell.name}.{did_you_mean(str(id), ids)} "
                             f"There are {len(ids):,}: '{ids[0]}' to '{ids[-1]}', or by place 0 to {len(ids) - 1}.")
        span = next(span for span in chunks if id in chunks[span])
        found = folder.chunk(place, span, chunks[span])
        if found is None:
            raise IntegrityError(f"the stored images {span.start} to {span.stop - 1} of {cell.name} are damaged. "
                                 f"Make them again: scottbench resume {self.folder}")
        return PIL.Image.fromarray(decoded(unpack_pictures(found[0], chunks[span])[chunks[span].index(id)]))

    def samples(self, n: int | None = None) -> Image:
        """Draw the first n sample items, one a row: the prompt, the reference image, then each method at each number of steps.

        n: None = all that the report shows. Raises UsageError for another n than there are, or where the run holds no images.
        """
        from scottbench.report.fragment import grid_image

        return grid_image(self._record, n)

    def _repr_html_(self) -> str:
        """Return the report's main table and a row of samples, for a notebook."""
        return self._html

    @functools.cached_property
    def _html(self) -> str:
        from scottbench.report.fragment import fragment

        return fragment(self._record)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _frame(self, name: str) -> pl.DataFrame:
        records = Records(self.folder)
        if not records.has(name):
            path = self.folder / name
            raise UsageError(f"{path} is missing: an earlier version made the run. Measure it again: scottbench resume {self.folder}")
        return records.table(name)

    def _cell(self, method: str, steps: int, seed: int | None) -> CellRecord:
        """The cell of that method, steps and seed; the message of the UsageError says which there are."""
        cells = self._record.cells
        of_method = [cell for cell in cells if cell.method == method]
        if not of_method:
            names = list(dict.fromkeys(cell.method for cell in cells))
            raise UsageError(f"no method '{one_line(method)}' in this run.{did_you_mean(str(method), names)} Methods: {', '.join(names)}")
        of_steps = [cell for cell in of_method if cell.steps == steps]
        if not of_steps:
            counts = counts_in_words(sorted({cell.steps for cell in of_method}))
            raise UsageError(f"no images of '{method}' at {one_line(steps)} steps in this run. Steps: {counts}")
        seeds = [cell.seeds[0] for cell in of_steps]
        if seed is not None and seed not in seeds:
            raise UsageError(f"no images of seed {one_line(seed)} in this run. Seeds: {', '.join(map(str, seeds))}")
        return of_steps[0 if seed is None else seeds.index(seed)]


def _plugins() -> Plugins:
    """All plug-ins; a warning for each broken one."""
    from scottbench.registry.loader import load_plugins

    plugins = load_plugins()
    for plugin in plugins.broken:
        line = f"plug-in '{plugin.name}' of {plugin.distribution} {plugin.version} is {plugin.status}"
        warnings.warn(line, ScottbenchWarning, stacklevel=3)
    return plugins


def _request(given: dict[str, Any], function: str = "benchmark", known: Iterable[str] | None = None) -> RunRequest:
    """What was asked for, checked as the flags of the command line are; known: the arguments of the public function."""
    from scottbench.plan.request import RunRequest, parse_seeds

    known = ["methods", "steps", "preset", "limit", "out", *RunSettings.__annotations__] if known is None else list(known)
    for name in given:
        if name not in known:
            raise UsageError(f"{function}() has no argument '{name}'.{did_you_mean(name, known)} Arguments: {', '.join(known)}")
    absent = [name for name, value in given.items() if name in ("batch_size", "progress") or (value is None and name != "preset")]
    given = {name: value for name, value in given.items() if name not in absent}
    read: dict[str, Callable[[str, Any], Any]] = {
        "preset": _word, "device": _word, "compile": _word, "tf32": _word,
        "methods": _names, "metrics": _names, "steps": _whole, "guidance": _number,
        "options": _texts, "students": _texts, "pictures": _texts,
    }  # fmt: skip
    asked: dict[str, Any] = {name: read.get(name, lambda _, value: value)(name, value) for name, value in given.items()}
    if "limit" in asked:
        asked["limit"] = _whole("limit", asked["limit"])[0]
    if "seeds" in asked:
        asked["seeds"] = parse_seeds(",".join(map(str, _whole("seeds", asked["seeds"]))))
    asked |= {name: os.fspath(asked[name]) for name in ("model", "dataset", "prompts") if name in asked}
    words = ", ".join(f"{name}={value!r}" for name, value in asked.items())
    return RunRequest(**asked, command=f"scottbench.{function}({words})")


def _word(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{what} must be a name, found {one_line(repr(value))}")
    return value


def _names(what: str, value: object) -> list[str]:
    """A list of names; commas part them as on the command line."""
    from scottbench.registry.options import split_list

    found = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    if not found or not all(isinstance(name, str) for name in found):
        raise UsageError(f"{what} must be names, such as {what}=['a', 'b'], found {one_line(repr(value))}")
    return split_list(map(str, found))


def _whole(what: str, value: object) -> list[int]:
    """A list of whole numbers."""
    found: list[Any] = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else [value]
    try:
        if not found or any(isinstance(number, bool) for number in found):
            raise TypeError
        return [operator.index(number) for number in found]
    except TypeError:
        raise UsageError(f"{what} must be whole numbers, such as {what}=2 or {what}=[1, 2], found {one_line(repr(value))}") from None


def _number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{what} must be a number, found {one_line(repr(value))}")
    return float(value)


def _texts(what: str, value: object) -> dict[str, str]:
    """{name: text} of options, or of folders."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{what} must be a dict, such as {what}={{'name': value}}, found {one_line(repr(value))}")
    return {str(name): str(os.fspath(entry) if isinstance(entry, os.PathLike) else entry) for name, entry in value.items()}
