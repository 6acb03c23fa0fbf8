"""Links of a page: to papers on arXiv, from a row to its recipe, from a heading to its definition."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scottbench.report.tables import CALL, TIME, Table

ARXIV = re.compile(r"\barXiv[: ]\s*(\d{4}\.\d{4,5})(?!\d)")
"""An identifier of arXiv as papers are quoted: "arXiv 2403.01505"."""


def linked(text: str) -> list[tuple[str, str]]:
    """Cut a sentence into (text, address) parts; the address is "" but of an identifier of arXiv.

    An address is made of digits alone: nothing that a record says can lead elsewhere.
    """
    parts, end = [], 0
    for found in ARXIV.finditer(text):
        parts += [(text[end : found.start()], ""), (found[0], f"https://arxiv.org/abs/{found[1]}")]
        end = found.end()
    return [(part, address) for part, address in [*parts, (text[end:], "")] if part]


def anchors(table: Table | None, prefix: str, columns: int) -> dict[tuple[str, ...], str]:
    """Return the first `columns` texts of a row -> the id of its heading on the page, "recipe-3"."""
    rows: Sequence = [] if table is None else table.rows
    found: dict[tuple[str, ...], str] = {}
    for number, row in enumerate(rows, start=1):
        found.setdefault(tuple(entry.text for entry in row[:columns]), f"{prefix}-{number}")
    return found


def said_once(table: Table) -> tuple[list[str], str]:
    """Return each heading's second line, and what they all share, which is then said once above the table instead.

    Not where a metric has no such line, as one of images alone: "All metrics" would be untrue of it.
    """
    details = [column.detail for column in table.columns]
    given = [detail for column, detail in zip(table.columns, details, strict=True) if detail or column.metric not in ("", TIME, CALL)]
    if len(given) < 2 or len(set(given)) > 1 or not given[0]:
        return details, ""
    return [""] * len(details), given[0]
