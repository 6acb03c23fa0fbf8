"""The mean of a scorer's scores, as a metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence, NoOptions

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class MeanScore:
    """The functions of a metric over the scores of one role."""

    role: str

    def value(self, cell: CellFeatures, options: NoOptions) -> float:
        """Average the scores of all items."""
        return float(self.items(cell, options).mean())

    def items(self, cell: CellFeatures, options: NoOptions) -> np.ndarray:
        """Return the score of each item, (n,) float64. Raises BadFeatures for what is no column of finite numbers."""
        from scottbench.metrics import score_column

        return score_column(cell.generated[self.role], self.role)

    def influence(self, cell: CellFeatures, options: NoOptions) -> Influence:
        """Compute the influence of every image: the items are independent."""
        from scottbench.stats.intervals import of_mean

        return of_mean(self.items(cell, options))
