"""Checks of a metric, on made features: it depends on the set of items alone, and its influence is what leaving an item out does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scottbench.errors import ScottbenchError, UsageError
from scottbench.registry.guard import PluginFailed, cause_of
from scottbench.registry.nouns import CellFeatures, Influence, Metric, read_only
from scottbench.stats.intervals import halves
from scottbench.testing.common import made_options as options_of
from scottbench.testing.finding import Check, Doubt, NotConforming, Subject, raise_first
from scottbench.testing.made import made_cells, rows_of
from scottbench.testing.randomness import unmoved
from scottbench.text import duration, one_line

CLOSE = 1e-4
"""Relative difference of two values that counts as none."""
LEFT_OUT, LEFT_OUT_OF_IMAGES = 12, 3
"""Items that are left out, one at a time, to be held against the influence; fewer where only images are read, which takes long."""
AGREES = (0.9, 0.35)
"""Least correlation of influence and jackknife, and the greatest relative difference of their sizes."""
LONGEST = 30.0
"""Seconds of 32 halves on the made cell beyond which an interval is dear."""


def check_metric(metric: Metric, cells: Sequence[CellFeatures] | None = None) -> None:
    """Check that a metric keeps the rules, on made features; cells: other ones, two or more for a metric over seeds.

    Checked are the options; that the value is a finite number inside the bounds, that it depends neither on the items' order nor on
    earlier calls, that no input is changed and no global random state used; how it takes NaN, constant features and two items; that
    identical sets are best; that `influence` is (n,), finite, of mean 0 and what leaving an item out does, and that `items` is (n,), finite
    and its mean the value. Raises NotConforming for the first rule that is broken.
    """
    raise_first(METRIC_CHECKS, Subject("metric", metric, settings={} if cells is None else {"cells": list(cells)}))


def cells_of(subject: Subject) -> list[CellFeatures]:
    """Give the cells that a metric is tried on, made once. Images without features are few: their metrics take long."""
    if "cells" in subject.settings:
        return subject.settings["cells"]
    n = 64 if subject.noun.roles else 6
    known = {} if subject.plugins is None else subject.plugins.nouns["extractor"]
    scores = [role for role in subject.noun.roles if role in known and known[role].noun.gives == "score"]
    return subject.once("cells", lambda: made_cells(n, roles=subject.noun.roles, scores=scores))


def ask(subject: Subject, what: str, cells: Sequence[CellFeatures], locked: bool = True) -> Any:
    """Call a function of the metric ("compute", "items", "influence") on cells, which it cannot write into unless `locked` is off."""
    metric, given = subject.noun, [replace(cell, memo={}, reference_memo={}) for cell in cells]
    one = given if metric.scope == "seeds" else given[0]
    return getattr(metric, what)(read_only(one) if locked else one, options_of(subject))


def value_of(subject: Subject) -> float:
    """Compute the metric on its cells, once. Raises NotConforming for what is no finite number."""
    return subject.once("value", lambda: _checked(subject, ask(subject, "compute", cells_of(subject))))


def _checked(subject: Subject, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)) or not np.isfinite(value):
        raise NotConforming(f"{subject.who}: compute returned {one_line(repr(value))}.", "It must return a finite float.", "compute")
    return float(value)


def check_cell(subject: Subject) -> str:
    """A cell whose arrays cannot be written is enough, and arrays that could be are left as they are. Raises NotConforming."""
    cells = cells_of(subject)
    before = [array.copy() for array in _arrays(cells)]
    try:
        _checked(subject, ask(subject, "compute", cells, locked=False))
        changed = not all(np.array_equal(now, then, equal_nan=True) for now, then in zip(_arrays(cells), before))
        if not changed:
            value_of(subject)
    except (ValueError, PluginFailed) as error:
        cause = cause_of(error)
        if "read-only" not in str(cause):
            raise
        changed = True
    for array, kept in zip(_arrays(cells), before):
        array[...] = kept
    if changed:
        line = subject.code.line_that_changes(
            lambda: ask(subject, "compute", cells, locked=False), lambda: [a.tobytes() for a in _arrays(cells)]
        )
        for array, kept in zip(_arrays(cells), before):
            array[...] = kept
        raise NotConforming(
            f"{subject.who}: it changed the arrays that it was given.",
            "They are shared by all metrics: copy before you write.",
            line or "compute",
        )
    return "the cell's arrays are as they were"


def _arrays(cells: Sequence[CellFeatures]) -> list[np.ndarray]:
    return [rows for cell in cells for table in (cell.generated, cell.reference, cell.text) for rows in table.values()]


def check_value(subject: Subject) -> str:
    """The value is a finite number inside the bounds, drawn from no global generator. Raises NotConforming."""
    ask_it = lambda: ask(subject, "compute", cells_of(subject))  # noqa: E731
    value = _checked(subject, unmoved(subject, ask_it, "compute", "Draw from a generator of your own: numpy.random.default_rng(0)."))
    low, high = subject.noun.bounds
    if (low is not None and value < low) or (high is not None and value > high):
        raise NotConforming(
            f"{subject.who}: the value {value:g} is outside its bounds {subject.noun.bounds}.", "Correct the bounds or the value.", "bounds"
        )
    return f"{value:.6g}, a finite number inside the bounds"


def check_order(subject: Subject) -> str:
    """The value depends neither on the items' order nor on earlier calls. Raises NotConforming."""
    value, cells = value_of(subject), cells_of(subject)
    order = np.random.default_rng(0).permutation(cells[0].n)
    changes = {"when it was computed again": cells, "with the items in another order": rows_of(cells, order)}
    for what, given in changes.items():
        again = _checked(subject, ask(subject, "compute", given))
        if not np.isclose(again, value, rtol=CLOSE, atol=1e-9):
            raise NotConforming(
                f"{subject.who}: {value:.9g} became {again:.9g} {what}.", "A value may depend on the set of items only.", "compute"
            )
    return "it depends on the set of items alone"


