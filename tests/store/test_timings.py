"""Times per image: medians over chunks with intervals from order statistics, the warm-up left out."""

from __future__ import annotations

import types

import numpy as np
import polars as pl
import pytest

from scottbench.run.timings import write_timings
from scottbench.store.folder import RunFolder
from scottbench.store.timings import COLD, median_interval, per_image


def test_the_interval_of_a_median_is_that_of_the_published_tables():
    # ranks of Conover 1999, table for the median at 95 %: n = 6: 1 and 6; 20: 6 and 15; 50: 18 and 33
    for n, (low, high) in {6: (1, 6), 20: (6, 15), 50: (18, 33)}.items():
        assert median_interval(list(range(1, n + 1))[::-1]) == (low, high)
    assert median_interval([1.0] * 5) is None and median_interval([]) is None


@pytest.mark.parametrize("n", [6, 21, 79])
def test_the_interval_of_a_median_covers_it_under_a_skewed_law(n):
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(2000):
        low, high = median_interval(rng.lognormal(sigma=2.0, size=n))
        hits += low <= 1.0 <= high
    assert 0.94 <= hits / 2000 <= 0.995


def work_of(folder, chunks, seconds):
    """Enough of a Work: `chunks` spans, and side-cars with {stage: seconds} and whether they are cold."""
    run = RunFolder(folder)
    for span, (facts, cold) in zip(chunks, seconds, strict=True):
        images = np.zeros((len(span), 2, 2, 3), np.uint8)
        mark = {COLD: True} if cold else {}
        run.put_images(("images", "a__s2__seed0"), span, [f"i{i}" for i in span], images, {"seconds": facts, **mark})
    return types.SimpleNamespace(folder=run, chunks=chunks, extractors={}, plan=types.SimpleNamespace(n=chunks[-1].stop))


CELL = types.SimpleNamespace(id="a__s2__seed0", steps=2, seed=0, method=types.SimpleNamespace(label="a"))


def stages(factor):
    return {"text": 1.0 * factor, "denoise": 2.0 * factor, "decode": 3.0 * factor}


def test_the_first_chunk_of_a_process_is_left_out_of_the_median_and_kept_in_the_total(tmp_path):
    chunks = [range(0, 4), range(4, 8), range(8, 12), range(12, 14)]
    # per image: 100, 1, 3, 2 times (1, 2, 3)
    write_timings(work_of(tmp_path, chunks, [(stages(400), True), (stages(4), False), (stages(12), False), (stages(4), False)]), [CELL])
    rows = {row["stage"]: row for row in pl.read_parquet(tmp_path / "timings.parquet").to_dicts()}
    assert rows["denoise"]["seconds_per_image"] == 4.0 and rows["denoise"]["seconds_total"] == 840.0 and rows["denoise"]["chunks"] == 3
    assert rows["sampling"]["seconds_per_image"] == 12.0 and rows["sampling"]["ci_low"] is None
    assert rows["store"]["seconds_per_image"] is None and rows["store"]["chunks"] == 0
    assert per_image(rows.values()) == {("a", 2, 0): (12.0, None)}


def test_a_single_chunk_counts_though_it_is_cold(tmp_path):
    write_timings(work_of(tmp_path, [range(0, 2)], [(stages(2), True)]), [CELL])
    assert per_image(pl.read_parquet(tmp_path / "timings.parquet").to_dicts()) == {("a", 2, 0): (6.0, None)}


def test_many_chunks_give_an_interval(tmp_path):
    chunks = [range(i, i + 1) for i in range(21)]
    write_timings(work_of(tmp_path, chunks, [(stages(i + 1), False) for i in range(21)]), [CELL])
    assert per_image(pl.read_parquet(tmp_path / "timings.parquet").to_dicts()) == {("a", 2, 0): (66.0, (36.0, 96.0))}


def test_means_of_an_earlier_version_are_added_up():
    rows = [{"method": "a", "steps": 2, "seed": 0, "stage": stage, "seconds_per_image": 0.5} for stage in ("text", "denoise", "store")]
    assert per_image(rows) == {("a", 2, 0): (1.0, None)}
