"""A run folder's records as a table and as a JSON document; reads records only."""

from __future__ import annotations

import json
from pathlib import Path

GENERATION = ("text", "denoise", "decode")
"""Stages that a user of a method would pay for; features and storage are the benchmark's own."""


def read_results(folder: Path) -> dict:
    """{"run", "plan_hash", "results": rows, "timings": rows, "report"} of a run folder, and what the table's headings need."""
    import polars as pl

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    report = folder / "report" / "index.html"
    return {
        "run": str(folder),
        "plan_hash": manifest["plan_hash"],
        "status": manifest["status"],
        "metrics": manifest["metrics"],
        "results": pl.read_parquet(folder / "results.parquet").to_dicts(),
        "timings": pl.read_parquet(folder / "timings.parquet").to_dicts(),
        "report": str(report) if report.is_file() else None,
    }


def print_results(results: dict) -> None:
    """The table of a run on stdout: one row a cell, one column a metric, the best of a column marked with *."""
    from scottbench.cli.common import print_table
    from scottbench.names import printable

    title, header, rows, best = result_table(results["metrics"], results["results"], results["timings"])
    print(printable(title))
    print_table(header, rows, right=range(1, len(header)), stack=range(3, len(header)), bold=best)
    print("\n* best of its column.  ms/image: text encoder + U-Net + decoder on this machine")
    print(f"run     {printable(results['run'])}")
    if results["report"] is not None:
        print(f"report  {printable(results['report'])}")


def result_table(metrics: list[dict], results: list[dict], timings: list[dict]) -> tuple[str, list[str], list[list[str]], set]:
    """(title, header, rows of text, {(row, column) that is best}). Cells that print alike tie; one row has no best.

    Features that all metrics share, and N, stand in the title; features that differ stand in the headings.
    """
    labels = list(dict.fromkeys(metric["extractor_label"] for metric in metrics))
    counts = ", ".join(str(n) for n in sorted({row["n"] for row in results}))
    title = f"{f'metrics on {labels[0]}, ' if len(labels) == 1 else ''}N = {counts}"
    header = ["method", "steps", "NFE"]
    for metric in metrics:
        label = metric["label"] if len(labels) == 1 else f"{metric['label']}, {metric['extractor_label']}"
        header.append(f"{label} {'↑' if metric['higher_is_better'] else '↓'}")
    header.append("ms/image ↓")
    cells = list(dict.fromkeys((row["method"], row["steps"], row["seed"]) for row in results))
    columns = [_metric_column(metric, results, cells) for metric in metrics]
    columns.append([(seconds, f"{1000 * seconds:.1f}") if seconds is not None else None for seconds in _seconds(timings, cells)])
    directions = [metric["higher_is_better"] for metric in metrics] + [False]
    best = {(y, 3 + x) for x, (column, higher) in enumerate(zip(columns, directions)) for y in _best(column, higher)}
    rows = []
    for y, cell in enumerate(cells):
        nfe = next(row["nfe"] for row in results if (row["method"], row["steps"], row["seed"]) == cell)
        shown = ["-" if column[y] is None else "*" * ((y, 3 + x) in best) + column[y][1] for x, column in enumerate(columns)]
        name = f"{cell[0]}, seed {cell[2]}" if len({seed for _, _, seed in cells}) > 1 else cell[0]
        rows.append([name, str(cell[1]), "-" if nfe is None else str(nfe), *shown])
    return title, header, rows, best


def _metric_column(metric: dict, results: list[dict], cells: list[tuple]) -> list[tuple[float, str] | None]:
    """(value, text) per cell; None where the metric has no value there."""
    values = {(row["method"], row["steps"], row["seed"]): row["value"] for row in results if row["metric"] == metric["name"]}
    found = [values.get(cell) for cell in cells]
    # a NaN is no value: it is shown as missing and can never be best
    return [None if value is None or value != value else (value, f"{value:.{metric['digits']}f}") for value in found]


def _seconds(timings: list[dict], cells: list[tuple]) -> list[float | None]:
    """Seconds per image of the generation stages, per cell; None where nothing was timed."""
    found: dict[tuple, float] = {}
    for row in timings:
        if row["stage"] in GENERATION:
            cell = (row["method"], row["steps"], row["seed"])
            found[cell] = found.get(cell, 0.0) + row["seconds_per_image"]
    return [found.get(cell) for cell in cells]


def _best(column: list[tuple[float, str] | None], higher_is_better: bool) -> list[int]:
    """Rows that are best of a column: compared as printed, so that two equal numbers never look different."""
    present = [(y, float(entry[1])) for y, entry in enumerate(column) if entry is not None]
    if len(present) < 2:
        return []
    top = (max if higher_is_better else min)(value for _, value in present)
    return [y for y, value in present if value == top]
