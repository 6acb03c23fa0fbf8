"""Run folders with values and influences that a test chooses: manifest and tables as `scottbench run` writes them, no images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
from fake_run import DIRECTIONS, cell_entry, manifest_of, metric_entry, result_row, timing_rows

from scottbench.run.measure import write_tables
from scottbench.stats.intervals import interval
from scottbench.stats.measured import Measured

N = 400
NOISE = np.random.default_rng(2).normal(size=(8, N))
NOISE -= NOISE.mean(axis=1, keepdims=True)
SHARED = NOISE[0]
"""What all cells owe to their prompts."""


def influence(own: int, sd: float = 1.0) -> np.ndarray:
    """(N,) with mean 0: mostly of the prompts, a fifth of the cell's own."""
    return sd * (SHARED + 0.2 * NOISE[own])


def digest(text: str) -> str:
    """The sha256 of a text, in place of weights."""
    return hashlib.sha256(text.encode()).hexdigest()


def made_run(folder: Path, values: dict, preset: str = "pocket", students: dict | None = None, n: int = N, label="pocket features") -> Path:
    """values: (method, steps, seed) -> {metric: (value, (n,) influence)}; a metric that is None there failed. students: method -> facts.

    Metric names are those of `fake_run.DIRECTIONS`.
    """
    folder.mkdir(parents=True)
    names = list(dict.fromkeys(name for of_cell in values.values() for name in of_cell))
    metrics = [metric_entry(name, n, label) for name in names]
    entries, rows, measured = [], [], []
    for (method, steps, seed), of_cell in values.items():
        entry = {**cell_entry(method, steps, n), "id": f"{method}__s{steps}__seed{seed}", "seed": seed, "no_interval": {}}
        if students is not None:
            facts = students.get(method)
            entry.update(student=facts, weights_digest=digest(method if facts is None else json.dumps(facts, sort_keys=True)))
        entries.append(entry)
        for metric in metrics:
            found = of_cell.get(metric["name"])
            row = {**result_row(entry, metric, None if found is None else found[0]), "seed": seed}
            ends = (None, None, None)
            if found is not None:
                made = interval(*found)
                ends = (made.low, made.high, "influence")
                measured.append((Measured(
                    method, steps, (seed,), metric["name"], DIRECTIONS[metric["name"]], n, metric["fingerprint"], *found, n - 1,
                    tuple(f"item-{i:03d}" for i in range(n))), None))
            rows.append({**row, "ci_low": ends[0], "ci_high": ends[1], "ci_method": ends[2]})
    manifest = manifest_of(entries, metrics, [], [], n)
    manifest["plan"]["preset"] = preset
    (folder / "manifest.json").write_text(json.dumps(manifest))
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "results.parquet")
    pl.DataFrame([row for entry in entries for row in timing_rows(entry)]).write_parquet(folder / "timings.parquet")
    write_tables(lambda name, frame: frame.write_parquet(folder / name), measured)
    return folder


def two_methods(folder: Path, **changes) -> Path:
    """scott and cd at 2 steps: far apart in FID, undecided in CLIP score; the intervals of the values overlap in both."""
    values = {
        ("scott", 2, 0): {"fid": (70.0, influence(1, 20.0)), "clip_score": (0.5001, influence(3, 0.05))},
        ("cd", 2, 0): {"fid": (71.5, influence(2, 20.0)), "clip_score": (0.5000, influence(4, 0.05))},
    }
    return made_run(folder, values, **changes)
