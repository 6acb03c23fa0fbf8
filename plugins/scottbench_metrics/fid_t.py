"""FID-T: the Frechet distance between a method's images and its teacher's images of the same prompts, instead of real ones.

How far is the student from its teacher? The distance to real images mixes that with how far the teacher is from them. The teacher's
cell is given by the options; its images of the same seed begin at the same noise. Its own distance to itself is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence
from scottbench.metrics import BadFeatures, GaussianFit, frechet_distance, frechet_influence
from scottbench_metrics.options import TeacherOptions

if TYPE_CHECKING:
    import numpy as np

KEY = "scottbench_metrics.fid_t"


def teacher(options: TeacherOptions) -> tuple[str, int, int]:
    """Name the teacher's cell: (method, steps, seed)."""
    return options.teacher, options.steps, options.seed


def fid_t(cell: CellFeatures, options: TeacherOptions) -> float:
    """Compute the Frechet distance of the cell's image features to the teacher's, >= 0; 0 for the teacher's own cell."""
    found = fits(cell, options)
    return 0.0 if found is None else frechet_distance(*found).value


def influence(cell: CellFeatures, options: TeacherOptions) -> Influence:
    """Compute the influence of every image, the method's and the teacher's. Raises NoInfluence if the distance is rank limited."""
    import numpy as np

    found = fits(cell, options)
    return Influence(np.zeros(cell.n), np.zeros(cell.n)) if found is None else frechet_influence(*found)


def fits(cell: CellFeatures, options: TeacherOptions) -> tuple[GaussianFit, GaussianFit] | None:
    """Fit Gaussians to the teacher, once per run, and to the cell; None where both are the same images. Raises BadFeatures without any."""
    key = (KEY, options)
    if key not in cell.reference_memo:
        rows = rows_of(cell, options)
        cell.reference_memo[key] = rows, GaussianFit.of(rows, "teacher")
    rows, fit = cell.reference_memo[key]
    if rows.shape == cell.generated["image"].shape and bool((rows == cell.generated["image"]).all()):
        return None
    shared = ("scottbench_metrics.fid", "image")  # the same fit as FID's
    if shared not in cell.memo:
        cell.memo[shared] = GaussianFit.of(cell.generated["image"], "generated")
    return fit, cell.memo[shared]


def rows_of(cell: CellFeatures, options: TeacherOptions) -> np.ndarray:
    """Return the teacher's image features, (n, d). Raises BadFeatures where none are at hand, as while a training is watched."""
    if cell.teacher is None:
        raise BadFeatures("the teacher's images of these prompts are not at hand here. FID-T is a metric of runs.")
    return cell.teacher(*teacher(options))["image"]