def check_hard_cells(subject: Subject) -> str:
    """NaN is never a number; features that are all the same, and two items, give a number or one line that says why not. Raises
    NotConforming."""
    if not subject.noun.roles:
        return "it reads no features"
    said = []
    for what, cells in _hard(subject).items():
        try:
            value = ask(subject, "compute", cells)
        except ScottbenchError as error:
            if not isinstance(error, PluginFailed):
                said.append(f"{what}: refused")
                continue
            cause: BaseException = error.__cause__ or error
            _refuse_hard(subject, what, cause)
        except Exception as error:
            _refuse_hard(subject, what, error)
        if what == "NaN" and np.isfinite(value):
            raise NotConforming(
                f"{subject.who}: with a NaN among the features compute returned {one_line(repr(value))}.",
                "Refuse it: raise scottbench.metrics.BadFeatures, or return NaN.",
                "compute",
            )
        said.append(f"{what}: {float(value):.3g}")
    return ", ".join(said)


def _refuse_hard(subject: Subject, what: str, error: BaseException) -> None:
    if isinstance(error, UsageError):
        return
    raise NotConforming(
        f"{subject.who}: with {what} compute raised {type(error).__name__}: {one_line(error)[:120]}.",
        "Give a number, or raise scottbench.metrics.BadFeatures with a line that says what it needs.",
        subject.code.place_of_error(error) or "compute",
    )


def _hard(subject: Subject) -> dict[str, list[CellFeatures]]:
    """Cells that no metric may fall over."""
    cells = cells_of(subject)
    nan = [_mapped(cell, lambda rows: np.concatenate([np.full_like(rows[:1], np.nan), rows[1:]])) for cell in cells]
    constant = [_mapped(cell, lambda rows: np.ones_like(rows), all_of_it=True) for cell in cells]
    two = [replace(cell, reference={role: rows[:2] for role, rows in cell.reference.items()}) for cell in rows_of(cells, np.arange(2))]
    return {"NaN": nan, "constant features": constant, "two items": two}


