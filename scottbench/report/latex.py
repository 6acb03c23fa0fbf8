r"""A table as LaTeX that fits a paper, in one column or two: booktabs and tabularx, no float wider than its place or longer than a page.

Numbers stand in math mode, so that there is one minus sign; intervals beside them as $18.9_{\,17.4}^{\,20.4}$ or $18.9 \pm 1.5$. A table
that is too wide is set in panels below each other, one that is too long in several floats. Whether it is, is judged by the widths of
Computer Modern, rounded up. Names and messages came from outside: of them no sign is a command, and a letter that plain LaTeX lacks is
spelled.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from scottbench.report.tables import Column, Entry, Table
from scottbench.text import in_one_line

SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "\N{EM DASH}": "---", "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''", "\N{LEFT SINGLE QUOTATION MARK}": "`", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}", "\N{SUPERSCRIPT TWO}": "$^2$", "\N{MICRO SIGN}": r"$\mu$", "ß": r"\ss{}", "ø": r"\o{}",
    "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ł": r"\l{}", "Ł": r"\L{}", "å": r"\aa{}", "Å": r"\AA{}",
    "\N{LATIN SMALL LETTER DOTLESS I}": r"\i{}", "\N{NO-BREAK SPACE}": "~", "§": r"\S{}",
}  # fmt: skip
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0304": "=", "\u0307": ".", "\u0306": "u",
           "\u030c": "v", "\u030b": "H", "\u0327": "c", "\u030a": "r"}  # fmt: skip
"""Combining accents, each with the command that sets it."""
STYLES = {"full": ("table*", 342.0, r"\footnotesize", 8.0, 6.0), "compact": ("table", 227.0, r"\scriptsize", 7.0, 4.0)}
"""Style -> environment, width in points that it must fit (the column of `article` in one column, in two), type, its size, and the points
between two columns."""
INTERVALS = ("sub", "pm", "none")
"""Ways to set an interval: its ends below and above, plus or minus half its width, not at all."""
HEIGHT = 500.0
"""Points that a float may fill, with its caption and notes: a page of `article`."""
WIDEST = 90.0
"""Points of a column of text in a table of numbers; a longer name is broken."""
NUMBER = re.compile(r"[+\-\N{MINUS SIGN}]?\d[\d,]*(\.\d+)?(e-?\d+)?")


@dataclass(frozen=True)
class Look:
    """How tables are set."""

    style: str = "full"
    """One of STYLES."""
    interval: str = "sub"
    """One of INTERVALS."""


BREAK = "\N{ZERO WIDTH SPACE}"
"""Stands for a place where a line may break, until signs are escaped."""
PLAIN = Look()


def latex(table: Table, look: Look = PLAIN, label: str = "results") -> str:
    """Set a table as one or more floats, which need the packages booktabs and tabularx. label: after "tab:" in \\label."""
    environment, width, size, points, gap = STYLES[look.style]
    wordy = any(column.wrap for column in table.columns)
    panels = [range(len(table.columns))] if wordy else _panels(table, look, width, points)
    lines = [_row_lines(table, row, look, width, points) for row in table.rows]
    caption = table.brief if look.style == "compact" and table.brief else table.caption
    texts = [(caption, 10.0), *((note, points) for _, note in table.notes)]
    around = sum(13 * (1 + _width(text, type_size) // width) for text, type_size in texts)
    around += len(panels) * points * 1.35 * max(1 + 1.2 * _width(column.text + column.detail, points) // WIDEST for column in table.columns)
    parts = _pages(lines, points * 1.35 * len(panels), HEIGHT - around)
    floats = []
    for number, rows in enumerate(parts):
        head = [
            rf"\begin{{{environment}}}", r"\centering\sloppy",
            rf"\caption{{{_breakable(caption if number == 0 else f'{_first(caption)} (continued)')}}}",
            rf"\label{{tab:{label}{'' if number == 0 else f'-{number + 1}'}}}",
            rf"{size}\setlength{{\tabcolsep}}{{{gap / 2:g}pt}}", r"\renewcommand{\arraystretch}{1.15}",
        ]  # fmt: skip
        body = [_panel(table, panel, [table.rows[y] for y in rows], look, width if wordy else None) for panel in panels]
        notes = [rf"\par\raggedright\textsuperscript{{{escaped(mark)}}} {_breakable(note)}" for mark, note in table.notes if number == 0]
        floats.append("\n".join([*head, "\n\\par\\smallskip\n".join(body), *notes, rf"\end{{{environment}}}", ""]))
    return "\n".join(floats)


def _first(caption: str) -> str:
    """The first sentence of a caption."""
    return re.split(r"(?<=[a-z)\d])\. ", caption, maxsplit=1)[0].rstrip(".")


# --- layout -----------------------------------------------------------------------------------------------------------


def _panels(table: Table, look: Look, width: float, points: float) -> list[Sequence[int]]:
    """Share the columns out over panels that fit a width, each with what leads a row. Spare columns go without where they alone
    would need a panel more."""
    wide = [_column_width(table, x, look, points) + STYLES[look.style][4] for x in range(len(table.columns))]
    lead = [x for x, column in enumerate(table.columns) if not column.metric]
    if len(lead) == len(wide):
        lead = lead[:1]
    panels: list[list[int]] = []
    for x in (x for x in range(len(wide)) if x not in lead):
        if panels and sum(wide[other] for other in [*panels[-1], x]) - STYLES[look.style][4] <= width:
            panels[-1].append(x)
        else:
            panels.append([*lead, x])
    spare = [x for x in range(len(wide)) if table.columns[x].spare]
    if spare and len(panels) > 1:
        kept = [x for x in range(len(wide)) if x not in spare]
        fewer = _panels(table.picked(kept), look, width, points)
        if len(fewer) < len(panels):
            return [[kept[x] for x in panel] for panel in fewer]
    return list(panels) or [lead]


def _column_width(table: Table, x: int, look: Look, points: float) -> float:
    column = table.columns[x]
    heads = [_width(column.text, points), _width(column.detail, points * 0.8)]
    fields = [_entry_width(row[x], look, points) for row in table.rows]
    return min(max(heads + fields), WIDEST) if not column.number else max([min(head, WIDEST) for head in heads] + fields)


def _entry_width(entry: Entry, look: Look, points: float) -> float:
    own = _width(entry.text, points) * (1.15 if entry.bold else 1) + (points if entry.mark else 0)
    if entry.ends is None or look.interval == "none":
        return own
    if look.interval == "pm":
        return own + _width(f" ± {_half(entry.ends)}", points) + points
    return own + max(_width(end, points * 0.75) for end in entry.ends) + 2


GROWTH = {10: 1.0, 9: 1.03, 8: 1.06, 7: 1.14, 6: 1.22, 5: 1.36}
"""Size in points -> how much wider, for its size, Computer Modern is there than at 10 points."""
WIDTHS = {".,:;!'|ijl": 0.28, " ()[]ftrs-": 0.4, "0123456789": 0.5, "mwMW+\N{MINUS SIGN}<>=±@%↑↓": 0.83}
"""Signs -> their width in Computer Modern, in sizes of the type; any other is a capital, 0.77, or 0.56."""


def _width(text: str, points: float) -> float:
    """Bound the width of text in Computer Modern, points."""
    each = (next((width for signs, width in WIDTHS.items() if sign in signs), 0.77 if sign.isupper() else 0.56) for sign in text)
    return points * GROWTH.get(max(5, min(10, int(points))), 1.0) * sum(each)


def _row_lines(table: Table, row: list[Entry], look: Look, width: float, points: float) -> float:
    """Bound the lines that a row of words takes, in columns that share what narrow ones leave."""
    gap, words = STYLES[look.style][4], [column.wrap for column in table.columns]
    narrow = sum(_column_width(table, x, look, points) + gap for x, folds in enumerate(words) if not folds)
    room = (width - narrow) / max(1, sum(words)) - gap
    texts = [[entry.text, *entry.small] for entry, column in zip(row, table.columns, strict=True) if column.wrap]
    tall = [1 + 1.1 * _entry_width(entry, look, points) // WIDEST for entry, column in zip(row, table.columns, strict=True)
            if not column.wrap and not column.number and _entry_width(entry, look, points) > WIDEST]  # fmt: skip
    return max([1.2, *tall, *(sum(1 + 1.1 * _width(line, points) // max(20.0, room) for line in text) for text in texts)])


def _pages(lines: Sequence[float], height: float, room: float) -> list[range]:
    """Share rows out over floats that fit a page. height: of a line; room: of all of them, points."""
    parts, start, filled = [], 0, 0.0
    for y, count in enumerate(lines):
        if y > start and filled + count * height > room:
            parts.append(range(start, y))
            start, filled = y, 0.0
        filled += count * height
    return [*parts, range(start, len(lines))]


# --- text -------------------------------------------------------------------------------------------------------------


def _panel(table: Table, shown: Sequence[int], rows: Sequence[list[Entry]], look: Look, width: float | None) -> str:
    """Set some columns as a tabular, or where `width` is given as a tabularx of the float's width."""
    columns = [table.columns[x] for x in shown]
    spec = "".join(_spec(table, x, look, STYLES[look.style][3]) for x in shown)
    kind = "tabular" if width is None else "tabularx"
    begin = rf"\begin{{{kind}}}" + ("" if width is None else r"{\linewidth}") + rf"{{@{{}}{spec}@{{}}}}"
    heads = " & ".join(map(_heading, columns))
    fields = [" & ".join(_entry(row[x], table.columns[x], look) for x in shown) for row in rows]
    return "\n".join([begin, r"\toprule", heads + r" \\", r"\midrule", *(line + r" \\" for line in fields), r"\bottomrule",
                      rf"\end{{{kind}}}"])  # fmt: skip


