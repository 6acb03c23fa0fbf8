"""scottbench score: other metrics of a finished run, or any pictures and their captions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scottbench import DEFAULT_PRESET
from scottbench.cli.flags import TAKE_LOCK
from scottbench.cli.running import of_model

if TYPE_CHECKING:
    from scottbench.plan.request import RunRequest
    from scottbench.registry.loader import Plugins

OF_PICTURES = ("prompts", "reference", "names", "preset", "limit", "out", "device")
"""Flags that mean something for pictures alone."""


@click.command(short_help="Measure pictures from anywhere, or a finished run with other metrics; generates nothing.")
@click.argument("places", nargs=-1, required=True, metavar="RUN | DIR...")
@click.option("-k", "--metrics", multiple=True, metavar="A,B", help="Each also as NAME@key=value,... Default for pictures: the preset's.")
@click.option("--prompts", metavar="FILE", help="Captions of the pictures: CSV, JSONL, JSON (COCO) or lines of text.")
@click.option("--reference", metavar="DIR|NAME", help="Real images to compare with: a folder of pictures, or a dataset.")
@click.option("--name", "names", multiple=True, metavar="NAME", help="Name of a DIR's row, in their order. Default: the folder's.")
@click.option("-p", "--preset", metavar="NAME", help="Whose extractors and metrics. Default: that of the reference dataset, else "
              f"{DEFAULT_PRESET}.")  # fmt: skip
@click.option("-n", "--limit", metavar="N", help="Only the first N pictures.")
@click.option("-o", "--out", metavar="DIR", help="Run folder of scored pictures. Default: a new one in runs/.")
@click.option("-d", "--device", metavar="auto|cpu|cuda", help="Default: auto.")
@of_model
@TAKE_LOCK
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout instead of a table.")
@click.option("--nearest", "near", is_flag=True, help="Of a RUN: look up the training image nearest to each sample, for its report.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_obj
def score(command: str, places: tuple[str, ...], as_json: bool, quiet: bool, near: bool, **values: Any) -> None:
    """Measure pictures that anybody made, or RUN (a run folder, or the head of its plan's hash) with other metrics.

    \b
    scottbench score out/ --prompts captions.csv --name flux-api        CLIP score and others that need no reference
    scottbench score out/ --prompts captions.csv --reference photos/    FID and the rest too
    scottbench score a/ b/ --prompts captions.csv                       two rows, with paired tests
    scottbench score RUN -k kid                                         other metrics of a run; its own results stay

    A DIR is a folder of PNG, JPEG or WebP pictures, a webdataset .tar, an .npz or a .safetensors file. The id of a picture is its file's
    name without suffix; captions name it in a column id, or the file in a column file. Pictures get a run folder of their own; other
    metrics of a run go to scores/ in its folder.
    \f
    Raises UsageError for flags that do not go together; ScottbenchError, after the tables, where a metric could not be computed or
    pictures could not be read.
    """
    from scottbench.errors import UsageError
    from scottbench.store.runs import find_run

    if near:
        _look_up(places, quiet, values)
        return
    if len(places) > 1 or _is_pictures(places[0]) or values["prompts"] is not None:
        if values["model"] is not None or values["allow_unsafe_checkpoint"]:
            raise UsageError("--model is for a run that is measured again; pictures are scored without a model.")
        _score_pictures(command, places, as_json, quiet, values)
        return
    root = find_run(places[0])
    given = [name for name in OF_PICTURES if values[name]]
    if given:
        flag = {"names": "name"}.get(given[0], given[0])
        raise UsageError(f"--{flag} is for pictures, and {places[0]} is a run.")
    if not values["metrics"]:
        raise UsageError("name the metrics to measure the run with: scottbench score RUN -k A,B (see: scottbench list metrics)")
    _score_run(root, as_json, quiet, values)


def _look_up(places: tuple[str, ...], quiet: bool, values: dict[str, Any]) -> None:
    """Find the nearest training image of each sample of a run, and make its report again. Raises UsageError for pictures, and where a
    flag is given that means nothing here."""
    from scottbench.cli.running import all_plugins, model_changes, plan_of, progress_of
    from scottbench.errors import UsageError
    from scottbench.report import build
    from scottbench.store.differences import GENERATION
    from scottbench.store.runs import find_run

    given = [name for name in ("metrics", *OF_PICTURES) if values[name]]
    if len(places) > 1 or given or _is_pictures(places[0]):
        raise UsageError("--nearest is for one run alone: scottbench score RUN --nearest")
    root, plugins = find_run(places[0]), all_plugins()
    with progress_of(quiet) as progress:
        made, _ = plan_of(plugins, root, model_changes(values), GENERATION)
        from scottbench.plan.data import choose_data
        from scottbench.plan.request import request_of
        from scottbench.run.nearest import nearest
        from scottbench.store.folder import RunFolder

        locked = RunFolder(root).locked_plan() or {}
        items = choose_data(plugins, made.preset, request_of(locked["settings"], {}, "")).open("train")
        found = nearest(made, items, root, lambda done, total: progress.run_event(
            {"stage": "reference", "cell": None, "done": done, "total": total}))  # fmt: skip
    click.echo(str(found))
    click.echo(str(build(root)))


def _is_pictures(place: str) -> bool:
    """Whether a place is a folder or archive of pictures, not a run."""
    from scottbench.store.folder import LOCK, MANIFEST

    try:
        path = Path(place).expanduser()
        return path.exists() and not (path / LOCK).exists() and not (path / MANIFEST).exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _score_run(root: Path, as_json: bool, quiet: bool, values: dict[str, Any]) -> None:
    """Measure a run with other metrics. Raises ScottbenchError, after the tables, where one could not be computed."""
    from scottbench.cli import running
    from scottbench.cli.printing import names, print_json
    from scottbench.cli.results import print_results, read_results
    from scottbench.cli.running import all_plugins, model_changes, plan_of, progress_of
    from scottbench.errors import ScottbenchError
    from scottbench.store.differences import GENERATION

    asked, plugins = names("--metrics", values["metrics"]), all_plugins()
    with progress_of(quiet) as progress:
        made, _ = plan_of(plugins, root, {"metrics": asked, **model_changes(values)}, GENERATION)
        from scottbench.run.outcome import parts_of
        from scottbench.run.score import score as score_run

        progress.expect({key: part for key, part in parts_of(made).items() if key.startswith("metrics ")})
        running.take_lock(root if values["take_lock"] else None)
        folder = score_run(made, plugins, root, progress.run_event)
    results = read_results(folder)
    if as_json:
        print_json(results)
    else:
        print_results(folder)
    if results["status"] == "failed":
        raise ScottbenchError(f"some metrics could not be computed; the reasons are in {folder / 'manifest.json'}")


# --- pictures --------------------------------------------------------------------------------------------------------


def _score_pictures(command: str, places: tuple[str, ...], as_json: bool, quiet: bool, values: dict[str, Any]) -> None:
    """Make a run folder of pictures. Raises ScottbenchError, after the tables, where something failed or pictures could not be read."""
    from scottbench.cli.printing import note
    from scottbench.cli.running import all_plugins, execute_plan, progress_of, show_run, take_lock
    from scottbench.errors import ScottbenchError

    plugins = all_plugins()
    request = _request(command, rows_of(places, values["names"]), plugins, values)
    with progress_of(quiet) as progress:
        from scottbench.models.importing import importing

        with importing():
            from scottbench.plan.plan import make_plan

        made = make_plan(plugins, request)
        for warning in made.warnings:
            note(f"warning: {warning}")
        from scottbench.run.execute import default_folder

        folder = default_folder(made) if values["out"] is None else Path(values["out"])
        take_lock(folder if values["take_lock"] else None)
        failure, folder = execute_plan(made, plugins, folder, None, progress, None)
    show_run(folder, as_json, failure)
    if made.broken:
        raise ScottbenchError("the rest was measured, but " + "; ".join(made.broken))


def _request(command: str, rows: dict[str, str], plugins: Plugins, values: dict[str, Any]) -> RunRequest:
    """The request of pictures to score."""
    from scottbench.cli.printing import maybe, names
    from scottbench.plan.request import RunRequest, origins

    context = click.get_current_context()
    sources = [(name, source.name) for name in values if (source := context.get_parameter_source(name)) is not None]
    preset, reference = values["preset"], values["reference"]
    if preset is None:
        of_reference = (found.noun.name for found in plugins.nouns["preset"].values() if found.noun.dataset == reference)
        preset = next(of_reference, DEFAULT_PRESET)
    return RunRequest(
        preset=preset,
        metrics=names("--metrics", values["metrics"]) if values["metrics"] else None,
        limit=maybe("--limit", values["limit"]),
        device="auto" if values["device"] is None else values["device"],
        prompts=values["prompts"],
        pictures=rows,
        scoring=True,
        reference=reference,
        command=command,
        origins={"preset": "default", "pictures": "flag", "scoring": "flag", **origins(sources, None)},
    )


def rows_of(places: tuple[str, ...], given: tuple[str, ...]) -> dict[str, str]:
    """Name the row of each place: as given, else by its folder or file. Raises UsageError: too many names, or one twice."""
    from scottbench.errors import UsageError
    from scottbench.store.pictures import safe_id
    from scottbench.text import one_line

    if len(given) > len(places):
        raise UsageError(f"{len(given)} names for {len(places)} places: give --name once for each, in their order.")
    rows: dict[str, str] = {}
    for place, name in zip(places, [*given, *[None] * (len(places) - len(given))], strict=True):
        path = Path(place).expanduser().resolve()
        row = safe_id(path.stem if path.is_file() else path.name) if name is None else name
        if row in rows:
            raise UsageError(f"two rows are called '{one_line(row)}'. Name them: --name A --name B")
        rows[row] = place
    return rows
