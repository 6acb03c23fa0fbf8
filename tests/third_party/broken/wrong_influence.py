"""Its influence has the wrong sign."""

import numpy as np

from scottbench import Influence, Metric, hookimpl


def compute(cell, options):
    """Mean of the first feature."""
    return float(items(cell, options).mean())


def items(cell, options):
    """(n,): the first feature of each image."""
    rows = cell.generated["image"].astype(np.float64)
    if not np.isfinite(rows).all():
        return np.full(cell.n, np.nan)
    return rows[:, 0]


def influence(cell, options):  # fault
    """How far each image is from the mean."""
    values = items(cell, options)
    return Influence(values.mean() - values, None)


@hookimpl
def register_metrics():
    return [Metric("wrong-influence", "a mean with a fault", compute, True, reference=False, items=items, influence=influence)]
