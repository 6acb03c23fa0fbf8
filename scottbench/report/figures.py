"""The report's two figures as SVG text, equal bytes for equal records; glyphs are outlines, so no font is needed to read them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scottbench.store.record import CellRecord, MetricRecord, RunRecord
from scottbench.text import at_steps, in_one_line

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

COLOURS = ("#0b559f", "#b3400a", "#00694f", "#8c2d75", "#5a4a00", "#444444")
"""Told apart by people with colour-blindness and at least 4.5:1 on white; markers and dashes say the same."""
MARKERS = "osD^vP"
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))
STYLE: dict[Any, Any] = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.direction": "out",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "scottbench",
    "svg.fonttype": "path",
    # a "$" in a name is a dollar sign, not the start of a formula
    "text.parse_math": False,
}
LONGEST = 40
"""Characters of a name inside a figure."""
SIZE = (3.6, 2.75)
"""Inches: half of a text column."""
INSIDE, LABELLED = 4, 12
"""Lines whose legend finds room inside the axes, and points that can each carry a label; more go to a legend below the axes."""


Draw = Callable[["Drawing", "Axes"], None]
"""Fills the axes of a drawing."""


@dataclass
class Figure:
    """A chart with its caption, and the same numbers as text for who cannot see it."""

    caption: str
    alt: str
    source: str
    """data: URI of the SVG."""
    number: int = 0


def figures(record: RunRecord) -> list[Figure]:
    """The first metric against the number of steps, and against the second metric: what can be drawn of them."""
    metrics, cells = record.leading()
    if not metrics:
        return []
    first, second = metrics[0], metrics[1] if len(metrics) > 1 else None
    drawn = []
    if any(first.name in cell.values and cell.steps for cell in cells):
        title = f"{first.title} against the number of sampling steps"
        drawn.append(_draw(title, cells, [first], lambda drawing, axes: _against_steps(drawing, axes, cells, first)))
    if second is not None and any(first.name in cell.values and second.name in cell.values for cell in cells):
        point = "each point a method at the number of steps beside it" if len(cells) > LABELLED else "each point a method@steps"
        title = f"{first.title} against {second.title}, {point}"
        drawn.append(_draw(title, cells, [first, second], lambda drawing, axes: _against_metric(drawing, axes, cells, first, second)))
    return drawn


def _draw(title: str, cells: Sequence[CellRecord], metrics: list[MetricRecord], draw: Draw) -> Figure:
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the page
        matplotlib.rcParams.update(STYLE)
        drawing = Drawing(figsize=SIZE, layout="constrained")
        draw(drawing, drawing.subplots())
        source = _data_uri(drawing)
    values = [
        f"{at_steps(cell.method, cell.steps)}: " + ", ".join(metric.show(cell.values[metric.name]) for metric in metrics)
        for cell in cells
        if all(metric.name in cell.values for metric in metrics)
    ]
    bars = " Bars: 95 % intervals." if any(metric.name in cell.intervals for cell in cells for metric in metrics) else ""
    what = "images" if len(cells[0].seeds) == 1 else "prompts"
    return Figure(f"{title}. N = {cells[0].n:,} {what} per point.{bars}", f"Chart. {title}. {'; '.join(values)}.", source)


def _data_uri(drawing: Drawing) -> str:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _name(text: str) -> str:
    """Text of a record as a figure has room for it."""
    clean = in_one_line(text)
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"


def _by_method(cells: Sequence[CellRecord]) -> dict[str, list[CellRecord]]:
    """Method, and its seed where there are several -> cells in order of steps."""
    several = len({cell.facts["seed"] for cell in cells}) > 1
    lines: dict[str, list[CellRecord]] = {}
    for cell in cells:
        lines.setdefault(f"{cell.method} (seed {cell.facts['seed']})" if several else cell.method, []).append(cell)
    return {name: sorted(line, key=lambda cell: cell.steps) for name, line in lines.items()}


def _line_style(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
        "linewidth": 1.2,
        "markersize": 5,
    }


def _bars(cells: Sequence[CellRecord], metric: MetricRecord) -> list[list[float]]:
    """Lengths of the intervals below and above each value; 0 where there is none."""
    found = [(cell.values[metric.name], cell.intervals.get(metric.name)) for cell in cells]
    below = [0.0 if interval is None else value - interval.low for value, interval in found]
    return [below, [0.0 if interval is None else interval.high - value for value, interval in found]]


def _bar_style(index: int) -> dict[str, Any]:
    return {"fmt": "none", "ecolor": COLOURS[index % len(COLOURS)], "elinewidth": 1.0}


def _against_steps(drawing: Drawing, axes: Axes, cells: Sequence[CellRecord], metric: MetricRecord) -> None:
    """One line per method over a logarithmic axis of steps."""
    from matplotlib.ticker import FixedLocator, NullLocator

    for index, (name, line) in enumerate(_by_method(cells).items()):
        line = [cell for cell in line if metric.name in cell.values]
        if line and not line[0].steps:  # pictures made elsewhere, of no number of steps
            axes.axhline(line[0].values[metric.name], label=_name(name), color=COLOURS[index % len(COLOURS)], linestyle=":", linewidth=1.2)
            continue
        steps, values = [cell.steps for cell in line], [cell.values[metric.name] for cell in line]
        axes.plot(steps, values, label=_name(name), **_line_style(index))
        axes.errorbar(steps, values, yerr=_bars(line, metric), **_bar_style(index))
    steps = sorted({cell.steps for cell in cells if cell.steps})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{round(value)}")
    axes.set_xlim(steps[0] / 1.4, steps[-1] * 1.4)
    _zoom(axes, "y", metric)
    axes.set_xlabel("sampling steps")
    axes.set_ylabel(f"{_name(metric.title)} {metric.arrow}")
    _legend(drawing, axes)


def _legend(drawing: Drawing, axes: Axes) -> None:
    """Inside the axes where there is room, else below them in two columns, for which the figure grows."""
    names = len(axes.get_lines())
    if names <= INSIDE:
        axes.legend(handlelength=2.4, labelspacing=0.3)
        return
    drawing.set_size_inches(SIZE[0], SIZE[1] + 0.16 * -(-names // 2))
    drawing.legend(loc="outside lower center", ncols=2, fontsize=8, handlelength=2.4, labelspacing=0.2, columnspacing=1.0)


def _against_metric(drawing: Drawing, axes: Axes, cells: Sequence[CellRecord], y: MetricRecord, x: MetricRecord) -> None:
    """One labelled point per cell, or where they are many its steps and a legend; points of one method joined in order of steps."""
    points: list[tuple[tuple[float, float], str, str]] = []
    many = len(cells) > LABELLED
    for index, (name, line) in enumerate(_by_method(cells).items()):
        line = [cell for cell in line if x.name in cell.values and y.name in cell.values]
        across, up = [cell.values[x.name] for cell in line], [cell.values[y.name] for cell in line]
        axes.plot(across, up, label=_name(name), **_line_style(index))
        if line:
            axes.errorbar(across, up, xerr=_bars(line, x), yerr=_bars(line, y), **_bar_style(index))
        texts = [cell.steps_text if many else at_steps(_name(cell.method), cell.steps) for cell in line]
        points += [(place, text, COLOURS[index % len(COLOURS)]) for place, text in zip(zip(across, up), texts)]
    _zoom(axes, "x", x)
    _zoom(axes, "y", y)
    axes.set_xlabel(f"{_name(x.title)} {x.arrow}")
    axes.set_ylabel(f"{_name(y.title)} {y.arrow}")
    if many:
        _legend(drawing, axes)
    _label_points(drawing, axes, points)


def _zoom(axes: Axes, which: str, metric: MetricRecord) -> None:
    """Limits with room for labels, no closer than 20 units of the last printed digit: rounding must not fill a plot."""
    from matplotlib.ticker import MaxNLocator

    low, high = getattr(axes.dataLim, f"interval{which}")
    span, middle = max(high - low, 20 * 10.0**-metric.digits), (low + high) / 2
    getattr(axes, f"set_{which}lim")(middle - 0.68 * span, middle + 0.68 * span)
    getattr(axes, f"{which}axis").set_major_locator(MaxNLocator(5))


def _label_points(drawing: Drawing, axes: Axes, points: list[tuple[tuple[float, float], str, str]]) -> None:
    """Write each label at that of eight places around its point where it hides least of points, lines and other labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.transforms import Bbox

    FigureCanvasAgg(drawing).draw()  # lays the axes out, so that places in pixels are known
    marks = [Bbox([[px - 5, py - 5], [px + 5, py + 5]]) for px, py in (axes.transData.transform(place) for place, _, _ in points)]
    drawn = [line.get_xydata() for line in axes.get_lines()]
    bars = [found for found in axes.collections if isinstance(found, LineCollection)]
    drawn += [segment for bar in bars for segment in bar.get_segments() if len(segment)]
    dots = [dot for corners in drawn for dot in _along(axes.transData.transform(corners))]
    inside = axes.get_window_extent()
    for place, text, colour in points:
        tried: list[tuple[int, int, Annotation, Bbox]] = []
        for dx, dy in ((7, 0), (-7, 0), (0, 8), (0, -8), (6, 6), (-6, 6), (6, -6), (-6, -6)):
            sides = ("center", "left", "right")[(dx > 0) - (dx < 0)], ("center", "bottom", "top")[(dy > 0) - (dy < 0)]
            label = axes.annotate(
                text, place, (dx, dy), textcoords="offset points", fontsize=8.5, color=colour, ha=sides[0], va=sides[1])  # fmt: skip
            box = label.get_window_extent()
            outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1)
            hidden = 100 * outside + 20 * sum(box.overlaps(mark) for mark in marks) + sum(box.contains(*dot) for dot in dots)
            tried.append((hidden, len(tried), label, box))
        tried.sort(key=lambda entry: entry[:2])
        for _, _, label, _ in tried[1:]:
            label.remove()
        marks.append(tried[0][3])


def _along(corners: np.ndarray) -> list[tuple[float, float]]:
    """Points every 3 pixels along a polyline."""
    import numpy as np

    return [
        tuple(a + (b - a) * share)
        for a, b in zip(corners, corners[1:])
        for share in np.arange(0, 1, 3 / max(3.0, float(np.hypot(*(b - a)))))
    ]
