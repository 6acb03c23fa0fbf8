"""The Vendi score in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scottbench_metrics.options import VendiOptions
from scottbench_metrics.vendi import vendi

from scottbench.errors import UsageError
from scottbench.metrics import BadFeatures, vendi_score
from scottbench.registry.nouns import CellFeatures
from scottbench.registry.options import make_options


@pytest.mark.parametrize("q", [0.5, 1.0, 2.0, 10.0])
def test_orthogonal_images_count_one_each_and_copies_count_as_one(q):
    assert vendi_score(np.eye(6), q=q).value == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(4), 5, axis=0), q=q).value == pytest.approx(4)
    assert vendi_score(np.ones((7, 3)), q=q).value == pytest.approx(1)
    assert vendi_score(np.array([[1.0, 2.0]]), q=q).value == pytest.approx(1)


def test_unequal_groups_give_the_exponential_of_their_entropy():
    share = np.array([0.5, 0.3, 0.2])
    rows = np.repeat(np.eye(3), [5, 3, 2], axis=0)
    assert vendi_score(rows).value == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert vendi_score(rows, q=2).value == pytest.approx(1 / (share**2).sum())
    # Hill numbers do not grow with their order
    values = [vendi_score(rows, q=q).value for q in (0.3, 0.9, 1, 1.1, 3)]
    assert values == sorted(values, reverse=True)
    assert vendi_score(rows, q=1 + 1e-6).value == pytest.approx(vendi_score(rows).value, rel=1e-5)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_both_gram_matrices_give_the_definition(shape):
    rows = np.random.default_rng(0).normal(size=shape)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    spectrum = np.linalg.eigvalsh(unit @ unit.T / shape[0])
    spectrum = spectrum[spectrum > 1e-14]
    found = vendi_score((5 * rows).astype(np.float32))
    assert found.value == pytest.approx(np.exp(-(spectrum * np.log(spectrum)).sum()), rel=1e-6)
    assert found.spectrum.sum() == pytest.approx(1) and len(found.spectrum) == min(shape) and found.n == shape[0]


def test_the_rbf_kernel_counts_far_images_as_different_and_near_ones_as_one():
    rows = np.array([[0.0], [1.0], [1000.0]])
    kernel = np.exp(-((rows - rows.T) ** 2) / (2 * 0.5**2))
    spectrum = np.linalg.eigvalsh(kernel / 3)
    assert vendi_score(rows, kernel="rbf", width=0.5).value == pytest.approx(np.exp(-(spectrum * np.log(spectrum)).sum()))
    two = np.exp(-(1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3)))
    assert vendi_score(rows, kernel="rbf", width=50).value == pytest.approx(two, rel=1e-3)
    width = np.sqrt(((rows - rows.T) ** 2).mean())
    assert vendi_score(rows, kernel="rbf").value == pytest.approx(vendi_score(rows, kernel="rbf", width=width).value)
    assert vendi_score(np.ones((5, 2)), kernel="rbf").value == pytest.approx(1)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (np.ones((0, 3)), {}, "found 0 generated images"),
        (np.array([[0.0, 0], [1, 1]]), {}, "1 generated feature vectors are all zero"),
        (np.array([[np.inf, 0], [1, 1]]), {}, "1 of 2 generated images are NaN or infinite"),
        (np.ones((3, 2)), {"q": 0}, "order q = 0"),
        (np.ones((3, 2)), {"kernel": "laplace"}, "kernel 'laplace'.*cosine, rbf"),
        (np.ones((3, 2)), {"kernel": "rbf", "width": 0}, "width 0"),
    ],
)
def test_what_has_no_vendi_score_is_refused(rows, options, message):
    with pytest.raises(BadFeatures, match=message):
        vendi_score(rows, **options)


def test_options_reach_the_score_and_are_checked():
    rows = np.random.default_rng(0).normal(size=(20, 4))
    cell = CellFeatures(20, {"image": rows}, {}, {})
    options = make_options(VendiOptions, {"kernel": "rbf", "q": "2", "width": "1.5"}, "metric 'vendi'")
    assert vendi(cell, options) == vendi_score(rows, kernel="rbf", q=2, width=1.5).value
    for values in ({"q": "0"}, {"width": "-1"}, {"kernel": "laplace"}):
        with pytest.raises(UsageError, match="metric 'vendi'"):
            make_options(VendiOptions, values, "metric 'vendi'")
