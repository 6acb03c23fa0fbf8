"""From the features of a run's cells to intervals and paired differences, and into items.parquet and pairs.parquet."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scottbench.errors import ScottbenchError, ScottbenchWarning
from scottbench.registry.nouns import CellFeatures, Metric
from scottbench.stats.intervals import Interval, NoInterval, by_prompt, half_sampling, interval
from scottbench.stats.measured import degrees_of_freedom
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


def uncertainty(metric: Metric, given: CellFeatures | list[CellFeatures], options: Any, value: float) -> Uncertainty:
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


def half(cell: CellFeatures | list[CellFeatures], number: int, kept: np.ndarray) -> CellFeatures | list[CellFeatures]:
    """The cell (or the seeds) of some of its prompts, with the reference images of the same prompts. kept: (k,) indices, of half `number`.

    The memories of a half are kept in those of the cell, so that metrics share their neighbour searches there too.
    """
    if isinstance(cell, list):
        return [half(one, number, kept) for one in cell]
    if any(len(rows) != cell.n for rows in cell.reference.values()):
        raise NoInterval(f"the reference set is not one image for each of the {cell.n} prompts, so that no prompt can be left out")
    cut = {name: {role: rows[kept] for role, rows in getattr(cell, name).items()} for name in ("generated", "reference", "text")}
    images = None if cell.images is None else lambda indices: cell.images([int(kept[i]) for i in indices])
    key = ("scottbench.stats.uncertainty", "half", number)
    memo, reference_memo = (memory.setdefault(key, {}) for memory in (cell.memo, cell.reference_memo))
    return dataclasses.replace(cell, n=len(kept), **cut, memo=memo, reference_memo=reference_memo, images=images)


def interval_or_reason(metric: Metric, given: CellFeatures | list[CellFeatures], options: Any, value: float) -> Uncertainty | str:
    """`uncertainty`, or in one line why there is none: a value must not be lost for want of its interval."""
    try:
        return uncertainty(metric, given, options, value)
    except ScottbenchError as error:
        return one_line(error)
    except Exception as error:  # a plug-in may raise anything
        return f"{type(error).__name__}: {one_line(error)}"


# --- pairs -----------------------------------------------------------------------------------------------------------


# --- tables ----------------------------------------------------------------------------------------------------------


