"""The report's tables for a paper (LaTeX with booktabs, Markdown) and the run's rows for a spreadsheet (CSV), from records alone.

Names and messages in them came from outside: LaTeX and Markdown get them escaped, and a CSV field that a spreadsheet would take for a
formula is marked as text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

from scottbench.report.pairs import claims_table, pairs_table
from scottbench.report.results import results_tables
from scottbench.report.tables import Column, Entry, Table, timing_table
from scottbench.store.files import write_file
from scottbench.store.record import read_record, read_rows
from scottbench.text import in_one_line

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$",
}  # fmt: skip
AGAIN = "Free some space or make the folder writable, then: the same line again"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula."""
RECORDS = ("manifest.json", "plan.lock.json", "env.json", "results.parquet", "pairs.parquet", "items.parquet", "timings.parquet",
           "claims.json", "report/index.html")  # fmt: skip
"""What a run leaves, without images, features and the event log."""


def export(run: Path, kinds: list[str], out: Path, records: bool) -> list[Path]:
    """Write the tables of a run to the folder `out`, and where asked its records beside them; returns the files.

    kinds: of KINDS; "latex" and "markdown" are the report's tables, "csv" the rows of the run's own. Raises UsageError (one line) as
    `build` does, and where `out` cannot be written.
    """
    run, record = Path(run), read_record(Path(run))
    tables = {f"results{'' if i == 0 else f'-{i + 1}'}": table for i, table in enumerate(results_tables(record))}
    tables |= {"pairs": pairs_table(record), "claims": claims_table(record), "timings": timing_table(record)}
    files = []
    for kind in kinds:
        if kind == "csv":
            there = [name for name in ("results", "pairs", "timings") if (run / f"{name}.parquet").is_file()]
            files += [(f"{name}.csv", comma_separated(read_rows(run / f"{name}.parquet", set())).encode()) for name in there]
        else:
            found = {name: table for name, table in tables.items() if table is not None}
            files += [(name + SUFFIX[kind], FORMS[kind](table).encode()) for name, table in found.items()]
    if records:
        files += [(name, (run / name).read_bytes()) for name in RECORDS if (run / name).is_file()]
    return [write_file(Path(out) / name, data, AGAIN) for name, data in files]


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def latex(table: Table) -> str:
    """A table environment; needs the package booktabs only."""
    columns = "".join("r" if column.number else "l" for column in table.columns)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escaped(table.caption)}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(map(_latex_heading, table.columns)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_latex_entry, row)) + r" \\" for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize\textsuperscript{{{escaped(mark)}}} {escaped(note)}" for mark, note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def escaped(text: object) -> str:
    """Text of a record for LaTeX, in one line."""
    return "".join(LATEX.get(sign, sign) for sign in in_one_line(text))


def _latex_heading(column: Column) -> str:
    return _stacked([escaped(column.text), *([rf"\scriptsize {escaped(column.detail)}"] if column.detail else [])])


def _latex_entry(entry: Entry) -> str:
    value = re.sub("^-(?=[0-9])", "$-$", escaped(entry.text))
    value = rf"\textbf{{{value}}}" if entry.bold else value
    value += rf"\textsuperscript{{{escaped(entry.mark)}}}" if entry.mark else ""
    return _stacked([value, *(rf"\scriptsize {escaped(line)}" for line in entry.small)])


def _stacked(lines: list[str]) -> str:
    """Lines below each other within one field. A "[" after a line's end would be read as its length."""
    return lines[0] if len(lines) == 1 else rf"\shortstack[r]{{{(chr(92) * 2 + '{}').join(lines)}}}"


# --- Markdown and CSV ------------------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """A pipe table below its caption."""
    heads = [f"{column.text} ({column.detail})" if column.detail else column.text for column in table.columns]
    lines = [_plain(table.caption), "", _row(map(_plain, heads)), _row("---:" if column.number else "---" for column in table.columns)]
    for row in table.rows:
        lines.append(_row(
            (f"**{_plain(entry.text)}**" if entry.bold else _plain(entry.text)) + f"<sup>{_plain(entry.mark)}</sup>" * bool(entry.mark)
            + "".join(f"<br>{_plain(line)}" for line in entry.small) for entry in row))  # fmt: skip
    lines += [""] * bool(table.notes) + [f"<sup>{_plain(mark)}</sup> {_plain(note)}" for mark, note in table.notes]
    return "\n".join([*lines, ""])


def _row(fields) -> str:
    return f"| {' | '.join(fields)} |"


def _plain(text: object) -> str:
    """Text of a record for Markdown, in one line: no markup, no new column."""
    clean = in_one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", clean)


def comma_separated(rows: list[dict]) -> str:
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
