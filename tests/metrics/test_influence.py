"""Influences against brute force: leave-one-out of the value itself, and finite differences of weighted formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scottbench_metrics import register_metrics
from scottbench_metrics.options import BallOptions

from scottbench.metrics import (
    BadFeatures,
    GaussianFit,
    NoInfluence,
    coverage_influence,
    density_influence,
    frechet_influence,
    kernel_distance,
    kernel_influence,
    prdc,
    precision_influence,
    recall_influence,
    vendi_influence,
    vendi_score,
)
from scottbench.registry.nouns import CellFeatures

BALLS = {
    "coverage": coverage_influence,
    "precision": precision_influence,
    "recall": recall_influence,
    "density": density_influence,
}


def sets(case: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(len(case))
    return {
        "apart": lambda: (rng.normal(size=(40, 3)), rng.normal(size=(34, 3)) * 0.8 + 0.7),
        "unequal sizes": lambda: (rng.normal(size=(60, 2)), rng.normal(size=(13, 2))),
        "lattice": lambda: (rng.integers(0, 4, size=(45, 2)), rng.integers(0, 4, size=(38, 2))),
        "collapse": lambda: (rng.normal(size=(30, 2)), np.repeat(rng.normal(size=(3, 2)), 9, axis=0)),
        "sparse": lambda: (rng.normal(size=(25, 6)), 1.6 * rng.normal(size=(25, 6))),
    }[case]()


def left_out(rows: np.ndarray, value) -> np.ndarray:
    """(rows - 1) (value - value without row i), centred: what every ball influence claims to be."""
    whole = value(rows)
    pseudo = np.array([(len(rows) - 1) * (whole - value(np.delete(rows, i, axis=0))) for i in range(len(rows))])
    return pseudo - pseudo.mean(axis=0)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("case", ["apart", "unequal sizes", "lattice", "collapse", "sparse"])
def test_leaving_out_any_image_changes_a_ball_metric_by_its_influence_exactly(case, k):
    real, generated = (rows.astype(np.float32) for rows in sets(case))

    def values(real, generated):
        found = prdc(real, generated, k)
        return np.array([getattr(found, name) for name in BALLS])

    wanted_generated = left_out(generated, lambda rows: values(real, rows))
    wanted_real = left_out(real, lambda rows: values(rows, generated))
    for column, (name, influence) in enumerate(BALLS.items()):
        found = influence(real, generated, k)
        assert found.generated == pytest.approx(wanted_generated[:, column], abs=1e-10), name
        assert found.reference == pytest.approx(wanted_real[:, column], abs=1e-10), name


def test_ball_influences_of_the_test_above_are_more_than_zeros():
    """Images are lost and gained, alone in a ball and not."""
    real, generated = (rows.astype(np.float32) for rows in sets("sparse"))
    for name, influence in BALLS.items():
        found = influence(real, generated, 3)
        sides = {len(set(found.reference.round(9))), len(set(found.generated.round(9)))}
        assert min(sides) > 1 and max(sides) > 2, name


def test_leave_one_out_needs_two_images_more_than_k():
    rows = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    prdc(rows, rows + 0.1, 5)
    with pytest.raises(BadFeatures, match="at k = 5 needs at least 7 images; found 6"):
        coverage_influence(rows, rows + 0.1, 5)


# --- Frechet ----------------------------------------------------------------------------------------------------------


def weighted_distance(real: np.ndarray, generated: np.ndarray, weights: np.ndarray, side: str) -> float:
    """Frechet distance where one side's rows have weights (sum 1); biased covariances, so that only the weights matter."""

    def moments(rows, w):
        mean = w @ rows
        return mean, (rows - mean).T @ ((rows - mean) * w[:, None])

    uniform = [np.full(len(rows), 1 / len(rows)) for rows in (real, generated)]
    m1, s1 = moments(real, weights if side == "real" else uniform[0])
    m2, s2 = moments(generated, weights if side == "generated" else uniform[1])
    root = np.sqrt(np.linalg.eigvals(s1 @ s2).real.clip(min=0)).sum()
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * root)


