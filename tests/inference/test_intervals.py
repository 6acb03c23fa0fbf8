"""Intervals against closed forms: means, shares, smooth functions of means; bounds; what has no interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from scottbench.intervals import NoInterval, by_prompt, interval, jackknife, standard_error
from scottbench.nouns import Influence

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


# --- jackknife -------------------------------------------------------------------------------------------------------


def test_deleting_one_by_one_gives_the_textbook_error_of_a_mean():
    influence, df = jackknife(lambda kept: SAMPLE[:40][kept].mean(), 40, groups=40)
    assert df == 39
    assert influence.std(ddof=1) / math.sqrt(40) == pytest.approx(scipy_stats.sem(SAMPLE[:40]), rel=1e-12)
    assert np.allclose(influence, SAMPLE[:40] - SAMPLE[:40].mean())


def test_groups_give_the_error_of_a_smooth_function_of_means():
    """log of the mean: sd / (mean sqrt(n)), within what 39 degrees of freedom allow."""
    sample = np.random.default_rng(3).gamma(2.0, size=4000)
    influence, df = jackknife(lambda kept: math.log(sample[kept].mean()), 4000)
    exact = scipy_stats.sem(sample) / sample.mean()
    assert df == 39
    assert 0.7 < influence.std(ddof=1) / math.sqrt(4000) / exact < 1.3
    assert len(np.unique(influence.round(12))) == 40 and abs(influence.mean()) < 1e-9


def test_groups_are_not_blocks_of_the_sorted_data():
    """Blocks of a sorted sample would differ far more than groups drawn at random."""
    ordered = np.sort(SAMPLE)
    influence, _ = jackknife(lambda kept: ordered[kept].mean(), 200)
    assert influence.std(ddof=1) / math.sqrt(200) < 1.5 * scipy_stats.sem(ordered)


def test_two_cells_have_the_same_groups_so_that_their_difference_is_paired():
    other = SAMPLE + 0.1
    a, b = (jackknife(lambda kept, values=values: values[kept].mean(), 200)[0] for values in (SAMPLE, other))
    assert np.allclose(a, b)


def test_the_jackknife_refuses_one_item_and_a_statistic_that_is_not_finite():
    with pytest.raises(NoInterval, match="at least two"):
        jackknife(lambda kept: 1.0, 1)
    with pytest.raises(NoInterval, match="NaN"):
        jackknife(lambda kept: math.nan, 10)
