"""Several runs on one page: rows of equal fingerprints in one table, sorted by each metric; others in tables apart, with the reason.

Made of the runs' records alone, as a page of HTML, as JSON and as CSV.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scottbench.errors import ScottbenchError
from scottbench.report import environment
from scottbench.report.candidates import milliseconds, nfe
from scottbench.report.decision import decide
from scottbench.report.export import comma_separated
from scottbench.report.results import metric_decimals
from scottbench.report.tables import Column, Entry, Table, valued
from scottbench.store.files import json_bytes, write_file, writing
from scottbench.store.record import CellRecord, MetricRecord, RunRecord, groups, read_record
from scottbench.store.sums import SUMS, sums_of
from scottbench.text import one_line

SCHEMA = "scottbench.leaderboard/1"
ROWS = 400
"""Most rows of a table on the page; the CSV has all."""
BOARDS = 12
"""Most columns that a table is sorted by."""
HINT = "Give another folder by --out."


@dataclass(frozen=True)
class Place:
    """A row of the table, and the run that it is of."""

    run: RunRecord
    name: str
    """The run's folder, as the page names it."""
    cell: CellRecord


@dataclass
class Group:
    """Rows that may be ranked together."""

    places: list[Place]
    metrics: list[MetricRecord]
    why: str = ""
    """The reason that these stand apart from the first group's."""

    @property
    def n(self) -> int:
        """Images, or prompts, behind each value."""
        return self.places[0].cell.n


@dataclass(frozen=True)
class Board:
    """A table that is sorted by one of its columns."""

    id: str
    column: str
    """Heading of the column that it is sorted by."""
    rising: bool
    table: Table


