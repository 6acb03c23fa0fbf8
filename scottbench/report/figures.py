"""The report's figures: all pairs against the first method, what quality costs, and the first metric against the second.

Each is a chart that can be drawn at any size: as SVG in the page, as PDF and PNG for a paper. Equal records give equal bytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scottbench.report.candidates import Teacher, candidates, difference, leading_metric, milliseconds, nfe, teachers
from scottbench.report.placing import label_ends, label_points, settle
from scottbench.report.style import COLOURS, FAINT, INK, PAPER, SINGLE, adaptive, line_of, styled
from scottbench.store.record import CellRecord, MetricRecord, RunRecord
from scottbench.text import at_steps, bracket, decimals, in_one_line, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

LONGEST = 28
"""Characters of a name inside a figure."""
HEIGHT = 2.4
"""Inches, of a figure as wide as a column."""
ROWS = 30
"""Most pairs in a figure of differences."""
PANELS = 3
"""Metrics with a figure of differences: the first ones, and those that compare with the teacher's images."""
WIDE = 5
"""A metric whose values span this factor has a logarithmic axis."""
LABELLED = 12
"""Points that can each carry their name; more carry their number of steps."""
Draw = Callable[["Drawing", "Axes"], None]


@dataclass(frozen=True)
class Chart:
    """A figure that is not drawn yet."""

    name: str
    """Name of its file: "cost-nfe"."""
    caption: str
    alt: str
    """The same numbers as text, for who cannot see it."""
    draw: Draw
    height: float = HEIGHT


@dataclass
class Figure:
    """A chart with its caption, drawn for the page."""

    caption: str
    alt: str
    source: str
    """data: URI of the SVG."""
    number: int = 0


def figures(record: RunRecord) -> list[Figure]:
    """Draw all charts of a run for its page."""
    return [Figure(chart.caption, chart.alt, _data_uri(chart)) for chart in charts(record)]


def charts(record: RunRecord) -> list[Chart]:
    """List what can be drawn of a run: differences and cost of the first metric first."""
    metrics, cells = record.leading()
    first = leading_metric(metrics, cells)
    if first is None:
        return []
    forests = [found for metric in paneled(metrics, first) if (found := _forest(record, metrics, cells, metric)) is not None]
    costs = [found for kind in COSTS if (found := _front(record, metrics, cells, first, kind)) is not None]
    second = next((metric for metric in metrics if metric is not first and any(metric.name in cell.values for cell in cells)), None)
    scatter = [] if second is None else _scatter(cells, first, second)
    return [*forests[:1], *costs, *forests[1:], *scatter]


def paneled(metrics: Sequence[MetricRecord], first: MetricRecord) -> list[MetricRecord]:
    """Return the metrics whose differences are drawn: the first ones, and those that compare with the teacher's images."""
    ordered = [first, *(metric for metric in metrics if metric is not first)]
    return ordered[:PANELS] + [metric for metric in ordered[PANELS:] if "teacher" in metric.summary][:1]


def drawn(chart: Chart, width: float = SINGLE) -> Drawing:
    """Draw a chart so many inches wide; twice as wide is as high. Call it inside `styled`."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width, chart.height))
    chart.draw(drawing, drawing.subplots())
    return drawing


def _data_uri(chart: Chart) -> str:
    buffer = io.StringIO()
    with styled():
        drawn(chart).savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return "data:image/svg+xml;base64," + base64.b64encode(adaptive(buffer.getvalue()).encode()).decode()


def _name(text: str, longest: int = LONGEST) -> str:
    """Text of a record as a figure has room for it."""
    clean = in_one_line(text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def shortened(methods: Iterable[str]) -> dict[str, str]:
    """Return each method's name inside a figure: what comes after the last "=" where all are alike before it, as students of one trainer
    are; else its name."""
    methods = list(dict.fromkeys(methods))
    heads = {method.rpartition("=")[0] for method in methods}
    alike = len(methods) > 1 and len(heads) == 1 and heads != {""}
    return {method: _name(method.rpartition("=")[2] if alike else method) for method in methods}


def _of_n(cells: Sequence[CellRecord]) -> str:
    return f"N = {cells[0].n:,} {'images' if len(cells[0].seeds) == 1 else 'prompts'} a row"


def _by_method(cells: Sequence[CellRecord]) -> dict[str, list[CellRecord]]:
    """Method, and its seed where there are several -> cells in order of steps."""
    several, names = len({cell.facts["seed"] for cell in cells}) > 1, shortened(cell.method for cell in cells)
    lines: dict[str, list[CellRecord]] = {}
    for cell in cells:
        name = names[cell.method]
        lines.setdefault(f"{name} (seed {cell.facts['seed']})" if several else name, []).append(cell)
    return {name: sorted(line, key=lambda cell: cell.steps) for name, line in lines.items()}


# --- differences ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of a figure of differences."""

    name: str
    value: float
    low: float
    high: float
    decided: bool
    index: int
    """Place of the other method among the run's, which has the same colour and marker in every figure."""


