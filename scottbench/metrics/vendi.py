"""Vendi score: the effective number of different images in a set (Friedman & Dieng 2023, def. 3.1; order q: Pasarkar & Dieng 2024).

    VS_q = exp(H_q(lambda)), lambda the eigenvalues of K / n, K_ij = k(x_i, x_j), k(x, x) = 1;
    H_1 = -sum lambda log lambda, H_q = log(sum lambda^q) / (1 - q)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from scottbench.metrics.checks import BadFeatures, feature_matrix
from scottbench.metrics.clip import unit_rows
from scottbench.registry.nouns import Influence


@dataclass(frozen=True)
class VendiScore:
    """The effective number of different images: 1 if all are alike, n if all are orthogonal. It grows with n; compare equal n only."""

    value: float
    n: int
    spectrum: np.ndarray
    """(min(n, d),) or, for the RBF kernel, (n,) float64: eigenvalues of K / n, ascending, clipped at 0; they sum to 1."""


def vendi_score(features: np.ndarray, *, q: float = 1.0, kernel: str = "cosine", width: float | None = None) -> VendiScore:
    """Compute the Vendi score of a set of images.

    features: (n, d) float, one row per image. kernel: "cosine" takes inner products of rows of unit length, by way of the smaller of the
    n x n and d x d matrices; "rbf" takes exp(-|x - y|^2 / (2 width^2)) and holds an n x n matrix (8 n^2 bytes). width: None is the root
    of the mean squared distance. q: order of the entropy, above 0; small orders count rare images, large ones frequent images.
    Raises BadFeatures for no rows, NaN or infinite values, rows of zeros (cosine), another kernel, q or width out of range.
    """
    matrix, _ = _gram(features, q, kernel, width)
    spectrum = linalg.eigvalsh(matrix, overwrite_a=True, check_finite=False).clip(min=0)
    spectrum /= spectrum.sum()
    return VendiScore(_exp_entropy(spectrum, q), len(features), spectrum)


def vendi_influence(features: np.ndarray, *, q: float = 1.0, kernel: str = "cosine", width: float | None = None) -> Influence:
    """Compute the first-order influence of every row of (n, d) float features on the Vendi score.

        q = 1: VS (-x' log(R) x - H_1);   else: VS q / (1 - q) (x' R^(q-1) x / tr R^q - 1)

    VS is the score and R the mean of x x' (for another kernel, its operator). q, kernel and width are those of `vendi_score`; a width
    of None counts as fixed at its value. Raises BadFeatures as `vendi_score`.
    """
    matrix, rows = _gram(features, q, kernel, width)
    values, vectors = linalg.eigh(matrix, overwrite_a=True, check_finite=False)
    keep = values > len(values) * np.finfo(np.float64).eps * values.max()
    values, vectors = values[keep], vectors[:, keep]
    # (n, r): squared components of each row along the eigenvectors of R
    parts = (rows @ vectors) ** 2 if rows is not None else len(features) * values * vectors**2
    score = _exp_entropy(values, q)
    if q == 1:
        influence = score * (-parts @ np.log(values) - np.log(score))
    else:
        power = (values**q).sum()
        influence = score * q / (1 - q) * (parts @ values ** (q - 1) / power - 1)
    return Influence(influence - influence.mean(), None)


def _gram(features: np.ndarray, q: float, kernel: str, width: float | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return K / n, (n, n), and None; or, if it is smaller, the (d, d) matrix of the same spectrum and the unit rows, (n, d)."""
    features = feature_matrix(features, "generated", least=1)
    if not 0 < q < np.inf:
        raise BadFeatures(f"order q = {q} of the Vendi score: must be a number above 0.")
    n, d = features.shape
    if kernel == "cosine":
        rows = unit_rows(features, "generated")
        return (rows.T @ rows / n, rows) if d < n else (rows @ rows.T / n, None)
    if kernel != "rbf":
        raise BadFeatures(f"kernel '{kernel}' of the Vendi score is unknown; known: cosine, rbf.")
    rows = features - features.mean(axis=0, dtype=np.float64)
    norms = np.einsum("nd,nd->n", rows, rows)
    squared = (norms[:, None] + norms - 2 * (rows @ rows.T)).clip(min=0)
    np.fill_diagonal(squared, 0)
    scale = squared.mean() if width is None else width**2
    if width is not None and not width > 0:
        raise BadFeatures(f"width {width} of the RBF kernel: must be above 0.")
    return (np.exp(squared / (-2 * scale)) if scale > 0 else np.ones((n, n))) / n, None


def _exp_entropy(spectrum: np.ndarray, q: float) -> float:
    """Compute exp(H_q) of (r,) eigenvalues that sum to 1."""
    spectrum = spectrum[spectrum > 0]
    if q == 1:
        return float(np.exp(-(spectrum * np.log(spectrum)).sum()))
    return float((spectrum**q).sum() ** (1 / (1 - q)))