def _spec(table: Table, x: int, look: Look, points: float) -> str:
    column = table.columns[x]
    if column.wrap:
        return r">{\raggedright\arraybackslash}X"
    if column.number:
        return "r"
    widest = max((_entry_width(row[x], look, points) for row in table.rows), default=0.0)
    return rf">{{\raggedright\arraybackslash}}p{{{WIDEST:g}pt}}" if widest > WIDEST else "l"


def _heading(column: Column) -> str:
    text = _breakable(column.text) if column.wrap else escaped(column.text)
    if not column.wrap and max(_width(column.text, 8), _width(column.detail, 7)) > WIDEST:
        small = rf"\\{{}}{{\scriptsize {_breakable(column.detail)}}}" if column.detail else ""
        side = "raggedleft" if column.number else "raggedright"
        return rf"\parbox[b]{{{WIDEST:g}pt}}{{\{side} {_breakable(column.text)}{small}}}"
    if not column.detail:
        return text
    return rf"\shortstack[{'r' if column.number else 'l'}]{{{text}\\{{}}\scriptsize {escaped(column.detail)}}}"


def _entry(entry: Entry, column: Column, look: Look) -> str:
    r"""Set a field. A "[" after a line's end would be read as its length, hence \\{}."""
    mark = rf"\textsuperscript{{{escaped(entry.mark)}}}" if entry.mark else ""
    if column.wrap or not column.number:
        text = _breakable(entry.text)
        text = rf"\textbf{{{text}}}" if entry.bold else text
        lines = [text + mark, *(rf"{{\scriptsize {_breakable(line)}}}" for line in entry.small)]
        return r"\newline ".join(line for line in lines if line)
    if NUMBER.fullmatch(entry.text) is None:
        text = escaped(entry.text)
        text = rf"\textbf{{{text}}}" if entry.bold else text
        small = [] if entry.ends is not None else [rf"\scriptsize {escaped(line)}" for line in entry.small]
        return rf"\shortstack[r]{{{text + mark}\\{{}}{(chr(92) * 2 + '{}').join(small)}}}" if small else text + mark
    value = _math(entry.text)
    value = rf"\mathbf{{{value}}}" if entry.bold else value
    if entry.ends is not None and look.interval == "sub":
        value += rf"_{{\,{_math(entry.ends[0])}}}^{{\,{_math(entry.ends[1])}}}"
    elif entry.ends is not None and look.interval == "pm":
        value += rf" \pm {_half(entry.ends)}"
    return f"${value}${mark}"


