"""Time and memory of FD-DINOv2, CMMD, MIND and patch FID of one cell, intervals included: `python tests/speed/more_metrics.py [crops]`."""

from __future__ import annotations

import sys
import time

import numpy as np
from scottbench_metrics import further_metrics

from scottbench.registry.nouns import CellFeatures, read_only
from scottbench.run.clock import peak_memory
from scottbench.stats.uncertainty import uncertainty

N, D = 5000, 1024


def features(seed: int, *shape: int) -> np.ndarray:
    """Random rows with a falling spectrum, which features have."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(shape, dtype=np.float32) + np.float32(0.05 * (seed % 2))
    rows *= np.linspace(2, 0.2, shape[-1], dtype=np.float32)
    return rows


def main() -> None:
    crops = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    roles = {"image": (N, D), "dinov2": (N, D), "clip_l14_336": (N, D), "patch": (N, crops, D)}
    sides = [{role: features(2 * number + side, *shape) for number, (role, shape) in enumerate(roles.items())} for side in (0, 1)]
    cell = read_only(CellFeatures(N, sides[1], sides[0], {}))
    whole, at_work = time.perf_counter(), time.process_time()
    for metric in (metric for metric in further_metrics() if metric.items is None):
        start, options = time.perf_counter(), metric.options()
        value = metric.compute(cell, options)
        found = uncertainty(metric, cell, options, value)
        ends = f"[{found.interval.low:.4f}, {found.interval.high:.4f}] by {found.method}"
        print(f"{metric.name:10} {time.perf_counter() - start:6.1f} s  {value:.4f} {ends}")
    print(f"all        {time.perf_counter() - whole:6.1f} s, {time.process_time() - at_work:.1f} s of processor time")
    print(f"peak memory {peak_memory() / 1e9:.2f} GB, Python, NumPy, SciPy and torch included")


if __name__ == "__main__":
    main()
