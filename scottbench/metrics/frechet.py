"""The Frechet distance between Gaussian fits of two feature sets.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)                  (Dowson & Landau 1982; Heusel et al. 2017, eq. 6)

The last trace is the sum of the square roots of the eigenvalues of S1 S2. The symmetric F' S2 F has the same eigenvalues for any F with
S1 = F F'. Their roots are also the singular values of C1 C2' for any C with S = C' C. Covariances are unbiased (n - 1), all is float64.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dsygst

from scottbench.errors import ScottbenchWarning
from scottbench.metrics.checks import BadFeatures, feature_matrix

ACCURACY = 1e-8
"""Share of tr S1 + tr S2 that rounding may move the distance by before the slower singular-value route is taken."""
NEGATIVE = 1e-6
"""A negative distance down to this share of tr S1 + tr S2 is rounding and becomes 0; below it, it is an error."""
EPS = float(np.finfo(np.float64).eps)


class RankLimited(ScottbenchWarning):
    """One of the two sets has no more rows than dimensions, so that its number of rows dominates the Frechet distance."""


@dataclass(frozen=True)
class FrechetDistance:
    """The squared Frechet distance, and how it was found."""

    value: float
    """mean_term + trace_term, >= 0, in squared feature units."""
    mean_term: float
    """|m1 - m2|^2."""
    trace_term: float
    """tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), before clamping."""
    route: str
    """"cholesky": eigenvalues of L' S2 L, S1 = L L'. "eigh": the same with a spectral root, where Cholesky fails. "singular":
    singular values of C1 C2', where a covariance is rank limited or the spectrum too wide for the other two."""
    rank_limited: bool
    """min(m, n) <= d: a covariance cannot have full rank, and the number of images dominates the distance. Compare equal numbers only."""
    rank: int
    """Eigenvalues of S1 S2 above d * eps * the largest."""
    min_eigenvalue: float
    """Smallest eigenvalue of S1 S2 as computed, before clipping at 0."""
    clipped_mass: float
    """Share 0..1 of the spectrum's absolute sum that was negative (rounding) and set to 0."""
    error_bound: float
    """Estimated rounding error of `value`."""


@dataclass(frozen=True, eq=False)
class GaussianFit:
    """Mean and unbiased covariance of a feature set. The factors that several comparisons share are made at first use and kept."""

    features: np.ndarray
    """(n, d), as given; must not change afterwards."""
    mean: np.ndarray
    """(d,) float64."""
    lower: np.ndarray
    """(d, d) float64, lower triangle of the covariance; zeros above."""

    @classmethod
    def of(cls, features: np.ndarray, what: str = "reference") -> GaussianFit:
        """Fit (n, d) features of any float dtype. what: the word for them in a message. Raises BadFeatures, also for n < 2."""
        features = feature_matrix(features, what)
        mean = features.mean(axis=0, dtype=np.float64)
        rows = features - mean
        # half of a matrix product, in the library of the factorisations below: a second one's idle threads would slow them down
        return cls(features, mean, dsyrk(1 / (len(rows) - 1), rows.T, lower=1))

    @property
    def n(self) -> int:
        """The number of rows."""
        return self.features.shape[0]

    @property
    def d(self) -> int:
        """The number of dimensions."""
        return self.features.shape[1]

    @property
    def trace(self) -> float:
        """The trace of the covariance."""
        return float(self.lower.trace())

    @cached_property
    def covariance(self) -> np.ndarray:
        """The covariance, (d, d) float64."""
        return self.lower + np.tril(self.lower, -1).T

    @cached_property
    def root(self) -> tuple[np.ndarray, np.ndarray, str]:
        """(F (d, r), rest (d, d - r), route) with S = F F' + rest rest'. F is the Cholesky factor, r = d. Where S is not positive
        definite (dead channels), F is the spectral root, and its columns of zero length, but for rounding, go to `rest`."""
        try:
            return linalg.cholesky(self.lower, lower=True, check_finite=False), np.empty((self.d, 0)), "cholesky"
        except linalg.LinAlgError:
            values, vectors = linalg.eigh(self.lower, lower=True, check_finite=False)
            columns, null = vectors * np.sqrt(values.clip(min=0)), values <= self.d * EPS * values.max()
            return columns[:, ~null], columns[:, null], "eigh"

    @cached_property
    def compact(self) -> np.ndarray:
        """C (min(n, d), d) with S = C' C: the centred rows / sqrt(n - 1), or R of their QR factorisation if n > d."""
        rows = _scaled_rows(self.features, self.mean)
        if self.n <= self.d:
            return rows
        return linalg.qr(rows, mode="r", overwrite_a=True, check_finite=False)[0][: self.d]