def _math(number: str) -> str:
    """A number in math mode, in which a comma between digits is no punctuation."""
    return number.replace("\N{MINUS SIGN}", "-").replace(",", "{,}")


def _half(ends: tuple[str, str]) -> str:
    """Half an interval's width, with the decimals of its ends."""
    low, high = (float(end.replace(",", "")) for end in ends)
    return f"{(high - low) / 2:.{len(ends[0].partition('.')[2])}f}"


def escaped(text: object) -> str:
    """Text of a record for LaTeX, in one line: straight quotes in pairs, a minus before a number, no sign that is a command."""
    clean = re.sub(r"(?<![\w.\-])-(?=\d)", "\N{MINUS SIGN}", in_one_line(text))
    found, closing = [], False
    for sign in clean:
        if sign == '"':
            found.append("''" if closing else "``")
            closing = not closing
        else:
            found.append(_sign(sign))
    return "".join(found)


def _sign(sign: str) -> str:
    if sign in SIGNS:
        return SIGNS[sign]
    if sign.isascii():
        return sign
    normal = unicodedata.normalize("NFD", sign)
    base, accents = normal[0], normal[1:]
    if base.isascii() and len(accents) == 1 and accents[0] in ACCENTS:
        return rf"\{ACCENTS[accents[0]]}{{{base}}}"
    return f"[U+{ord(sign):04X}]"


def _breakable(text: object) -> str:
    """Text whose long words may break: after a sign between their parts, and where there is none every tenth letter."""
    broken = re.sub(r"[^ ]{15,}", lambda word: BREAK.join(re.findall(r".{1,10}?[@=_,/.:+-]|.{1,10}", word[0])), in_one_line(text))
    return escaped(broken).replace(f"[U+{ord(BREAK):04X}]", r"\allowbreak{}")
