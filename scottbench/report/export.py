"""Files of a run for publication: the report's tables (LaTeX, Markdown) and the run's rows for a spreadsheet (CSV), from records alone.

Names and messages in them came from outside: a CSV field that a spreadsheet would take for a formula is marked as text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scottbench.report.forms import latex, markdown
from scottbench.report.pairs import claims_table, pairs_table
from scottbench.report.results import results_tables
from scottbench.report.tables import Table, timing_table
from scottbench.store.files import write_file
from scottbench.store.record import RunRecord, read_record, read_rows
from scottbench.text import in_one_line

AGAIN = "Free some space or make the folder writable, then: the same line again"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula."""
RECORDS = ("manifest.json", "plan.lock.json", "env.json", "results.parquet", "pairs.parquet", "items.parquet", "timings.parquet",
           "claims.json", "report/index.html")  # fmt: skip
"""What a run leaves, without images, features and the event log."""


def export(run: Path, kinds: list[str], out: Path, records: bool) -> list[Path]:
    """Write the tables of a run to the folder `out`, and its records beside them where `records`; returns the files.

    kinds: of KINDS; "latex" and "markdown" are the report's tables, "csv" the rows of the run's own. Raises UsageError (one line) as
    `build` does, and where `out` cannot be written.
    """
    tables, files = named_tables(read_record(run)), []
    for kind in kinds:
        if kind == "csv":
            there = [name for name in ("results", "pairs", "timings") if (run / f"{name}.parquet").is_file()]
            files += [(f"{name}.csv", comma_separated(read_rows(run / f"{name}.parquet", set())).encode()) for name in there]
        else:
            files += [(name + SUFFIX[kind], FORMS[kind](table).encode()) for name, table in tables.items()]
    if records:
        files += [(name, (run / name).read_bytes()) for name in RECORDS if (run / name).is_file()]
    return [write_file(out / name, data, AGAIN) for name, data in files]


def named_tables(record: RunRecord) -> dict[str, Table]:
    """File name without suffix -> table, of the tables that a paper quotes: results, results-2, pairs, claims, timings."""
    found: dict[str, Table | None] = {f"results{'' if i == 0 else f'-{i + 1}'}": table for i, table in enumerate(results_tables(record))}
    found |= {"pairs": pairs_table(record), "claims": claims_table(record), "timings": timing_table(record)}
    return {name: table for name, table in found.items() if table is not None}


def comma_separated(rows: list[dict[str, Any]]) -> str:
    """Rows of a run's table as CSV with a heading, numbers in full."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _field(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows)
    return stream.getvalue()


def _field(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    clean = in_one_line(text)
    return f"'{clean}" if clean.startswith(FORMULA) else clean


FORMS: dict[str, Callable[[Table], str]] = {"latex": latex, "markdown": markdown}
SUFFIX = {"latex": ".tex", "markdown": ".md"}
KINDS = (*FORMS, "csv")
