"""From the features of a run's cells to intervals and paired differences, and into items.parquet and pairs.parquet."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from scottbench.errors import Mismatch, ScottbenchError, ScottbenchWarning
from scottbench.registry.nouns import Cell, Metric
from scottbench.stats.intervals import LEVEL, Interval, NoInterval, by_prompt, half_sampling, interval
from scottbench.stats.measured import ITEMS, Measured, comparable, degrees_of_freedom, on_shared_seeds
from scottbench.stats.paired import PairedDifference, holm, images_to_decide, paired_difference, rounded
from scottbench.text import one_line

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What one metric of one cell rests on, prompt by prompt."""

    interval: Interval
    method: str
    """ "influence" (the metric's own function) or "half-sampling"."""
    influence: np.ndarray
    """(n,) float64 of each prompt."""
    items: np.ndarray | None
    """(n,) float64 values per item whose mean is the value, where the metric has them."""


def uncertainty(metric: Metric, given: Cell | list[Cell], options: Any, value: float) -> Uncertainty:
    """Interval and influences of a finite value. given: what the metric's functions get, by its scope.

    Raises NoInterval, or whatever a plug-in's function raises.
    """
    import numpy as np

    n = given[0].n if isinstance(given, list) else given.n
    if n < 2:
        raise NoInterval("one image has no spread; an interval needs at least two")
    items = None if metric.items is None else np.asarray(metric.items(given, options), dtype=np.float64)
    influence = None
    if metric.influence is not None:
        with contextlib.suppress(ScottbenchError):  # the metric has none here: a rank-limited Frechet distance, say
            method, influence = "influence", by_prompt(metric.influence(given, options))
    if influence is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScottbenchWarning)  # half as many images may be too few for comfort: the whole is judged
            method, (influence, _) = "half-sampling", half_sampling(lambda i, kept: metric.compute(half(given, i, kept), options), n)
    if influence.shape != (n,):
        raise NoInterval(f"metric '{metric.name}' gives influences of shape {influence.shape} for {n} prompts")
    found = interval(value, influence, degrees_of_freedom(method, n), metric.bounds)
    return Uncertainty(found, method, influence, items)


def half(cell: Cell | list[Cell], number: int, kept: np.ndarray) -> Cell | list[Cell]:
    """The cell (or the seeds) of some of its prompts, with the reference images of the same prompts. kept: (k,) indices, of half `number`.

    The memories of a half are kept in those of the cell, so that metrics share their neighbour searches there too.
    """
    if isinstance(cell, list):
        return [half(one, number, kept) for one in cell]
    if any(len(rows) != cell.n for rows in cell.real.values()):
        raise NoInterval(f"the reference set is not one image for each of the {cell.n} prompts, so that no prompt can be left out")
    cut = {name: {role: rows[kept] for role, rows in getattr(cell, name).items()} for name in ("features", "real", "text")}
    images = None if cell.images is None else lambda indices: cell.images([int(kept[i]) for i in indices])
    memo, real_memo = (memory.setdefault(("scottbench.stats.uncertainty", "half", number), {}) for memory in (cell.memo, cell.real_memo))
    return dataclasses.replace(cell, n=len(kept), **cut, memo=memo, real_memo=real_memo, images=images)


def interval_or_reason(metric: Metric, given: Cell | list[Cell], options: Any, value: float) -> Uncertainty | str:
    """`uncertainty`, or in one line why there is none: a value must not be lost for want of its interval."""
    try:
        return uncertainty(metric, given, options, value)
    except ScottbenchError as error:
        return one_line(error)
    except Exception as error:  # a plug-in may raise anything
        return f"{type(error).__name__}: {one_line(error)}"


# --- pairs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A minus B in one metric."""

    a: Measured
    b: Measured
    test: PairedDifference
    p_holm: float
    """Adjusted for all tests of the table."""
    images_to_decide: int | None
    """Where the table leaves it open: images per cell that would decide it with probability 0.8, if it is as large as measured."""

    @property
    def verdict(self) -> str:
        """ "a better", "b better", "equal" (on every prompt) or "inconclusive", by the adjusted p at 5 %."""
        if self.test.difference == 0 and self.test.standard_error == 0:
            return "equal"
        if self.p_holm > 1 - LEVEL:
            return "inconclusive"
        return "a better" if (self.test.difference > 0) == self.a.higher_is_better else "b better"

    @property
    def in_words(self) -> str:
        """The verdict with names: "x@2 better", "inconclusive: about 2,900 images would decide"."""
        if self.verdict == "inconclusive":
            many = self.images_to_decide
            return "inconclusive" if many is None else f"inconclusive: {rounded(many)} images would decide"
        return {"a better": f"{self.a.cell} better", "b better": f"{self.b.cell} better"}.get(self.verdict, self.verdict)