def couples(record: RunRecord, cells: Sequence[CellRecord], metric: MetricRecord) -> list[Row]:
    """Return the tested pairs of the first method against all others; of one method alone, of its numbers of steps."""
    mine = [cell for cell in cells if cell.method == cells[0].method]
    others = [cell for cell in cells if cell.method != cells[0].method]
    pairs = [(a, b) for b in others for a in mine] if others else [(a, b) for i, a in enumerate(mine) for b in mine[i + 1 :]]
    alike = [(a, b) for a, b in pairs if a.steps == b.steps or 0 in (a.steps, b.steps)]  # equal cost is what a comparison is about
    pairs = alike if alike else pairs
    methods, names = list(dict.fromkeys(cell.method for cell in candidates(cells))), shortened(cell.method for cell in cells)
    rows = []
    for a, b in sorted(pairs, key=lambda pair: (pair[1].steps, pair[0].steps)):
        found = difference(record, metric, a, b)
        if found is not None:
            name = at_steps(names[b.method], b.steps)
            ends = name if a.steps == b.steps else f"{a.steps} vs {name}"
            index = methods.index(b.method) if b.method in methods else len(methods)
            rows.append(Row(ends, found.value, found.low, found.high, found.decided, index))
    return rows[:ROWS]


def _forest(record: RunRecord, metrics: Sequence[MetricRecord], cells: list[CellRecord], metric: MetricRecord) -> Chart | None:
    rows = couples(record, cells, metric)
    if not rows:
        return None
    method = shortened(cell.method for cell in cells)[cells[0].method]
    digits = decimals([(row.high - row.low) / 2 for row in rows], metric.digits)
    told = "; ".join(f"{row.name} {signed(row.value, digits)} {bracket(row.low, row.high, digits)}" for row in rows)
    caption = (
        f"{metric.label}: {method} minus each row, paired, with 95 % intervals. Filled: decided after Holm's correction; hollow: not. "
        f"{_of_n(cells)}."
    )
    alt = f"Chart. {metric.label} of {method} minus that of each row: {told}."
    name, height = f"differences-{_file(metric.name)}", 0.85 + 0.19 * max(len(rows), 2)
    return Chart(name, caption, alt, lambda drawing, axes: _draw_forest(drawing, axes, rows, metric, method), height)


def _file(name: str) -> str:
    """Name of a metric as part of a file's."""
    return "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in name).strip("-")[:40] or "metric"


def _draw_forest(drawing: Drawing, axes: Axes, rows: Sequence[Row], metric: MetricRecord, method: str) -> None:
    """One line a pair, zero in the middle of attention; the side where the first method is better is named."""
    from matplotlib.ticker import MaxNLocator

    axes.axvline(0, color=INK, linewidth=0.8)
    for y, row in enumerate(rows):
        style = line_of(row.index)
        axes.plot([row.low, row.high], [y, y], color=style["color"], linewidth=1.4, marker="", solid_capstyle="butt")
        face = style["color"] if row.decided else PAPER
        axes.plot([row.value], [y], style["marker"], color=style["color"], markerfacecolor=face, markersize=5)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    low, high = min(0.0, *(row.low for row in rows)), max(0.0, *(row.high for row in rows))
    room = 0.08 * max(high - low, 10.0**-metric.digits)
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    better = "more" if metric.higher_is_better else "less"
    end = "\nminus row " if len(method) > LONGEST // 2 else " minus row\n"  # the axis is as narrow as the rows' names let it be
    axes.set_xlabel(f"{_name(metric.label)} {metric.arrow}: {method}{end}({better} is better)")
    settle(drawing, axes)


# --- what quality costs -----------------------------------------------------------------------------------------------

COSTS = {"nfe": "network evaluations an image", "ms": "ms an image"}
"""Kinds of cost, and their axis."""


