"""Means over the items of a category, where a dataset's items have columns such as "category"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scottbench.stats.intervals import NoInterval, interval

if TYPE_CHECKING:
    import numpy as np

    from scottbench.stats.measured import Measured

MOST = 50
"""Values that a column may have; one with more, such as a file name, parts the items too finely and is left out."""


def category_rows(
    one: Measured, items: np.ndarray, columns: Mapping[str, Sequence[str]], bounds: tuple[float | None, float | None]
) -> list[dict[str, Any]]:
    """Return the rows of categories.parquet of one metric: its mean over the items of every value of every column.

    items: (n,) values whose mean is the metric's. An interval is given where items are independent, so that their influence is their
    deviation from the mean, and a category has two or more.
    """
    import numpy as np

    independent = np.allclose(one.influence, items - items.mean(), rtol=1e-6, atol=1e-9 * max(1.0, float(np.abs(items).max())))
    rows: list[dict[str, Any]] = []
    for column, values in usable(columns).items():
        places = np.asarray(values)
        for category in sorted(set(values)):
            kept = items[places == category]
            ends = _ends(kept, bounds) if independent else (None, None)
            rows.append({
                "method": one.method, "steps": one.steps, "seed": one.seeds[0] if len(one.seeds) == 1 else None, "metric": one.metric,
                "column": column, "category": category, "n": len(kept), "value": float(kept.mean()), "ci_low": ends[0], "ci_high": ends[1],
                "seeds": ",".join(map(str, one.seeds)),
            })  # fmt: skip
    return rows


def usable(columns: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return the columns that have two to MOST values."""
    return {column: values for column, values in columns.items() if 2 <= len(set(values)) <= MOST}


def _ends(kept: np.ndarray, bounds: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    try:
        found = interval(float(kept.mean()), kept - kept.mean(), None, bounds)
    except NoInterval:
        return None, None
    return found.low, found.high