@dataclass
class Together:
    """Several runs, read and put in groups."""

    runs: list[tuple[str, RunRecord]]
    groups: list[Group]
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(folder, reason) of what could not be read."""


def read_runs(folders: Sequence[Path], names: Sequence[str]) -> Together:
    """Read runs. Raises as `read_record` for the first that cannot be read."""
    return _together([(name, read_record(folder)) for folder, name in zip(folders, names, strict=True)])


def read_folder(home: Path) -> Together:
    """Read all runs that lie in a folder, or that it is; those that cannot be read are named with the reason."""
    places = [path.parent for path in sorted([*home.glob("manifest.json"), *home.glob("*/manifest.json")])]
    runs, left_out = [], []
    for folder in places:
        name = folder.name if folder != home else folder.resolve().name
        try:
            runs.append((name, read_record(folder)))
        except ScottbenchError as error:
            left_out.append((name, one_line(str(error))))
    return _together(runs, left_out)


def _together(runs: list[tuple[str, RunRecord]], left_out: list[tuple[str, str]] | None = None) -> Together:
    places: dict[int, Place] = {}
    cells: list[CellRecord] = []
    for name, run in runs:
        metrics, _ = run.leading()
        of_run = run.over_seeds if run.of_scope("mean")[0] else run.cells
        for cell in of_run:
            if any(metric.name in cell.values for metric in metrics):
                places[id(cell)] = Place(run, name, cell)
                cells.append(cell)
    found = []
    for group in groups(cells):
        known = {metric.name: metric for cell in group for metric in places[id(cell)].run.metrics if metric.name in cell.fingerprints}
        found.append(Group([places[id(cell)] for cell in group], list(known.values())))
    for other in found[1:]:
        other.why = why_apart(found[0].places, other.places)
    return Together(runs, found, [] if left_out is None else left_out)


def why_apart(first: Sequence[Place], other: Sequence[Place]) -> str:
    """Say in what the fingerprints of two groups differ: "n=256 against n=5000"."""
    for a in first:
        for b in other:
            for metric in a.cell.fingerprints:
                mine, theirs = a.cell.fingerprints[metric], b.cell.fingerprints.get(metric)
                if theirs is not None and mine != theirs:
                    parts, others = ([f"n={n}", *text.split("; ")] for n, text in (theirs, mine))
                    here, there = ([part for part in one if part not in two] for one, two in ((parts, others), (others, parts)))
                    return f"{', '.join(dict.fromkeys(here)) or 'less'} against {', '.join(dict.fromkeys(there)) or 'less'}"
    return "no metric in common"


# --- tables -----------------------------------------------------------------------------------------------------------


def boards(group: Group, number: int) -> list[Board]:
    """Make the same table sorted by each of its metrics and by time, best first."""
    shown = group.metrics[:BOARDS]
    found = []
    for place, metric in enumerate(shown, start=1):
        sign = -1 if metric.higher_is_better else 1
        ordered = sorted(group.places, key=lambda one: (metric.name not in one.cell.values, sign * one.cell.values.get(metric.name, 0)))
        heading = f"{metric.label} {metric.arrow}"
        found.append(Board(f"board-{number}-{place}", heading, sign > 0, _table(group, ordered, metric.label)))
    timed = sorted(group.places, key=lambda one: (_time(one) is None, _time(one) or 0))
    if _time(timed[0]) is not None:
        found.append(Board(f"board-{number}-time", "ms/image ↓", True, _table(group, timed, "time")))
    return found


def _time(place: Place) -> float | None:
    return milliseconds(place.run, place.cell)


def _table(group: Group, places: Sequence[Place], by: str) -> Table:
    cells = [place.cell for place in group.places]
    digits = {metric.name: metric_decimals(metric, cells) for metric in group.metrics}
    columns = [Column("Method"), Column("Steps", number=True), Column("NFE", number=True)]
    columns += [Column(f"{metric.label} {metric.arrow}", metric.extractor, True, metric=metric.name) for metric in group.metrics[:BOARDS]]
    columns += [Column("ms/image ↓", number=True), Column("Seeds", number=True)]
    rows = []
    for place in places[:ROWS]:
        cell, time = place.cell, _time(place)
        spent = nfe(cell)
        row = [Entry(cell.method, small=(place.name,)), Entry(cell.steps_text), Entry("-" if spent is None else str(spent))]
        row += [_value(cell, metric, digits[metric.name]) for metric in group.metrics[:BOARDS]]
        rows.append([*row, Entry("-" if time is None else f"{time:.1f}"), Entry(", ".join(map(str, cell.seeds)))])
    left = "" if len(places) <= ROWS else f" The other {len(places) - ROWS} rows are in the CSV."
    caption = (
        f"Sorted by {by}, best first, N = {group.n:,} a row; below each method its run. In brackets: 95 % intervals. Times are of each "
        f"run's own machine.{left}"
    )
    return Table(caption, columns, rows)


def _value(cell: CellRecord, metric: MetricRecord, digits: int) -> Entry:
    if metric.name not in cell.values:
        return Entry("-")
    ends = cell.intervals.get(metric.name)
    return valued(cell.values[metric.name], (None, None) if ends is None else (ends.low, ends.high), digits)


# --- files ------------------------------------------------------------------------------------------------------------


def page(found: Together, title: str) -> str:
    """The page of several runs, as the text of its HTML file."""
    sorted_tables = [(group, boards(group, number)) for number, group in enumerate(found.groups, start=1)]
    for number, board in enumerate((board for _, tables in sorted_tables for board in tables), start=1):
        board.table.number = number
    answers = [(name, run.manifest["plan_hash"][:8], str(run.plan.get("preset")), str(run.manifest["created"])[:10],
                run.manifest["status"], decide(run).short) for name, run in found.runs]  # fmt: skip
    return environment().get_template("together.html.j2").render(
        title=title, answers=answers, groups=sorted_tables, left_out=found.left_out, headings=_headings)  # fmt: skip


def _headings(tables: Sequence[Board]) -> dict[str, str]:
    """Heading of a column -> the table that is sorted by it."""
    return {board.column: board.id for board in tables}


def document(found: Together) -> dict[str, Any]:
    """All runs and rows as one JSON document, in groups that may be ranked."""
    runs = [{"run": name, "plan_hash": run.manifest["plan_hash"], "preset": run.plan.get("preset"), "created": run.manifest["created"],
             "status": run.manifest["status"], "answer": decide(run).short} for name, run in found.runs]  # fmt: skip
    tables = [{"n": group.n, "why_apart": group.why or None, "metrics": [_metric(metric, group) for metric in group.metrics],
               "rows": [_row(place, group) for place in group.places]} for group in found.groups]  # fmt: skip
    left_out = [{"run": name, "reason": reason} for name, reason in found.left_out]
    return {"schema": SCHEMA, "runs": runs, "groups": tables, "left_out": left_out}


def _metric(metric: MetricRecord, group: Group) -> dict[str, Any]:
    known = [place.cell.fingerprints[metric.name][1] for place in group.places if metric.name in place.cell.fingerprints]
    return {"name": metric.name, "label": metric.label, "extractor": metric.extractor, "higher_is_better": metric.higher_is_better,
            "fingerprint": known[0]}  # fmt: skip


def _row(place: Place, group: Group) -> dict[str, Any]:
    cell, values = place.cell, {}
    for metric in group.metrics:
        if metric.name in cell.values:
            ends = cell.intervals.get(metric.name)
            low, high = (None, None) if ends is None else (ends.low, ends.high)
            values[metric.name] = {"value": cell.values[metric.name], "low": low, "high": high}
    return {
        "run": place.name, "plan_hash": place.run.manifest["plan_hash"], "preset": place.run.plan.get("preset"), "method": cell.method,
        "steps": cell.steps, "seeds": list(cell.seeds), "nfe": nfe(cell), "milliseconds": _time(place),
        "weights": cell.facts.get("weights_digest"), "values": values,
    }  # fmt: skip


def flat(found: Together) -> str:
    """All rows as CSV, one a row of results: "group" counts from 1, a column each for value, low and high of every metric."""
    names = list(dict.fromkeys(metric.name for group in found.groups for metric in group.metrics))
    rows = []
    for number, group in enumerate(found.groups, start=1):
        for place in group.places:
            row = _row(place, group)
            values, seeds = row.pop("values"), " ".join(map(str, row.pop("seeds")))
            told = {f"{name}{end}": values.get(name, {}).get(key) for name in names for end, key in
                    (("", "value"), ("_low", "low"), ("_high", "high"))}  # fmt: skip
            rows.append({"group": number, "n": group.n, **row, "seeds": seeds, **told})
    return comma_separated(rows)


def write(found: Together, out: Path, title: str, name: str) -> list[Path]:
    """Write index.html, `name`.json and `name`.csv to a folder, with their digests beside them. Raises UsageError where it cannot be
    written."""
    files = {"index.html": page(found, title).encode("utf-8", "replace"), f"{name}.csv": flat(found).encode(),
             f"{name}.json": json_bytes(document(found))}  # fmt: skip
    with writing(out, HINT):
        (out / SUMS).unlink(missing_ok=True)  # the old one must never describe the new page
    made = [write_file(out / one, data, HINT) for one, data in files.items()]
    write_file(out / SUMS, sums_of(files), HINT)
    return made


def head_of(found: Together) -> str:
    """Eight digits that name a set of runs."""
    text = "\n".join(str(run.manifest["plan_hash"]) for _, run in found.runs)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