def _front(record: RunRecord, metrics: Sequence[MetricRecord], cells: list[CellRecord], metric: MetricRecord, kind: str) -> Chart | None:
    def spent(cell: CellRecord) -> float | None:
        found = nfe(cell) if kind == "nfe" else milliseconds(record, cell)
        return None if found is None or found <= 0 else float(found)

    horizon = [teacher for teacher in teachers(record, metrics, cells) if metric.name in teacher.values]
    shown = [cell for cell in candidates(cells) if metric.name in cell.values and spent(cell) is not None]
    if not shown:
        return None
    lines = {name: [(float(spent(cell) or 0), cell.values[metric.name], cell) for cell in line] for name, line in _by_method(shown).items()}
    unit = "NFE" if kind == "nfe" else "ms"
    values = [f"{cell.name}: {metric.show(value)} at {x:.4g} {unit}" for line in lines.values() for x, value, cell in line]
    values += [f"{teacher.name}: {metric.show(teacher.values[metric.name])}" for teacher in horizon]
    bars = ", 95 % intervals" if any(metric.name in cell.intervals for cell in shown) else ""
    below = " Dashed: the teacher." if horizon else ""
    caption = f"{metric.label} against {COSTS[kind]}{bars}. Thin steps: best at this cost or less.{below} {_of_n(cells)}."
    alt = f"Chart. {metric.label} against {COSTS[kind]}. {'; '.join(values)}."
    return Chart(f"cost-{kind}", caption, alt, lambda drawing, axes: _draw_front(drawing, axes, lines, metric, kind, horizon))


Line = list[tuple[float, float, CellRecord]]


def _draw_front(drawing: Drawing, axes: Axes, lines: dict[str, Line], metric: MetricRecord, kind: str, horizon: list[Teacher]) -> None:
    """One line a method over a logarithmic axis of cost, its name at its end; the teacher across."""
    points = [point for line in lines.values() for point in line]
    levels = [value for _, value, _ in points] + [teacher.values[metric.name] for teacher in horizon]
    axes.set_xscale("log")
    # before anything is drawn: matplotlib's own limits around a single cost may have no width, by which a line across would divide
    _cost_axis(axes, sorted({x for x, _, _ in points}), max(map(len, lines)))
    _scale(axes, "y", levels)
    steps = front([(x, value) for x, value, _ in points], metric.higher_is_better)
    axes.step([x for x, _ in steps], [y for _, y in steps], where="post", color=FAINT, linewidth=0.7, marker="")
    ends = []
    for index, (name, line) in enumerate(lines.items()):
        x, y, style = [point[0] for point in line], [point[1] for point in line], line_of(index)
        axes.plot(x, y, **style)
        axes.errorbar(x, y, yerr=_bars([cell for _, _, cell in line], metric), fmt="none", ecolor=style["color"], elinewidth=1.0)
        ends.append(((x[-1], y[-1]), name, style["color"]))
    for teacher in _horizon(horizon, metric):
        axes.axhline(teacher.values[metric.name], color=FAINT, linewidth=1.0, linestyle=(0, (5, 2)))
        name = _name(f"{teacher.name}{f', NFE {teacher.nfe}' if teacher.nfe else ''}", 2 * LONGEST)  # a whole line for itself
        axes.annotate(name, (0.01, teacher.values[metric.name]),
                      (0, 2), xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=7.5, color=FAINT)  # fmt: skip
    _value_axis(axes, "y", metric)
    axes.set_xlabel(COSTS[kind])
    axes.set_ylabel(f"{_name(metric.label)} {metric.arrow}")
    label_ends(drawing, axes, ends)


def _horizon(horizon: list[Teacher], metric: MetricRecord) -> list[Teacher]:
    """The teacher's best row: two lines beside each other could not be read."""
    sign = -1 if metric.higher_is_better else 1
    return sorted(horizon, key=lambda teacher: sign * teacher.values[metric.name])[:1]


def front(points: Sequence[tuple[float, float]], higher_is_better: bool) -> list[tuple[float, float]]:
    """Return the points (cost, value) that no other of at most their cost beats, cheapest first."""
    sign = -1 if higher_is_better else 1
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], sign * point[1])):
        if not found or sign * y < sign * found[-1][1]:
            found.append((x, y))
    return found


def _cost_axis(axes: Axes, values: list[float], letters: int) -> None:
    """Ticks at the costs that occur, or at round ones where they are many; room for names at the right."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    whole = len(values) <= 5 and all(value == int(value) for value in values)
    digits = (1, 1.5, 2, 3, 5, 7) if values[-1] < 5 * values[0] else (1, 2, 5)
    axes.xaxis.set_major_locator(FixedLocator(values) if whole else LogLocator(subs=digits, numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    span = max(values[-1] / values[0], 2.0)
    axes.set_xlim(values[0] / span**0.12, values[-1] * span ** min(1.4, 0.08 + 0.032 * letters))


def _scale(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Make an axis, "x" or "y", logarithmic where its values span more than `WIDE`: those that are close would lie over each other.

    Where there is a 0, as of a teacher's distance from itself, it is even up to the smallest of the others.
    """
    above = [value for value in values if value > 0]
    if above and min(values) >= 0 and max(above) / min(above) > WIDE:
        even = {} if min(values) > 0 else {"linthresh": min(above), "linscale": 0.5}
        getattr(axes, f"set_{which}scale")("symlog" if even else "log", **even)


