"""Populations of prompts with known or resampled laws, and what intervals and paired tests do on draws from them.

A draw is n prompts: reference features, prompt features, and the features of two methods on the same prompts, all dependent. What is
under test is the path that a run takes: a Metric's `compute`, then `scottbench.stats.uncertainty.uncertainty`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scottbench_metrics import register_metrics

from scottbench.registry.nouns import CellFeatures
from scottbench.stats.measured import degrees_of_freedom
from scottbench.stats.paired import PairedDifference, paired_difference
from scottbench.stats.uncertainty import uncertainty

METRICS = {metric.name: metric for metric in register_metrics()}


@dataclass(frozen=True)
class Draw:
    """Features of n prompts, each (n, d) float32."""

    real: np.ndarray
    text: np.ndarray
    a: np.ndarray
    b: np.ndarray

    def cells(self) -> tuple[CellFeatures, CellFeatures]:
        reference, text, shared = {"image": self.real, "clip": self.real}, {"clip": self.text}, {}
        return tuple(
            CellFeatures(len(side), {"image": side, "clip": side}, reference, text, reference_memo=shared) for side in (self.a, self.b)
        )

    def mixed(self, share: float, rng: np.random.Generator) -> Draw:
        """On each prompt the first method gives B's image with probability 1/2 - share, the second with 1/2 + share, independently of the
        other prompts: share 0 makes the two equal in law, 1/2 gives A against B."""
        first, second = (rng.random(len(self.a)) < 0.5 + sign * share for sign in (1, -1))
        pick = [np.where(mask[:, None], self.a, self.b) for mask in (first, second)]
        return Draw(self.real, self.text, *pick)


@dataclass(frozen=True)
class Population:
    """draw(n, rng) -> Draw. size: prompts of a finite pool that it draws from without replacement; None = endless."""

    name: str
    draw: Callable[[int, np.random.Generator], Draw]
    size: int | None = None

    def correction(self, n: int) -> float:
        """Standard deviations of draws from a pool are this much smaller than of draws from what the pool stands for."""
        return 1.0 if self.size is None else (1 - n / self.size) ** 0.5


def normal(d: int, tails: int | None = None) -> Population:
    """Features with spectrum 1/k: references, and two methods that follow them with noise, another scale and a shift each.

    tails: degrees of freedom of Student's t in place of the normal law, coordinate by coordinate.
    """
    spectrum = (1 / np.arange(1, d + 1)) ** 0.5

    def noise(n: int, rng: np.random.Generator) -> np.ndarray:
        z = rng.standard_normal((n, d))
        return z if tails is None else rng.standard_t(tails, (n, d)) * ((tails - 2) / tails) ** 0.5

    def draw(n: int, rng: np.random.Generator) -> Draw:
        z = noise(n, rng)
        real = z * spectrum
        # of some 40 % coverage and precision: k-NN counts near 0 or 1 are no test
        a = (0.75 * z + 0.95 * noise(n, rng)) * spectrum + 0.8 / d**0.5
        b = (0.65 * z + 1.0 * noise(n, rng)) * spectrum + 0.9 / d**0.5
        text = (0.6 * z + 0.8 * noise(n, rng)) * spectrum
        return Draw(*(part.astype(np.float32) for part in (real, text, a, b)))

    return Population(f"{'normal' if tails is None else f't with {tails} degrees of freedom'}, d = {d}", draw)


def pool(name: str, real: np.ndarray, text: np.ndarray, a: np.ndarray, b: np.ndarray) -> Population:
    """Prompts drawn without replacement from N, all arrays (N, d)."""

    def draw(n: int, rng: np.random.Generator) -> Draw:
        chosen = rng.choice(len(real), n, replace=False)
        return Draw(*(part[chosen] for part in (real, text, a, b)))

    return Population(f"{name}, d = {real.shape[1]}", draw, len(real))


# --- what intervals do -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """One metric on one population at one n, from `draws` draws."""

    population: str
    metric: str
    n: int
    draws: int
    method: str
    """ci_method of most draws."""
    coverage: float
    """Share of draws whose interval holds the mean of the values over all draws: the metric's expectation at this n."""
    width: float
    """Mean width over that of the shortest symmetric interval that would do, 2 x 1.96 true standard deviations."""
    size: float
    """Share of draws in which two methods of one law are found different at 5 %."""


def calibrate(population: Population, names: Sequence[str], n: int, draws: int, seed: int = 0) -> list[Calibration]:
    """Coverage and width from method A alone, size from two mixtures of equal law."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[tuple]] = {name: [] for name in names}
    for _ in range(draws):
        drawn = population.draw(n, rng)
        cell, (one, other) = drawn.cells()[0], drawn.mixed(0.0, rng).cells()
        for name in names:
            value, found = measure(name, cell)
            rows[name].append((value, found.interval.low, found.interval.high, found.method, paired(name, one, other).p <= 0.05))
    return [_summary(population, name, n, rows[name]) for name in names]


def measure(name: str, cell: CellFeatures) -> tuple:
    """(value, Uncertainty) of a metric with its default options."""
    metric = METRICS[name]
    value = float(metric.compute(cell, metric.options()))
    return value, uncertainty(metric, cell, metric.options(), value)


def paired(name: str, a: CellFeatures, b: CellFeatures) -> PairedDifference:
    """Paired difference of two cells, as a run computes it."""
    (value_a, of_a), (value_b, of_b) = measure(name, a), measure(name, b)
    df = min(degrees_of_freedom(of.method, cell.n) for of, cell in ((of_a, a), (of_b, b)))
    return paired_difference(value_a, value_b, of_a.influence, of_b.influence, df)


def _summary(population: Population, name: str, n: int, rows: list[tuple]) -> Calibration:
    values, low, high = (np.array([row[i] for row in rows]) for i in range(3))
    methods = [row[3] for row in rows]
    correction, mean = population.correction(n), values.mean()
    # about the value, an interval is narrowed as much as the draws from a pool are
    inside = (values + correction * (low - values) <= mean) & (mean <= values + correction * (high - values))
    truth = 2 * 1.959964 * values.std(ddof=1) / correction
    return Calibration(
        population.name, name, n, len(rows), max(set(methods), key=methods.count), float(inside.mean()),
        float((high - low).mean() / truth), float(np.mean([row[4] for row in rows])))


def power_curve(
    population: Population, names: Sequence[str], n: int, shares: Sequence[float], draws: int, seed: int = 1
) -> dict[str, list[tuple[float, float, float]]]:
    """Metric -> [(share, mean difference, share of draws found different at 5 %)] of two mixtures that differ more and more."""
    rng = np.random.default_rng(seed)
    curves: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for share in shares:
        tests: dict[str, list[PairedDifference]] = {name: [] for name in names}
        for _ in range(draws):
            a, b = population.draw(n, rng).mixed(share, rng).cells()
            for name in names:
                tests[name].append(paired(name, a, b))
        for name, found in tests.items():
            difference = float(np.mean([test.difference for test in found]))
            curves[name].append((share, difference, float(np.mean([test.p <= 0.05 for test in found]))))
    return curves
