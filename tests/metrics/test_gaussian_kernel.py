"""CMMD against the authors' formula, closed forms, derivatives, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scottbench_metrics.cmmd import ROLE, cmmd, influence
from scottbench_metrics.options import GaussianOptions

from scottbench.errors import UsageError
from scottbench.metrics import BadFeatures, gaussian_distance, gaussian_influence
from scottbench.metrics import gaussian_kernel as module
from scottbench.registry.nouns import CellFeatures
from scottbench.registry.options import make_options


def sets(m: int, n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)) + 0.3, rng.normal(size=(n, d)) * 1.2 + 0.5


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def published(x: np.ndarray, y: np.ndarray, sigma: float = 10.0, scale: float = 1000.0) -> float:
    """The V-statistic as the authors' code has it: all pairs, by |x|^2 + |y|^2 - 2 x'y, of embeddings that have length 1 already."""

    def mean(a, b):
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T
        return np.exp(-squares / (2 * sigma**2)).mean()

    return scale * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


@pytest.mark.parametrize(("m", "n", "d"), [(40, 40, 16), (30, 50, 64), (2, 2, 3), (60, 20, 512)])
def test_it_is_the_published_value_on_the_same_arrays(m, n, d):
    real, generated = (unit(rows) for rows in sets(m, n, d))
    assert gaussian_distance(real, generated) == pytest.approx(published(real, generated), abs=1e-9)
    # float32 embeddings of length 1, as extractors make them
    single = [unit(rows.astype(np.float32)) for rows in (real, generated)]
    assert gaussian_distance(*single) == pytest.approx(published(*(rows.astype(np.float64) for rows in single)), abs=1e-6)
    assert gaussian_distance(real, generated, sigma=0.7, scale=2) == pytest.approx(published(real, generated, 0.7, 2), rel=1e-9)


def test_two_points_have_a_closed_form():
    x, y = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert gaussian_distance(x, y) == pytest.approx(1000 * (2 - 2 * np.exp(-2 / 200)), rel=1e-12)
    assert gaussian_distance(x, -x, sigma=1, scale=1) == pytest.approx(2 - 2 * np.exp(-2), rel=1e-12)
    assert gaussian_distance(x, np.concatenate([x, y]), 1, 1) == pytest.approx((1 - np.exp(-1)) / 2, rel=1e-12)


def test_length_and_order_of_rows_change_nothing_and_equal_sets_are_at_no_distance():
    real, generated = sets(30, 25, 8)
    value = gaussian_distance(real, generated)
    rng = np.random.default_rng(4)
    scaled = real * rng.uniform(0.01, 100, (30, 1))
    assert gaussian_distance(rng.permutation(scaled), rng.permutation(generated)) == pytest.approx(value, rel=1e-10)
    assert gaussian_distance(generated, real) == pytest.approx(value, rel=1e-10)
    assert gaussian_distance(real, rng.permutation(real)) == pytest.approx(0, abs=1e-10) and value > 1e-3


def test_the_value_keeps_its_digits_where_the_sets_are_close():
    """In float32, as the authors' code has it, the ones of the kernel would leave about 1e-7."""
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    turned = np.array([[1.0, 1e-6], [1.0, 1e-6]])
    assert gaussian_distance(x, turned, sigma=1.0, scale=1.0) == pytest.approx(1e-12, rel=1e-3)


def test_the_block_size_changes_nothing(monkeypatch):
    real, generated = sets(50, 33, 8)
    whole, parts = gaussian_distance(real, generated), gaussian_influence(real, generated)
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 70)
    assert gaussian_distance(real, generated) == pytest.approx(whole, rel=1e-10)
    found = gaussian_influence(real, generated)
    assert found.generated == pytest.approx(parts.generated, abs=1e-10) and found.reference == pytest.approx(parts.reference, abs=1e-10)


def test_the_influence_is_the_derivative_in_the_weights_of_the_images():
    real, generated = (unit(rows) for rows in sets(12, 9, 4))

    def value(w, v):
        def mean(a, b, p, q):
            return p @ np.exp(-((a[:, None] - b) ** 2).sum(-1) / 2) @ q

        return mean(real, real, w, w) + mean(generated, generated, v, v) - 2 * mean(real, generated, w, v)

    def derivatives(n, of):
        steps = [(np.eye(n)[i] - 1 / n) * 1e-5 for i in range(n)]
        return np.array([(of(1 / n + step) - of(1 / n - step)) / 2e-5 for step in steps])

    found = gaussian_influence(real, generated, sigma=1, scale=1)
    assert found.generated == pytest.approx(derivatives(9, lambda v: value(np.full(12, 1 / 12), v)), abs=1e-9)
    assert found.reference == pytest.approx(derivatives(12, lambda w: value(w, np.full(9, 1 / 9))), abs=1e-9)
    assert np.abs(found.generated).max() > 0.01


def test_the_reference_is_averaged_once_for_all_cells_and_nothing_is_written(monkeypatch):
    real, generated = (rows.astype(np.float32) for rows in sets(30, 20, 4))
    for rows in (real, generated):
        rows.flags.writeable = False
    shared: dict = {}
    original, seen = module._within, []
    monkeypatch.setattr(module, "_within", lambda rows, sigma: seen.append(len(rows)) or original(rows, sigma))
    cell = CellFeatures(20, {ROLE: generated}, {ROLE: real}, {}, reference_memo=shared)
    assert cmmd(cell, GaussianOptions()) == gaussian_distance(real, generated)
    seen.clear()
    other = CellFeatures(20, {ROLE: 1 - generated}, {ROLE: real}, {}, reference_memo=shared)
    assert cmmd(other, GaussianOptions(scale=1)) == pytest.approx(gaussian_distance(real, 1 - generated, scale=1), rel=1e-12)
    assert seen[:1] == [20] and influence(other, GaussianOptions()).generated.shape == (20,)
    assert cmmd(other, GaussianOptions(sigma=1)) == pytest.approx(gaussian_distance(real, 1 - generated, 1.0), rel=1e-12)


@pytest.mark.parametrize(
    ("generated", "sigma", "message"),
    [
        (np.ones((1, 3)), 10, "found 1 generated images; this statistic needs at least 2"),
        (np.full((5, 3), np.nan), 10, "5 of 5 generated images are NaN"),
        (np.ones((5, 4)), 10, "reference features have 3 dimensions, generated ones 4"),
        (np.zeros((5, 3)), 10, "5 generated feature vectors are all zero"),
        (np.ones((5, 3)), 0, "width of the Gaussian kernel is 0"),
    ],
)
def test_features_without_a_distance_are_refused(generated, sigma, message):
    with pytest.raises(BadFeatures, match=message):
        gaussian_distance(np.eye(3), generated, sigma)


@pytest.mark.parametrize("values", [{"sigma": "0"}, {"scale": "-1"}])
def test_options_out_of_range_are_refused(values):
    with pytest.raises(UsageError, match="metric 'cmmd'"):
        make_options(GaussianOptions, values, "metric 'cmmd'")