def pair_table(couples: Iterable[tuple[Measured, Measured]]) -> list[Pair]:
    """The paired difference of each couple, with Holm's correction over all of them."""
    couples = list(couples)
    tests = [paired_difference(a.value, b.value, a.influence, b.influence, min(a.df, b.df)) for a, b in couples]
    adjusted = holm([test.p for test in tests])
    pairs = []
    for (a, b), test, p in zip(couples, tests, adjusted, strict=True):
        many = images_to_decide(test.difference, test.standard_error, test.n, (1 - LEVEL) / len(couples)) if p > 1 - LEVEL else None
        pairs.append(Pair(a, b, test, p, many))
    return pairs


def run_pairs(measured: Sequence[Measured]) -> list[Pair]:
    """The pairs of a run that its table asks about: methods at one number of steps, and one method at neighbouring numbers.

    Each over the seeds that both have. Couples that must not be compared are left out. Other pairs: `scottbench compare`.
    """
    cells: dict[tuple[str, int], dict[str, list[Measured]]] = {}
    for one in measured:
        cells.setdefault((one.method, one.steps), {}).setdefault(one.metric, []).append(one)
    steps = {method: sorted({count for other, count in cells if other == method}) for method, _ in cells}
    couples = []
    for a, b in combinations(cells, 2):
        line = steps[a[0]]
        neighbours = a[0] == b[0] and abs(line.index(a[1]) - line.index(b[1])) == 1
        if a[1] != b[1] and not neighbours:
            continue
        for metric in cells[a]:
            if metric in cells[b]:
                couple = on_shared_seeds(cells[a][metric], cells[b][metric])
                try:
                    comparable(*couple)
                except Mismatch:
                    continue
                couples.append(couple)
    return pair_table(couples)


# --- tables ----------------------------------------------------------------------------------------------------------


def items_frame(measured: Sequence[tuple[Measured, np.ndarray | None]]) -> Any:
    """items.parquet: one row per cell, metric and prompt. `value` is empty where the metric is no mean over items, `seed` where it is of
    several seeds together."""
    import polars as pl

    schema = {"method": pl.String, "steps": pl.Int32, "seed": pl.Int64, "metric": pl.String, "id": pl.String, "value": pl.Float64,
              "influence": pl.Float64, "seeds": pl.String}
    frames = [
        pl.DataFrame({
            "method": [one.method] * one.n, "steps": [one.steps] * one.n, "seed": [one.seeds[0] if len(one.seeds) == 1 else None] * one.n,
            "metric": [one.metric] * one.n, "id": one.ids, "value": [None] * one.n if items is None else items, "influence": one.influence,
            "seeds": [",".join(map(str, one.seeds))] * one.n,
        }, schema=schema)
        for one, items in measured
    ]  # fmt: skip
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def pairs_frame(pairs: Sequence[Pair]) -> Any:
    """pairs.parquet: one row per metric and pair, A - B."""
    import polars as pl

    schema = {
        "metric": pl.String, "method_a": pl.String, "steps_a": pl.Int32, "method_b": pl.String, "steps_b": pl.Int32, "seeds": pl.String,
        "n": pl.Int32, "value_a": pl.Float64, "value_b": pl.Float64, "difference": pl.Float64, "ci_low": pl.Float64,
        "ci_high": pl.Float64, "p": pl.Float64, "p_holm": pl.Float64, "images_to_decide": pl.Int64, "verdict": pl.String,
    }  # fmt: skip
    return pl.DataFrame([pair_row(pair) for pair in pairs], schema=schema)


def pair_row(pair: Pair) -> dict[str, Any]:
    """One row of pairs.parquet and of `scottbench compare --json`."""
    a, b, test = pair.a, pair.b, pair.test
    return {
        "metric": a.metric, "method_a": a.method, "steps_a": a.steps, "method_b": b.method, "steps_b": b.steps,
        "seeds": ",".join(map(str, a.seeds)) if a.seeds == b.seeds else f"{','.join(map(str, a.seeds))}/{','.join(map(str, b.seeds))}",
        "n": test.n, "value_a": a.value, "value_b": b.value, "difference": test.difference, "ci_low": test.low, "ci_high": test.high,
        "p": test.p, "p_holm": pair.p_holm, "images_to_decide": pair.images_to_decide, "verdict": pair.in_words,
    }  # fmt: skip


def write_tables(put: Any, measured: Sequence[tuple[Measured, np.ndarray | None]]) -> None:
    """items.parquet and pairs.parquet of a run. put: (file name, data frame) -> None."""
    put(ITEMS, items_frame(measured))
    put("pairs.parquet", pairs_frame(run_pairs([one for one, _ in measured])))