def _mapped(cell: CellFeatures, change: Callable[[np.ndarray], np.ndarray], all_of_it: bool = False) -> CellFeatures:
    """A cell with other generated features; all_of_it: references and texts too."""
    moved = lambda table: {role: change(rows) for role, rows in table.items()}  # noqa: E731
    changed = replace(cell, generated=moved(cell.generated))
    return replace(changed, reference=moved(cell.reference), text=moved(cell.text)) if all_of_it else changed


def _teacher(features: dict[str, np.ndarray]) -> Callable[[str, int, int], dict[str, np.ndarray]]:
    """A teacher's cell of these features, whatever is asked for."""
    return lambda method, steps, seed: features


def check_best(subject: Subject) -> str:
    """Images that are the reference's own have the best value: none that are others has a better one. Raises NotConforming."""
    metric, cells = subject.noun, cells_of(subject)
    if not metric.reference or metric.scope == "seeds" or not metric.roles:
        return "it compares with no reference features"
    same = [
        replace(
            cell,
            generated={**cell.generated, **{role: rows for role, rows in cell.reference.items() if len(rows) == cell.n}},
            teacher=_teacher(cell.reference),
        )
        for cell in cells
    ]
    best, value = _checked(subject, ask(subject, "compute", same)), value_of(subject)
    if best != value and (best > value) != metric.higher_is_better:
        raise NotConforming(
            f"{subject.who}: images that are the reference's own have {best:.6g}, others {value:.6g}, and "
            f"{'more' if metric.higher_is_better else 'less'} is better.",
            "Correct higher_is_better, or the order of generated and reference.",
            "higher_is_better",
        )
    return f"identical sets {best:.6g}, others {value:.6g}"


def check_items(subject: Subject) -> str:
    """Values per item are (n,), finite, and their mean is the value. Raises NotConforming."""
    metric, cells = subject.noun, cells_of(subject)
    if metric.items is None:
        return "there are none"
    found = np.asarray(ask(subject, "items", cells))
    if found.shape != (cells[0].n,) or not np.isfinite(found).all():
        raise NotConforming(
            f"{subject.who}: items has shape {found.shape}, or is not finite.",
            f"It must be ({cells[0].n},) and finite: one number an item.",
            "items",
        )
    value = value_of(subject)
    if not np.isclose(found.mean(), value, rtol=CLOSE, atol=1e-9):
        raise NotConforming(
            f"{subject.who}: the mean of items is {found.mean():.9g} and the value {value:.9g}.",
            "They must be equal; where the value is no mean, leave items out.",
            "items",
        )
    return "their mean is the value"


def check_influence(subject: Subject) -> str:
    """The influence is one finite number an item, of mean 0, and agrees with the jackknife: with what leaving an item out does to the
    value. Raises NotConforming."""
    metric, cells = subject.noun, cells_of(subject)
    if metric.influence is None:
        return "there is none; intervals come from random halves"
    try:
        found: Influence = ask(subject, "influence", cells)
    except ScottbenchError as error:
        if isinstance(error, PluginFailed):
            raise
        return "there is none for these options"
    sizes = {"generated": cells[0].n, "reference": len(next(iter(cells[0].reference.values())))}
    parts = ["generated", "reference"] if found.reference is not None else ["generated"]
    for part in parts:
        array = np.asarray(getattr(found, part))
        if array.shape != (sizes[part],) or not np.isfinite(array).all():
            raise NotConforming(
                f"{subject.who}: influence.{part} has shape {array.shape}, or is not finite.",
                f"It must be ({sizes[part]},) and finite: one number an item.",
                "influence",
            )
        # where all items are equal, the rest is rounding of the value
        if abs(array.mean()) > CLOSE * np.abs(array).max() + 1e-12 * (1 + abs(value_of(subject))):
            raise NotConforming(
                f"{subject.who}: influence.{part} has mean {array.mean():.3g}.", "The mean must be 0: subtract it.", "influence"
            )
    return "; ".join(_against_jackknife(subject, part, np.asarray(getattr(found, part))) for part in parts)


