"""MIND against torch-fidelity's formula, closed forms, derivatives, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scottbench_metrics.mind import influence, mind
from scottbench_metrics.options import SlicedOptions

from scottbench.errors import UsageError
from scottbench.metrics import BadFeatures, sliced_distance
from scottbench.metrics import sliced as module
from scottbench.registry.nouns import CellFeatures
from scottbench.registry.options import make_options


def sets(m: int, n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)), rng.normal(size=(n, d)) * 1.4 + 0.5


def peer(x: np.ndarray, y: np.ndarray, projections: int = 1000, seed: int = 2020) -> float:
    """The formula of torch-fidelity's metric_mind.py for sets of one size, in float32 as there."""
    a, b = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    axes = torch.randn(projections, a.shape[1], generator=torch.Generator().manual_seed(seed))
    axes = axes / axes.norm(dim=1, keepdim=True)
    low, high = ((rows @ axes.T).sort(dim=0).values for rows in (a, b))
    return float(3 * a.shape[1] * (low - high).square().mean())


@pytest.mark.parametrize(("n", "d"), [(50, 16), (300, 64), (2, 5)])
def test_of_sets_of_one_size_it_is_the_value_of_torch_fidelity(n, d):
    real, generated = (rows.astype(np.float32) for rows in sets(n, n, d))
    assert sliced_distance(real, generated).value == pytest.approx(peer(real, generated), rel=1e-5)
    assert sliced_distance(real, generated, 50, 7).value == pytest.approx(peer(real, generated, 50, 7), rel=1e-5)


def by_weights(x: np.ndarray, y: np.ndarray, axes: np.ndarray, w: np.ndarray, v: np.ndarray) -> float:
    """3 d times the mean over directions of the integral of the squared difference of the quantile functions; rows have weights."""
    total = 0.0
    for axis in axes.T:
        p, q = x @ axis, y @ axis
        first, second = np.argsort(p), np.argsort(q)
        ends_p, ends_q = np.cumsum(w[first]), np.cumsum(v[second])
        ends_p[-1] = ends_q[-1] = 1
        cuts = np.unique(np.concatenate([[0], ends_p, ends_q]))
        middles = (cuts[1:] + cuts[:-1]) / 2
        gap = p[first][np.searchsorted(ends_p, middles)] - q[second][np.searchsorted(ends_q, middles)]
        total += np.sum(np.diff(cuts) * gap**2)
    return 3 * x.shape[1] * total / axes.shape[1]


@pytest.mark.parametrize(("m", "n"), [(12, 12), (9, 14), (10, 15), (8, 2), (3, 17)])
def test_value_and_influence_are_those_of_the_quantile_functions_also_of_unequal_sizes(m, n):
    real, generated = sets(m, n, 3)
    axes = module.directions(3, 20, 5)
    found = sliced_distance(real, generated, 20, 5)
    even = np.full(m, 1 / m), np.full(n, 1 / n)
    assert found.value == pytest.approx(by_weights(real, generated, axes, *even), rel=1e-12)

    def derivative(side: int, i: int) -> float:
        step = [np.zeros(m), np.zeros(n)]
        step[side] = 1e-5 * (np.eye(len(even[side]))[i] - even[side])
        up, down = ([even[0] + sign * step[0], even[1] + sign * step[1]] for sign in (1, -1))
        return (by_weights(real, generated, axes, *up) - by_weights(real, generated, axes, *down)) / 2e-5

    assert found.influence.reference == pytest.approx([derivative(0, i) for i in range(m)], abs=1e-6)
    assert found.influence.generated == pytest.approx([derivative(1, i) for i in range(n)], abs=1e-6)
    assert np.abs(found.influence.generated).max() > 1


def test_a_shift_of_a_set_is_measured_exactly_in_one_dimension_and_on_average_in_many():
    rows = np.random.default_rng(1).normal(size=(40, 1))
    assert sliced_distance(rows, rows + 2).value == pytest.approx(3 * 4, rel=1e-6)
    shift = np.array([3.0, 0, 4, 0, 0, 0])
    rows = np.random.default_rng(2).normal(size=(40, 6))
    found = sliced_distance(rows, rows + shift, 4000)
    error = found.per_direction.std() / 4000**0.5
    # the mean of (u's)^2 over the sphere is |s|^2 / d, so that 3 d makes it 3 |s|^2
    assert found.value == pytest.approx(3 * 25, abs=4 * error) and error < 2
    assert found.per_direction.mean() == pytest.approx(found.value)


def test_order_of_rows_and_of_sets_changes_nothing_and_equal_sets_are_at_no_distance():
    real, generated = sets(30, 24, 5)
    rng, value = np.random.default_rng(3), sliced_distance(real, generated, 100).value
    assert sliced_distance(rng.permutation(real), rng.permutation(generated), 100).value == pytest.approx(value, rel=1e-12)
    assert sliced_distance(generated, real, 100).value == pytest.approx(value, rel=1e-12)
    found = sliced_distance(real, rng.permutation(real), 100)
    assert found.value == 0 and max(np.abs(side).max() for side in (found.influence.generated, found.influence.reference)) < 1e-14
    assert sliced_distance(real, np.concatenate([real, real]), 100).value == pytest.approx(0, abs=1e-12)
    # values common to both sets cost no digits
    assert sliced_distance(real + 1e6, generated + 1e6, 100).value == pytest.approx(value, rel=1e-6)


def test_influences_follow_their_rows():
    real, generated = sets(20, 20, 4)
    order = np.random.default_rng(5).permutation(20)
    plain, mixed = (sliced_distance(real, rows, 50).influence.generated for rows in (generated, generated[order]))
    assert mixed == pytest.approx(plain[order], abs=1e-9) and plain.std() > 0


def test_the_block_size_changes_nothing(monkeypatch):
    real, generated = sets(20, 13, 4)
    whole = sliced_distance(real, generated, 60)
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 100)
    parts = sliced_distance(real, generated, 60)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.influence.generated == pytest.approx(whole.influence.generated, abs=1e-10)


def test_as_a_metric_it_is_computed_once_for_value_and_influence(monkeypatch):
    real, generated = (rows.astype(np.float32) for rows in sets(20, 20, 4))
    for rows in (real, generated):
        rows.flags.writeable = False
    cell = CellFeatures(20, {"image": generated}, {"image": real}, {})
    wanted = sliced_distance(real, generated, 30, 1)
    assert mind(cell, SlicedOptions(30, 1)) == wanted.value
    monkeypatch.setattr(module, "_projected", None)
    assert (influence(cell, SlicedOptions(30, 1)).generated == wanted.influence.generated).all()


@pytest.mark.parametrize(
    ("generated", "projections", "message"),
    [
        (np.ones((1, 3)), 9, "found 1 generated images; this statistic needs at least 2"),
        (np.full((5, 3), np.inf), 9, "5 of 5 generated images are NaN or infinite"),
        (np.ones((5, 4)), 9, "reference features have 3 dimensions, generated ones 4"),
        (np.full((5, 3), 1e200), 9, "overflows"),
        (np.ones((5, 3)), 0, "0 projections"),
    ],
)
def test_features_without_a_distance_are_refused(generated, projections, message):
    with pytest.raises(BadFeatures, match=message):
        sliced_distance(np.eye(3), generated, projections)


@pytest.mark.parametrize("values", [{"projections": "0"}, {"seed": "-1"}])
def test_options_out_of_range_are_refused(values):
    with pytest.raises(UsageError, match="metric 'mind'"):
        make_options(SlicedOptions, values, "metric 'mind'")