def _value_axis(axes: Axes, which: str, metric: MetricRecord) -> None:
    """Plain numbers, also on a logarithmic axis, "x" or "y"; no closer than 20 units of the last printed digit."""
    from matplotlib.ticker import FixedLocator, NullLocator

    kind = getattr(axes, f"get_{which}scale")()
    if kind == "linear":
        _zoom(axes, which, metric)
        return
    low, high = getattr(axes.dataLim, f"interval{which}")
    axis = getattr(axes, f"{which}axis")
    if kind == "symlog":
        low = axis.get_transform().linthresh
    else:  # an interval that reaches as far as 0 leads out of the figure
        least = min(value for line in axes.get_lines() for value in getattr(line, f"get_{which}data")() if value > 0)
        low = max(low, least / WIDE)
    room = (high / low) ** 0.12
    ticks = [digit * 10.0**power for power in range(-12, 13) for digit in (1, 2, 5)]
    begin = low / room if kind == "log" else -0.5 * low
    getattr(axes, f"set_{which}lim")(begin, high * room)
    zero = [0.0] if kind == "symlog" else []
    axis.set_major_locator(FixedLocator([*zero, *(tick for tick in ticks if low / room <= tick <= high * room)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _bars(cells: Sequence[CellRecord], metric: MetricRecord) -> list[list[float]]:
    """Lengths of the intervals below and above each value; 0 where there is none."""
    found = [(cell.values[metric.name], cell.intervals.get(metric.name)) for cell in cells]
    below = [0.0 if interval is None else value - interval.low for value, interval in found]
    return [below, [0.0 if interval is None else interval.high - value for value, interval in found]]


# --- one metric against another ---------------------------------------------------------------------------------------


def _scatter(cells: list[CellRecord], y: MetricRecord, x: MetricRecord) -> list[Chart]:
    shown = [cell for cell in cells if x.name in cell.values and y.name in cell.values]
    if not shown:
        return []
    point = "each point a method at the number of steps beside it" if len(shown) > LABELLED else "each point a method@steps"
    told = [(at_steps(cell.method, cell.steps), y.show(cell.values[y.name]), x.show(cell.values[x.name])) for cell in shown]
    values = "; ".join(f"{name}: {up}, {across}" for name, up, across in told)
    bars = " Bars: 95 % intervals." if any(m.name in cell.intervals for cell in shown for m in (x, y)) else ""
    title = f"{y.label} against {x.label}"
    return [Chart("metrics", f"{title}, {point}. {_of_n(cells)}.{bars}", f"Chart. {title}. {values}.",
                  lambda drawing, axes: _draw_scatter(drawing, axes, shown, y, x))]  # fmt: skip


def _draw_scatter(drawing: Drawing, axes: Axes, cells: Sequence[CellRecord], y: MetricRecord, x: MetricRecord) -> None:
    """One labelled point a cell, or its steps and the method's name at the line's end; points of one method joined in order of steps."""
    points: list[tuple[tuple[float, float], str, str]] = []
    many = len(cells) > LABELLED
    for which, metric in (("x", x), ("y", y)):
        _scale(axes, which, [cell.values[metric.name] for cell in cells])
    for index, (name, line) in enumerate(_by_method(cells).items()):
        across, up = [cell.values[x.name] for cell in line], [cell.values[y.name] for cell in line]
        style, colour = line_of(index), COLOURS[index % len(COLOURS)]
        axes.plot(across, up, **style)
        bars: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 1.0}
        axes.errorbar(across, up, xerr=_bars(line, x), yerr=_bars(line, y), **bars)
        texts = [at_steps(name, cell.steps) for cell in line]
        if many:
            texts = [*(cell.steps_text for cell in line[:-1]), at_steps(name, line[-1].steps)]
        points += [(place, text, colour) for place, text in zip(zip(across, up), texts)]
    _value_axis(axes, "x", x)
    _value_axis(axes, "y", y)
    axes.set_xlabel(f"{_name(x.label)} {x.arrow}")
    axes.set_ylabel(f"{_name(y.label)} {y.arrow}")
    label_points(drawing, axes, points)


def _zoom(axes: Axes, which: str, metric: MetricRecord) -> None:
    """Limits with room for labels, no closer than 20 units of the last printed digit: rounding must not fill a plot."""
    from matplotlib.ticker import MaxNLocator

    low, high = getattr(axes.dataLim, f"interval{which}")
    span, middle = max(high - low, 20 * 10.0**-metric.digits), (low + high) / 2
    getattr(axes, f"set_{which}lim")(middle - 0.62 * span, middle + 0.62 * span)
    getattr(axes, f"{which}axis").set_major_locator(MaxNLocator(5))
