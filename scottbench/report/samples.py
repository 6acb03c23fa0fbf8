"""The sample grid: the first items of the plan, the same for every cell, beside the reference; pictures as data: URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from scottbench.store.contents import Unfit, decoded, unpack_pictures
from scottbench.store.files import SAFE
from scottbench.store.folder import RunFolder
from scottbench.store.reader import chunks_of
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
    has_reference = section(record.manifest, "reference").get("n") != 0 and "reference" not in section(record.plan, "dataset")
    places = [("reference", "", "reference")] * has_reference
    places += [(cell.method, _detail(cell, seeds), str(cell.facts["id"])) for cell in shown]
    pictures = []
    chunks = chunks_of(record.folder, record.manifest)
    for method, detail, place in places:
        found = _find(chunks, place, ids)
        what = f"{method}, {detail}" if detail else f"{method} image"
        pictures.append([_picture(found.get(item_id), f"{prompt}: {what}") for item_id, prompt in zip(ids, prompts)])
    rows = [(prompt, [column[y] for column in pictures]) for y, prompt in enumerate(prompts)]
    sizes = ", ".join(f"{n:,}" for n in sorted({cell.n for cell in record.cells}))
    caption = f"Samples: the first {len(ids)} of the N = {sizes} prompts in the plan's order, not chosen by hand."
    if any(cell.steps for cell in shown):
        caption += " In a row all methods start from the same noise" + ("; left," if has_reference else ".")
    elif has_reference:
        caption += " Left,"
    caption += " the reference image of the prompt." if has_reference else ""
    # twice 64 px keeps pixels square; many columns get less
    return Grid(caption, [(method, detail) for method, detail, _ in places], rows, 128 if len(places) <= 5 else 96)


def _detail(cell: CellRecord, seeds: bool) -> str:
    if cell.steps == 0:
        return "pictures given"
    steps = f"{cell.steps} step" if cell.steps == 1 else f"{cell.steps} steps"
    return f"{steps}, seed {cell.facts['seed']}" if seeds else steps


def _find(chunks: RunFolder, owner: str, ids: list[str]) -> dict[str, bytes]:
    """Item id -> PNG bytes, out of the chunks of one cell that are whole and in their place.

    Raises IntegrityError where one is there and is damaged. A manifest must not lead out of the run folder, so an owner that is no name
    has none.
    """
    found: dict[str, bytes] = {}
    place = ("images", owner)
    for span, held in chunks.stored(place).items() if SAFE.fullmatch(owner) else []:
        wanted = set(ids).intersection(held) - found.keys()
        if wanted and (data := chunks.whole(place, span, held)) is not None:
            pictures = dict(zip(held, unpack_pictures(data, held), strict=True))
            found |= {item_id: pictures[item_id] for item_id in wanted}
        if len(found) == len(ids):
            break
    return found


def _picture(data: bytes | None, alt: str) -> Picture:
    from PIL import Image

    if data is None:
        return Picture("", f"{alt} (not kept)")
    try:
        small = Image.fromarray(decoded(data))
    except Unfit:
        return Picture("", f"{alt} (damaged)")
    pixelated = max(small.size) <= 96
    if max(small.size) > LARGEST:
        small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    # always encoded again: what is embedded is pixels, never whatever else the file carried
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return Picture("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), alt, pixelated)
