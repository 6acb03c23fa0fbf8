"""The forms of a table: Markdown, and text for a terminal or a pipe; LaTeX is in latex.py, HTML the macro `table` of a template.

Names and messages in a table came from outside: each form escapes them, and none lets them steer a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from scottbench.report.tables import Column, Entry, Table
from scottbench.text import folded, in_one_line, one_line, printable

if TYPE_CHECKING:
    from rich.text import Text

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
WINDOW = 48
"""Lines of a table's parts together that a reader may be asked to scroll over."""


def terminal(table: Table, screen: bool, narrow: bool = False) -> str:
    """Set a table as aligned text, without its caption and footnotes; bold fields have a "*" before them, or "=" where they share the mark.

    screen: the text is for a terminal's window, with styles and a rule below the headings, and nothing in it is cut: columns that may fold
    do, then spare ones are left out and named, then a table without metrics is set as a list, all fields of a row below its heading, and
    one with metrics in parts below each other, each with what leads its rows; of a table whose parts would fill more than a window, the
    first, and the others' columns are named. Else it is for a pipe, one plain line a row.
    narrow: in a window, headings stand one word a line and smaller lines below their value.
    """
    import shutil

    shown = [x for x, column in enumerate(table.columns) if column.short != ""]
    if not screen:
        return _drawn(table, shown, screen, narrow, ENDLESS)
    room = shutil.get_terminal_size().columns
    left_out: list[str] = []
    while not _fits(table, shown, narrow, room) and (spare := [x for x in shown if table.columns[x].spare]):
        shown.remove(spare[-1])
        left_out.insert(0, _head(table.columns[spare[-1]]))
    parts = _parts(table, shown, narrow, room)
    measured = any(column.metric for column in table.columns)
    if len(parts) > 1 and not measured:
        return _listed(table, room)
    lines = len(table.rows) * max((len(entry.small) for row in table.rows for entry in row), default=0) if narrow else 0
    if len(parts) > 1 and len(parts) * (len(table.rows) + lines) > WINDOW:
        left_out[:0] = [_head(table.columns[x]) for part in parts[1:] for x in part if x not in parts[0]]
        parts = parts[:1]
    whole = "the report and scottbench export RUN have all" if measured else "a pipe gets all"
    note = f"(without {', '.join(left_out)}: a wider window has room, and {whole})"
    drawn = "\n\n".join(_drawn(table, part, screen, narrow, room) for part in parts)
    return f"{drawn}\n{folded(note, room)}" if left_out else drawn


def _parts(table: Table, shown: list[int], narrow: bool, room: int) -> list[list[int]]:
    """Share the columns out over as few tables as have room beside each other's leading columns: name, steps, NFE, or the first alone."""
    if _fits(table, shown, narrow, room):
        return [shown]
    lead = [x for x in shown if not table.columns[x].metric]
    if len(lead) == len(shown):
        lead = shown[:1]
    parts: list[list[int]] = []
    for x in (x for x in shown if x not in lead):
        if parts and _fits(table, [*parts[-1], x], narrow, room):
            parts[-1].append(x)
        else:
            parts.append([*lead, x])
    return parts or [shown]


def _listed(table: Table, room: int) -> str:
    """Set a row as its first field and, below it, the others behind the names of their columns, as many a line as have room."""
    heads = {x: _head(column) for x, column in enumerate(table.columns[1:], 1) if column.short != ""}
    lines = []
    for row in table.rows:
        lines.append(folded(_field(row[0], True, False), room))
        line = ""
        for told in (f"{head} {field}" for x, head in heads.items() if (field := _field(row[x], True, False)).strip()):
            if line and len(line) + len(told) + 5 > room:
                lines.append(folded(f"  {line}", room, "    "))
                line = ""
            line = f"{line} · {told}" if line else told
        lines += [folded(f"  {line}", room, "    ")] if line else []
    return "\n".join(lines)


def _head(column: Column) -> str:
    return printable(column.text if column.short is None else column.short)


def _texts(table: Table, shown: Sequence[int], screen: bool, narrow: bool) -> list[list[Text]]:
    """Return the columns' headings, and the fields of all rows. Text, not str: a name of a plug-in must not be read as markup."""
    from rich.text import Text

    heads = [_head(table.columns[x]) for x in shown]
    rows = [[Text("\n".join(head.split()) if screen and narrow else head) for head in heads]]
    return rows + [[Text(_field(row[x], screen, narrow), "bold" if row[x].bold else "") for x in shown] for row in table.rows]


def _fits(table: Table, shown: Sequence[int], narrow: bool, room: int) -> bool:
    """Tell whether columns have room in a window, those that may folded."""
    widths = fitted(_texts(table, shown, True, narrow), [table.columns[x].wrap for x in shown], room - GAP * len(shown))
    return sum(widths) + GAP * len(shown) <= room


def _drawn(table: Table, shown: Sequence[int], screen: bool, narrow: bool, room: int) -> str:
    """Draw some of a table's columns. A line that they make longer than the window is left to the terminal: nothing is lost by that."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawing

    rows, columns = _texts(table, shown, screen, narrow), [table.columns[x] for x in shown]
    widths = fitted(rows, [screen and column.wrap for column in columns], room - GAP * len(shown))
    line, padding = (box.SIMPLE_HEAD, (0, 1, 0, 0)) if screen else (None, (0, 2, 0, 0))
    drawn = Drawing(box=line, padding=padding, show_edge=False, pad_edge=False, header_style="bold")
    for column, head, width in zip(columns, rows[0], widths, strict=True):
        drawn.add_column(head, justify="right" if column.number else "left", no_wrap=not (screen and column.wrap), width=width)
    for fields in rows[1:]:
        drawn.add_row(*fields)
    # force_terminal: FORCE_COLOR would otherwise put escapes into a pipe
    width = max(room, sum(widths) + GAP * len(shown))
    console = Console(force_terminal=screen, width=width, emoji=False, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines())


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
    text = ("=" if entry.tie else "*" if entry.bold else "") + (entry.text if entry.short is None else entry.short)
    joined = ("\n" if screen and narrow else " ").join([text, *entry.small])
    return printable(joined) if screen else one_line(joined)
