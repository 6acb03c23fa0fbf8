"""Shared by the speed scripts: features in the shape of Inception's, a stopwatch, one line per result."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import time
import warnings
from collections.abc import Callable

import numpy as np


def arguments(description: str, n: int, d: int = 2048, memory: int = 0) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-n", type=int, default=n, help=f"images of each side (default {n})")
    parser.add_argument("-d", type=int, default=d, help=f"dimensions (default {d})")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the fastest counts (default 3)")
    if memory:
        parser.add_argument("--memory", type=int, default=memory, help=f"images of each side where memory is measured (default {memory})")
        parser.add_argument("--only", choices=["ours"], help="run ours alone and print what memory it takes")
    return parser.parse_args()


def features(n: int, d: int, seed: int) -> np.ndarray:
    """(n, d) float32, not negative, with a spectrum that falls over four decades of variance, as pooled activations have."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(np.random.default_rng(99).normal(size=(d, d)))[0].astype(np.float32)
    rows = rng.standard_normal((n, d), np.float32) * np.logspace(0, -2, d, dtype=np.float32) * (1 + 0.05 * seed)
    return np.abs(rows @ mixing + np.float32(0.4))


def seconds(function: Callable[[], object], repeat: int) -> float:
    """Wall time of the fastest of `repeat` runs; what they print or warn is dropped."""
    best = float("inf")
    for _ in range(repeat):
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            started = time.perf_counter()
            function()
            best = min(best, time.perf_counter() - started)
    return best


def report(what: str, ours: float, theirs: float, peer: str, target: float) -> None:
    ratio = theirs / ours
    verdict = "met" if ratio >= target else "MISSED"
    print(f"{what}: ours {ours:.2f} s, {peer} {theirs:.2f} s, ratio {ratio:.1f} (target {target:g}: {verdict})")


def machine() -> str:
    """What the numbers depend on."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}, numpy {np.__version__}"
