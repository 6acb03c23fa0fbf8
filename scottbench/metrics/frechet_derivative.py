"""What the Frechet distance owes to every single image, by the derivative of its closed form."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from scottbench.metrics.checks import BadFeatures
from scottbench.metrics.frechet import EPS, GaussianFit, gaussian_fits, symmetric_product
from scottbench.registry.nouns import Influence


class NoInfluence(BadFeatures):
    """The metric has no first-order influence here; an interval needs subsampling or several generation seeds."""


def frechet_influence(real: np.ndarray | GaussianFit, generated: np.ndarray | GaussianFit) -> Influence:
    """First-order influence of every row on `frechet_distance`; (n1, d) and (n2, d) float features, or fits.

    With the optimal map from the generated fit to the real one, T = F (F' S2 F)^(-1/2) F' for any F with S1 = F F' (so T S2 T = S1):

        generated y:  2 (m2 - m1)'(y - m2) + (y - m2)'(I - T)(y - m2), centred
        real x:      -2 (m2 - m1)'(x - m1) + (x - m1)'(I - T^-1)(x - m1), centred

    (Dowson & Landau 1982; the derivative of tr (S1 S2)^(1/2) in S2 is T / 2.) Directions without variance on one side are left out:
    no image lies in them. Raises NoInfluence where min(n1, n2) <= d: the root then has no derivative that a new image would follow.
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
    """(n, r) and (r,) -> (n,): sum over r of weight * entry^2."""
    return np.einsum("nr,nr,r->n", rows, rows, weights)
