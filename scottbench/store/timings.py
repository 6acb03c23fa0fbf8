"""timings.parquet: seconds per image of every finished cell by stage, from the side-cars of its chunks, so that a resumed run counts all
its attempts. A chunk's time divided by its images is one observation; the median over chunks is what is reported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

SAMPLING = ("text", "denoise", "decode")
"""Stages that make an image, in order; "sampling" is their sum."""
STAGES = (*SAMPLING, "features", "store")
LOAD = "load"
"""Fact of a chunk's side-car: the machine's load average over the last minute per processor, when the chunk was made."""
BUSY = 1.25
"""The load per processor above which a time says more of the machine's other work than of a method. A run that has the machine for itself
has a load of 1 at most, and a little for what the system does."""
ROUND = "round"
"""Fact of a chunk's side-car: the number of the round that it was made in, in which every cell had its turn (`scottbench.run.rounds`)."""
COLD = "cold"
"""Fact of a chunk's side-car: the first that a process made of a cell. Networks, kernels and caches warm up in it, so it is left out of
medians, unless nothing else was timed."""


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of a median from order statistics, whatever the law of the values (Conover 1999, sec. 3.2); at least `level`
    sure. None where so few values (5 or fewer at 95 %) allow none."""
    ordered, n = sorted(values), len(values)
    tail, below, rank = (1 - level) / 2, 0.0, 0
    while (below := below + math.comb(n, rank) / 2**n) <= tail:
        rank += 1
    return (ordered[rank - 1], ordered[n - rank]) if rank > 0 else None


def per_image(rows: Iterable[dict]) -> dict[tuple[str, int, int], tuple[float, tuple[float, float] | None]]:
    """Return (method, steps, seed) -> seconds of sampling per image, and their interval where one is on record. rows: of timings.parquet.
    Runs of earlier versions have means of the stages only."""
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


