"""Files of a run for publication: the report's tables (LaTeX, Markdown) and the run's rows for a spreadsheet (CSV), from records alone.

Names and messages in them came from outside: a CSV field that a spreadsheet would take for a formula is marked as text.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scottbench.errors import UsageError
from scottbench.report.best import best_rows, row_of
from scottbench.report.categories import category_tables
from scottbench.report.forms import markdown
from scottbench.report.latex import Look, latex
from scottbench.report.pairs import claims_for_paper, claims_table, pairs_for_paper, pairs_table
from scottbench.report.paper import figure_files
from scottbench.report.results import results_tables
from scottbench.report.tables import CALL, TIME, Table, timing_table
from scottbench.store.files import LARGEST_JSON, json_bytes, own_digest, read_plain, write_file
from scottbench.store.folder import MANIFEST
from scottbench.store.reader import LARGEST_TABLE, RECORDS, Records, damaged
from scottbench.store.record import RunRecord, groups, record_of
from scottbench.store.sums import SUMS, check_sums, sums_of
from scottbench.store.tables import ITEM_COLUMNS, ITEMS
from scottbench.text import did_you_mean, in_one_line, one_line

AGAIN = "Free some space or make the folder writable, then: the same line again"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula."""


@dataclass(frozen=True)
class Choice:
    """A choice of what to export of a run, and how."""

    kinds: tuple[str, ...] = ()
    """Some of ALL: "latex" and "markdown" are the report's tables, "csv" the rows of the run's own, "figures" PDF and PNG."""
    columns: tuple[str, ...] = ()
    """Metrics, and `TIME` or `CALL`, that tables have a column or rows for, in this order; () for all."""
    look: Look = field(default_factory=Look)
    """How LaTeX sets a table."""


def export(run: Path, choice: Choice, out: Path, records: bool) -> list[Path]:
    """Write the tables of a run to the folder `out`, and its records beside them where `records`; returns the files.

    With the records goes a SHA256SUMS, by which `scottbench verify` checks the folder. Raises UsageError (a column that the run has not)
    and IntegrityError (one line) as `build` does, and UsageError where `out` cannot be written.
    """
    own = Records(run)
    record = chosen(record_of(own), choice.columns)
    files: list[tuple[str, bytes]] = []
    for kind in choice.kinds:
        if kind == "csv":
            there = [name for name in ("results", "pairs", "timings") if own.has(f"{name}.parquet")]
            files += [(f"{name}.csv", comma_separated(_rows(own, record, name, choice.columns)).encode()) for name in there]
        elif kind == "latex":
            tables = {name: ordered(table, choice.columns) for name, table in tables_for_paper(record, choice.look).items()}
            files += [(f"{name}.tex", latex(table, choice.look, name).encode()) for name, table in tables.items()]
        elif kind == "figures":
            files += figure_files(record)
        else:
            files += [(f"{name}.md", markdown(ordered(table, choice.columns)).encode()) for name, table in named_tables(record).items()]
    if records:
        files += [*published(own, read_plain(run / MANIFEST, LARGEST_JSON, run)), *_page(run)]
        files.append((SUMS, sums_of({name: data for name, data in files if not name.startswith("report/")})))
    return [write_file(out / name, data, AGAIN) for name, data in files]


def published(own: Records, manifest: bytes) -> list[tuple[str, bytes]]:
    """Return the records of a run, and its manifest. The items are compressed, to a third; a run's own folder has them without a codec,
    whose version could change the bytes. The manifest that is given names the new digest."""
    files = {name: own.data(name, LARGEST_TABLE) for name in RECORDS if own.has(name)}
    facts = dict(own.manifest)
    if ITEMS in files and isinstance(facts.get("files"), dict):
        buffer = io.BytesIO()
        own.table(ITEMS, ITEM_COLUMNS).write_parquet(buffer, compression="zstd", compression_level=9, row_group_size=2**20)
        if buffer.tell() < len(files[ITEMS]):
            files[ITEMS] = buffer.getvalue()
            facts["files"] = facts["files"] | {ITEMS: hashlib.sha256(files[ITEMS]).hexdigest()}
            manifest = json_bytes(facts | ({"check": own_digest(facts)} if "check" in facts else {}))
    return [*files.items(), (MANIFEST, manifest)]


def chosen(record: RunRecord, columns: Sequence[str]) -> RunRecord:
    """Leave a run's other metrics out. Raises UsageError for a column that it has not, with a suggestion."""
    known = [*(metric.name for metric in record.metrics), TIME, CALL]
    for name in columns:
        if name not in known:
            hint = f"{did_you_mean(name, known)} Columns: {', '.join(known)}"
            raise UsageError(f"--columns {one_line(name)}: this run has no such column.{hint}")
    if not columns:
        return record
    names = [metric.name for metric in record.metrics if metric.name in columns]
    return replace(record, metrics=sorted((m for m in record.metrics if m.name in names), key=lambda metric: columns.index(metric.name)),
                   categories=[row for row in record.categories if row["metric"] in names])  # fmt: skip


def ordered(table: Table, columns: Sequence[str]) -> Table:
    """Give a table with the columns that were chosen, in their order, behind those that lead its rows."""
    named = [column.metric for column in table.columns]
    if not columns or not any(named):
        return table
    kept = [x for x, name in enumerate(named) if not name]
    kept += [named.index(name) for name in columns if name in named]
    return table.picked(kept)


def _rows(own: Records, record: RunRecord, name: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a table of the run's own, of the chosen metrics; those of results with what is marked as best."""
    rows = own.rows(f"{name}.parquet")
    if columns and name != "timings":
        rows = [row for row in rows if row["metric"] in columns]
    return rows if name != "results" else [{**row, "best": mark} for row, mark in zip(rows, best_marks(record, rows), strict=True)]


def best_marks(record: RunRecord, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return of each row of results.parquet what the tables mark: "best", "tied" (best, and not alone) or ""."""
    found: dict[tuple[str, int, str, str], str] = {}
    for scope in ("cell", "mean", "seeds"):
        metrics, cells = record.of_scope(scope)
        for group in groups(cells) if metrics else []:
            for metric in metrics:
                best = best_rows(record, metric, group)
                found |= {(*row_of(group[y]), metric.name): "tied" if len(best) > 1 else "best" for y in best}
    return [found.get((row["method"], row["steps"], str(row.get("seeds") or row["seed"]), row["metric"]), "") for row in rows]


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


def tables_for_paper(record: RunRecord, look: Look) -> dict[str, Table]:
    """`named_tables`, with pairs and claims as lists, which break over pages."""
    found: dict[str, Table | None] = {**named_tables(record)}
    found |= {"pairs": pairs_for_paper(record, look.style == "compact"), "claims": claims_for_paper(record)}
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


KINDS = ("latex", "markdown", "csv")
ALL = (*KINDS, "figures")
"""Kinds that can be asked for; figures take seconds to draw, so they are made where they are."""
