"""Precision, recall, density and coverage against the prdc package, closed forms and their own invariances."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from scottbench_metrics import neighbours, register_metrics
from scottbench_metrics.options import BallOptions

from scottbench.errors import UsageError
from scottbench.metrics import BadFeatures, ball_parts, balls, nearest_neighbours, prdc
from scottbench.registry.nouns import CellFeatures
from scottbench.registry.options import make_options

METRICS = {metric.name: metric for metric in register_metrics() if metric.options is BallOptions}


def measured(real: np.ndarray, generated: np.ndarray, k: int) -> dict[str, float]:
    cell = CellFeatures(len(generated), {"image": generated}, {"image": real}, {})
    return {name: metric.compute(cell, BallOptions(k)) for name, metric in METRICS.items()}


def clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Float32 features of unequal sizes, widths, spreads and places."""
    rng = np.random.default_rng(seed)
    d, m, n = int(rng.integers(2, 200)), int(rng.integers(30, 150)), int(rng.integers(30, 150))
    real = rng.normal(size=(m, d)) + 5
    generated = rng.normal(size=(n, d)) * rng.uniform(0.5, 1.5) + rng.normal(size=d) * 0.1 + 5
    return real.astype(np.float32), generated.astype(np.float32)


def peer(real: np.ndarray, generated: np.ndarray, k: int) -> dict[str, float]:
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        return compute_prdc(real.astype(np.float64), generated.astype(np.float64), k)


@pytest.mark.parametrize("seed", range(20))
def test_all_four_equal_the_prdc_package_exactly(seed):
    real, generated = clouds(seed)
    for k in (1, 3, 5, 10):
        wanted = peer(real, generated, k)
        assert measured(real, generated, k) == wanted
        found = prdc(real, generated, k)
        assert {name: getattr(found, name) for name in wanted} == wanted


