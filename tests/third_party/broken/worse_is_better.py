"""It says that more of a distance is better."""

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


def influence(cell, options):
    """How far each image is from the mean."""
    values = items(cell, options)
    return Influence(values - values.mean(), None)


def distance(cell, options):
    """Distance of the mean features."""
    apart = cell.generated["image"].mean(0, dtype=np.float64) - cell.reference["image"].mean(0, dtype=np.float64)
    return float(np.linalg.norm(apart))


@hookimpl
def register_metrics():
    return [
        Metric(
            "worse-is-better",
            "a distance with a fault",
            distance,
            higher_is_better=True,  # fault
        )
    ]
