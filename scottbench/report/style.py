"""The look of figures: ten colours, markers and dashes, for white paper and for a dark screen, and matplotlib's settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("paper.mplstyle")
"""matplotlib's settings as a style file; `matplotlib.pyplot.style.use("scottbench.report.paper")` takes it too."""
COLOURS = ("#0b559f", "#b3400a", "#00694f", "#8c2d75", "#5a4a00", "#444444", "#007a8c", "#c01048", "#4d3fbf", "#6b2e0f")
"""Told apart by people with colour-blindness and at least 4.5:1 on white; markers and labels say the same."""
DARK = ("#7fb8f5", "#f5a06a", "#5fd0ac", "#e79ad2", "#d9c766", "#c4c4c4", "#6fd3e2", "#ff93ae", "#b3a9ff", "#d8a98a")
"""The same ten on a dark screen, at least 4.5:1 there."""
INK, PAPER, GRID, FAINT = "#1a1a1a", "#ffffff", "#e4e4e4", "#767676"
"""Text and axes; background; lines of the grid; what is less than a row: the teacher's horizon, the front."""
ON_DARK = {INK: "#e8e6e1", PAPER: "#17191c", GRID: "#33363b", FAINT: "#a2a2a2", **dict(zip(COLOURS, DARK, strict=True))}
"""Colour on paper -> on a dark screen."""
MARKERS = "osD^vPX<>*"
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))
SINGLE, DOUBLE = 3.35, 6.9
"""Inches: the width of a column of a paper in two columns, and of both."""
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "scottbench",
    "svg.fonttype": "path",  # glyphs are outlines, so no font is needed to read them
    "text.parse_math": False,  # a "$" in a name is a dollar sign, not the start of a formula
}


@contextmanager
def styled() -> Iterator[None]:
    """Set matplotlib up for our figures: a user's matplotlibrc changes nothing in them."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(matplotlib.rc_params_from_file(str(FILE), use_default_template=False))
        matplotlib.rcParams.update(SETTINGS)
        yield


def line_of(index: int) -> dict[str, Any]:
    """Return how the line of the n-th method is drawn."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "linestyle": DASHES[index % len(DASHES)],
            "linewidth": 1.2, "markersize": 5}  # fmt: skip


def adaptive(svg: str) -> str:
    """Name the colours of an SVG, so that it is dark where the screen is."""
    names = {colour: f"--c{number}" for number, colour in enumerate(ON_DARK)}
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{name}:{ON_DARK[colour]}" for colour, name in names.items())
    svg = re.sub("|".join(names), lambda found: f"var({names[found[0]]})", svg)
    rule = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return svg.replace('<style type="text/css">', f'<style type="text/css">{rule}', 1)
