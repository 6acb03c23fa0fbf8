"""The forms of a table: LaTeX, Markdown, and text for a terminal or a pipe; its HTML is the macro `table` of templates/report.html.j2.

Names and messages in a table came from outside: each form escapes them, and none lets them steer a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from scottbench.report.tables import Column, Entry, Table
from scottbench.text import in_one_line, one_line, printable

if TYPE_CHECKING:
    import rich.table
    from rich.text import Text

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$",
}  # fmt: skip

# --- LaTeX ------------------------------------------------------------------------------------------------------------


def latex(table: Table) -> str:
    """Set a table as LaTeX's table environment, which needs the package booktabs only."""
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


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """Set a table as Markdown, with bars between its columns, below its caption."""
    heads = [f"{column.text} ({column.detail})" if column.detail else column.text for column in table.columns]
    lines = [_plain(table.caption), "", _row(map(_plain, heads)), _row("---:" if column.number else "---" for column in table.columns)]
    for row in table.rows:
        lines.append(_row(
            (f"**{_plain(entry.text)}**" if entry.bold else _plain(entry.text)) + f"<sup>{_plain(entry.mark)}</sup>" * bool(entry.mark)
            + "".join(f"<br>{_plain(line)}" for line in entry.small) for entry in row))  # fmt: skip
    lines += [""] * bool(table.notes) + [f"<sup>{_plain(mark)}</sup> {_plain(note)}" for mark, note in table.notes]
    return "\n".join([*lines, ""])


def _row(fields: Iterable[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _plain(text: object) -> str:
    """Text of a record for Markdown, in one line: no markup, no new column."""
    clean = in_one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", clean)


# --- terminal ---------------------------------------------------------------------------------------------------------

ENDLESS = 10_000
"""Columns of a line that is never folded."""
GAP = 2
"""Columns between two fields."""


def terminal(table: Table, screen: bool, narrow: bool = False) -> str:
    """Set a table as aligned text, without its caption and footnotes; bold fields have a "*" before them.

    screen: the text is for a terminal's window, with styles and a rule below the headings; else for a pipe, one plain line a row.
    narrow: in a window, headings stand one word a line and smaller lines below their value.
    """
    from rich.console import Console

    # force_terminal: FORCE_COLOR would otherwise put escapes into a pipe
    console = Console(force_terminal=screen, width=None if screen else ENDLESS, emoji=False, markup=False, highlight=False)
    drawn, width = _drawn(table, screen, narrow, console.width)
    console.width = max(console.width, width)  # a line that the terminal folds loses nothing
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines())


def _drawn(table: Table, screen: bool, narrow: bool, room: int) -> tuple[rich.table.Table, int]:
    """The table for rich, and the width that it takes, which is `room` at most where its columns can be folded to that."""
    from rich import box
    from rich.table import Table as Drawing
    from rich.text import Text

    line, padding = (box.SIMPLE_HEAD, (0, 1, 0, 0)) if screen else (None, (0, 2, 0, 0))
    drawn = Drawing(box=line, padding=padding, show_edge=False, pad_edge=False, header_style="bold")
    shown = [x for x, column in enumerate(table.columns) if column.short != ""]
    columns = [table.columns[x] for x in shown]
    heads = [printable(column.text if column.short is None else column.short) for column in columns]
    # Text, not str: a name of a plug-in must not be read as markup
    rows = [[Text("\n".join(head.split()) if screen and narrow else head) for head in heads]]
    rows += [[Text(_field(row[x], screen, narrow), "bold" if row[x].bold else "") for x in shown] for row in table.rows]
    folding = [screen and column.wrap for column in columns]
    widths = fitted(rows, folding, room - GAP * len(columns))
    for column, head, folds, width in zip(columns, rows[0], folding, widths, strict=True):
        drawn.add_column(head, justify="right" if column.number else "left", no_wrap=not folds, width=width)
    for fields in rows[1:]:
        drawn.add_row(*fields)
    return drawn, sum(widths) + GAP * len(columns)


def fitted(rows: Sequence[Sequence[Text]], folding: Sequence[bool], room: int) -> list[int]:
    """Return the width of each column: as wide as its fields, and the widest of those that may fold narrower, a letter at a time, until all
    have room. No word is cut, and no field that may not fold.

    rows: headings first. rich's own way cuts numbers and takes no heed of words.
    """
    lines = [[line for row in rows for line in row[x].split()] for x in range(len(folding))]
    widths = [max((line.cell_len for line in column), default=0) for column in lines]
    words = [max((word.cell_len for line in column for word in line.split(" ")), default=0) for column in lines]
    while sum(widths) > room:
        able = [x for x, folds in enumerate(folding) if folds and widths[x] > words[x]]
        if not able:
            break
        widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def _field(entry: Entry, screen: bool, narrow: bool) -> str:
    text = ("*" if entry.bold else "") + (entry.text if entry.short is None else entry.short)
    joined = ("\n" if screen and narrow else " ").join([text, *entry.small])
    return printable(joined) if screen else one_line(joined)
