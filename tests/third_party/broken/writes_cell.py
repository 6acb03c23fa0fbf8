"""It centres the cell's own array."""

import numpy as np

from scottbench import Influence, Metric, hookimpl


def compute(cell, options):
    """Mean of the first feature."""
    return float(items(cell, options).mean())


def items(cell, options):
    """(n,): the first feature of each image."""
    rows = cell.generated["image"]
    rows[:] = rows - rows.mean(0)  # fault
    if not np.isfinite(rows).all():
        return np.full(cell.n, np.nan)
    return rows[:, 0]


def influence(cell, options):
    """How far each image is from the mean."""
    values = items(cell, options)
    return Influence(values - values.mean(), None)


@hookimpl
def register_metrics():
    return [Metric("writes-cell", "a mean with a fault", compute, True, reference=False, items=items, influence=influence)]
