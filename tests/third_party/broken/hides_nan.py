"""It takes NaN for 0."""

import numpy as np

from scottbench import Influence, Metric, hookimpl


def compute(cell, options):  # fault
    """Mean of the first feature."""
    return float(items(cell, options).mean())


def items(cell, options):
    """(n,): the first feature of each image."""
    rows = cell.generated["image"].astype(np.float64)
    return np.nan_to_num(rows)[:, 0]


def influence(cell, options):
    """How far each image is from the mean."""
    values = items(cell, options)
    return Influence(values - values.mean(), None)


@hookimpl
def register_metrics():
    return [Metric("hides-nan", "a mean with a fault", compute, True, reference=False, items=items, influence=influence)]
