"""Whatever features a cell has, every metric gives a finite number or one line in the user's words; so do items and influences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scottbench_metrics import register_metrics

from scottbench.metrics import BadFeatures, RankLimited
from scottbench.registry.nouns import CellFeatures

METRICS = {metric.name: metric for metric in register_metrics() if metric.scope == "cell" and metric.name != "clip_iqa"}
RNG = np.random.default_rng(0)
PLAIN = RNG.normal(size=(12, 4)).astype(np.float32)
OTHER = (RNG.normal(size=(12, 4)) + 0.5).astype(np.float32)


def changed(rows: np.ndarray, value: float) -> np.ndarray:
    rows = rows.copy()
    rows[3, 1] = value
    return rows


CASES = {
    # what is wrong: (generated, reference, prompts)
    "one image": (PLAIN[:1], OTHER, OTHER[:1]),
    "one image of each": (PLAIN[:1], OTHER[:1], OTHER[:1]),
    "no image": (PLAIN[:0], OTHER, OTHER[:0]),
    "two images": (PLAIN[:2], OTHER[:2], OTHER[:2]),
    "as many images as k": (PLAIN[:5], OTHER[:5], OTHER[:5]),
    "one more than k": (PLAIN[:6], OTHER[:6], OTHER[:6]),
    "fewer generated": (PLAIN[:7], OTHER, OTHER[:7]),
    "identical images": (np.repeat(PLAIN[:1], 12, axis=0), OTHER, OTHER),
    "identical on both sides": (np.repeat(PLAIN[:1], 12, axis=0), np.repeat(PLAIN[:1], 12, axis=0), OTHER),
    "a dead channel": (PLAIN * [1, 1, 0, 1], OTHER * [1, 1, 0, 1], OTHER),
    "constant features": (np.ones((12, 4)), np.ones((12, 4)), np.ones((12, 4))),
    "zeros": (np.zeros((12, 4)), np.zeros((12, 4)), np.zeros((12, 4))),
    "a NaN": (changed(PLAIN, np.nan), OTHER, OTHER),
    "a NaN in the reference": (PLAIN, changed(OTHER, np.nan), OTHER),
    "an infinity": (changed(PLAIN, np.inf), OTHER, OTHER),
    "another width": (PLAIN[:, :3], OTHER, OTHER),
    "no matrix": (PLAIN[0], OTHER, OTHER),
    "huge": (PLAIN * np.float32(1e30), OTHER * np.float32(1e30), OTHER),
    "tiny": (PLAIN * np.float32(1e-30), OTHER * np.float32(1e-30), OTHER),
    "one huge image": (changed(PLAIN, 1e30), OTHER, OTHER),
    "duplicates": (np.concatenate([PLAIN[:6], PLAIN[:6]]), np.concatenate([PLAIN[:6], PLAIN[:6]]), OTHER),
    "the reference itself": (OTHER, OTHER, OTHER),
}


def by_role(rows: np.ndarray) -> dict[str, np.ndarray]:
    """The features of every role; a patch is a row for itself."""
    return dict.fromkeys(("image", "clip", "dinov2", "clip_l14_336"), rows) | {"patch": rows[:, None] if rows.ndim == 2 else rows}


REFUSED = {"no image", "a NaN", "an infinity", "no matrix"}
"""No metric has a value here."""


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("case", CASES)
def test_a_metric_gives_a_finite_number_or_says_in_one_line_why_not(case, name):
    generated, real, text = CASES[case]
    metric, options = METRICS[name], METRICS[name].options()
    cell = CellFeatures(len(generated), by_role(generated), by_role(real), {"clip": text}, teacher=lambda *which: {"image": real})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", RankLimited)
        value = finite_or_refused(metric.compute, cell, options)
        assert value is None or case not in REFUSED, f"{name} of {case} is {value}"
        for function in (metric.items, metric.influence):
            if function is not None:
                finite_or_refused(function, cell, options)
    low, high = metric.bounds
    if value is not None:
        assert (low is None or value >= low * (1 - 1e-12)) and (high is None or value <= high)


def finite_or_refused(function, cell: CellFeatures, options):
    """What the function returns, all finite; None where it raises BadFeatures, one line of some length."""
    try:
        found = function(cell, options)
    except BadFeatures as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) > 20
        return None
    arrays = [found.generated, found.reference] if hasattr(found, "generated") else [found]
    assert all(np.isfinite(array).all() for array in arrays if array is not None), found
    return found


def test_documented_values_of_degenerate_sets():
    def value(name: str, case: str) -> float:
        generated, real, text = CASES[case]
        cell = CellFeatures(len(generated), by_role(generated), by_role(real), {"clip": text})
        return METRICS[name].compute(cell, METRICS[name].options())

    assert value("fid", "constant features") == 0 and value("fid", "the reference itself") == pytest.approx(0, abs=1e-9)
    for name in ("fd_dinov2", "patch_fid", "cmmd", "mind"):
        assert value(name, "constant features") == 0 and value(name, "the reference itself") == pytest.approx(0, abs=1e-9), name
        assert value(name, "two images") >= 0, name
    assert value("vendi", "identical images") == pytest.approx(1)
    assert value("kid", "constant features") == pytest.approx(0, abs=1e-12)
    assert value("coverage", "constant features") == 0 and value("coverage", "the reference itself") == 1
    assert value("clip_score", "constant features") == pytest.approx(1)