def _scaled_rows(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return (features - mean) / sqrt(n - 1), (n, d) float64."""
    return (features - mean) / (len(features) - 1) ** 0.5


def frechet_distance(real: np.ndarray | GaussianFit, generated: np.ndarray | GaussianFit) -> FrechetDistance:
    """Compute the squared Frechet distance between Gaussian fits of two feature sets; of Inception features it is FID.

    real, generated: (m, d) and (n, d) float features. Give `GaussianFit.of(real)` in place of `real` to factor it once for several sets.
    Warns RankLimited if min(m, n) <= d. Raises BadFeatures for fewer than two rows, unequal d, NaN or infinite values, and for a result
    so negative that it cannot be rounding.
    """
    real, generated = gaussian_fits(real, generated)
    rank_limited = min(real.n, generated.n) <= real.d
    if rank_limited:
        warnings.warn(
            f"the Frechet distance is rank limited: {min(real.n, generated.n)} images for {real.d} dimensions. It is dominated by the "
            "number of images; compare it with numbers of the same n only.",
            RankLimited,
            stacklevel=2,
        )
    total = real.trace + generated.trace
    spectrum = None if rank_limited else _symmetric_spectrum(real, generated)
    if spectrum is None or spectrum.error > ACCURACY * total:
        spectrum = _singular_spectrum(real, generated)
    difference = real.mean - generated.mean
    mean_term = float(difference @ difference)
    trace_term = total - 2 * spectrum.root_sum
    value = mean_term + trace_term
    if value < -NEGATIVE * total:
        raise BadFeatures(
            f"Frechet distance {value:.3g} is negative (traces {real.trace:.3g}, {generated.trace:.3g}): features out of numeric range."
        )
    return FrechetDistance(
        value=max(value, 0.0),
        mean_term=mean_term,
        trace_term=trace_term,
        route=spectrum.route,
        rank_limited=rank_limited,
        rank=spectrum.rank,
        min_eigenvalue=spectrum.smallest,
        clipped_mass=spectrum.clipped_mass,
        error_bound=spectrum.error,
    )


def gaussian_fits(real: np.ndarray | GaussianFit, generated: np.ndarray | GaussianFit) -> tuple[GaussianFit, GaussianFit]:
    """Fit both sets, (m, d) and (n, d), unless they are fits already. Raises BadFeatures, also for unequal d."""
    real = real if isinstance(real, GaussianFit) else GaussianFit.of(real, "reference")
    generated = generated if isinstance(generated, GaussianFit) else GaussianFit.of(generated, "generated")
    if real.d != generated.d:
        raise BadFeatures(f"reference features have {real.d} dimensions, generated ones {generated.d}. Both must be of one extractor.")
    return real, generated


def symmetric_product(real: GaussianFit, generated: GaussianFit) -> np.ndarray:
    """Compute F' S2 F of S1 = F F', (r, r) float64. With a Cholesky factor only the lower triangle, at half the cost."""
    factor, _, route = real.root
    if route != "cholesky":
        return factor.T @ generated.covariance @ factor
    product, info = dsygst(generated.lower, factor, itype=2, lower=1)
    assert info == 0, f"dsygst: argument {-info}"
    return product


@dataclass(frozen=True)
class _Spectrum:
    """The facts about the eigenvalues of S1 S2 that the distance needs."""

    root_sum: float
    rank: int
    smallest: float
    clipped_mass: float
    error: float
    route: str


def _symmetric_spectrum(real: GaussianFit, generated: GaussianFit) -> _Spectrum:
    """Take the eigenvalues of F' S2 F. Each errs by about eps times the largest, whatever its size: small roots err by sqrt(eps)."""
    factor, rest, route = real.root
    if factor.shape[1] == 0:  # all rows equal
        return _Spectrum(root_sum=0.0, rank=0, smallest=0.0, clipped_mass=0.0, error=0.0, route=route)
    values = linalg.eigvalsh(symmetric_product(real, generated), lower=True, overwrite_a=True, check_finite=False)
    delta = 4 * EPS * max(values.max(), 0.0)
    clipped = values.clip(min=0)
    left_out = np.zeros(0)
    if rest.shape[1]:
        left_out = np.einsum("dr,de,er->r", rest, generated.covariance, rest, optimize=True).clip(min=0)
    error = 2 * float((np.sqrt(clipped + delta) - np.sqrt(clipped)).sum() + np.sqrt(left_out).sum())
    mass = float(np.abs(values).sum())
    return _Spectrum(
        root_sum=float(np.sqrt(clipped).sum()),
        rank=int((values > real.d * EPS * values.max()).sum()),
        smallest=float(values.min()),
        clipped_mass=float((clipped - values).sum()) / mass if mass > 0 else 0.0,
        error=error,
        route=route,
    )


def _singular_spectrum(real: GaussianFit, generated: GaussianFit) -> _Spectrum:
    """Take the singular values of C1 C2', which are the roots: none is negative, and each errs by about eps |C1| |C2|."""
    roots = linalg.svdvals(real.compact @ generated.compact.T, overwrite_a=True, check_finite=False)
    scale = (real.trace * generated.trace) ** 0.5
    padded = len(roots) < real.d
    return _Spectrum(
        root_sum=float(roots.sum()),
        rank=int((roots**2 > real.d * EPS * roots.max(initial=0) ** 2).sum()),
        smallest=0.0 if padded else float(roots.min()) ** 2,
        clipped_mass=0.0,
        error=2 * EPS * scale * len(roots) ** 0.5,
        route="singular",
    )