def derivatives(rows: np.ndarray, value) -> np.ndarray:
    """d value / d eps at (1 - eps) uniform + eps row i, by central differences."""
    n, eps = len(rows), 1e-5
    out = []
    for i in range(n):
        step = -np.full(n, 1 / n)
        step[i] += 1
        out.append((value(1 / n + eps * step) - value(1 / n - eps * step)) / (2 * eps))
    return np.array(out)


@pytest.mark.parametrize("case", ["plain", "dead channel of both", "collapsed directions"])
def test_the_frechet_influence_is_the_derivative_in_the_weights_of_the_images(case):
    rng = np.random.default_rng(5)
    real = rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5)) + 0.3  # as many as generated: then biased covariances have the same map
    generated = rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5))
    if case == "dead channel of both":
        real, generated = np.insert(real, 2, 1.5, axis=1), np.insert(generated, 2, 1.0, axis=1)
    if case == "collapsed directions":
        generated[:, 3:] = generated[:, :2] - generated[:, 1:3]
    found = frechet_influence(real, generated)
    if case != "collapsed directions":
        # in the real images' weights there is none where the generated ones collapsed: the root of 0 is steep there
        wanted = derivatives(real, lambda w: weighted_distance(real, generated, w, "real"))
        assert found.reference == pytest.approx(wanted, rel=1e-3, abs=1e-3 * np.abs(wanted).max())
    else:
        assert np.linalg.matrix_rank(generated - generated.mean(0)) == 3
    wanted = derivatives(generated, lambda w: weighted_distance(real, generated, w, "generated"))
    assert found.generated == pytest.approx(wanted, rel=1e-3, abs=1e-3 * np.abs(wanted).max())


def test_the_frechet_influence_of_a_shift_and_a_scale_in_one_dimension_is_the_hand_made_one():
    real, generated = np.array([[-1.0], [1.0], [0.0]]), np.array([[1.0], [5.0], [3.0], [3.0]])
    s, g = real.std(), generated.std()
    found = frechet_influence(real, generated)
    # d^2 = (m2 - m1)^2 + (s2 - s1)^2; with unbiased deviations of both, as the distance has them
    s, g = real.std(ddof=1), generated.std(ddof=1)
    y, x = generated[:, 0] - 3, real[:, 0]
    wanted_generated = 2 * 3 * y + (1 - s / g) * y**2
    wanted_real = -2 * 3 * x + (1 - g / s) * x**2
    assert found.generated == pytest.approx(wanted_generated - wanted_generated.mean())
    assert found.reference == pytest.approx(wanted_real - wanted_real.mean())


def test_exchanging_the_sets_exchanges_the_frechet_influences():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(80, 6)), rng.normal(size=(70, 6)) * np.linspace(0.2, 3, 6)
    one, other = frechet_influence(a, b), frechet_influence(GaussianFit.of(b), a)
    assert one.generated == pytest.approx(other.reference, rel=1e-9, abs=1e-9)
    assert one.reference == pytest.approx(other.generated, rel=1e-9, abs=1e-9)


def test_a_rank_limited_distance_has_no_influence_and_says_so():
    rows = np.random.default_rng(0).normal(size=(8, 8))
    with pytest.raises(NoInfluence, match="8 images in 8 dimensions is rank limited.*Use more than 8 images, or subsampling"):
        frechet_influence(rows, rows + 1)


# --- KID, Vendi -------------------------------------------------------------------------------------------------------


