"""The Frechet distance against closed forms and peers, on every route, and what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scottbench_metrics.fid import fid

from scottbench.metrics import BadFeatures, GaussianFit, RankLimited, frechet_distance
from scottbench.registry.nouns import CellFeatures, NoOptions


def exact_sample(n: int, variances: np.ndarray, mean: np.ndarray, rotation: np.ndarray, seed: int) -> np.ndarray:
    """(n, d) rows whose sample mean is `mean` and whose unbiased covariance is rotation diag(variances) rotation'."""
    count = int((variances > 0).sum())
    rows = np.random.default_rng(seed).normal(size=(n, count))
    basis, _ = np.linalg.qr(rows - rows.mean(0))  # centred orthonormal columns
    scaled = np.zeros((n, len(variances)))
    scaled[:, variances > 0] = basis * np.sqrt((n - 1) * variances[variances > 0])
    return scaled @ rotation.T + mean


def closed_form(a: np.ndarray, b: np.ndarray, shift: np.ndarray) -> float:
    """|shift|^2 + sum (sqrt a - sqrt b)^2: covariances with common eigenvectors."""
    return float((shift**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())


def rotation(d: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def gaussians(d: int, n: int, m: int, lowest: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    spectrum = np.sqrt(np.logspace(0, lowest, d))
    return (rng.normal(size=(n, d)) * spectrum) @ rotation(d, 1).T, (rng.normal(size=(m, d)) * spectrum[::-1]) @ rotation(d, 2).T + 0.1


CASES = {
    # route: variances of the reference and of the generated set, rows
    "cholesky": (np.linspace(1, 2, 24), np.linspace(3, 0.5, 24), 300),
    "eigh": (np.r_[np.linspace(1, 2, 40), 0.0], np.r_[np.linspace(2, 1, 40), 0.3], 300),
    "singular": (np.r_[np.linspace(1, 2, 15), np.zeros(9)], np.r_[np.linspace(2, 1, 15), np.zeros(9)], 20),
}


@pytest.mark.parametrize("route", CASES)
def test_each_route_gives_the_closed_form(route):
    a, b, n = CASES[route]
    # a dead channel must be exactly dead for Cholesky to fail: no rotation there
    axes = np.eye(len(a)) if route == "eigh" else rotation(len(a))
    shift = np.linspace(-0.5, 0.5, len(a))
    found = frechet_distance(exact_sample(n, a, np.zeros(len(a)), axes, 1), exact_sample(n + 7, b, shift, axes, 2))
    assert found.route == route
    assert found.value == pytest.approx(closed_form(a, b, shift), rel=1e-10)
    assert found.mean_term == pytest.approx((shift**2).sum(), rel=1e-12)
    assert found.rank_limited == (route == "singular")
    assert abs(found.value - closed_form(a, b, shift)) <= max(found.error_bound, 1e-12)


def test_a_spectrum_over_nine_decades_keeps_eight_digits():
    a = np.logspace(0, -9, 48)
    b = np.random.default_rng(0).permutation(a)
    axes = rotation(48)
    found = frechet_distance(exact_sample(400, a, np.zeros(48), axes, 1), exact_sample(500, b, np.zeros(48), axes, 2))
    assert found.value == pytest.approx(closed_form(a, b, np.zeros(48)), rel=1e-8)


def test_a_collapsed_generator_is_measured_without_the_noise_of_its_empty_directions():
    # the roots of rounding noise, about 1e-8 each in 38 directions, would otherwise add up
    a, b = np.linspace(1, 2, 48), np.r_[np.linspace(2, 1, 10), np.zeros(38)]
    axes = rotation(48)
    found = frechet_distance(exact_sample(300, a, np.zeros(48), axes, 1), exact_sample(400, b, np.zeros(48), axes, 2))
    assert found.value == pytest.approx(closed_form(a, b, np.zeros(48)), rel=1e-12)
    assert (found.route, found.rank) == ("singular", 10)


def test_against_one_image_alone_the_distance_is_the_trace_and_the_shift():
    real = gaussians(12, 100, 2, -1)[0]
    one = np.repeat(real[:1] + 1, 50, axis=0)
    expected = ((real.mean(0) - one[0]) ** 2).sum() + real.var(0, ddof=1).sum()
    assert frechet_distance(real, one).value == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(one, real).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("d", "n", "m", "lowest", "tolerance"), [(32, 400, 300, -1, 1e-10), (64, 500, 700, -2, 1e-10), (48, 400, 500, -9, 1e-8)]
)
def test_it_equals_clean_fid_and_the_eigenvalues_of_the_product(d, n, m, lowest, tolerance):
    from cleanfid.fid import frechet_distance as clean_fid

    real, generated = gaussians(d, n, m, lowest)
    moments = real.mean(0), np.cov(real.T), generated.mean(0), np.cov(generated.T)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = clean_fid(*moments)
    found = frechet_distance(real, generated).value
    assert found == pytest.approx(peer, rel=tolerance)
    # torchmetrics' and torch-fidelity's form
    roots = np.sqrt(np.linalg.eigvals(moments[1] @ moments[3]).astype(complex)).real.sum()
    by_eigenvalues = ((moments[0] - moments[2]) ** 2).sum() + moments[1].trace() + moments[3].trace() - 2 * roots
    assert found == pytest.approx(by_eigenvalues, rel=tolerance)


@pytest.mark.parametrize(("n", "m"), [(24, 30), (24, 200), (200, 24), (32, 32)])
def test_few_rows_give_the_sum_of_singular_values_of_the_cross_gram(n, m):
    real, generated = gaussians(32, n, m, -1)
    a, b = (real - real.mean(0)) / np.sqrt(n - 1), (generated - generated.mean(0)) / np.sqrt(m - 1)
    expected = (
        ((real.mean(0) - generated.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    )
    found = frechet_distance(real, generated)
    assert found.route == "singular" and found.rank_limited
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.rank < 32


SELF = {
    "well conditioned": gaussians(16, 200, 2, -1)[0],
    "few rows": gaussians(16, 10, 2, -1)[0],
    "nine decades": gaussians(32, 200, 2, -9)[0],
    "dead channels": np.c_[gaussians(16, 200, 2, -1)[0], np.full((200, 3), 0.25)],
    "ten images, each twenty times": np.repeat(gaussians(16, 10, 2, -1)[0], 20, axis=0),
    "one image": np.ones((50, 4)),
}


@pytest.mark.parametrize("case", SELF)
def test_the_distance_of_a_set_to_itself_is_zero(case):
    features = SELF[case]
    assert 0 <= frechet_distance(features, features).value <= 1e-12 * (1 + features.var(0).sum())


def test_order_of_rows_and_a_common_shift_change_nothing():
    real, generated = gaussians(24, 300, 200, -2)
    value = frechet_distance(real, generated).value
    rng = np.random.default_rng(5)
    assert frechet_distance(rng.permutation(real), rng.permutation(generated)).value == pytest.approx(value, rel=1e-11)
    assert frechet_distance(real + 100, generated + 100).value == pytest.approx(value, rel=1e-9)
    assert frechet_distance(generated, real).value == pytest.approx(value, rel=1e-11)


def test_scaling_features_by_c_scales_the_distance_by_c_squared():
    real, generated = gaussians(12, 100, 100, -1)
    assert frechet_distance(3 * real, 3 * generated).value == pytest.approx(9 * frechet_distance(real, generated).value, rel=1e-12)


def test_the_covariance_is_unbiased_and_float32_features_are_summed_in_float64():
    features = (1000 + np.random.default_rng(0).normal(size=(5000, 3))).astype(np.float32)
    fit = GaussianFit.of(features)
    assert fit.covariance == pytest.approx(np.cov(features.astype(np.float64).T), rel=1e-12)
    assert fit.mean == pytest.approx(features.astype(np.float64).mean(0), rel=1e-14)


def test_one_factored_reference_serves_several_cells(monkeypatch):
    fitted = []
    original = GaussianFit.of
    monkeypatch.setattr(GaussianFit, "of", lambda features, what="reference": fitted.append(what) or original(features, what))
    real, generated = gaussians(16, 100, 90, -1)
    shared: dict = {}
    cells = [CellFeatures(90, {"image": rows}, {"image": real}, {}, reference_memo=shared) for rows in (generated, 2 * generated)]
    values = [fid(cell, NoOptions()) for cell in cells]
    assert fitted == ["reference", "generated", "generated"]
    assert values == [frechet_distance(real, rows).value for rows in (generated, 2 * generated)]
    (fit,) = shared.values()
    assert fit.root[0] is fit.root[0]


@pytest.mark.parametrize(("n", "m", "limited"), [(16, 90, True), (90, 16, True), (17, 18, False)])
def test_a_rank_limited_distance_warns_by_a_type_of_its_own_and_says_so_in_the_record(n, m, limited):
    real, generated = gaussians(16, n, m, -1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert frechet_distance(real, generated).rank_limited == limited
    assert [warning.category for warning in caught] == [RankLimited] * limited
    assert all("16 images for 16 dimensions" in str(warning.message) for warning in caught)


BAD = {
    "NaN": (np.r_[np.ones((3, 2)), [[np.nan, 1.0]]], "1 of 4 generated images are NaN or infinite"),
    "infinite": (np.r_[np.ones((3, 2)), [[np.inf, 1.0]]], "NaN or infinite"),
    "one row": (np.ones((1, 2)), "needs at least 2"),
    "another width": (np.random.default_rng(0).normal(size=(9, 3)), "reference features have 2 dimensions, generated ones 3"),
    "no matrix": (np.ones(4), "expected \\(images, dimensions\\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_distance_can_be_made_of_is_refused_in_one_line(case):
    generated, message = BAD[case]
    with pytest.raises(BadFeatures, match=message) as caught:
        frechet_distance(np.random.default_rng(1).normal(size=(9, 2)), generated)
    assert "\n" not in str(caught.value)
