"""timings.parquet: seconds per image of every finished cell by stage, from the side-cars of its chunks, so that a resumed run counts all
its attempts. A chunk's time divided by its images is one observation; the median over chunks is what is reported."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scottbench.plan.plan import PlannedCell
    from scottbench.run.sample import Work

SAMPLING = ("text", "denoise", "decode")
"""Stages that make an image, in order; "sampling" is their sum."""
STAGES = (*SAMPLING, "features", "store")
COLD = "cold"
"""Fact of a chunk's side-car: the first that a process made of a cell. Networks, kernels and caches warm up in it, so it is left out of
medians, unless nothing else was timed."""


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Interval of a median from order statistics, whatever the law of the values (Conover 1999, sec. 3.2); at least `level` sure. None
    where so few values (5 or fewer at 95 %) allow none."""
    ordered, n = sorted(values), len(values)
    tail, below, rank = (1 - level) / 2, 0.0, 0
    while (below := below + math.comb(n, rank) / 2**n) <= tail:
        rank += 1
    return (ordered[rank - 1], ordered[n - rank]) if rank > 0 else None


def per_image(rows: Iterable[dict]) -> dict[tuple[str, int, int], tuple[float, tuple[float, float] | None]]:
    """Rows of timings.parquet -> (method, steps, seed): seconds of sampling per image, and their interval where one is on record. Runs of
    earlier versions have means of the stages only."""
    found: dict[tuple[str, int, int], tuple[float, tuple[float, float] | None]] = {}
    timed = [row for row in rows if row["seconds_per_image"] is not None]
    for row in timed:
        if row["stage"] in SAMPLING:
            cell = (row["method"], row["steps"], row["seed"])
            found[cell] = (found.get(cell, (0.0, None))[0] + row["seconds_per_image"], None)
    for row in timed:
        if row["stage"] == "sampling":
            ends = None if row["ci_low"] is None else (row["ci_low"], row["ci_high"])
            found[row["method"], row["steps"], row["seed"]] = (row["seconds_per_image"], ends)
    return found


def observed(work: Work, cell: PlannedCell) -> dict[str, list[tuple[float, int, bool]]]:
    """Stage -> (seconds, images, cold) of every chunk of a cell that was timed in it."""
    found: dict[str, list[tuple[float, int, bool]]] = {stage: [] for stage in (*STAGES, "sampling")}
    for span in work.chunks:
        seconds: dict[str, float] = {}
        places = [("images", cell.id), *(("features", cell.id, role) for role in work.extractors)]
        cold = False
        for facts in (work.folder.facts(place, span) or {} for place in places):
            cold = cold or bool(facts.get(COLD))
            for stage, value in (facts.get("seconds") or {}).items():
                seconds[stage] = seconds.get(stage, 0.0) + value
        if all(stage in seconds for stage in SAMPLING):
            seconds["sampling"] = sum(seconds[stage] for stage in SAMPLING)
        for stage, value in seconds.items():
            found[stage].append((value, len(span), cold))
    return found


def write_timings(work: Work, cells: list[PlannedCell]) -> None:
    """Per cell and stage: the total, and the median of seconds per image with its 95 % interval over the chunks counted."""
    import polars

    rows = []
    for cell in cells:
        for stage, chunks in observed(work, cell).items():
            counted = [(value, size) for value, size, cold in chunks if not cold] or [(value, size) for value, size, _ in chunks]
            each = [value / size for value, size in counted]
            ends = median_interval(each)
            low, high = (None, None) if ends is None else ends
            rows.append({
                "method": cell.method.label, "steps": cell.steps, "seed": cell.seed, "stage": stage, "n": work.plan.n,
                "seconds_total": sum(value for value, _, _ in chunks), "seconds_per_image": statistics.median(each) if each else None,
                "ci_low": low, "ci_high": high, "chunks": len(each),
            })  # fmt: skip
    schema = {
        "method": polars.String, "steps": polars.Int32, "seed": polars.Int64, "stage": polars.String, "n": polars.Int32,
        "seconds_total": polars.Float64, "seconds_per_image": polars.Float64, "ci_low": polars.Float64, "ci_high": polars.Float64,
        "chunks": polars.Int32,
    }  # fmt: skip
    work.folder.put_table("timings.parquet", polars.DataFrame(rows, schema=schema))
