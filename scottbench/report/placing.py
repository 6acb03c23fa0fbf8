"""Labels of points and lines in a figure, where they hide least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Labelled = tuple[tuple[float, float], str, str]
"""(place in the data, text, colour)."""
EDGE = 4.0
"""Pixels between what is drawn and the edge of a figure."""
SIZE, GAP = 8.0, 9.5
"""Points: height of letters, and from the middle of one label from that of the next."""
AROUND = ((7, 0), (-7, 0), (0, 8), (0, -8), (6, 6), (-6, 6), (6, -6), (-6, -6))
"""Places of a label around its point, points."""
RINGS, FAR = (1, 3, 5), 12
"""How often so far from it, and what a far one must hide less to be taken."""


def settle(drawing: Drawing, axes: Axes) -> None:
    """Make the axes as large as their figure allows, with room for the texts around them; their places in pixels are known then.

    It does once what matplotlib's constrained layout does four times.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # add_axes takes the figure as it is: a canvas gives it a renderer, by which texts are measured
    box, whole = axes.get_tightbbox(FigureCanvasAgg(drawing).get_renderer()), drawing.bbox
    inner = axes.get_window_extent()
    assert box is not None
    left, bottom = inner.x0 - box.x0 + EDGE, inner.y0 - box.y0 + EDGE
    right, top = max(0.0, box.x1 - inner.x1) + EDGE, max(0.0, box.y1 - inner.y1) + EDGE
    axes.set_position((left / whole.width, bottom / whole.height,
                       max(0.1, 1 - (left + right) / whole.width), max(0.1, 1 - (bottom + top) / whole.height)))  # fmt: skip


def label_ends(drawing: Drawing, axes: Axes, ends: Sequence[Labelled]) -> None:
    """Write a name at the end of each line, those of lines that end together below each other."""
    settle(drawing, axes)
    points = 72 / drawing.dpi
    tops = [points * float(axes.transData.transform(place)[1]) for place, _, _ in ends]
    order = sorted(range(len(ends)), key=lambda i: tops[i])
    box = axes.get_window_extent()
    heights = spread([tops[i] for i in order], GAP, points * box.y0 + 3, points * box.y1 - 3)
    for i, height in zip(order, heights, strict=True):
        place, text, colour = ends[i]
        axes.annotate(text, place, (6, height - tops[i]), textcoords="offset points", fontsize=SIZE, color=colour, ha="left", va="center")


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places, lowest first, so that they stand `gap` apart at least, each as near to where it was as its neighbours allow; inside
    low to high where all have room there."""
    groups: list[tuple[float, int]] = []  # (middle, how many)
    for place in places:
        groups.append((place, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (b, n), (a, m) = groups.pop(), groups.pop()
            groups.append(((a * m + b * n) / (m + n), m + n))
    found = [middle + gap * (i - (n - 1) / 2) for middle, n in groups for i in range(n)]
    if found and gap * (len(found) - 1) <= high - low:
        for i in range(len(found)):
            found[i] = max(found[i], low + gap * i)
        for i in range(len(found)):
            found[-1 - i] = min(found[-1 - i], high - gap * i)
    return found


def label_points(drawing: Drawing, axes: Axes, points: Sequence[Labelled]) -> None:
    """Write each label at that place around its point where it hides least of points, lines and other labels, the nearest of such; from
    one that is far a thin line leads to the point."""
    from matplotlib.collections import LineCollection
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    settle(drawing, axes)
    marks = [Bbox([[px - 5, py - 5], [px + 5, py + 5]]) for px, py in (axes.transData.transform(place) for place, _, _ in points)]
    drawn = [line.get_xydata() for line in axes.get_lines()]
    bars = [found for found in axes.collections if isinstance(found, LineCollection)]
    drawn += [segment for bar in bars for segment in bar.get_segments() if len(segment)]
    dots = [dot for corners in drawn for dot in _along(axes.transData.transform(corners))]
    inside = axes.get_window_extent()
    for place, text, colour in points:
        tried: list[tuple[int, int, Annotation, Bbox]] = []
        for times in RINGS:
            line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2} if times > 1 else None
            for dx, dy in AROUND:
                sides = ("center", "left", "right")[(dx > 0) - (dx < 0)], ("center", "bottom", "top")[(dy > 0) - (dy < 0)]
                label = axes.annotate(text, place, (times * dx, times * dy), textcoords="offset points", fontsize=SIZE, color=colour,
                                      ha=sides[0], va=sides[1], arrowprops=line)  # fmt: skip
                label.get_window_extent()  # settles where it stands
                box = Text.get_window_extent(label)  # the letters alone, without the line
                outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1)
                hidden = 100 * outside + 20 * sum(box.overlaps(mark) for mark in marks) + sum(box.contains(*dot) for dot in dots)
                tried.append((hidden + FAR * (times > 1), len(tried), label, box))
            if min(entry[0] for entry in tried) < FAR:
                break
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
