"""A run folder's records on the terminal: its tables in short, or one JSON document; reads records only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.text import one_line, printable

if TYPE_CHECKING:
    from scottbench.report.tables import Table
    from scottbench.store.record import MetricRecord, RunRecord

PAIRS = 12
"""Lines of paired differences under the table; more are in pairs.parquet."""


def read_results(folder: Path) -> dict[str, Any]:
    """A run as one JSON document: "run", "plan_hash", "status", "metrics", rows of "results", "timings" and "pairs", "claims", "report".

    Raises UsageError as `read_record` does.
    """
    from scottbench.store.reader import Records
    from scottbench.store.record import record_of

    records, report = Records(folder), folder / "report" / "index.html"
    record = record_of(records)
    return {
        "run": str(folder),
        "plan_hash": record.manifest["plan_hash"],
        "status": record.manifest["status"],
        "metrics": record.manifest["metrics"],
        "results": records.rows("results.parquet"),
        "timings": records.rows("timings.parquet"),
        "pairs": record.pairs,
        "claims": record.claims,
        "report": str(report) if report.is_file() else None,
    }


def print_results(folder: Path) -> None:
    """Print a run: its tables with the best of each column marked by *, the paired differences, and how its claims stand.

    Raises UsageError as `read_record` does.
    """
    from scottbench.cli.printing import say, show_table
    from scottbench.report.results import leading_tables
    from scottbench.store.manifest import flawed
    from scottbench.store.record import read_record

    record, report = read_record(folder), folder / "report" / "index.html"
    tables = leading_tables(record)
    for table in tables:
        say(table.title)
        show_table(table, narrow=True)
    print()
    say(f"{_marks(record, tables)}{_brackets(record)}{_times(tables)}")
    for line in reasons(record):
        say(line, "   ")
    for cell in record.cells:
        if found := flawed(cell.facts):
            say(f"! {cell.facts['id']}: {found}", "  ")
    if record.pairs:
        print_pairs(record.pairs, record.metrics)
    print(f"run     {printable(folder)}")
    if record.claims:
        counts = Counter(claim["verdict"] for claim in record.claims)
        found = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        say(f"claims  {found}   (scottbench claims {printable(folder)})", " " * 8)
    if report.is_file():
        print(f"report  {printable(report)}")


def _marks(record: RunRecord, tables: list[Table]) -> str:
    """Say what the marks in the tables mean, those that are there."""
    entries = [entry for table in tables for row in table.rows for entry in row]
    if not record.pairs:
        return "* best of its column, by no test."
    marks = ["* not beaten by any other row of its column (paired test, Holm)."] if any(e.bold and not e.tie for e in entries) else []
    marks += ["= likewise, and not alone: no test tells these apart."] if any(entry.tie for entry in entries) else []
    return "  ".join(marks) or "No row is marked best: no test was made of these."


def reasons(record: RunRecord) -> list[str]:
    """Say, a line each, why the table has no value or no interval: "-  fid of x at 2 steps, y at 2 steps: WHY"."""
    from scottbench.store.record import section

    found: dict[tuple[str, str, str], list[str]] = {}
    for scope in ("mean", "cell", "seeds"):
        metrics, cells = record.of_scope(scope)
        for cell in cells:
            for metric in metrics:
                if metric.name not in cell.values:
                    found.setdefault(("-", metric.label, cell.reason(metric.name)), []).append(cell.name)
                elif (why := section(cell.facts, "no_interval").get(metric.name)) is not None and metric.name not in cell.intervals:
                    found.setdefault(("no interval", metric.label, one_line(why)), []).append(cell.name)
    return [
        printable(f"{sign}  {label} of {', '.join(dict.fromkeys(names))}: {why}") for (sign, label, why), names in found.items()
    ]


def _brackets(record: RunRecord) -> str:
    there = any(cell.intervals for cell in [*record.cells, *record.over_seeds])
    return "  [95 % interval]: prompts and sampling noise, not training seeds." if there else ""


def _times(tables: list[Table]) -> str:
    from scottbench.report.tables import TIME

    timed = any(column.metric == TIME for table in tables for column in table.columns)
    words = "  ms/image: text encoder + U-Net + decoder on this machine, median over chunks; ms/call: one pass of the network"
    return words if timed else ""


def print_pairs(pairs: list[dict[str, Any]], metrics: list[MetricRecord]) -> None:
    """Print the paired differences over shared prompts and seeds; of the first metric alone where there are many."""
    from scottbench.cli.printing import say, show_table
    from scottbench.report.pairs import asked_pairs, pairs_list

    wanted = asked_pairs(pairs)
    shown = wanted if len(wanted) <= PAIRS else [row for row in wanted if row["metric"] == wanted[0]["metric"]][:PAIRS]
    table = pairs_list(shown, metrics, family=len(pairs))
    say(table.title)
    show_table(table)
    if len(shown) < len(pairs):
        say(f"{len(pairs) - len(shown)} more in pairs.parquet and in the report. Any two cells: scottbench compare RUN A B")
    print()
