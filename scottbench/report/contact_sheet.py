"""Pictures side by side on one sheet: a block a prompt, a row a method, a column a seed, each with its label."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scottbench.report.drawing import LEADING, broken, font_of, write
from scottbench.text import count, in_one_line

if TYPE_CHECKING:
    from PIL.Image import Image

GAP, TEXT, HEAD = 8, 13, 15
"""Pixels between two pictures; height of the labels' letters, and of the prompts'."""
LABEL = 150
"""Width of the column of labels, pixels."""
SMALL, LARGE = 128, 256
"""Sides of a picture on the sheet: small ones keep square pixels and fill the first, large ones are reduced to the second."""
LINES = 3
"""Most lines of a prompt."""
WIDTH, HEIGHT = 8_000, 16_000
"""Most pixels of a sheet: what goes beyond is counted in its last line."""


@dataclass
class Sheet:
    """All that is on a sheet. A picture that could not be made is missing in `pictures`."""

    rows: list[str]
    """Labels, each of up to some lines."""
    columns: list[str]
    blocks: list[tuple[str, dict[tuple[int, int], Image]]] = field(default_factory=list)
    """(prompt, {(row, column): picture})."""
    foot: str = ""
    """Last line: model, preset."""


def draw_sheet(sheet: Sheet) -> Image:
    """Draw a sheet as one RGB picture. As many columns and blocks are drawn as its largest size allows, one at least of each."""
    from PIL import Image, ImageDraw

    side = _side(sheet)
    columns = max(1, min(len(sheet.columns), (WIDTH - LABEL) // (side + GAP)))
    width = max(LABEL + GAP + columns * (side + GAP), 420)
    small, large = font_of(TEXT), font_of(HEAD, bold=True)
    heads = [min(LINES, len(broken(large, in_one_line(prompt), width - 2 * GAP))) * (HEAD + LEADING) + GAP for prompt, _ in sheet.blocks]
    row, top = side + GAP, TEXT + LEADING + GAP
    heights = [head + top + len(sheet.rows) * row + GAP for head in heads]
    shown = max(1, sum(sum(heights[: n + 1]) <= HEIGHT for n in range(len(heights))))
    left_out = _left_out(len(sheet.blocks) - shown, len(sheet.columns) - columns)
    foot = len(broken(small, f"{sheet.foot} {left_out}", width - 2 * GAP)) * (TEXT + LEADING) + GAP
    canvas = Image.new("RGB", (width, GAP + sum(heights[:shown]) + foot), "white")
    draw, y = ImageDraw.Draw(canvas), GAP
    for (prompt, pictures), head in zip(sheet.blocks[:shown], heads):
        write(draw, large, in_one_line(prompt), (GAP, y), (width - 2 * GAP, head - GAP))
        y += head
        for column, name in enumerate(sheet.columns[:columns]):
            write(draw, small, name, (LABEL + GAP + column * (side + GAP), y), (side, TEXT + LEADING))
        y += top - GAP
        for number, label in enumerate(sheet.rows):
            write(draw, small, label, (GAP, y), (LABEL - GAP, side))
            for column in range(columns):
                place = (LABEL + GAP + column * (side + GAP), y)
                if (number, column) in pictures:
                    canvas.paste(_fitted(pictures[number, column], side), place)
                else:
                    write(draw, small, "-", place, (side, side))
            y += row
        y += 2 * GAP
    write(draw, small, f"{sheet.foot} {left_out}", (GAP, y), (width - 2 * GAP, foot))
    return canvas


def _side(sheet: Sheet) -> int:
    """Pixels of a picture on the sheet."""
    largest = max((max(picture.size) for _, pictures in sheet.blocks for picture in pictures.values()), default=SMALL)
    return largest * (SMALL // largest) if largest <= SMALL else min(largest, LARGE)


def _fitted(picture: Image, side: int) -> Image:
    """A picture as large as fits; small ones keep square pixels."""
    from PIL import Image

    times = side // max(picture.size)
    if times >= 1:
        return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    reduced = picture.copy()
    reduced.thumbnail((side, side), Image.Resampling.LANCZOS)
    return reduced


def _left_out(prompts: int, columns: int) -> str:
    parts = [count(prompts, "prompt")] * (prompts > 0) + [count(columns, "column")] * (columns > 0)
    return f"Not on this sheet: {' and '.join(parts)}." if parts else ""
