"""Pictures of a run as pieces of a page: read from its chunks, and made as small as a budget of bytes asks.

A folder that was exported has no chunks: there the pictures of its page are the only ones left, and stay when the page is made again.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import IntegrityError
from scottbench.store.contents import Unfit, decoded, unpack_pictures
from scottbench.store.files import LARGEST_JSON, SAFE, read_plain
from scottbench.store.folder import RunFolder
from scottbench.store.reader import chunks_of
from scottbench.store.sums import check_sums
from scottbench.text import printable

if TYPE_CHECKING:
    from PIL.Image import Image

    from scottbench.store.record import RunRecord

SMALL = 96
"""Pixels. A picture of at most this keeps its pixels square on the page."""
BUDGET = 640_000
"""Bytes of all pictures of a page, before they are written as text, which adds a third."""
EXACT = 100
"""Quality that means: every pixel as it is."""
LEVELS = {True: ((SMALL, EXACT), (SMALL, 90), (SMALL, 75), (SMALL, 50)),
          False: ((512, 80), (384, 75), (256, 75), (192, 70), (128, 60), (96, 50))}  # fmt: skip
"""True (small pictures) or False -> levels: (longest side in pixels, quality of WebP), best first."""
WEBP = re.compile(r"data:image/webp;base64,UklGR[A-Za-z0-9+/]+={0,2}")
"""What a picture of a page is, by its first four bytes (RIFF) too; nothing else is taken over from one."""
TRIED = 12
"""Pictures that are encoded to learn how large all will be."""


@dataclass(frozen=True)
class Picture:
    """An image inside the page."""

    source: str
    """data: URI; "" if the image was not kept or cannot be read."""
    alt: str
    pixelated: bool = False
    label: str = ""
    """A few words that stand below it."""


@dataclass(frozen=True)
class Wanted:
    """An image that the page should show."""

    owner: str
    """Its folder below images/."""
    item: str
    alt: str
    label: str = ""


def shown(record: RunRecord, wanted: Sequence[Wanted], budget: int = BUDGET) -> list[Picture]:
    """Read pictures and make them as large as the budget allows, all alike. Of a run without any, those of its page as they are.

    Raises IntegrityError where one is there and is damaged.
    """
    chunks = chunks_of(record.folder, record.manifest)
    found: dict[tuple[str, str], bytes] = {}
    for owner in dict.fromkeys(one.owner for one in wanted):
        items = list(dict.fromkeys(one.item for one in wanted if one.owner == owner))
        found |= {(owner, item): data for item, data in find(chunks, owner, items).items()}
    if not found and (earlier := of_page(record.folder / "report" / "index.html")):
        return [replace(earlier.get(printable(one.alt), Picture("", f"{one.alt} (not kept)")), label=one.label) for one in wanted]
    return fitted([(opened(found.get((one.owner, one.item))), one.alt, one.label) for one in wanted], budget)


def of_page(page: Path) -> dict[str, Picture]:
    """Return alt text -> picture, of a page that was made before; none of one that was changed, nor where two differ in nothing said."""
    try:
        check_sums(page.parent)
        reader = _Pictures()
        reader.feed(read_plain(page, LARGEST_JSON, page.parent.parent).decode("utf-8"))
    except (OSError, ValueError, IntegrityError):
        return {}
    return {alt: pictures[0] for alt, pictures in reader.found.items() if len(set(pictures)) == 1}


class _Pictures(HTMLParser):
    """Gathers the pictures of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[Picture]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an <img> that is a WebP inside the page."""
        facts = dict(attrs)
        source, alt = facts.get("src") or "", facts.get("alt") or ""
        if tag == "img" and alt and WEBP.fullmatch(source):
            self.found.setdefault(alt, []).append(Picture(source, alt, "pixelated" in (facts.get("class") or "").split()))


def fitted(images: Sequence[tuple[Image | str, str, str]], budget: int = BUDGET) -> list[Picture]:
    """Make pictures as large as the budget allows, all alike. images: (image, or why there is none; its text; its label)."""
    there = [image for image, _, _ in images if not isinstance(image, str)]
    small = all(max(image.size) <= SMALL for image in there)
    level = _level(there, LEVELS[small], budget)
    made = []
    for image, alt, label in images:
        if isinstance(image, str):
            made.append(Picture("", f"{alt} ({image})", label=label))
        else:
            data = base64.b64encode(encoded(image, *level)).decode()
            made.append(Picture(f"data:image/webp;base64,{data}", alt, max(image.size) <= SMALL, label))
    return made


def find(chunks: RunFolder, owner: str, ids: Sequence[str]) -> dict[str, bytes]:
    """Return item id -> PNG bytes, out of the chunks of one cell that are whole and in their place.

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


def opened(data: bytes | None) -> Image | str:
    """Decode a PNG; say in words why there is no picture."""
    from PIL import Image

    if data is None:
        return "not kept"
    try:
        return Image.fromarray(decoded(data))
    except Unfit:
        return "damaged"


def _level(images: Sequence[Image], levels: Sequence[tuple[int, int]], budget: int) -> tuple[int, int]:
    """Return the best level at which all pictures fit the budget, judged by some of them; the last one where none does."""
    some = images[:: max(1, -(-len(images) // TRIED))]
    for level in levels:
        if sum(len(encoded(image, *level)) for image in some) * len(images) <= budget * len(some):
            return level
    return levels[-1]


def encoded(image: Image, side: int, quality: int) -> bytes:
    """Write a picture as WebP, its longest side at most so many pixels. Always encoded again: what is embedded is pixels, never whatever
    else the file carried."""
    from PIL import Image

    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if quality == EXACT:
        image.save(buffer, "WEBP", lossless=True, quality=60, method=3)
    else:
        image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()
