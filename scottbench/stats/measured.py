"""Values that runs recorded, with the influence of every prompt, by cell and metric; read from records alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import IntegrityError, Mismatch, UsageError
from scottbench.stats.intervals import HALVES
from scottbench.store.tables import ITEM_COLUMNS, ITEMS, ITEMS_SCHEMA, polars_schema
from scottbench.text import at_steps, closest, one_line

if TYPE_CHECKING:
    import numpy as np

_STEPS = re.compile(r"(?P<method>.+)[:@](?P<steps>\d+)")


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric of one cell, or of several seeds of a cell: their mean, or measured together by a metric of scope "seeds"."""

    method: str
    """Label of the method."""
    steps: int
    seeds: tuple[int, ...]
    metric: str
    """Label of the metric."""
    higher_is_better: bool
    n: int
    """Prompts."""
    fingerprint: str
    value: float
    influence: np.ndarray
    """(n,) float64, the influence of each prompt on the value."""
    df: int
    """Degrees of freedom of the standard error."""
    ids: tuple[str, ...]
    """Item id of each prompt."""
    digits: int = 3
    """Decimals in tables."""
    id: str = ""
    """The (first) cell's folder name in the run; for seeds measured together, their name in the manifest."""
    title: str = ""
    """The metric with its extractor, "FID (pocket features)"."""
    preset: str = ""
    weights: str = ""
    """Digest of the weights that the method samples from."""
    student: dict[str, Any] | None = None
    """student.json, if the method samples from a student."""

    @property
    def cell(self) -> str:
        """The name that `scottbench compare` takes: "name@steps"."""
        return at_steps(self.method, self.steps)


def degrees_of_freedom(ci_method: str, n: int) -> int:
    """Return the degrees of freedom behind an interval. ci_method: its method's name in results.parquet."""
    return min(HALVES, n) - 1 if ci_method == "half-sampling" else n - 1


def read_measured(folder: Path) -> list[Measured]:
    """Read every metric that has an interval, of every cell of a run folder, in the folder's order.

    Raises UsageError for a folder that is no run, is unfinished, or was made before intervals were recorded; IntegrityError where a record
    is not the one that the run wrote.
    """
    from scottbench.store.reader import Records
    from scottbench.store.record import record_of

    records = Records(folder)
    record, path = record_of(records), Path(folder) / ITEMS
    if not records.has(ITEMS):
        raise UsageError(f"{folder} has no {ITEMS}: it was made before intervals were recorded, or did not finish. Go on with it: "
                         f"scottbench resume {folder}")
    items = records.table(ITEMS, ITEM_COLUMNS)
    cells = {(cell.method, cell.steps, cell.facts["seed"]): cell for cell in (*record.cells, *record.over_seeds)}
    metrics = {metric.name: metric for metric in record.metrics}
    found = []
    for (method, steps, seed, name), rows in items.group_by(["method", "steps", "seed", "metric"], maintain_order=True):
        cell = cells.get((method, steps, seed))
        if cell is None or name not in cell.intervals or name not in metrics or rows["influence"].null_count():
            continue
        n, fingerprint = cell.fingerprints[name]
        if rows.height != n:
            raise IntegrityError(
                f"{path} has {rows.height} items of {name} of {cell.facts['id']}, not {n}: it is damaged. Make the run again.")
        found.append(Measured(
            method, steps, cell.seeds, name, metrics[name].higher_is_better, n, fingerprint, cell.values[name],
            rows["influence"].to_numpy(), degrees_of_freedom(cell.intervals[name].method, n), tuple(rows["id"]), metrics[name].digits,
            str(cell.facts["id"]), metrics[name].title, str(record.plan.get("preset", "")), str(cell.facts.get("weights_digest", "")),
            cell.facts.get("student")))
    return found


