"""The full calibration: what 95 % intervals and paired tests do on normal, heavy-tailed and real features, as a Markdown table.

    python tests/calibration/calibrate.py --out tests/calibration/README.md     the published table; most of an hour on two cores
    python tests/calibration/calibrate.py --draws 40 --n 200 --pool 500         a look, in minutes
    python tests/calibration/calibrate.py --run runs/...                        real features of a run's two methods as well

Targets: coverage 0.93 to 0.99, width at most 1.5, size at most 0.05 (each within the error of so many draws).
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when NumPy is loaded: these matrices are small, the cores work on populations side by side
import argparse
import json
import multiprocessing
import sys
import warnings
from pathlib import Path

import numpy as np
from pocket_pool import features, reduced
from simulation import Population, calibrate, normal, pool, power_curve

from scottbench.errors import ScottbenchWarning

NAMES = ["fid", "kid", "coverage", "precision", "recall", "density", "vendi", "clip_score"]
SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)


def of_run(folder: Path) -> Population:
    """The stored features of the first two cells of a run, its reference and its prompts."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    cells = [entry["id"] for entry in manifest["cells"]][:2]

    def stored(owner: str) -> np.ndarray:
        return np.concatenate([np.load(path, allow_pickle=False) for path in sorted((folder / "features" / owner / "image").glob("*.npy"))])

    return pool(f"features of {' and '.join(cells)}", stored("reference"), stored("text"), *(stored(cell) for cell in cells))


def rows_of(population: Population, names: list[str], n: int, draws: int) -> list[str]:
    """Rows of the first table."""
    warnings.simplefilter("ignore", ScottbenchWarning)  # a rank-limited distance is what some rows are about
    return [
        f"| {row.population} | {row.metric} | {row.method} | {row.coverage:.3f} | {row.width:.2f} | {row.size:.3f} |"
        for row in calibrate(population, names, n, draws)
    ]


def power_of(population: Population, names: list[str], n: int, draws: int) -> list[str]:
    """Rows of the second table."""
    warnings.simplefilter("ignore", ScottbenchWarning)
    return [
        f"| {population.name} | {name} | " + " | ".join(f"{found:.2f} ({gap:+.3g})" for _, gap, found in curve) + " |"
        for name, curve in power_curve(population, names, n, SHARES, draws).items()
    ]


def outside(rows: list[str], draws: int) -> str:
    """Which rows of the first table miss a target by more than two standard errors of so many draws."""
    missed = []
    for row in rows:
        population, metric, _, *numbers = (field.strip() for field in row.strip("| ").split("|"))
        coverage, width, size = map(float, numbers)
        low, high, wide = (2 * (p * (1 - p) / draws) ** 0.5 for p in (0.93, 0.99, 0.05))
        faults = [f"coverage {coverage:.3f}"] * (not 0.93 - low <= coverage <= 0.99 + high)
        faults += [f"width {width:.2f}"] * (width > 1.5 * (1 + 2 / (2 * draws) ** 0.5)) + [f"size {size:.3f}"] * (size > 0.05 + wide)
        missed += [f"{metric} on {population} ({', '.join(faults)})"] * bool(faults)
    return f"Outside a target by more than two standard errors: {'; '.join(missed) if missed else 'none'}."


TASKS: list[tuple] = []
"""(function, arguments): processes that are forked find here what cannot be sent to them."""


def run_task(number: int) -> list[str]:
    function, *arguments = TASKS[number]
    found = function(*arguments)
    sys.stderr.write("\n".join(found) + "\n")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--n", type=int, default=500, help="prompts of a draw")
    parser.add_argument("--pool", type=int, default=5000, help="images of the pocket pool")
    parser.add_argument("--metrics", default=",".join(NAMES))
    parser.add_argument("--run", type=Path, help="a run folder whose features are drawn from too")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--out", type=Path, help="Markdown file; default: stdout")
    asked = parser.parse_args()
    parts = features(asked.pool)
    populations = [normal(32), normal(64), normal(32, tails=5)]
    populations += [pool("pocket features", *reduced(parts, 64)), pool("pocket features", *parts)]
    if asked.run is not None:
        populations.append(of_run(asked.run))
    names = asked.metrics.split(",")
    lines = [
        "# Calibration of intervals and paired tests",
        "",
        f"Written by `{' '.join(['python', 'tests/calibration/calibrate.py', *sys.argv[1:]])}`. What is drawn: simulation.py and "
        "pocket_pool.py. Coverage: share of draws whose 95 % interval holds the metric's expectation at this n. Width: over that of "
        "the shortest interval that would do. Size: share of draws in which two methods of one law are found different at 5 %.",
        "",
        f"n = {asked.n} prompts, {asked.draws} draws; coverage is known to ± {1.96 * (0.95 * 0.05 / asked.draws) ** 0.5:.3f}, width to "
        f"± {1.96 / (2 * asked.draws) ** 0.5:.0%}.",
        "",
        "| features | metric | interval from | coverage (0.93 to 0.99) | width (≤ 1.5) | size (≤ 0.05) |",
        "|---|---|---|---|---|---|",
    ]
    TASKS.extend((rows_of, population, names, asked.n, asked.draws) for population in populations)
    TASKS.extend((power_of, populations[i], names, asked.n, max(20, asked.draws // 4)) for i in (0, 3))
    with multiprocessing.get_context("fork").Pool(asked.workers) as workers:
        tables = workers.map(run_task, range(len(TASKS)), chunksize=1)
    first = [row for table in tables[: len(populations)] for row in table]
    lines += [*first, "", outside(first, asked.draws)]
    lines += ["", "Power of the paired test at 5 % against the share of prompts that differ; in brackets the mean difference:", ""]
    lines += [f"| features | metric | {' | '.join(f'{share:g}' for share in SHARES)} |", "|---|---|" + "---|" * len(SHARES)]
    lines += [row for table in tables[len(populations) :] for row in table]
    text = "\n".join([*lines, ""])
    if asked.out is None:
        sys.stdout.write(text)
    else:
        asked.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
