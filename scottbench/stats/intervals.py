"""Intervals of metric values: pure functions of arrays, for any metric. An interval covers the choice of prompts and sampling noise.

Everything rests on one (n,) array, the influence of each prompt (its image and its reference) on the value (Hampel 1974):

    value(other prompts) - value  ~  mean of the influences of the prompts drawn,  so  sd(value) ~ sd(influence) / sqrt(n).

The interval is centred at the value. It is about the metric's expectation *at this n*, bias included. A percentile bootstrap would
centre on the bias of resampling, and for a Frechet distance it misses that expectation.
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
"""The level of every interval that is printed."""
HALVES = 32
"""The number of random halves: 31 degrees of freedom, for 32 computations of the metric on half of the prompts."""


class NoInterval(ScottbenchError):
    """The value has no interval. The message says why in one line: too few images, influences that are not finite or too many or few."""


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
    """Make the interval of a value: the value plus and minus a t quantile times its standard error, kept inside `bounds`.

    influence: (n,) float64, one per prompt, or an `Influence`. df: degrees of freedom of the standard error; None is n - 1.
    Between two finite bounds it is Wilson's score interval (1927) at the effective n that has this standard error. That interval has a
    width also where every item agrees (a precision of 1.000). Raises NoInterval.
    """
    if isinstance(influence, Influence):
        error, n = standard_error(influence), len(influence.generated)
    else:
        error, n = deviation(influence) / math.sqrt(len(influence)), len(influence)
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
    """Make Wilson's interval of a share 0..1 whose standard error is that of a binomial of size share (1 - share) / error^2."""
    effective = share * (1 - share) / error**2 if error > 0 and 0 < share < 1 else n
    z2 = quantile**2 / effective
    middle = (share + z2 / 2) / (1 + z2)
    half = quantile / (1 + z2) * math.sqrt(share * (1 - share) / effective + z2 / (4 * effective))
    return middle - half, middle + half


def standard_error(influence: Influence) -> float:
    """Compute the standard error of a metric's value. Raises NoInterval.

    As many generated as real items are pairs of one prompt each; unequal numbers are independent samples.
    """
    generated, real = influence.generated, influence.reference
    if real is None or len(real) == len(generated):
        return deviation(by_prompt(influence)) / math.sqrt(len(generated))
    return math.hypot(deviation(generated) / math.sqrt(len(generated)), deviation(real) / math.sqrt(len(real)))


def by_prompt(influence: Influence) -> np.ndarray:
    """Add up the influences of each prompt's image and reference, (n,) float64. Raises NoInterval if their numbers differ."""
    import numpy as np

    generated = np.asarray(influence.generated, dtype=np.float64)
    if influence.reference is None:
        return generated
    real = np.asarray(influence.reference, dtype=np.float64)
    if real.shape != generated.shape:
        raise NoInterval(f"{len(generated)} generated and {len(real)} reference images are not pairs of one prompt each")
    return generated + real


def deviation(values: np.ndarray) -> float:
    """Compute the standard deviation (ddof 1) of (n,) values. Raises NoInterval unless they are two finite numbers or more."""
    import numpy as np

    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise NoInterval(f"influences have shape {values.shape}, expected one number per image")
    if len(values) < 2:
        raise NoInterval("one image has no spread; an interval needs at least two")
    if not np.isfinite(values).all():
        raise NoInterval(f"the influence of {int((~np.isfinite(values)).sum())} of {len(values)} images is NaN or infinite")
    return float(values.std(ddof=1))


def t_quantile(share: float, df: float) -> float:
    """Compute the quantile of Student's t at a share 0..1; df >= 1, infinity for the normal distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def t_tail(statistic: float, df: float) -> float:
    """Compute the two-sided p of a t statistic."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(statistic)))


def of_mean(items: np.ndarray) -> Influence:
    """Return the influence of every item on their mean, for (n,) independent items: how far each is from the mean."""
    import numpy as np

    items = np.asarray(items, dtype=np.float64)
    return Influence(items - items.mean(), None)


def halves(n: int) -> list[np.ndarray]:
    """Draw the random halves of n prompts, (n // 2,) sorted indices each: the same for every cell, so that differences are paired."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [np.sort(rng.permutation(n)[: n // 2]) for _ in range(min(HALVES, n))]


def half_sampling(statistic: Callable[[int, np.ndarray], float], n: int) -> tuple[np.ndarray, int]:
    """Return a pseudo-influence, (n,) float64, and its degrees of freedom, for any statistic of n prompts.

    The n prompts are split at random into 32 groups (n groups, if n is smaller), and every prompt of group g gets the scaled deviation
    of half g: the statistic on that random half of the prompts, less the mean over all halves. The scale makes sd / sqrt(n), and the
    covariance of two cells, those that the halves show. statistic: (number of the half, (n // 2,) indices) -> value.

    This is the delete-d jackknife with d = n / 2 (Shao & Wu 1989). Half as many prompts double the variance, and sharing half of them
    halves it again. Where k prompts act together, as in a k-NN ball, the standard error comes out at most sqrt(2) too large; leaving out
    one by one makes it sqrt(k) too large. Raises NoInterval for n < 4 or a statistic that is not finite.
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
