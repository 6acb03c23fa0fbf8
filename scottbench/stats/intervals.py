"""Intervals of metric values: pure functions of arrays, for any metric. What an interval covers is prompts and sampling noise.

Everything rests on one (n,) array, the influence of each prompt (its image and its reference) on the value (Hampel 1974):

    value(other prompts) - value  ~  mean of the influences of the prompts drawn,  so  sd(value) ~ sd(influence) / sqrt(n).

The interval is centred at the value ("re-centred"): it is about the metric's expectation *at this n*, bias included. A percentile
bootstrap would centre on the bias of resampling and misses that expectation for a Frechet distance.
Where a metric has no influence function, or none that is calibrated (k-NN counts), `half_sampling` stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scottbench.errors import ScottbenchError
from scottbench.registry.nouns import Influence

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
"""Of every interval that is printed."""
HALVES = 32
"""Random halves of half-sampling: 31 degrees of freedom, 32 computations of the metric on half of the prompts."""


class NoInterval(ScottbenchError):
    """Why a value has no interval, in one line: too few images, influences that are not finite or of the wrong length."""


@dataclass(frozen=True)
class Interval:
    """A two-sided interval of a value at its n."""

    low: float
    high: float
    standard_error: float
    """Standard deviation of the value over draws of prompts and noise, in the value's unit."""
    level: float
    """Nominal probability 0..1 of holding the value's expectation."""


def interval(
    value: float,
    influence: np.ndarray | Influence,
    df: int | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
    level: float = LEVEL,
) -> Interval:
    """`value` plus and minus a t quantile times its standard error, kept inside `bounds`.

    influence: (n,) float64 per prompt, or an `Influence`. df: degrees of freedom of the standard error; None = n - 1.
    Between two finite bounds it is Wilson's score interval (1927) at the effective n that has this standard error, which holds more
    than one point where every item agrees (a precision of 1.000). Raises NoInterval.
    """
    if isinstance(influence, Influence):
        error, n = standard_error(influence), len(influence.generated)
    else:
        error, n = _sd(influence) / math.sqrt(len(influence)), len(influence)
    if not math.isfinite(value):
        raise NoInterval(f"the value is {value}")
    quantile = t_quantile((1 + level) / 2, n - 1 if df is None else df)
    least, most = bounds
    if least is not None and most is not None and least <= value <= most and (error > 0 or value in bounds):
        low, high = _wilson((value - least) / (most - least), error / (most - least), n, quantile)
        low, high = least + low * (most - least), least + high * (most - least)
    else:
        low, high = value - quantile * error, value + quantile * error
    if least is not None:
        low = max(low, least)
    if most is not None:
        high = min(high, most)
    return Interval(min(low, value), max(high, value), error, level)


def _wilson(share: float, error: float, n: int, quantile: float) -> tuple[float, float]:
    """Wilson's interval of a share 0..1 whose standard error is that of a binomial of size share (1 - share) / error^2."""
    effective = share * (1 - share) / error**2 if error > 0 and 0 < share < 1 else n
    z2 = quantile**2 / effective
    middle = (share + z2 / 2) / (1 + z2)
    half = quantile / (1 + z2) * math.sqrt(share * (1 - share) / effective + z2 / (4 * effective))
    return middle - half, middle + half


def standard_error(influence: Influence) -> float:
    """Of a metric's value. Equal numbers of generated and real items are pairs of one prompt; unequal ones are independent samples."""
    generated, real = influence.generated, influence.reference
    if real is None or len(real) == len(generated):
        return _sd(by_prompt(influence)) / math.sqrt(len(generated))
    return math.hypot(_sd(generated) / math.sqrt(len(generated)), _sd(real) / math.sqrt(len(real)))


def by_prompt(influence: Influence) -> np.ndarray:
    """(n,) float64: the influence of each prompt, its image and its reference together. Raises NoInterval where m != n."""
    import numpy as np

    generated = np.asarray(influence.generated, dtype=np.float64)
    if influence.reference is None:
        return generated
    real = np.asarray(influence.reference, dtype=np.float64)
    if real.shape != generated.shape:
        raise NoInterval(f"{len(generated)} generated and {len(real)} reference images are not pairs of one prompt each")
    return generated + real


def _sd(values: np.ndarray) -> float:
    """Standard deviation (ddof 1) of a 1-d array of at least two finite numbers; else NoInterval."""
    import numpy as np

    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise NoInterval(f"influences have shape {values.shape}, expected one number per image")
    if len(values) < 2:
        raise NoInterval("one image has no spread; an interval needs at least two")
    if not np.isfinite(values).all():
        raise NoInterval(f"the influence of {int((~np.isfinite(values)).sum())} of {len(values)} images is NaN or infinite")
    return float(values.std(ddof=1))


def t_quantile(share: float, df: int) -> float:
    """Quantile of Student's t, share 0..1, df >= 1."""
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def t_tail(statistic: float, df: int) -> float:
    """Two-sided p of a t statistic."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(statistic)))


def of_mean(items: np.ndarray) -> Influence:
    """Influence of a metric that is the mean of (n,) independent items: how far each is from the mean."""
    import numpy as np

    items = np.asarray(items, dtype=np.float64)
    return Influence(items - items.mean(), None)


def halves(n: int) -> list[np.ndarray]:
    """The random halves of n prompts, (n // 2,) sorted indices each: the same for every cell, so that differences are paired."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [np.sort(rng.permutation(n)[: n // 2]) for _ in range(min(HALVES, n))]


def half_sampling(statistic: Callable[[int, np.ndarray], float], n: int) -> tuple[np.ndarray, int]:
    """((n,) array in place of influences, degrees of freedom) of any statistic, from its spread over random halves of the prompts.

    statistic: (number of the half, (n // 2,) indices) -> value. This is the delete-d jackknife with d = n / 2 (Shao & Wu 1989): half as
    many prompts double the variance, sharing half of them halves it again. Where k prompts act together, as in a k-NN ball, the standard
    error comes out at most sqrt(2) too large, against sqrt(k) for leaving out one by one. The deviation of each half is written on a
    random 1 / HALVES of the prompts, scaled so that sd / sqrt(n) and the covariance of two cells are those of the halves.
    Raises NoInterval for n < 4 or a statistic that is not finite.
    """
    import numpy as np

    if n < 4:
        raise NoInterval(f"{n} images cannot be halved for an interval; at least 4 are needed")
    values = np.array([statistic(number, kept) for number, kept in enumerate(halves(n))], dtype=np.float64)
    if not np.isfinite(values).all():
        raise NoInterval("the metric is NaN or infinite on a half of the prompts")
    draws, kept = len(values), n // 2
    variance = kept / (n - kept)  # of the value, as a share of that of a half about the value
    group = np.random.default_rng(1).permutation(n) % draws
    scale = np.sqrt(n * (n - 1) * variance / ((draws - 1) * np.bincount(group, minlength=draws)))
    return ((values - values.mean()) * scale)[group], draws - 1
