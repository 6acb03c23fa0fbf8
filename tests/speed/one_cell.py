"""Every registered metric of one cell from cached features, with its 95 % interval: `python tests/speed/one_cell.py`."""

from __future__ import annotations

import time
import warnings

from common import arguments, features, machine
from scottbench_metrics import register_metrics

from scottbench.registry.nouns import CellFeatures
from scottbench.stats.uncertainty import uncertainty

TARGET = 60.0
"""Seconds on two cores for 5,000 images, intervals included."""


def main() -> None:
    asked = arguments(__doc__, 5000)
    generated, real, text = (features(asked.n, asked.d, seed) for seed in (1, 0, 2))
    cell = CellFeatures(asked.n, {"image": generated, "clip": generated}, {"image": real, "clip": real}, {"clip": text})
    print(f"{machine()}; n = {asked.n}, d = {asked.d}")
    warnings.simplefilter("ignore")
    for metric in register_metrics():  # libraries loaded
        if metric.scope == "cell":
            few = {role: rows[:40, :8] for role, rows in cell.generated.items()}
            metric.compute(CellFeatures(40, few, {"image": real[:40, :8]}, {"clip": text[:40, :8]}), metric.options())
    total = 0.0
    for metric in register_metrics():
        if metric.scope != "cell":
            continue
        options, marks = metric.options(), [time.perf_counter()]
        value = metric.compute(cell, options)
        marks.append(time.perf_counter())
        found = uncertainty(metric, cell, options, value)
        marks.append(time.perf_counter())
        total += marks[-1] - marks[0]
        times = f"value {marks[1] - marks[0]:6.2f} s, interval {marks[2] - marks[1]:6.2f} s"
        print(f"{metric.name:<12} {value:12.6g} [{found.interval.low:.6g}, {found.interval.high:.6g}] ({found.method})  {times}")
    print(f"all: {total:.1f} s (target {TARGET:g} s: {'met' if total <= TARGET else 'MISSED'})")


if __name__ == "__main__":
    main()
