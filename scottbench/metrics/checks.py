"""The checks with which metrics begin: are these features, or scores, an array of finite numbers, one row per image?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench.errors import ScottbenchError

if TYPE_CHECKING:
    import numpy as np


class BadFeatures(ScottbenchError):
    """The features give no statistic: they are too few, not finite, or of two widths. Exit code 1: the cell failed."""


def feature_matrix(features: np.ndarray, what: str, least: int = 2) -> np.ndarray:
    """Check an array of features, (n, d) with n >= least, d >= 1 and all finite, and return it with its dtype.

    what: the word for these images in a message, "reference" say. Raises BadFeatures.
    """
    import numpy as np

    features = np.asarray(features)
    if features.ndim == 3:
        raise BadFeatures(
            f"{what} features are of {features.shape[1]} crops of every image, which this statistic does not read. "
            "Name an extractor with a resize rule of whole images."
        )
    if features.ndim != 2 or features.shape[1] < 1:
        raise BadFeatures(
            f"{what} features have shape {features.shape}; expected (images, dimensions). Delete this run's features folder and run again."
        )
    if len(features) < least:
        raise BadFeatures(f"found {len(features)} {what} images; this statistic needs at least {least}. Use --limit {least} or more.")
    bad = len(features) - int(np.isfinite(features).all(axis=1).sum())
    if bad:
        raise BadFeatures(
            f"features of {bad} of {len(features)} {what} images are NaN or infinite. Use a float32 preset, or look at those images."
        )
    return features


def score_column(scores: np.ndarray, what: str) -> np.ndarray:
    """Check the scores of an extractor, (n, 1) with n >= 1 and all finite, and return them as (n,) float64.

    what: the extractor, for the message. Raises BadFeatures.
    """
    import numpy as np

    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] != 1 or not len(scores) or not np.isfinite(scores).all():
        raise BadFeatures(
            f"'{what}' must give one finite score an image, (n, 1), found an array of shape {scores.shape}. Check its weights.")
    return scores[:, 0]
