"""A run as a piece of HTML and as one picture, for notebooks: the report's main table and its samples, from records alone."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from scottbench.errors import UsageError
from scottbench.report import environment
from scottbench.report.drawing import font_of, write
from scottbench.report.pictures import Picture
from scottbench.report.results import results_tables
from scottbench.report.samples import Grid, sample_grid
from scottbench.text import count, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from scottbench.store.record import RunRecord

GAP = 8
"""Pixels between two pictures of a grid."""
TEXT = 12
"""Height of its letters, pixels."""
LARGEST = 192
"""Pixels. A larger image is drawn at this size."""
PROMPT = 150
"""Width of its column of prompts, pixels."""


def fragment(record: RunRecord) -> str:
    """Return the main table and a row of samples as HTML that loads nothing; all text of the run is escaped."""
    grid = _with_pictures(record)
    return environment().get_template("notebook.html.j2").render(
        folder=str(record.folder), manifest=record.manifest, table=results_tables(record)[0], grid=grid)  # fmt: skip


def grid_image(record: RunRecord, n: int | None = None) -> Image:
    """Draw the first n sample items (None = all): a row a prompt, reference and cells across, headings above.

    Raises UsageError: the run holds no images, or n is no number of items that it shows.
    """
    from PIL import Image, ImageDraw

    grid = _with_pictures(record)
    if grid is None:
        command = one_line(record.manifest["command"])
        raise UsageError(f"{record.folder} holds no images to show. To have them, make the run again: {command}")
    if n is not None and (not isinstance(n, int) or not 1 <= n <= len(grid.rows)):
        raise UsageError(f"samples({n!r}): this run shows {count(len(grid.rows), 'sample item')}; give a number from 1 to that.")
    rows = grid.rows[:n]
    side = grid.size if all(picture.pixelated for _, pictures in rows for picture in pictures if picture.source) else LARGEST
    font, head = font_of(TEXT), 2 * (TEXT + 4) + GAP
    canvas = Image.new("RGB", (PROMPT + len(grid.columns) * (side + GAP) + GAP, head + len(rows) * (side + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for x, words in enumerate(grid.columns):
        write(draw, font, "\n".join(words), (PROMPT + GAP + x * (side + GAP), GAP // 2), (side, head))
    for y, (prompt, pictures) in enumerate(rows):
        top = head + y * (side + GAP)
        write(draw, font, prompt, (GAP, top), (PROMPT - GAP, side))
        for x, picture in enumerate(pictures):
            left = PROMPT + GAP + x * (side + GAP)
            if picture.source:
                canvas.paste(_open(picture, side), (left, top))
            else:
                write(draw, font, "n/a", (left, top), (side, side))
    return canvas


def _with_pictures(record: RunRecord) -> Grid | None:
    """The report's samples; None where not one picture of a method is there, as in a folder of tables alone."""
    grid = sample_grid(record)
    return grid if grid is not None and grid.kept else None


def _open(picture: Picture, side: int) -> Image:
    """A picture as large as fits `side`; small ones keep square pixels."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(picture.source.partition(",")[2])), formats=["WEBP"]) as image:
        found = image.convert("RGB")
    times = max(1, side // max(found.size))
    if times > 1:
        return found.resize((found.width * times, found.height * times), Image.Resampling.NEAREST)
    found.thumbnail((side, side), Image.Resampling.LANCZOS)
    return found
