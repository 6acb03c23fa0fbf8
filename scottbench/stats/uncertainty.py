"""The interval of a metric's value, from the features of its cell."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scottbench.errors import ScottbenchError, ScottbenchWarning
from scottbench.registry.guard import PluginFailed
from scottbench.registry.nouns import CellFeatures, Metric
from scottbench.stats.intervals import Interval, NoInterval, by_prompt, half_sampling, interval
from scottbench.stats.measured import degrees_of_freedom
from scottbench.text import one_line

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The interval of one metric of one cell, and the influences that it rests on."""

    interval: Interval
    method: str
    """Source of the influences: "influence" (the metric's own function) or "half-sampling"."""
    influence: np.ndarray
    """(n,) float64, the influence of each prompt."""
    items: np.ndarray | None
    """(n,) float64 values of the items, whose mean is the value; None if the metric is no mean over items."""


def uncertainty(metric: Metric, given: CellFeatures | list[CellFeatures], options: Any, value: float) -> Uncertainty:
    """Compute the interval and the influences of a finite value.

    given: the argument of the metric's functions, a cell or, by its scope, a list of one cell per seed. Raises NoInterval, or whatever a
    plug-in's function raises.
    """
    import numpy as np

    n = given[0].n if isinstance(given, list) else given.n
    if n < 2:
        raise NoInterval("one image has no spread; an interval needs at least two")
    items = None if metric.items is None else np.asarray(metric.items(given, options), dtype=np.float64)
    if items is not None and items.shape != (n,) and not paired(given):
        items = None  # values of the reference images, which are a set of their own
    if items is not None and (items.shape != (n,) or not np.isfinite(items).all()):
        raise NoInterval(f"metric '{metric.name}' gives items of shape {items.shape}, or some that are not finite, for {n} prompts")
    influence = None
    if metric.influence is not None:
        try:
            found_influence = metric.influence(given, options)
            # of a reference that is a set of its own the interval is about the prompts alone: the set stays as it is
            method, influence = "influence", by_prompt(found_influence if paired(given) else replace(found_influence, reference=None))
        except PluginFailed:
            raise
        except ScottbenchError:
            pass  # the metric has none here: a rank-limited Frechet distance, say

    def on_half(number: int, kept: np.ndarray) -> float:
        part = [half(one, number, kept) for one in given] if isinstance(given, list) else half(given, number, kept)
        return metric.compute(part, options)

    if influence is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScottbenchWarning)  # half as many images may be too few for comfort: the whole is judged
            method, (influence, _) = "half-sampling", half_sampling(on_half, n)
    if influence.shape != (n,):
        raise NoInterval(f"metric '{metric.name}' gives influences of shape {influence.shape} for {n} prompts")
    found = interval(value, influence, degrees_of_freedom(method, n), metric.bounds)
    return Uncertainty(found, method, influence, items)


def half(cell: CellFeatures, number: int, kept: np.ndarray) -> CellFeatures:
    """Cut a cell down to some of its prompts and the reference images of the same prompts. kept: (k,) indices, those of half `number`.

    A reference of another number of images is a set of its own, and stays whole. The memories of a half are kept in those of the cell, so
    that metrics share their neighbour searches there too.
    """
    whole = paired(cell)
    cut = {name: {role: rows[kept] for role, rows in getattr(cell, name).items()} for name in ("generated", "text")}
    cut["reference"] = {role: rows[kept] for role, rows in cell.reference.items()} if whole else cell.reference
    metadata = {column: tuple(values[i] for i in kept) for column, values in cell.metadata.items()}
    teacher = cell.teacher
    made = None if teacher is None else lambda *which: {role: rows[kept] for role, rows in teacher(*which).items()}
    key = ("scottbench.stats.uncertainty", "half", number)
    memo = cell.memo.setdefault(key, {})
    reference_memo = cell.reference_memo.setdefault(key, {}) if whole else cell.reference_memo
    return CellFeatures(
        len(kept), cut["generated"], cut["reference"], cut["text"], memo, reference_memo, _half_reader(cell.images, kept),
        _half_reader(cell.reference_images, kept) if whole else cell.reference_images, tuple(cell.ids[i] for i in kept) if cell.ids else (),
        tuple(cell.prompts[i] for i in kept) if cell.prompts else (), metadata, made, cell.apart, None if whole else (cell, kept))


def _half_reader(images: Callable[[Sequence[int]], np.ndarray] | None, kept: np.ndarray) -> Callable[[Sequence[int]], np.ndarray] | None:
    """A reader of images by their index within a half."""
    return None if images is None else lambda indices: images([int(kept[i]) for i in indices])


def paired(given: CellFeatures | list[CellFeatures]) -> bool:
    """True where the reference has one image for each prompt, by its number."""
    cells = given if isinstance(given, list) else [given]
    return not any(cell.apart for cell in cells) and all(len(rows) == cell.n for cell in cells for rows in cell.reference.values())


def interval_or_reason(metric: Metric, given: CellFeatures | list[CellFeatures], options: Any, value: float) -> Uncertainty | str:
    """Compute the `uncertainty`, or say in one line why there is none: a value must not be lost for want of its interval."""
    try:
        return uncertainty(metric, given, options, value)
    except ScottbenchError as error:
        return one_line(error)
    except Exception as error:  # a plug-in may raise anything
        return f"{type(error).__name__}: {one_line(error)}"

