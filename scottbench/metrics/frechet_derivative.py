"""The influence of every image on the Frechet distance, by the derivative of its closed form."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from scottbench.metrics.checks import BadFeatures
from scottbench.metrics.frechet import EPS, GaussianFit, gaussian_fits, symmetric_product
from scottbench.registry.nouns import Influence


class NoInfluence(BadFeatures):
    """The metric has no first-order influence here. An interval needs subsampling or several generation seeds."""


def frechet_influence(real: np.ndarray | GaussianFit, generated: np.ndarray | GaussianFit) -> Influence:
    """Compute the first-order influence of every row on `frechet_distance`.

    real, generated: (m, d) and (n, d) float features, or fits of them. T = F (F' S2 F)^(-1/2) F', for any F with S1 = F F', is the
    optimal map from the generated fit to the real one, so that T S2 T = S1. The influences are

        generated y:  2 (m2 - m1)'(y - m2) + (y - m2)'(I - T)(y - m2), centred
        real x:      -2 (m2 - m1)'(x - m1) + (x - m1)'(I - T^-1)(x - m1), centred

    because T / 2 is the derivative of tr (S1 S2)^(1/2) in S2 (Dowson & Landau 1982). Directions without variance on one side are left
    out: no image lies in them. Raises BadFeatures as `frechet_distance`, and NoInfluence if min(m, n) <= d: the root then has no
    derivative that a new image would follow.
    """
    real, generated = gaussian_fits(real, generated)
    if min(real.n, generated.n) <= real.d:
        raise NoInfluence(
            f"the Frechet distance of {min(real.n, generated.n)} images in {real.d} dimensions is rank limited and has no first-order "
            f"influence. Use more than {real.d} images, or subsampling."
        )
    factor, _, route = real.root
    values, vectors = linalg.eigh(symmetric_product(real, generated), lower=True, overwrite_a=True, check_finite=False)
    keep = values > real.d * EPS * values.max(initial=0.0)
    roots, vectors = np.sqrt(values[keep]), vectors[:, keep]
    shift = generated.mean - real.mean
    rows = generated.features - generated.mean
    of_generated = 2 * rows @ shift + np.einsum("nd,nd->n", rows, rows) - _squares(rows @ (factor @ vectors), 1 / roots)
    rows = real.features - real.mean
    # T^-1 = F^+' (F' S2 F)^(1/2) F^+
    if route == "cholesky":
        inverse = linalg.solve_triangular(factor, vectors, lower=True, trans="T", check_finite=False)
    else:  # the columns of a spectral root are orthogonal
        inverse = (factor / np.einsum("dr,dr->r", factor, factor)) @ vectors
    of_real = -2 * rows @ shift + np.einsum("nd,nd->n", rows, rows) - _squares(rows @ inverse, roots)
    return Influence(of_generated - of_generated.mean(), of_real - of_real.mean())


def _squares(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum weight * entry^2 over the columns of (n, r) rows; weights (r,), result (n,)."""
    return np.einsum("nr,nr,r->n", rows, rows, weights)
