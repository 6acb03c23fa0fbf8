"""Draw the README's picture from the published report: samples of the page on the left, FID against network calls on the right.

    python docs/picture.py             write docs/picture.png
    python docs/picture.py --check     exit 1 if the report's numbers or samples are not those that were drawn (tests/test_docs.py)
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import sys
from pathlib import Path

from PIL import Image, PngImagePlugin

from scottbench.report.style import COLOURS, MARKERS
from scottbench.store.record import RunRecord, read_record
from scottbench.text import count

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "reports" / "pocket-main"
PICTURE = ROOT / "docs" / "picture.png"
COLUMNS, SIDE, GAP = 6, 64, 4
"""Prompts shown, pixels of a sample, and between two."""
IMG = re.compile(r'<img [^>]*?src="data:image/\w+;base64,([^"]+)"[^>]*?alt="([^"]*)"')


def methods(record: RunRecord) -> list[str]:
    """Methods of the picture; a second training of one, `METHOD@student=NAME`, is left to the report."""
    return [name for name in dict.fromkeys(cell.method for cell in record.cells) if "@student=" not in name]


def shown(record: RunRecord) -> list[tuple[str, int]]:
    """Methods and steps of the rows: each at 2 steps where it has them, else at its first number of steps."""
    found = []
    for name in methods(record):
        steps = [cell.steps for cell in record.cells if cell.method == name]
        found.append((name, 2 if 2 in steps else steps[0]))
    return found


def samples(record: RunRecord) -> list[tuple[str, list[Image.Image]]]:
    """Label and the first images of each row: the reference, then the methods. Raises LookupError where the page has not all."""
    rows: dict[str, list[Image.Image]] = {}
    for source, alt in IMG.findall((REPORT / "report" / "index.html").read_text(encoding="utf-8")):
        _, mark, what = html.unescape(alt).rpartition(": ")
        if mark:
            rows.setdefault(what, []).append(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB"))
    found = [("real image", rows["reference image"][:COLUMNS])]
    for method, steps in shown(record):
        label = f"{method}, {count(steps, 'step')}"
        found.append((label, rows[label][:COLUMNS]))
    return found


def points(record: RunRecord) -> dict[str, list[tuple[int, float, float, float]]]:
    """Method -> (network calls, FID, low, high) of each number of steps."""
    found: dict[str, list[tuple[int, float, float, float]]] = {}
    drawn = set(methods(record))
    for cell in (cell for cell in record.cells if cell.method in drawn):
        around = cell.intervals["fid"]
        found.setdefault(cell.method, []).append((cell.facts["nfe"], cell.values["fid"], around.low, around.high))
    return found


def ends(record: RunRecord) -> list[tuple[list[str], tuple[int, float]]]:
    """Methods and the place of their name, at the end of their line; those that end within a tenth of each other share one, best first."""
    last = sorted(((line[-1][0], line[-1][1], method) for method, line in points(record).items()))
    found: list[tuple[list[str], tuple[int, float]]] = []
    for calls, value, method in last:
        if found and found[-1][1][0] == calls and value < 1.1 * found[-1][1][1]:
            found[-1][0].append(method)
        else:
            found.append(([method], (calls, value)))
    return found


def drawn_from(record: RunRecord) -> str:
    """Digest of all that the picture shows."""
    total = hashlib.sha256(repr(sorted(points(record).items())).encode())
    for label, images in samples(record):
        total.update(label.encode())
        for image in images:
            total.update(image.tobytes())
    return total.hexdigest()[:16]


def draw(record: RunRecord) -> Image.Image:
    """The picture, about 1300 pixels wide."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = samples(record)
    step = SIDE + GAP
    sheet = Image.new("RGB", (COLUMNS * step - GAP, len(rows) * step - GAP), "white")
    for y, (_, images) in enumerate(rows):
        for x, image in enumerate(images):
            sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.NEAREST), (x * step, y * step))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.1), width_ratios=(1.05, 1), layout="constrained", dpi=130)
    left.imshow(sheet, interpolation="nearest")
    left.set_yticks([y * step + SIDE / 2 for y in range(len(rows))], [label for label, _ in rows])
    left.set_xticks([])
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    left.set_title(f"First {COLUMNS} prompts, same noise in a column", fontsize=10)
    colours = {}
    for (method, line), colour, marker in zip(points(record).items(), COLOURS, MARKERS, strict=False):
        calls, values = [one[0] for one in line], [one[1] for one in line]
        bars = [[one[1] - one[2] for one in line], [one[3] - one[1] for one in line]]
        right.errorbar(calls, values, bars, color=colour, marker=marker, markersize=6, linewidth=1.3, capsize=2, label=method)
        colours[method] = colour
    for names, place in ends(record):
        right.annotate(", ".join(names), place, (7, 4), textcoords="offset points", color=colours[names[0]], fontsize=9)
    right.set(xscale="log", yscale="log", xlabel="network calls per image", ylabel="FID (pocket features), lower is better")
    right.set_xticks([1, 2, 4, 10, 50, 100], ["1", "2", "4", "10", "50", "100"])
    right.set_yticks([10, 20, 50, 100], ["10", "20", "50", "100"])
    right.minorticks_off()
    right.set_xlim(0.85, 190)
    right.grid(alpha=0.25)
    right.set_title(f"N = {record.cells[0].n:,}, bars: 95 % intervals", fontsize=10)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    plt.close(figure)
    return Image.open(stream).convert("RGB").quantize(224)


def main(check: bool) -> int:
    """Draw the picture, or only compare where `check`; returns the exit code."""
    record = read_record(REPORT)
    mark = drawn_from(record)
    if check:
        return 0 if Image.open(PICTURE).info.get("drawn from") == mark else 1
    about = PngImagePlugin.PngInfo()
    about.add_text("drawn from", mark)
    draw(record).save(PICTURE, optimize=True, pnginfo=about)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