def test_the_kernel_influence_is_leave_one_out_but_for_the_factor_of_a_u_statistic():
    rng = np.random.default_rng(3)
    real, generated = rng.normal(size=(30, 4)), rng.normal(size=(25, 4)) * 1.3 + 0.2
    found = kernel_influence(real, generated)
    loo = left_out(generated, lambda rows: kernel_distance(real, rows).value)
    within = np.array([((generated @ y / 4 + 1) ** 3).sum() - (y @ y / 4 + 1) ** 3 for y in generated]) / 24
    # the jackknife multiplies the within term by (n - 1) / (n - 2); the first order does not
    assert found.generated == pytest.approx(loo - 2 * (within - within.mean()) * (24 / 23 - 1), rel=1e-9, abs=1e-9)
    loo = left_out(real, lambda rows: kernel_distance(rows, generated).value)
    assert found.reference == pytest.approx(loo, rel=0.1, abs=0.05 * np.abs(loo).max())


VENDI = [{}, {"q": 2.0}, {"q": 0.5}, {"kernel": "rbf", "width": 1.5}, {"kernel": "rbf", "width": 2.5, "q": 3.0}]


@pytest.mark.parametrize("options", VENDI)
@pytest.mark.parametrize("shape", [(30, 4), (6, 9)])
def test_the_vendi_influence_is_the_derivative_in_the_weights_of_the_images(options, shape):
    rng = np.random.default_rng(4)
    rows = rng.normal(size=shape) + 0.4
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = unit @ unit.T
    if "kernel" in options:
        kernel = np.exp(-((rows[:, None] - rows) ** 2).sum(-1) / (2 * options["width"] ** 2))
    q = options.get("q", 1.0)

    def value(weights):
        spectrum = np.linalg.eigvalsh(np.sqrt(weights[:, None] * weights) * kernel).clip(min=1e-300)
        spectrum = spectrum[spectrum > 1e-13]
        return np.exp(-(spectrum * np.log(spectrum)).sum()) if q == 1 else (spectrum**q).sum() ** (1 / (1 - q))

    wanted = derivatives(rows, value)
    assert value(np.full(len(rows), 1 / len(rows))) == pytest.approx(vendi_score(rows, **options).value)
    assert vendi_influence(rows, **options).generated == pytest.approx(wanted, rel=1e-4, abs=1e-4 * np.abs(wanted).max())


# --- all of them ------------------------------------------------------------------------------------------------------


OF_FEATURES = [metric for metric in register_metrics() if metric.scope == "cell" and metric.name != "clip_iqa"]


@pytest.mark.parametrize("metric", OF_FEATURES, ids=lambda metric: metric.name)
def test_every_registered_influence_has_mean_zero_and_items_have_the_value_as_mean(metric):
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(50, 6)).astype(np.float32), (rng.normal(size=(40, 6)) + 0.3).astype(np.float32)
    text = {"clip": rng.normal(size=(40, 6)).astype(np.float32)}
    of = lambda rows: dict.fromkeys(("image", "clip", "dinov2", "clip_l14_336"), rows) | {"patch": rows.reshape(len(rows), 2, 3)}  # noqa: E731
    cell = CellFeatures(40, of(generated), of(real), text, teacher=lambda *which: {"image": real})
    options = metric.options()
    value = metric.compute(cell, options)
    if metric.items is not None:
        assert metric.items(cell, options).mean() == pytest.approx(value, rel=1e-12)
    low, high = metric.bounds
    assert (low is None or value >= low) and (high is None or value <= high)
    if metric.influence is None:
        assert metric.name in ("coverage", "precision", "recall")
        return
    found = metric.influence(cell, options)
    assert found.generated.shape == (40,) and found.generated.mean() == pytest.approx(0, abs=1e-9)
    assert found.generated.std() > 0
    if metric.name in ("vendi", "clip_score"):
        assert found.reference is None
    else:
        assert found.reference.shape == (50,) and found.reference.mean() == pytest.approx(0, abs=1e-9) and found.reference.std() > 0


def test_k_is_an_option_of_the_influence_too():
    real, generated = (rows.astype(np.float32) for rows in sets("apart"))
    metric = next(metric for metric in register_metrics() if metric.name == "density")
    found = metric.influence(CellFeatures(34, {"image": generated}, {"image": real}, {}), BallOptions(2))
    assert found.reference == pytest.approx(density_influence(real, generated, 2).reference)
