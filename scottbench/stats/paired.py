"""Paired differences of two cells over the same prompts: tests, Holm's correction, how many images would decide.

Two cells share prompts, reference images and starting noise, so that much of what moves one value moves the other. The difference of
their influences, prompt by prompt, drops what they share. The bias of a metric at this n, too, cancels to first order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from scottbench.errors import Mismatch
from scottbench.stats.intervals import LEVEL, NoInterval, deviation, t_quantile, t_tail
from scottbench.stats.measured import Measured, comparable, on_shared_seeds
from scottbench.store.tables import PAIRS_SCHEMA, asked, frame

if TYPE_CHECKING:
    import numpy as np

POWER = 0.8
"""The probability of a decision that `images_to_decide` plans for."""


@dataclass(frozen=True)
class PairedDifference:
    """The difference A - B of two values at one n, or their ratio A / B, and its test."""

    difference: float
    """A - B in the metric's unit; of a ratio, A / B."""
    low: float
    high: float
    standard_error: float
    """The standard error of the difference; for a ratio, of its logarithm."""
    p: float
    """Two-sided p of the hypothesis that the difference is 0 (the ratio 1)."""
    n: int
    """Prompts that both share."""


def paired_difference(
    value_a: float, value_b: float, influence_a: np.ndarray, influence_b: np.ndarray, df: int | None = None, level: float = LEVEL
) -> PairedDifference:
    """Test the difference A - B of two values by a t interval and a two-sided t test.

    influence_a, influence_b: (n,) float64 of the same prompts in the same order (`scottbench.stats.intervals.by_prompt`). df: degrees of
    freedom; None is n - 1. Two cells that agree on every prompt have p = 1; a difference without any spread has p = 0. Raises NoInterval.
    """
    difference = value_a - value_b
    error = _paired_error(influence_a, influence_b)
    n = len(influence_a)
    half = t_quantile((1 + level) / 2, n - 1 if df is None else df) * error
    return PairedDifference(difference, difference - half, difference + half, error, _p(difference, error, n, df), n)


def paired_ratio(
    value_a: float, value_b: float, influence_a: np.ndarray, influence_b: np.ndarray, df: int | None = None, level: float = LEVEL
) -> PairedDifference:
    """Test the ratio A / B of two positive values, by the delta method on log A - log B.

    Arguments are those of `paired_difference`, (n,) influences too. Raises NoInterval, also for a value <= 0.
    """
    if not (value_a > 0 and value_b > 0):
        raise NoInterval(f"a ratio needs two values above 0, found {value_a:g} and {value_b:g}")
    import numpy as np

    error = _paired_error(np.asarray(influence_a) / value_a, np.asarray(influence_b) / value_b)
    n, log_ratio = len(influence_a), math.log(value_a / value_b)
    half = t_quantile((1 + level) / 2, n - 1 if df is None else df) * error
    ends = (math.exp(log_ratio - half), math.exp(log_ratio + half))
    return PairedDifference(value_a / value_b, *ends, error, _p(log_ratio, error, n, df), n)


def _paired_error(influence_a: np.ndarray, influence_b: np.ndarray) -> float:
    """Compute the standard error of a difference from the (n,) influences of its sides."""
    import numpy as np

    a, b = np.asarray(influence_a, dtype=np.float64), np.asarray(influence_b, dtype=np.float64)
    if a.shape != b.shape:
        raise NoInterval(f"{a.shape} and {b.shape} influences are not of the same prompts")
    return deviation(a - b) / math.sqrt(len(a))


def _p(effect: float, error: float, n: int, df: int | None) -> float:
    """Compute the two-sided p of an effect; without any spread it is 0 or 1."""
    if error == 0:
        return 1.0 if effect == 0 else 0.0
    return t_tail(effect / error, n - 1 if df is None else df)


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p values for all the tests of one table (Holm 1979): reject where adjusted <= alpha, however the tests depend."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def images_to_decide(
    difference: float, standard_error: float, n: int, alpha: float = 1 - LEVEL, between: float = 0.0
) -> int | None:
    """Compute how many images per cell a two-sided test at `alpha` needs to find a true difference of this size with probability POWER.

    standard_error: that of the difference at n images; it shrinks with 1 / sqrt(images). between: the part that images do not shrink, the
    standard error between trainings. None where no number would do: the difference is 0, or hides in `between`.
    """
    quantiles = t_quantile(1 - alpha / 2, math.inf) + t_quantile(POWER, math.inf)
    left = (difference / quantiles) ** 2 - between**2
    if left <= 0:
        return None
    return max(2, math.ceil(n * standard_error**2 / left))


def rounded(images: int) -> str:
    """Round a number of images to two digits, which is all it is worth: "about 2,900", "more than 10,000,000"."""
    if images > 10_000_000:
        return "more than 10,000,000"
    places = max(0, len(str(images)) - 2)
    return f"about {round(images, -places):,}"


