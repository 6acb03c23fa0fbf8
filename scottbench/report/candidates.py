"""The rows of a run as choices: which are students, which are their teacher, what each costs, how any two differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scottbench.report.best import ALPHA
from scottbench.report.recorded import recorded_rows
from scottbench.store.record import CellRecord, MetricRecord, RunRecord

RECIPE = ("trainer", "options", "dataset_digest", "teacher_digest", "batch_size", "steps", "average", "lr_schedule", "precision", "weights")
"""Facts of a student that make a recipe: two students that agree in them differ by the chance of a training."""


@dataclass(frozen=True)
class Difference:
    """The paired difference A - B of two rows in one metric, as the run tested it."""

    value: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    images_to_decide: int | None
    higher_is_better: bool

    @property
    def decided(self) -> bool:
        """True where Holm's p excludes no difference."""
        return self.p_holm <= ALPHA

    @property
    def a_better(self) -> bool:
        """True where A has the better value, decided or not."""
        return (self.value > 0) == self.higher_is_better


def difference(record: RunRecord, metric: MetricRecord, a: CellRecord, b: CellRecord) -> Difference | None:
    """Return A - B as the run's table of pairs has it, in either order; None where it was not tested."""
    for sign, one, other in ((1, a, b), (-1, b, a)):
        row = record.tested.get((metric.name, one.method, one.steps, other.method, other.steps))
        if row is not None:
            low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
            return Difference(sign * row["difference"], low, high, row["p"], row["p_holm"], row["n"], row["images_to_decide"],
                              metric.higher_is_better)  # fmt: skip
    return None


def is_student(cell: CellRecord) -> bool:
    """True where a row was sampled with weights of a student, trained or published."""
    return isinstance(cell.facts.get("student"), dict)


def candidates(cells: Sequence[CellRecord]) -> list[CellRecord]:
    """Return the rows to choose from: the students and pictures made elsewhere; all rows where there is no student."""
    chosen = [cell for cell in cells if is_student(cell) or cell.steps == 0]
    return chosen if any(map(is_student, chosen)) else list(cells)


def recipe(cell: CellRecord) -> str:
    """Return what two trainings of one recipe share; the name of a row that is no student's."""
    facts = cell.facts.get("student")
    if not isinstance(facts, dict) or facts.get("published"):
        return cell.method
    return json.dumps([{key: facts.get(key) for key in RECIPE}, cell.facts.get("options")], sort_keys=True, default=str)


@dataclass(frozen=True)
class Teacher:
    """A row of the model that the students were made of: measured in this run, or recorded in a published one."""

    name: str
    """ "ddim at 50 steps", with "(recorded)" where it is."""
    steps: int
    nfe: int | None
    values: dict[str, float]
    """Metric -> value."""
    ends: dict[str, tuple[float, float]]
    """Metric -> 95 % interval, where there is one."""
    cell: CellRecord | None = None
    milliseconds: float | None = None


def teachers(record: RunRecord, metrics: Sequence[MetricRecord], cells: Sequence[CellRecord]) -> list[Teacher]:
    """Return the teacher's rows: those of this run first, then the recorded ones that compare with it."""
    chosen = candidates(cells)
    found = [
        Teacher(cell.name, cell.steps, nfe(cell), cell.values,
                {name: (ends.low, ends.high) for name, ends in cell.intervals.items()}, cell, milliseconds(record, cell))
        for cell in cells if cell not in chosen
    ]  # fmt: skip
    for row in recorded_rows(record, metrics, cells):
        values = {name: float(value["value"]) for name, value in row.values.items()}
        ends = {name: (value["low"], value["high"]) for name, value in row.values.items() if value["low"] is not None}
        found.append(Teacher(f"{row.method} at {row.steps} steps (recorded)", row.steps, row.nfe, values, ends))
    return found


def nfe(cell: CellRecord) -> int | None:
    """Return the counted network evaluations per image; None where nothing was counted."""
    found = cell.facts.get("nfe")
    return found if isinstance(found, int) and found > 0 else None


def milliseconds(record: RunRecord, cell: CellRecord) -> float | None:
    """Return the time per image; of several seeds together the mean of theirs."""
    if cell.milliseconds is not None:
        return cell.milliseconds
    ids = cell.facts.get("cells")
    found = [one.milliseconds for one in record.cells if ids and one.facts["id"] in ids and one.milliseconds is not None]
    return fmean(found) if found else None


def by_rank(cells: Sequence[CellRecord], metric: MetricRecord) -> list[CellRecord]:
    """Return the rows that have a value, best first; equal ones in plan order."""
    sign = -1 if metric.higher_is_better else 1
    return sorted((cell for cell in cells if metric.name in cell.values), key=lambda cell: sign * cell.values[metric.name])


def leading_metric(metrics: Sequence[MetricRecord], cells: Sequence[CellRecord]) -> MetricRecord | None:
    """Return the first metric of the plan of which any row has a value."""
    return next((metric for metric in metrics if any(metric.name in cell.values for cell in cells)), None)
