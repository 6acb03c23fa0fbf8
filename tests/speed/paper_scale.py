"""COCO-2014 30K from features: FID, KID, precision, recall, density, coverage with intervals; time, processor time, peak memory.

    OMP_NUM_THREADS=2 python tests/speed/paper_scale.py [N M D [METRIC ...]]      default: 30000 40504 2048 and all six

The features are random, float32, of a spectrum that falls like Inception's. A process a call: peak memory is the whole process's.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from scottbench_metrics import register_metrics

from scottbench.registry.nouns import CellFeatures, read_only
from scottbench.registry.options import make_options
from scottbench.run.clock import peak_memory
from scottbench.stats.uncertainty import interval_or_reason

METRICS = ("fid", "kid", "precision", "recall", "density", "coverage")
CHUNK = 4096


def features(n: int, d: int, seed: int, shift: float) -> np.ndarray:
    """Draw (n, d) float32, never negative, channel i with a spread of (i + 1)^-0.5."""
    generator, found = np.random.default_rng(seed), np.empty((n, d), np.float32)
    spread = (np.arange(1, d + 1) ** -0.5).astype(np.float32)
    for start in range(0, n, CHUNK):
        part = found[start : start + CHUNK]
        part[:] = np.abs(generator.standard_normal(part.shape, np.float32) + np.float32(shift)) * spread
    return found


def main(n: int = 30_000, m: int = 40_504, d: int = 2048, *names: str) -> None:
    """Measure each metric once, in the order of METRICS, and print a line of JSON for each."""
    known = {metric.name: metric for metric in register_metrics()}
    given = CellFeatures(n, {"image": features(n, d, 1, 0.05)}, {"image": features(m, d, 2, 0.0)}, {})
    total = 0.0
    for name in names if names else METRICS:
        metric, wall, cpu = known[name], time.perf_counter(), time.process_time()
        options = make_options(metric.options, {}, name)
        value = float(metric.compute(read_only(given), options))
        found = interval_or_reason(metric, read_only(given), options, value)
        total += (spent := time.process_time() - cpu)
        print(json.dumps({
            "metric": name, "value": value, "interval": found if isinstance(found, str) else [found.interval.low, found.interval.high],
            "by": None if isinstance(found, str) else found.method, "seconds": round(time.perf_counter() - wall, 1),
            "processor": round(spent, 1), "peak_GB": round(peak_memory() / 1e9, 2),
        }), flush=True)  # fmt: skip
    print(json.dumps({"n": n, "m": m, "d": d, "processor": round(total, 1)}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *sys.argv[4:])