@dataclass(frozen=True)
class Pair:
    """The difference A - B of two cells in one metric."""

    a: Measured
    b: Measured
    test: PairedDifference
    p_holm: float
    """The p adjusted for all tests of the table."""
    images_to_decide: int | None
    """Images per cell that would decide an open difference with probability 0.8, if it is as large as measured; None if it is decided."""

    @property
    def verdict(self) -> str:
        """One of "a better", "b better", "equal" (on every prompt) and "inconclusive", by the adjusted p at 5 %."""
        if self.test.difference == 0 and self.test.standard_error == 0:
            return "equal"
        if self.p_holm > 1 - LEVEL:
            return "inconclusive"
        return "a better" if (self.test.difference > 0) == self.a.higher_is_better else "b better"

    @property
    def in_words(self) -> str:
        """The verdict with names: "x@2 better", "inconclusive: about 2,900 images would decide"."""
        if self.verdict == "inconclusive":
            many = self.images_to_decide
            return "inconclusive" if many is None else f"inconclusive: {rounded(many)} images would decide"
        return {"a better": f"{self.a.cell} better", "b better": f"{self.b.cell} better"}.get(self.verdict, self.verdict)


def pair_table(couples: Iterable[tuple[Measured, Measured]]) -> list[Pair]:
    """Test the difference of each couple, with Holm's correction over all of them. Raises NoInterval."""
    couples = list(couples)
    tests = [paired_difference(a.value, b.value, a.influence, b.influence, min(a.df, b.df)) for a, b in couples]
    adjusted = holm([test.p for test in tests])
    pairs = []
    for (a, b), test, p in zip(couples, tests, adjusted, strict=True):
        many = images_to_decide(test.difference, test.standard_error, test.n, (1 - LEVEL) / len(couples)) if p > 1 - LEVEL else None
        pairs.append(Pair(a, b, test, p, many))
    return pairs


def in_family(pairs: Sequence[Pair], recorded: Sequence[dict[str, Any]]) -> tuple[list[Pair], int]:
    """Take the corrected p of pairs from the run that they are of, where its table has all of them, either way round: so one comparison has
    one p everywhere. Return them with the number of tests that Holm's correction is over.

    pairs: of `pair_table`; recorded: the run's rows of pairs.parquet, [] where the pairs are of two runs.
    """
    known = {(_side(row, "a"), _side(row, "b"), row["metric"], row.get("seeds")): row for row in recorded}
    found = []
    for pair in pairs:
        row = pair_row(pair)
        sides, rest = (_side(row, "a"), _side(row, "b")), (row["metric"], row["seeds"])
        there = known.get((*sides, *rest), known.get((*sides[::-1], *rest)))
        if there is None:
            return list(pairs), len(pairs)
        found.append(replace(pair, p_holm=there["p_holm"], images_to_decide=there.get("images_to_decide")))
    return found, len(recorded)


def _side(row: dict[str, Any], side: str) -> tuple[str, int]:
    return row[f"method_{side}"], row[f"steps_{side}"]


def run_pairs(measured: Sequence[Measured]) -> list[Pair]:
    """Test all pairs of a run's rows in every metric that both have, as one family: so a comparison has one p and one verdict, in the
    table, in `scottbench compare` and behind the marks of what is best.

    The pairs that a table asks about come first (`asked`). Each pair is taken over the seeds that both have. Couples that must not be
    compared are left out.
    """
    cells: dict[tuple[str, int], dict[str, list[Measured]]] = {}
    for one in measured:
        cells.setdefault((one.method, one.steps), {}).setdefault(one.metric, []).append(one)
    couples = []
    for a, b in sorted(combinations(cells, 2), key=lambda pair: not asked(pair[0], pair[1], cells)):
        for metric in cells[a]:
            if metric in cells[b]:
                couple = on_shared_seeds(cells[a][metric], cells[b][metric])
                try:
                    comparable(*couple)
                except Mismatch:
                    continue
                couples.append(couple)
    return pair_table(couples)


def pairs_frame(pairs: Sequence[Pair]) -> Any:
    """Make the table of pairs.parquet: one row per metric and pair, A - B."""
    return frame([pair_row(pair) for pair in pairs], PAIRS_SCHEMA)


def pair_row(pair: Pair) -> dict[str, Any]:
    """Make one row of pairs.parquet and of `scottbench compare --json`."""
    a, b, test = pair.a, pair.b, pair.test
    return {
        "metric": a.metric, "method_a": a.method, "steps_a": a.steps, "method_b": b.method, "steps_b": b.steps,
        "seeds": ",".join(map(str, a.seeds)) if a.seeds == b.seeds else f"{','.join(map(str, a.seeds))}/{','.join(map(str, b.seeds))}",
        "n": test.n, "value_a": a.value, "value_b": b.value, "difference": test.difference, "ci_low": test.low, "ci_high": test.high,
        "p": test.p, "p_holm": pair.p_holm, "images_to_decide": pair.images_to_decide, "verdict": pair.in_words,
    }  # fmt: skip
