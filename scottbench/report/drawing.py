"""Words on pictures: a font, and text that keeps inside its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.text import printable

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

LEADING = 4
"""Pixels between two lines of text."""


def font_of(height: int, bold: bool = False) -> FreeTypeFont:
    """Open DejaVu Sans, which matplotlib brings: it has more than Latin letters. height: of its letters, pixels."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), height)


def write(draw: ImageDraw, font: FreeTypeFont, text: str, place: tuple[int, int], size: tuple[int, int]) -> None:
    """Write text inside (width, height) pixels: its lines are broken at blanks and cut where they are too long or too many."""
    step = round(font.size) + LEADING
    lines = broken(font, text, size[0])
    most = max(1, size[1] // step)
    for y, line in enumerate(lines[:most]):
        if y == most - 1 and len(lines) > most:
            line += " ..."
        while font.getlength(line) > size[0]:
            line = line[:-5] + " ..." if line.endswith(" ...") and len(line) > 5 else line[:-1]
        draw.text((place[0], place[1] + y * step), line, fill="black", font=font)


def broken(font: FreeTypeFont, text: str, width: int) -> list[str]:
    """Break text at blanks into lines of at most so many pixels; a word that is longer stands alone."""
    lines: list[str] = []
    for paragraph in printable(text).splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
