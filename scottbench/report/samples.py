"""The sample grid: the first items of the plan, the same for every cell, beside the reference; pictures as data: URIs."""

from __future__ import annotations

import base64
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from scottbench.store.record import CellRecord, RunRecord, section

LARGEST = 192
"""Pixels. A larger image is embedded at this size, so that a page of 512 px samples stays a few MB."""


@dataclass(frozen=True)
class Picture:
    """An image of the grid, inside the page."""

    source: str
    """data: URI of a PNG; "" if the image was not kept or cannot be read."""
    alt: str
    pixelated: bool = False


@dataclass
class Grid:
    """Samples side by side: a row a prompt, a column a cell."""

    caption: str
    columns: list[tuple[str, str]]
    """(method, number of steps) of each column after the prompts'."""
    rows: list[tuple[str, list[Picture]]]
    """(prompt, pictures)."""
    size: int
    """Width and height of a picture on the page, CSS pixels."""
    number: int = 0


def sample_grid(record: RunRecord) -> Grid | None:
    """Prompts down, reference and cells across; None where the run kept no samples."""
    samples = section(record.manifest, "samples")
    ids, prompts = samples.get("ids", []), samples.get("prompts", [])
    if not ids:
        return None
    shown = record.first_seed()
    seeds = len(shown) < len(record.cells)
    places = [("reference", "", "reference")] + [(cell.method, _detail(cell, seeds), str(cell.facts["id"])) for cell in shown]
    pictures = []
    for method, detail, place in places:
        found = _find(record.folder / "images" / place if _plain(place) else None, ids)
        what = f"{method}, {detail}" if detail else f"{method} image"
        pictures.append([_picture(found.get(item_id), f"{prompt}: {what}") for item_id, prompt in zip(ids, prompts)])
    rows = [(prompt, [column[y] for column in pictures]) for y, prompt in enumerate(prompts)]
    sizes = ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))
    caption = (
        f"Samples: the first {len(ids)} of the N = {sizes} prompts in the plan's order, not chosen by hand. In a row all methods "
        "start from the same noise; left, the reference image of the prompt."
    )
    # twice 64 px keeps pixels square; many columns get less
    return Grid(caption, [(method, detail) for method, detail, _ in places], rows, 128 if len(places) <= 5 else 96)


def _detail(cell: CellRecord, seeds: bool) -> str:
    steps = f"{cell.steps} step" if cell.steps == 1 else f"{cell.steps} steps"
    return f"{steps}, seed {cell.facts['seed']}" if seeds else steps


def _plain(name: str) -> bool:
    """Whether a cell id is one folder name: a manifest must not lead out of the run folder."""
    return name not in ("", ".", "..") and Path(name).name == name and "\\" not in name


def _find(folder: Path | None, ids: list[str]) -> dict[str, bytes]:
    """Item id -> PNG bytes, out of the chunks of one cell; damaged chunks are passed over."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.zip")) if folder is not None else []:
        wanted = {f"{item_id}.png": item_id for item_id in ids if item_id not in found}
        if not wanted:
            break
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name in wanted:
                        found[wanted[name]] = archive.read(name)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError):
            continue
    return found


def _picture(data: bytes | None, alt: str) -> Picture:
    from PIL import Image

    if data is None:
        return Picture("", f"{alt} (not kept)")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Picture("", f"{alt} (damaged)")
    pixelated = max(small.size) <= 96
    if max(small.size) > LARGEST:
        small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    # always encoded again: what is embedded is pixels, never whatever else the file carried
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return Picture("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), alt, pixelated)
