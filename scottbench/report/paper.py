"""A run's figures as files for a paper: PDF and PNG, as wide as one column and as both."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

from scottbench.report.figures import Chart, charts, drawn
from scottbench.report.style import DOUBLE, SINGLE, styled
from scottbench.store.record import RunRecord

WIDTHS = {"single": SINGLE, "double": DOUBLE}
"""Part of a file's name -> inches."""
DPI = 300
"""Dots per inch of a PNG."""


def figure_files(record: RunRecord) -> list[tuple[str, bytes]]:
    """Draw each figure of the page as NAME-single.pdf, NAME-double.pdf and the same as PNG, below figures/; equal bytes for equal records.

    Returns (name, content) of each; [] where a run has nothing to draw.
    """
    found = []
    with styled():
        for chart in _named(charts(record)):
            for word, width in WIDTHS.items():
                drawing = drawn(chart, width)
                for kind, extra in (("pdf", {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}}), ("png", PNG)):
                    buffer = io.BytesIO()
                    drawing.savefig(buffer, format=kind, **extra)
                    found.append((f"figures/{chart.name}-{word}.{kind}", buffer.getvalue()))
    return found


PNG = {"dpi": DPI, "metadata": {"Software": None}}


def _named(found: list[Chart]) -> list[Chart]:
    """Charts whose names differ: two metrics may be called alike but for signs that a file's name lacks."""
    counts: Counter[str] = Counter()
    named = []
    for chart in found:
        counts[chart.name] += 1
        named.append(chart if counts[chart.name] == 1 else replace(chart, name=f"{chart.name}-{counts[chart.name]}"))
    return named
