"""The kernel distance against its definition, clean-fid and torchmetrics, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scottbench_metrics.kid import kid
from scottbench_metrics.options import KernelOptions

from scottbench.errors import UsageError
from scottbench.metrics import BadFeatures, kernel_distance, kernel_sums
from scottbench.metrics import kernel as module
from scottbench.registry.nouns import CellFeatures
from scottbench.registry.options import make_options


def sets(m: int, n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)), rng.normal(size=(n, d)) * 1.2 + 0.1


def test_it_is_the_unbiased_estimate_of_its_definition():
    real, generated = sets(9, 7, 3)

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    within_real = np.mean([k(x, y) for i, x in enumerate(real) for j, y in enumerate(real) if i != j])
    within_generated = np.mean([k(x, y) for i, x in enumerate(generated) for j, y in enumerate(generated) if i != j])
    across = np.mean([k(x, y) for x in real for y in generated])
    found = kernel_distance(real, generated)
    assert found.value == pytest.approx(within_real + within_generated - 2 * across, rel=1e-12)
    assert found.subset_values.shape == (0,) and found.subset_size is None


@pytest.mark.parametrize(("n", "d"), [(60, 16), (200, 64), (30, 256)])
def test_on_full_subsets_it_equals_clean_fid_and_torchmetrics(n, d):
    from cleanfid.fid import kernel_distance as clean_fid
    from torchmetrics.image.kid import poly_mmd

    real, generated = sets(n, n, d)
    found = kernel_distance(real, generated).value
    assert found == pytest.approx(clean_fid(real, generated, num_subsets=1, max_subset_size=n), rel=1e-6)
    assert found == pytest.approx(float(poly_mmd(torch.tensor(real), torch.tensor(generated))), rel=1e-6)
    # float32 features, as extractors make them
    found = kernel_distance(real.astype(np.float32), generated.astype(np.float32)).value
    assert found == pytest.approx(clean_fid(real, generated, num_subsets=1, max_subset_size=n), rel=1e-5)


def test_other_kernels_are_those_of_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    real, generated = sets(20, 20, 5)
    found = kernel_distance(real, generated, degree=2, gamma=0.3, coef=0.5).value
    assert found == pytest.approx(float(poly_mmd(torch.tensor(real), torch.tensor(generated), 2, 0.3, 0.5)), rel=1e-6)


@pytest.mark.parametrize("tile", [1, 7, 64])
def test_tiles_change_nothing(monkeypatch, tile):
    real, generated = sets(23, 17, 5)
    whole = kernel_sums(real, generated)
    monkeypatch.setattr(module, "TILE", tile)
    cut = kernel_sums(real, generated)
    for name, values in vars(whole).items():
        np.testing.assert_allclose(getattr(cut, name), values, rtol=1e-13)


def test_products_of_large_sets_are_single_and_their_sums_are_not(monkeypatch):
    real, generated = (rows.astype(np.float32) for rows in sets(900, 800, 64))
    exact = kernel_sums(real, generated)
    monkeypatch.setattr(module, "SINGLE_FROM", 900 * 800)
    near = kernel_sums(real, generated)
    # a float32 sum of 900 values errs by far more than 1e-7 of itself
    for name, values in vars(exact).items():
        assert getattr(near, name).dtype == np.float64
        np.testing.assert_allclose(getattr(near, name), values, rtol=1e-6)
        assert not np.array_equal(getattr(near, name), values)
    mean = exact.across_real.sum() / (900 * 800)
    assert module.distance_of(near) == pytest.approx(module.distance_of(exact), abs=3e-8 * mean)


def test_subsets_are_drawn_from_each_side_and_averaged():
    from torchmetrics.image.kid import poly_mmd

    real, generated = sets(40, 25, 6)
    found = kernel_distance(real, generated, subsets=5, subset_size=10, seed=3)
    rng, wanted = np.random.default_rng(3), []
    for _ in range(5):
        x, y = (rows[rng.choice(len(rows), 10, replace=False)] for rows in (real, generated))
        wanted.append(float(poly_mmd(torch.tensor(x), torch.tensor(y))))
    assert found.subset_values == pytest.approx(wanted, rel=1e-9) and found.value == pytest.approx(np.mean(wanted))
    assert found.subset_size == 10
    # a subset of all rows is the whole set, and a larger one is cut to the smaller set
    assert kernel_distance(real[:25], generated, subsets=2, subset_size=99).subset_values == pytest.approx(
        [kernel_distance(real[:25], generated).value] * 2
    )


def test_many_subsets_estimate_the_whole_value():
    real, generated = sets(300, 300, 4)
    parts = kernel_distance(real, generated, subsets=400, subset_size=50)
    error = parts.subset_values.std() / np.sqrt(400)
    assert parts.value == pytest.approx(kernel_distance(real, generated).value, abs=5 * error)


def test_equal_distributions_give_about_zero_on_both_sides_of_it():
    rng = np.random.default_rng(0)
    values = [kernel_distance(*rng.normal(size=(2, 40, 4))).value for _ in range(200)]
    assert min(values) < 0 < max(values)
    assert np.mean(values) == pytest.approx(0, abs=4 * np.std(values) / np.sqrt(200))


def test_the_cells_value_is_scaled_and_the_reference_is_summed_once(monkeypatch):
    real, generated = (rows.astype(np.float32) for rows in sets(30, 20, 4))
    shared: dict = {}
    cell = CellFeatures(20, {"image": generated}, {"image": real}, {}, reference_memo=shared)
    value = kernel_distance(real, generated).value
    assert kid(cell, KernelOptions()) == pytest.approx(value, rel=1e-12)
    assert kid(cell, KernelOptions(scale=1000)) == pytest.approx(1000 * value, rel=1e-12)
    original, seen = module._values, []
    monkeypatch.setattr(module, "_values", lambda x, y, kernel: seen.append((len(x), len(y))) or original(x, y, kernel))
    assert kid(CellFeatures(20, {"image": 2 * generated}, {"image": real}, {}, reference_memo=shared), KernelOptions()) != value
    assert sorted(seen) == [(20, 20), (30, 20)]
    subsets = KernelOptions(subsets=3, subset_size=5, seed=1, scale=10)
    assert kid(cell, subsets) == pytest.approx(10 * kernel_distance(real, generated, subsets=3, subset_size=5, seed=1).value)


@pytest.mark.parametrize(
    ("generated", "message"),
    [
        (np.ones((1, 3)), "found 1 generated images; this statistic needs at least 2"),
        (np.full((5, 3), np.nan), "5 of 5 generated images are NaN"),
        (np.ones((5, 4)), "reference features have 3 dimensions, generated ones 4"),
        (np.full((5, 3), 1e200), "overflows"),
    ],
)
def test_features_without_a_kernel_distance_are_refused(generated, message):
    with pytest.raises(BadFeatures, match=message):
        kernel_distance(np.eye(3), generated)


def test_identical_images_have_a_documented_value():
    assert kernel_distance(np.ones((4, 3)), np.ones((6, 3))).value == pytest.approx(0)


@pytest.mark.parametrize("values", [{"subsets": "-1"}, {"subset_size": "1"}, {"scale": "0"}])
def test_options_out_of_range_are_refused(values):
    with pytest.raises(UsageError, match="metric 'kid'"):
        make_options(KernelOptions, values, "metric 'kid'")
