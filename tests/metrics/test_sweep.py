"""The min-max harmonic mean of a sweep."""

from __future__ import annotations

import numpy as np
import pytest

from scottbench.metrics import BadFeatures, mmhm

# [FID, CLIP score] at guidance 1, 2, 4, 8
SWEEP = np.array([[30.0, 0.20], [20.0, 0.28], [22.0, 0.30], [40.0, 0.31]])
WAYS = (False, True)


def test_it_is_the_harmonic_mean_of_the_shares_of_the_range():
    share = np.array([[0.5, 0.0], [1.0, 8 / 11], [0.9, 10 / 11], [0.0, 1.0]])
    found = mmhm(SWEEP, WAYS)
    assert found.values == pytest.approx(2 / (1 / (0.001 + share)).sum(axis=1))
    assert found.best == 2 and found.bounds.tolist() == [[20.0, 40.0], [0.20, 0.31]]


def test_the_authors_formula_on_their_four_scores():
    """u and S as arXiv 2603.14186's code defines them, written out for one cell."""
    scores = np.array([[10.0, 150.0, 0.30, 21.0], [30.0, 250.0, 0.25, 22.0], [20.0, 200.0, 0.28, 20.0]])
    u = [(30 - 20) / 20, (200 - 150) / 100, (0.28 - 0.25) / 0.05, 0.0]
    assert mmhm(scores, (False, True, True, True)).values[2] == pytest.approx(4 / sum(1 / (0.001 + x) for x in u))


def test_scale_and_shift_of_a_score_change_nothing_and_a_worst_score_rules_a_cell_out():
    found = mmhm(SWEEP, WAYS).values
    assert mmhm(SWEEP * [3, 100] + [5, -7], WAYS).values == pytest.approx(found)
    assert found[0] < 0.003 and found[3] < 0.003


def test_scores_without_spread_count_as_best_and_one_cell_is_its_own_best():
    assert mmhm(SWEEP[:1], WAYS).values == pytest.approx([1.001])
    same = np.array([[20.0, 0.3], [30.0, 0.3]])
    assert mmhm(same, WAYS).values == pytest.approx([1.001, 2 / (1 / 1.001 + 1 / 0.001)])


def test_bounds_of_another_sweep_put_cells_on_its_scale():
    bounds = mmhm(SWEEP, WAYS).bounds
    assert mmhm(SWEEP[1:3], WAYS, bounds).values == pytest.approx(mmhm(SWEEP, WAYS).values[1:3])
    better, worse = mmhm([[10.0, 0.4], [90.0, 0.0]], WAYS, bounds).values
    assert better == pytest.approx(1.001) and worse == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("scores", "bounds", "message"),
    [
        (np.empty((0, 2)), None, "at least one cell"),
        (np.ones((3, 3)), None, r"expected \(cells, 2\)"),
        ([[1.0, np.nan], [1.0, 2.0]], None, "1 of 2 cells"),
        ([[1.0, 2.0]], [[1, 2]], "2 pairs"),
        ([[1.0, 2.0]], [[2, 1], [0, 1]], "2 pairs"),
    ],
)
def test_what_is_no_sweep_is_refused(scores, bounds, message):
    with pytest.raises(BadFeatures, match=message):
        mmhm(scores, WAYS, bounds)