def naive(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[list, list, list]:
    """The definitions, point by point, on directly subtracted float64 distances."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)

    def radius(points, i):
        return sorted(((points[i] - points[j]) ** 2).sum() for j in range(len(points)) if j != i)[k - 1]

    inside_real = [[((x - y) ** 2).sum() < r for y in generated] for x, r in ((x, radius(real, i)) for i, x in enumerate(real))]
    radii = [radius(generated, j) for j in range(len(generated))]
    inside_generated = [[((x - y) ** 2).sum() < r for y, r in zip(generated, radii)] for x in real]
    return [any(row) for row in inside_real], [any(row) for row in inside_generated], np.sum(inside_real, axis=0).tolist()


@pytest.mark.parametrize("case", ["lattice", "duplicates", "far from the origin", "one far outlier", "tiny"])
def test_ties_and_near_ties_are_decided_as_by_direct_subtraction(case):
    """Sets full of equal distances, where a float32 matrix product alone decides wrongly."""
    rng = np.random.default_rng(3)
    real, generated = rng.integers(0, 4, size=(60, 3)).astype(np.float32), rng.integers(0, 4, size=(50, 3)).astype(np.float32)
    if case == "duplicates":
        real, generated = np.repeat(real[:20] / 7, 3, axis=0), np.concatenate([real[:25] / 7, generated[:10] / 7])
    elif case == "far from the origin":
        real, generated = real / 64 + 100_000, generated / 64 + 100_000
    elif case == "one far outlier":
        real, generated = np.r_[real, np.full((1, 3), 1e6, np.float32)], np.r_[generated, np.full((1, 3), -1e6, np.float32)]
    elif case == "tiny":
        real, generated = real * np.float32(1e-30), generated * np.float32(1e-30)
    for k in (1, 3, 5):
        found = balls(real, generated, k)
        covered, inside, counts = naive(real, generated, k)
        assert found.real_covered.tolist() == covered
        assert found.real_inside.tolist() == inside
        assert found.generated_inside.tolist() == counts


def test_the_block_size_changes_nothing():
    real, generated = clouds(4)
    whole = balls(real, generated, 5)
    for block in (1, 7, 64, 10_000):
        part = balls(real, generated, 5, block=block)
        assert (part.real_covered == whole.real_covered).all() and (part.real_inside == whole.real_inside).all()
        assert (part.generated_inside == whole.generated_inside).all()
        near, again = nearest_neighbours(real, 5), nearest_neighbours(real, 5, block=block)
        assert (near.radii == again.radii).all() and (near.following == again.following).all()
        assert (np.sort(near.indices) == np.sort(again.indices)).all()


@pytest.mark.parametrize("case", ["cloud", "lattice", "collapse", "tiny set", "line"])
@pytest.mark.parametrize("block", [1, 3, 40, None])
def test_nearest_neighbours_are_those_of_a_sort_of_all_distances(case, block):
    rng = np.random.default_rng(1)
    points = {
        "cloud": lambda: rng.normal(size=(90, 12)),
        "lattice": lambda: rng.integers(0, 3, size=(120, 3)),
        "collapse": lambda: np.repeat(rng.normal(size=(3, 4)), [60, 1, 1], axis=0),
        "tiny set": lambda: rng.normal(size=(6, 2)),
        "line": lambda: np.arange(200.0)[::-1, None] * [1.0, 0.0],
    }[case]().astype(np.float32)
    squared = ((points[:, None].astype(np.float64) - points) ** 2).sum(-1)
    np.fill_diagonal(squared, np.inf)
    for k in (1, 4, 5):
        found = nearest_neighbours(points, k, block=block)
        ordered = np.sort(squared, axis=1)
        assert (found.radii == ordered[:, k - 1]).all() and (found.following == ordered[:, k]).all()
        assert (found.indices != np.arange(len(points))[:, None]).all()
        assert all(len(set(row)) == k for row in found.indices.tolist())
        assert (np.sort(np.take_along_axis(squared, found.indices, axis=1), axis=1) == ordered[:, :k]).all()


def test_the_order_of_images_changes_nothing():
    real, generated = clouds(5)
    rng = np.random.default_rng(0)
    assert measured(rng.permutation(real), rng.permutation(generated), 5) == measured(real, generated, 5)


def test_identical_sets_without_duplicates_are_covered_wholly():
    features = clouds(6)[0]
    found = measured(features, features.copy(), 5)
    assert (found["coverage"], found["precision"], found["recall"]) == (1.0, 1.0, 1.0)
    # k points lie within the closed ball, k - 1 of them inside the open one, and the centre itself: k in all
    assert found["density"] == pytest.approx(1.0)


def test_sets_far_apart_have_nothing_in_common():
    real, generated = clouds(7)
    assert set(measured(real, generated + 1000, 5).values()) == {0.0}


def test_balls_are_open_so_k_plus_one_equal_images_cover_nothing():
    real = np.repeat(np.eye(4, dtype=np.float32), 6, axis=0)
    assert measured(real, real.copy(), 5) == {"coverage": 0.0, "precision": 0.0, "recall": 0.0, "density": 0.0}
    # with k = 6 the sixth neighbour is another corner
    assert measured(real, real.copy(), 6)["coverage"] == 1.0


def test_a_point_on_the_rim_of_a_ball_is_outside():
    real = np.array([[0.0], [2.0], [10.0]], np.float32)
    assert balls(real, np.array([[-2.0], [100.0]], np.float32), 1).real_covered.tolist() == [False, False, False]
    assert balls(real, np.array([[-1.999], [100.0]], np.float32), 1).real_covered.tolist() == [True, False, False]


def test_mode_collapse_has_high_precision_and_low_recall_and_coverage():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(300, 8)).astype(np.float32)
    generated = (real[rng.integers(0, 5, 300)] + 0.01 * rng.normal(size=(300, 8))).astype(np.float32)
    found = measured(real, generated, 5)
    assert found["precision"] > 0.95 and found["recall"] < 0.1 and found["coverage"] < 0.3


def test_noise_beside_the_data_has_low_precision_and_high_recall():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(300, 8)).astype(np.float32)
    found = measured(real, (5 * rng.normal(size=(300, 8))).astype(np.float32), 5)
    assert found["precision"] < 0.1 and found["recall"] > 0.8


def test_all_images_equal_is_no_special_case():
    real = clouds(8)[0]
    generated = np.repeat(real[:1], 200, axis=0)
    found = measured(real, generated, 5)
    assert found["precision"] == 1.0 and found["recall"] == 0.0
    assert found["coverage"] == pytest.approx(peer(real, generated, 5)["coverage"])


def test_neighbours_are_searched_once_a_cell_and_the_reference_once_a_run(monkeypatch):
    searched = []
    original = neighbours.nearest_neighbours
    for module in (neighbours, ball_parts):
        monkeypatch.setattr(module, "nearest_neighbours", lambda points, k, what: searched.append(what) or original(points, k, what))
    real, generated = clouds(9)
    shared: dict = {}
    for scale in (1, 2):
        cell = CellFeatures(len(generated), {"image": scale * generated}, {"image": real}, {}, reference_memo=shared)
        for metric in METRICS.values():
            for function in (metric.compute, metric.items, metric.influence):
                assert function is None or function(cell, BallOptions(5)) is not None
    assert searched == ["reference", "generated", "generated"]


@pytest.mark.parametrize(("real", "generated"), [(5, 50), (50, 5)])
def test_k_of_all_images_or_more_is_refused(real, generated):
    rng = np.random.default_rng(0)
    with pytest.raises(BadFeatures, match="k = 5 neighbours need at least 6 images; found 5"):
        measured(rng.normal(size=(real, 3)), rng.normal(size=(generated, 3)), 5)


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "five"])
def test_k_that_is_no_count_is_refused(value):
    with pytest.raises(UsageError, match="k"):
        make_options(BallOptions, {"k": value}, "metric 'coverage'")


def test_features_that_are_not_finite_or_of_another_width_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(BadFeatures, match="generated images are NaN"):
        measured(rng.normal(size=(20, 3)), np.full((20, 3), np.nan), 5)
    with pytest.raises(BadFeatures, match="reference features have 3 dimensions, generated ones 4"):
        measured(rng.normal(size=(20, 3)), rng.normal(size=(20, 4)), 5)
