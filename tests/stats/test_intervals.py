"""Intervals against closed forms: means, shares, smooth functions of means; bounds; what has no interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from scottbench.registry.nouns import Influence
from scottbench.stats.intervals import NoInterval, by_prompt, half_sampling, halves, interval, of_mean, standard_error

RNG = np.random.default_rng(7)
SAMPLE = RNG.gamma(2.0, size=200)


def test_the_interval_of_a_mean_is_students():
    found = interval(SAMPLE.mean(), SAMPLE - SAMPLE.mean())
    low, high = scipy_stats.t.interval(0.95, 199, SAMPLE.mean(), scipy_stats.sem(SAMPLE))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.standard_error == pytest.approx(scipy_stats.sem(SAMPLE), rel=1e-12) and found.level == 0.95


def test_the_interval_of_a_share_is_wilsons():
    """To the t quantile in place of the normal one, and n - 1 in place of n in the variance."""
    hits = np.arange(400) < 30
    found = interval(0.075, hits - hits.mean(), bounds=(0.0, 1.0))
    wilson = scipy_stats.binomtest(30, 400).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), rel=5e-3)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_on_which_every_item_agrees_is_not_certain(share):
    found = interval(share, np.zeros(100), bounds=(0.0, 1.0))
    assert found.high - found.low == pytest.approx(4 / 104, rel=0.05)  # z^2 / (n + z^2)
    assert (found.low, found.high)[int(share)] == share


def test_an_interval_stays_inside_its_bounds_and_holds_its_value():
    assert interval(0.01, RNG.normal(size=50), bounds=(0.0, None)).low == 0.0
    assert interval(-0.01, RNG.normal(size=50), bounds=(None, 0.0)).high == 0.0
    unbounded = interval(0.01, RNG.normal(size=50))
    assert unbounded.low < 0 < unbounded.high
    # inside two bounds as usual where they are far away
    wide, plain = (interval(0.4, SAMPLE - SAMPLE.mean(), bounds=bounds) for bounds in ((-100.0, 100.0), (None, None)))
    assert (wide.low, wide.high) == pytest.approx((plain.low, plain.high), abs=2e-4)


def test_a_constant_metric_has_an_interval_of_one_point():
    found = interval(0.3, np.zeros(10), bounds=(-1.0, 1.0))
    assert (found.low, found.high) == (0.3, 0.3)


def test_generated_and_real_of_one_prompt_are_a_pair_and_of_unequal_numbers_independent():
    shared = RNG.normal(size=300)
    cancels = Influence(shared, -shared)
    assert standard_error(cancels) == 0
    a, b = RNG.normal(size=300), RNG.normal(size=100)
    independent = math.sqrt(a.var(ddof=1) / 300 + b.var(ddof=1) / 100)
    assert standard_error(Influence(a, b)) == pytest.approx(independent, rel=1e-12)
    assert standard_error(Influence(a, None)) == pytest.approx(a.std(ddof=1) / math.sqrt(300), rel=1e-12)
    assert interval(0.0, Influence(a, b)).standard_error == standard_error(Influence(a, b))
    with pytest.raises(NoInterval, match="300 generated and 100 reference"):
        by_prompt(Influence(a, b))


@pytest.mark.parametrize(
    ("influence", "words"),
    [
        (np.zeros(1), "at least two"),
        (np.array([0.0, np.nan, 1.0]), "1 of 3 images is NaN"),
        (np.zeros((4, 2)), r"shape \(4, 2\)"),
    ],
)
def test_what_has_no_interval_says_why(influence, words):
    with pytest.raises(NoInterval, match=words):
        interval(0.5, influence)


def test_a_value_that_is_not_finite_has_no_interval():
    with pytest.raises(NoInterval, match="value is nan"):
        interval(math.nan, np.zeros(5))


# --- half-sampling ---------------------------------------------------------------------------------------------------


def error_of(statistic, n) -> float:
    influence, df = half_sampling(lambda number, kept: statistic(kept), n)
    assert df == min(32, n) - 1 and influence.shape == (n,)
    return influence.std(ddof=1) / math.sqrt(n)


def test_halves_are_halves_and_the_same_for_every_cell():
    found = halves(101)
    assert len(found) == 32 and all(len(set(kept)) == 50 and kept.max() < 101 for kept in found)
    assert len({kept.tobytes() for kept in found}) == 32
    assert all(np.array_equal(a, b) for a, b in zip(found, halves(101), strict=True))
    assert len(halves(10)) == 10


@pytest.mark.parametrize("n", [64, 65, 1000])
def test_what_is_written_on_the_prompts_is_the_spread_of_the_halves(n):
    """The error, and the covariance of two cells, whatever rest n leaves."""
    a, b = np.random.default_rng(1).normal(size=(2, n))
    spread = [[values[kept].mean() for kept in halves(n)] for values in (a, b)]
    share = (n // 2) / (n - n // 2)
    on_a, on_b = (half_sampling(lambda number, kept, values=values: values[kept].mean(), n)[0] for values in (a, b))
    assert on_a @ on_a / (n * (n - 1)) == pytest.approx(share * np.var(spread[0], ddof=1), rel=1e-9)
    assert on_a @ on_b / (n * (n - 1)) == pytest.approx(share * np.cov(*spread)[0, 1], rel=1e-9, abs=1e-12)


def test_the_error_of_a_mean_and_of_a_smooth_function_of_it():
    """Within what 31 degrees of freedom allow: a standard deviation of 13 %."""
    sample = np.random.default_rng(3).gamma(2.0, size=2000)
    exact = scipy_stats.sem(sample)
    assert 0.65 < error_of(lambda kept: sample[kept].mean(), 2000) / exact < 1.35
    assert 0.65 < error_of(lambda kept: math.log(sample[kept].mean()), 2000) / (exact / sample.mean()) < 1.35


def test_the_error_of_a_count_of_neighbours_is_not_blown_up_as_leaving_out_one_by_one_does():
    """Share of points whose nearest neighbour is nearer than a constant / n: no smooth function of means."""

    def share(points):
        points = np.sort(points)
        gaps = np.diff(points, prepend=-9, append=9)
        return float((np.minimum(gaps[:-1], gaps[1:]) < 0.5 / len(points)).mean())

    rng = np.random.default_rng(0)
    true = np.std([share(rng.uniform(size=300)) for _ in range(400)], ddof=1)
    halved, one_by_one = [], []
    for _ in range(30):
        points = rng.uniform(size=300)
        halved.append(error_of(lambda kept, points=points: share(points[kept]), 300) ** 2)
        left = [share(np.delete(points, i)) for i in range(300)]
        one_by_one.append(299 * np.var(left))
    assert 0.85 < math.sqrt(np.mean(halved)) / true < 1.41
    assert math.sqrt(np.mean(one_by_one)) / true > 1.5


def test_two_cells_have_the_same_halves_so_that_their_difference_is_paired():
    a, b = (half_sampling(lambda number, kept, values=values: values[kept].mean(), 200)[0] for values in (SAMPLE, SAMPLE + 0.1))
    assert np.allclose(a, b)


def test_halves_refuse_too_few_images_and_a_statistic_that_is_not_finite():
    with pytest.raises(NoInterval, match="3 images cannot be halved"):
        half_sampling(lambda number, kept: 1.0, 3)
    with pytest.raises(NoInterval, match="NaN"):
        half_sampling(lambda number, kept: math.nan, 10)


def test_the_influence_of_a_mean_is_the_distance_from_it():
    found = of_mean(np.array([1.0, 2.0, 6.0]))
    assert found.generated.tolist() == [-2.0, -1.0, 3.0] and found.reference is None
