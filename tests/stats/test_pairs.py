"""Paired differences, Holm and numbers of images against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from scottbench.stats.intervals import NoInterval
from scottbench.stats.paired import holm, images_to_decide, paired_difference, paired_ratio

RNG = np.random.default_rng(11)
A = RNG.normal(1.0, 1.0, size=150)
B = A + RNG.normal(0.05, 0.2, size=150)


def centred(values):
    return values - values.mean()


def test_the_difference_of_two_means_is_the_paired_t_test():
    found = paired_difference(A.mean(), B.mean(), centred(A), centred(B))
    peer = scipy_stats.ttest_rel(A, B)
    ends = peer.confidence_interval(0.95)
    assert found.p == pytest.approx(peer.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-9)
    assert found.difference == A.mean() - B.mean() and found.n == 150
    # unpaired, the same difference would drown
    assert scipy_stats.ttest_ind(A, B).pvalue > 10 * found.p


def test_swapping_the_cells_turns_the_sign_and_nothing_else():
    forth, back = paired_difference(1.0, 2.0, centred(A), centred(B)), paired_difference(2.0, 1.0, centred(B), centred(A))
    assert (back.difference, back.low, back.high) == pytest.approx((-forth.difference, -forth.high, -forth.low))
    assert back.p == forth.p


def test_equal_cells_have_p_1_and_a_difference_without_spread_p_0():
    same = paired_difference(0.4, 0.4, centred(A), centred(A))
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1.0)
    assert paired_difference(0.5, 0.4, centred(A), centred(A)).p == 0.0


def test_influences_of_other_prompts_are_refused():
    with pytest.raises(NoInterval, match="not of the same prompts"):
        paired_difference(0, 0, A, B[:-1])


def test_a_ratio_of_means_has_the_delta_method_interval():
    found = paired_ratio(A.mean(), B.mean(), centred(A), centred(B))
    ratio = A.mean() / B.mean()
    error = centred(A / A.mean() - B / B.mean()).std(ddof=1) / math.sqrt(150)
    half = scipy_stats.t.ppf(0.975, 149) * error
    assert found.difference == pytest.approx(ratio)
    assert (found.low, found.high) == pytest.approx((ratio * math.exp(-half), ratio * math.exp(half)), rel=1e-9)
    assert (found.p < 0.05) == (not found.low < 1 < found.high)


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_a_ratio_needs_values_above_zero(a, b):
    with pytest.raises(NoInterval, match="above 0"):
        paired_ratio(a, b, A, B)


# --- Holm ------------------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2] and holm([]) == [] and holm([0.9, 0.9]) == [1.0, 1.0]


def test_holm_keeps_the_order_and_is_never_below_p_nor_above_bonferroni():
    p = list(RNG.uniform(size=30) ** 3)
    adjusted = holm(p)
    assert sorted(range(30), key=lambda i: (p[i])) == sorted(range(30), key=lambda i: (adjusted[i], p[i]))
    assert all(a <= b <= min(1.0, 30 * a) + 1e-15 for a, b in zip(p, adjusted))


def test_holm_errs_in_at_most_5_percent_of_tables_of_true_hypotheses():
    tables = np.random.default_rng(0).uniform(size=(4000, 8))
    share = np.mean([min(holm(list(table))) <= 0.05 for table in tables])
    assert 0.03 < share < 0.06


# --- images to decide ------------------------------------------------------------------------------------------------


def test_that_many_images_give_the_power_that_was_asked_for():
    """The power is that of the normal test: the chance that an estimate of 0.3 with the error at so many images reaches its quantile."""
    needed = images_to_decide(0.3, 0.4, 1000)
    assert needed == pytest.approx(1000 * (2.801585 * 0.4 / 0.3) ** 2, abs=1)
    error = 0.4 * math.sqrt(1000 / needed)
    assert scipy_stats.norm.sf(1.959964 - 0.3 / error) == pytest.approx(0.8, abs=1e-3)
    assert images_to_decide(0.3, 0.4, 1000, alpha=0.001) > needed
    assert images_to_decide(-0.3, 0.4, 1000) == needed
    assert images_to_decide(0.0, 0.4, 1000) is None


def test_a_test_on_that_many_images_decides_as_often_as_planned():
    rng = np.random.default_rng(5)
    difference, sd = 0.2, 1.0
    n = images_to_decide(difference, sd / math.sqrt(50), 50)
    decided = 0
    for _ in range(400):
        influence = rng.normal(0, sd, n)
        decided += paired_difference(difference + influence.mean(), 0.0, centred(influence), np.zeros(n)).p < 0.05
    assert 0.74 < decided / 400 < 0.86
