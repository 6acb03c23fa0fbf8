"""Balls of random parts of the generated images, from one search of the whole, equal those that are counted of each part by itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scottbench_metrics.neighbours as neighbours
from scottbench_metrics import register_metrics

import scottbench.metrics.ball_parts as module
from scottbench.metrics import balls, balls_of_parts, nearest_neighbours
from scottbench.registry.nouns import CellFeatures, read_only
from scottbench.registry.options import make_options
from scottbench.stats.uncertainty import interval_or_reason


def sets(m: int, n: int, d: int = 6, seed: int = 0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(m, d)).astype(np.float32), (generator.normal(size=(n, d)) * 1.1 + 0.2).astype(np.float32)


def same(found, wanted) -> bool:
    return all(np.array_equal(getattr(found, name), getattr(wanted, name)) for name in ("real_covered", "real_inside", "generated_inside"))


@pytest.mark.parametrize("part", [0.5, 0.1])  # of a tenth, the nearest of many images are not in the part and are searched anew
def test_parts_have_the_numbers_that_counting_gives(part):
    real, generated = sets(230, 160)
    generated[40:44] = generated[40]  # some coincide
    found = balls_of_parts(real, generated, 3, nearest_neighbours(real, 3))
    generator = np.random.default_rng(1)
    for _ in range(8):
        kept = np.sort(generator.choice(160, int(160 * part), replace=False))
        assert same(found.of(kept), balls(real, generated[kept], 3))
    assert same(found.of(np.arange(160)), balls(real, generated, 3))


def test_intervals_beside_a_set_apart_are_those_of_counting_each_half_and_are_searched_once(monkeypatch):
    real, generated = sets(90, 70, seed=3)
    cell = CellFeatures(70, {"image": generated}, {"image": real}, {}, apart=True)
    searches, known = [], {metric.name: metric for metric in register_metrics()}
    counted = neighbours.balls
    monkeypatch.setattr(neighbours, "balls", lambda *given: searches.append(1) or counted(*given))
    intervals = {}
    for most in (module.MOST_PAIRS, 0):  # then nothing is kept, and every half is counted
        monkeypatch.setattr(module, "MOST_PAIRS", most)
        given = dataclasses.replace(cell, memo={}, reference_memo={})
        searches.clear()
        for name in ("coverage", "precision", "recall"):
            metric, options = known[name], make_options(known[name].options, {}, name)
            found = interval_or_reason(metric, read_only(given), options, metric.compute(read_only(given), options))
            intervals[name, most] = (found.method, found.interval, found.influence.tobytes())
        assert len(searches) == 0 if most else len(searches) > 30
    assert all(intervals[name, module.MOST_PAIRS] == intervals[name, most] for name, most in intervals)


def test_a_set_apart_of_as_many_images_as_prompts_is_not_taken_for_pairs():
    real, generated = sets(70, 70)
    density = next(metric for metric in register_metrics() if metric.name == "density")
    options = make_options(density.options, {}, "density")
    cells = [CellFeatures(70, {"image": generated}, {"image": real}, {}, apart=one) for one in (False, True)]
    paired, apart = (interval_or_reason(density, read_only(cell), options, 1.0) for cell in cells)
    assert not np.array_equal(paired.influence, apart.influence)
