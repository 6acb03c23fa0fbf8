"""A memory for what is costly over several seeds: value, items and influence ask for the same array."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scottbench import CellFeatures

if TYPE_CHECKING:
    import numpy as np


def once(cells: list[CellFeatures], key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array of any shape that `make()` gives for this very list of cells; it is kept in the memo of the first cell."""
    kept = cells[0].memo.get(("scottbench_metrics.once", key))
    if kept is None or kept[0] is not cells:
        kept = cells[0].memo["scottbench_metrics.once", key] = (cells, make())
    return kept[1]