def average(measured: Sequence[Measured]) -> Measured:
    """Average several seeds of one cell: their values and, prompt by prompt, their influences. Raises Mismatch if they do not compare."""
    import numpy as np

    first = measured[0]
    if len(measured) == 1:
        return first
    for other in measured[1:]:
        comparable(first, other)
    return replace(
        first,
        seeds=tuple(seed for one in measured for seed in one.seeds),
        value=sum(one.value for one in measured) / len(measured),
        influence=sum((one.influence for one in measured), np.zeros(first.n)) / len(measured),
        df=min(one.df for one in measured),
    )


def on_shared_seeds(a: Sequence[Measured], b: Sequence[Measured]) -> tuple[Measured, Measured]:
    """Average two cells of one metric, each over the seeds that both have.

    A cell is averaged over its own seeds if the two share none, or if seeds were measured together and cannot be taken apart.
    Raises Mismatch as `average`.
    """
    shared = {seed for one in a for seed in one.seeds} & {seed for one in b for seed in one.seeds}
    kept = [[one for one in side if set(one.seeds) <= shared] for side in (a, b)]
    if all(kept):
        a, b = kept
    return average(a), average(b)


def comparable(a: Measured, b: Measured) -> None:
    """Raise Mismatch if two values must not be compared: another N, another fingerprint, other prompts."""
    if a.n != b.n:
        raise Mismatch(f"{a.metric} of {a.cell} is of N = {a.n:,}, of {b.cell} of N = {b.n:,}: values of different N are never compared. "
                       "Make both with the same --limit.")
    if a.fingerprint != b.fingerprint:
        raise Mismatch(f"{a.metric} of {a.cell} and of {b.cell} have different fingerprints:\n  {a.fingerprint}\n  {b.fingerprint}\n"
                       "Measure both with one version, preset and extractor.")
    if a.ids != b.ids:
        raise Mismatch(f"{a.metric} of {a.cell} and of {b.cell} are of different prompts, so that nothing is paired.")


# --- names of cells --------------------------------------------------------------------------------------------------


def find_cell(measured: Iterable[Measured], name: str) -> list[Measured]:
    """Find all metrics and seeds of a cell by its id, or by "name@2", "name:2", or "name" if that has one number of steps.

    Raises UsageError with a suggestion and the names that there are.
    """
    measured = list(measured)
    exact = [one for one in measured if one.id == name]
    if exact:
        return exact
    match = _STEPS.fullmatch(name)
    if match is not None:
        found = [one for one in measured if (one.method, one.steps) == (match["method"], int(match["steps"]))]
        if found:
            return found
    found = [one for one in measured if one.method == name]
    if len({one.steps for one in found}) == 1:
        return found
    names = list(dict.fromkeys(one.cell for one in measured))
    if found:
        raise UsageError(f"'{one_line(name)}' was run at {', '.join(sorted({str(one.steps) for one in found}, key=int))} steps. "
                         f"Name one: {', '.join(cell for cell in names if cell.startswith(name + '@'))}")
    guess = closest(name.replace(":", "@"), names)
    hint = "" if guess is None else f" Did you mean '{guess}'?"
    raise UsageError(f"no cell '{one_line(name)}' with intervals in this run.{hint} Cells: {', '.join(names) if names else 'none'}")


def items_frame(measured: Sequence[tuple[Measured, np.ndarray | None]]) -> Any:
    """Make the table of items.parquet: one row per cell, metric and prompt.

    measured: each with the (n,) values of its items, or None if the metric is no mean over items; `value` is then empty. `seed` is empty
    for several seeds together.
    """
    import polars as pl

    schema = polars_schema(ITEMS_SCHEMA)
    frames = [
        pl.DataFrame({
            "method": [one.method] * one.n, "steps": [one.steps] * one.n, "seed": [one.seeds[0] if len(one.seeds) == 1 else None] * one.n,
            "metric": [one.metric] * one.n, "id": one.ids, "value": [None] * one.n if items is None else items, "influence": one.influence,
            "seeds": [",".join(map(str, one.seeds))] * one.n,
        }, schema=schema)
        for one, items in measured
    ]  # fmt: skip
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)
