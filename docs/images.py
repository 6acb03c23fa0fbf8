"""Make the pictures of docs/images/ from a report: python docs/images.py RUN. Needs Chromium and Pillow; run it after a change of the page.

RUN is a run folder, with its pictures, whose page is made new: the first screen at 1440 and 390 pixels, dark, and as printed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from scottbench.report import render
from scottbench.store.record import read_record

HERE = Path(__file__).parent / "images"
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--virtual-time-budget=5000")
DARK = "--blink-settings=preferredColorScheme=0"
HEIGHT = 900
"""Pixels: what a reader sees first."""


def visit(page: Path, scratch: Path, *flags: str) -> None:
    """Open a page in a browser without a window, in a profile of its own. Raises CalledProcessError where that fails."""
    if BROWSER is None:
        sys.exit("no Chromium on PATH: install it, then the same line again")
    profile = tempfile.mkdtemp(dir=scratch)
    subprocess.run([BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()], capture_output=True, check=True, timeout=300)


def screen(page: Path, scratch: Path, name: str, width: int, *flags: str) -> None:
    """Take the first screen at so many pixels of width. A window is never narrower than 500 pixels, so the page stands in a frame."""
    frame, picture = scratch / f"{name}.html", scratch / f"{name}.png"
    style = f"width:{width}px;height:{HEIGHT}px;border:0;display:block"
    frame.write_text(f'<!DOCTYPE html><body style="margin:0"><iframe src="{page.name}" style="{style}"></iframe>', encoding="utf-8")
    visit(frame, scratch, f"--screenshot={picture}", f"--window-size={max(width, 600)},{HEIGHT}", *flags)
    keep(Image.open(picture).convert("RGB").crop((0, 0, width, HEIGHT)), name)


def keep(image: Image.Image, name: str) -> None:
    """Write a picture as WebP with every pixel as it is: a page of few colours takes less than as PNG."""
    HERE.mkdir(exist_ok=True)
    path = HERE / f"{name}.webp"
    image.save(path, lossless=True, quality=100, method=6)
    print(path, path.stat().st_size)


def printed(page: Path, scratch: Path) -> None:
    """Take the first sheet of A4 as it is printed: the page under the rules of print, as wide as a sheet without its margins."""
    text = page.read_text(encoding="utf-8").replace("@media print", "@media all").replace("(prefers-color-scheme: dark)", "not all")
    sheet = scratch / "sheet.html"
    sheet.write_text(text.replace("</style>", "html { padding: 60px 53px; }</style>", 1), encoding="utf-8")
    picture = scratch / "sheet.png"
    visit(sheet, scratch, f"--screenshot={picture}", "--window-size=794,1123")
    keep(Image.open(picture).convert("RGB"), "report-printed")


def main() -> None:
    """Make the four pictures."""
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        page = scratch / "page.html"
        page.write_text(render(read_record(Path(sys.argv[1]))), encoding="utf-8")
        screen(page, scratch, "report-1440", 1440)
        screen(page, scratch, "report-dark", 1440, DARK)
        screen(page, scratch, "report-390", 390)
        printed(page, scratch)


if __name__ == "__main__":
    main()
