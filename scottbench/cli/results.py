"""A run folder's records as a table and as a JSON document; reads records only."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path


def read_results(folder: Path) -> dict:
    """{"run", "plan_hash", "results": rows, "timings": rows, "pairs": rows, "claims", "report"} of a run folder, and what the table's
    headings need."""
    import polars as pl

    from scottbench.store.record import read_claims, read_manifest

    manifest = read_manifest(folder)
    report = folder / "report" / "index.html"
    return {
        "run": str(folder),
        "plan_hash": manifest["plan_hash"],
        "status": manifest["status"],
        "metrics": manifest["metrics"],
        "results": pl.read_parquet(folder / "results.parquet").to_dicts(),
        "timings": pl.read_parquet(folder / "timings.parquet").to_dicts(),
        "pairs": pl.read_parquet(folder / "pairs.parquet").to_dicts() if (folder / "pairs.parquet").is_file() else [],
        "claims": read_claims(folder / "claims.json"),
        "report": str(report) if report.is_file() else None,
    }


PAIRS = 12
"""Lines of paired differences under the table; more are in pairs.parquet."""


def print_results(results: dict) -> None:
    """The table of a run on stdout: one row a cell, one column a metric with its interval, the best of a column marked with *; below
    it the paired differences, and how its claims stand."""
    from scottbench.cli.printing import print_table
    from scottbench.text import printable

    tables = result_tables(results, stacked=sys.stdout.isatty())
    for title, header, rows, best in tables:
        print(printable(title))
        first = header.index("NFE") + 1
        print_table(header, rows, right=range(1, len(header)), stack=range(first, len(header)), bold=best)
    timed = any("ms/image ↓" in header for _, header, _, _ in tables)
    times = "  ms/image: text encoder + U-Net + decoder on this machine, median over chunks" if timed else ""
    intervals = any(row.get("ci_low") is not None for row in results["results"])
    brackets = "  [95 % interval]: prompts and sampling noise, not training seeds." if intervals else ""
    print(f"\n* best of its column.{brackets}{times}")
    if results["pairs"]:
        print_pairs(results["pairs"], results["metrics"])
    print(f"run     {printable(results['run'])}")
    if results["claims"]:
        counts = Counter(claim["verdict"] for claim in results["claims"])
        found = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        print(f"claims  {found}   (scottbench claims {printable(results['run'])})")
    if results["report"] is not None:
        print(f"report  {printable(results['report'])}")


def print_pairs(pairs: list[dict], metrics: list[dict]) -> None:
    """Paired differences over shared prompts and seeds; of the first metric alone where there are many."""
    from scottbench.cli.printing import print_table

    print(f"paired differences over shared prompts and seeds (95 % intervals; p: Holm over {_tests(pairs)})")
    shown = pairs if len(pairs) <= PAIRS else [row for row in pairs if row["metric"] == pairs[0]["metric"]][:PAIRS]
    print_table(["A - B", "metric", "difference", "p (Holm)", "verdict"], pair_rows(shown, metrics), right=(2, 3))
    if len(shown) < len(pairs):
        print(f"{len(pairs) - len(shown)} more in pairs.parquet and in the report. Any two cells: scottbench compare RUN A B")
    print()


def _tests(pairs: list[dict]) -> str:
    return "1 test" if len(pairs) == 1 else f"{len(pairs)} tests"


def pair_rows(pairs: list[dict], metrics: list[dict]) -> list[list[str]]:
    """Rows of pairs.parquet (or `compare`) as text: pair, metric, difference with interval, adjusted p, verdict."""
    from scottbench.text import bracket, decimals, p_text, signed

    known = {metric["name"]: metric for metric in metrics}
    rows = []
    for row in pairs:
        metric = known[row["metric"]]
        digits = decimals([(row["ci_high"] - row["ci_low"]) / 2], metric["digits"] + 1)
        pair = f"{row['method_a']}@{row['steps_a']} - {row['method_b']}@{row['steps_b']}"
        difference = f"{signed(row['difference'], digits)} {bracket(row['ci_low'], row['ci_high'], digits)}"
        rows.append([pair, metric["label"], difference, p_text(row["p_holm"]).removeprefix("p = ").removeprefix("p "), row["verdict"]])
    return rows


def result_tables(results: dict, stacked: bool = False) -> list[tuple]:
    """`result_table` of the metrics of single cells, or of their means where there are several seeds, and of those of several seeds
    together: what there is."""
    metrics, tables = results["metrics"], []
    single, several = ([metric for metric in metrics if (metric.get("scope") == "seeds") == over] for over in (False, True))
    for scope, words in ((single, "mean over seeds {}: {} prompts a seed"), (several, "over seeds {} together: {} prompts")):
        names = {metric["name"] for metric in scope}
        rows = [row for row in results["results"] if row["metric"] in names]
        together = [row for row in rows if row["seed"] is None]
        if together:
            title, *table = result_table(scope, together, None, stacked)
            tables.append((words.format(", ".join(dict.fromkeys(row["seeds"] for row in together)), title), *table))
        elif scope:
            tables.append(result_table(scope, rows, results["timings"], stacked))
    return tables


def result_table(
    metrics: list[dict], results: list[dict], timings: list[dict] | None, stacked: bool = False
) -> tuple[str, list[str], list[list[str]], set]:
    """(title, header, rows of text, {(row, column) that is best}). Cells that print alike tie; one row has no best.

    Features that all metrics share, and N, stand in the title; features that differ stand in the headings. timings: None for no column
    of times. stacked: intervals on a line of their own, below the value.
    """
    labels = list(dict.fromkeys(metric["extractor_label"] for metric in metrics))
    counts = ", ".join(str(n) for n in sorted({row["n"] for row in results}))
    title = f"{f'metrics on {labels[0]}, ' if len(labels) == 1 and labels[0] else ''}N = {counts}"
    cells = list(dict.fromkeys((row["method"], row["steps"], row["seed"]) for row in results))
    seeds = ["seed"] if len({cell[2] for cell in cells}) > 1 else []
    header = ["method", "steps", *seeds, "NFE"]
    for metric in metrics:
        alone = len(labels) == 1 or not metric["extractor_label"]
        label = metric["label"] if alone else f"{metric['label']}, {metric['extractor_label']}"
        header.append(f"{label} {'↑' if metric['higher_is_better'] else '↓'}")
    columns = [_metric_column(metric, results, cells) for metric in metrics]
    if timings is not None:
        from scottbench.store.timings import per_image

        header.append("ms/image ↓")
        columns.append([_milliseconds(per_image(timings).get(cell)) for cell in cells])
    directions = [metric["higher_is_better"] for metric in metrics] + [False]
    first = len(header) - len(columns)
    best = {(y, first + x) for x, (column, higher) in enumerate(zip(columns, directions)) for y in _best(column, higher)}
    rows = []
    for y, cell in enumerate(cells):
        nfe = next(row["nfe"] for row in results if (row["method"], row["steps"], row["seed"]) == cell)
        entries = [column[y] for column in columns]
        shown = [
            "-" if entry is None else "*" * ((y, first + x) in best) + _joined(entry, stacked) for x, entry in enumerate(entries)
        ]  # fmt: skip
        rows.append([cell[0], str(cell[1]), *([str(cell[2])] if seeds else []), "-" if nfe is None else str(nfe), *shown])
    return title, header, rows, best


def _joined(entry: tuple[str, str], stacked: bool) -> str:
    return entry[0] + ("\n" if stacked else " ") * bool(entry[1]) + entry[1]


def _milliseconds(found: tuple[float, tuple[float, float] | None] | None) -> tuple[str, str] | None:
    """(milliseconds, interval or "") of seconds."""
    from scottbench.text import bracket

    if found is None:
        return None
    return f"{1000 * found[0]:.1f}", "" if found[1] is None else bracket(1000 * found[1][0], 1000 * found[1][1], 1)


def _metric_column(metric: dict, results: list[dict], cells: list[tuple]) -> list[tuple[str, str] | None]:
    """(value, interval or "") per cell, as text, with as many decimals as the intervals bear; None where there is no value."""
    from scottbench.text import bracket, decimals

    rows = {(row["method"], row["steps"], row["seed"]): row for row in results if row["metric"] == metric["name"]}
    found = [rows.get(cell) for cell in cells]
    # a NaN is no value: it is shown as missing and can never be best
    found = [None if row is None or row["value"] is None or row["value"] != row["value"] else row for row in found]
    ends = [None if row is None or row.get("ci_low") is None else (row["ci_low"], row["ci_high"]) for row in found]
    digits = decimals([(end[1] - end[0]) / 2 for end in ends if end is not None], metric["digits"])
    return [
        None if row is None else (f"{row['value']:.{digits}f}", "" if end is None else bracket(*end, digits))
        for row, end in zip(found, ends)
    ]


def _best(column: list[tuple[str, str] | None], higher_is_better: bool) -> list[int]:
    """Rows that are best of a column: compared as printed, so that two equal numbers never look different."""
    present = [(y, float(entry[0])) for y, entry in enumerate(column) if entry is not None]
    if len(present) < 2:
        return []
    top = (max if higher_is_better else min)(value for _, value in present)
    return [y for y, value in present if value == top]
