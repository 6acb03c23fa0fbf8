"""Files of a run for publication: the report's tables (LaTeX, Markdown) and the run's rows for a spreadsheet (CSV), from records alone.

Names and messages in them came from outside: a CSV field that a spreadsheet would take for a formula is marked as text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scottbench.report.categories import category_tables
from scottbench.report.forms import latex, markdown
from scottbench.report.pairs import claims_table, pairs_table
from scottbench.report.results import results_tables
from scottbench.report.tables import Table, timing_table
from scottbench.store.files import LARGEST_JSON, read_plain, write_file
from scottbench.store.folder import MANIFEST
from scottbench.store.reader import LARGEST_TABLE, RECORDS, Records, damaged
from scottbench.store.record import RunRecord, record_of
from scottbench.store.sums import SUMS, check_sums, sums_of
from scottbench.text import in_one_line

AGAIN = "Free some space or make the folder writable, then: the same line again"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula."""


def export(run: Path, kinds: list[str], out: Path, records: bool) -> list[Path]:
    """Write the tables of a run to the folder `out`, and its records beside them where `records`; returns the files.

    kinds: of KINDS; "latex" and "markdown" are the report's tables, "csv" the rows of the run's own. With the records goes a SHA256SUMS,
    by which `scottbench verify` checks the folder. Raises UsageError and IntegrityError (one line) as `build` does, and UsageError where
    `out` cannot be written.
    """
    own = Records(run)
    tables, files = named_tables(record_of(own)), []
    for kind in kinds:
        if kind == "csv":
            there = [name for name in ("results", "pairs", "timings") if own.has(f"{name}.parquet")]
            files += [(f"{name}.csv", comma_separated(own.rows(f"{name}.parquet")).encode()) for name in there]
        else:
            files += [(name + SUFFIX[kind], FORMS[kind](table).encode()) for name, table in tables.items()]
    if records:
        files += [(name, own.data(name, LARGEST_TABLE)) for name in RECORDS if own.has(name)]
        files += [(MANIFEST, read_plain(run / MANIFEST, LARGEST_JSON, run)), *_page(run)]
        files.append((SUMS, sums_of({name: data for name, data in files if not name.startswith("report/")})))
    return [write_file(out / name, data, AGAIN) for name, data in files]


def _page(run: Path) -> list[tuple[str, bytes]]:
    """The HTML report and its digest, which stay beside each other: `scottbench report` makes both again. Raises IntegrityError where the
    page was changed."""
    check_sums(run / "report")
    there = [name for name in ("report/index.html", f"report/{SUMS}") if (run / name).is_file()]
    try:
        return [(name, read_plain(run / name, LARGEST_JSON, run)) for name in there]
    except (OSError, ValueError) as error:
        raise damaged(run / "report", error) from None


def named_tables(record: RunRecord) -> dict[str, Table]:
    """File name without suffix -> table, of the tables that a paper quotes: results, results-2, pairs, claims, timings."""
    found: dict[str, Table | None] = {f"results{'' if i == 0 else f'-{i + 1}'}": table for i, table in enumerate(results_tables(record))}
    found |= {f"categories{'' if i == 0 else f'-{i + 1}'}": table for i, table in enumerate(category_tables(record))}
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