def _against_jackknife(subject: Subject, part: str, influence: np.ndarray) -> str:
    """Leave out a few items of one side, one at a time. Raises NotConforming where that does something else than the influence says."""
    n, value = len(influence), value_of(subject)
    order = np.argsort(influence)
    chosen = order[np.unique(np.linspace(0, n - 1, LEFT_OUT if subject.noun.roles else LEFT_OUT_OF_IMAGES).round().astype(int))]
    effects = np.array([(n - 1) * (value - _without(subject, part, i)) for i in chosen])
    told = influence[chosen]
    if np.ptp(effects) < 1e-9 and np.ptp(told) < 1e-9:
        return f"{part}: no item matters"
    # the jackknife's own bias is the same for every item
    effects, told = effects - effects.mean(), told - told.mean()
    together = float(np.corrcoef(effects, told)[0, 1]) if np.ptp(effects) and np.ptp(told) else 0.0
    size = float(told.std() / effects.std()) if effects.std() else np.inf
    least, apart = AGREES
    if not together >= least or not abs(np.log(size)) <= np.log1p(apart):
        raise NotConforming(
            f"{subject.who}: influence.{part} and what leaving out one item does to the value have correlation {together:.2f} and sizes as "
            f"{size:.2f} to 1.",
            "It must be n - 1 times (value - value without the item), but for a constant; for a mean of items "
            "scottbench.stats.intervals.of_mean(items).",
            "influence",
        )
    return f"{part}: mean 0, correlation {together:.2f} with the jackknife, size {size:.2f} of it"


def _without(subject: Subject, part: str, item: int) -> float:
    """The value without one item of a side."""
    cells, of_teacher = cells_of(subject), subject.noun.teacher is not None
    left = np.delete(np.arange(cells[0].n), item)
    if part == "generated":
        given = [replace(one, teacher=cell.teacher) if of_teacher else one for one, cell in zip(rows_of(cells, left), cells)]
    elif of_teacher:
        given = [replace(cell, teacher=one.teacher) for one, cell in zip(rows_of(cells, left), cells)]
    else:
        given = [replace(cell, reference={role: np.delete(rows, item, axis=0) for role, rows in cell.reference.items()}) for cell in cells]
    return float(ask(subject, "compute", given))


def check_time(subject: Subject) -> str:
    """Random halves, 32 of them, take seconds. Raises Doubt where they take long."""
    if subject.noun.influence is not None:
        return "it has an influence, so that no halves are drawn"
    cells = cells_of(subject)
    started = time.perf_counter()
    for half in halves(cells[0].n)[:2]:
        ask(subject, "compute", rows_of(cells, half))
    seconds = (time.perf_counter() - started) / 2 * 32
    if seconds > LONGEST:
        raise Doubt(
            f"{subject.who}: 32 random halves of {cells[0].n} items take {duration(seconds)}, and an interval needs them.",
            "Give it an influence, or make compute faster.",
            "compute",
        )
    return f"32 random halves of {cells[0].n} items take {seconds:.1f} s"


METRIC_CHECKS = (
    Check("options", lambda subject: f"{len(vars(options_of(subject)))} options, written and read alike"),
    Check("read-only cell", check_cell),
    Check("value", check_value),
    Check("order", check_order),
    Check("hard cells", check_hard_cells),
    Check("best value", check_best),
    Check("items", check_items),
    Check("influence", check_influence),
    Check("time of halves", check_time),
)
"""The checks of a metric."""
