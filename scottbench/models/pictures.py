"""Pictures of a folder or archive, decoded when they are asked for, and which caption belongs to which of them.

Every picture is read and decoded once when its place is opened, so that a broken one, its size and the digest of all are known before
anything is computed. What is read later must be the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from scottbench.errors import DamagedAsset, UsageError
from scottbench.models.images import rgb
from scottbench.store.captions import Caption, beside, find_captions, read_captions
from scottbench.store.files import Refused
from scottbench.store.pictures import Entry, Place, open_place, safe_id
from scottbench.text import count, one_line

PIXELS = 2**30 // (3 * 64)
"""Pixels of a picture at most, so that a chunk of 64 fits where runs store it: 5,592,405, as 2,364 x 2,364."""
FORMATS = ["PNG", "JPEG", "WEBP"]
LOSSY = ("JPEG", "lossy WebP")
SHOWN = 3
"""How many names a message lists."""


class Unreadable(ValueError):
    """A picture that cannot be used. The message ends a sentence that begins with its name."""


@dataclass(frozen=True)
class Look:
    """One picture, as its file turned out to be."""

    format: str
    """ "PNG", "JPEG", "WebP", "lossy WebP" or "array"."""
    size: tuple[int, int]
    """Width and height in pixels."""
    digest: str
    """sha256 hex of its file, or of its pixels in an array."""


@dataclass(frozen=True)
class PictureSet:
    """Pictures in a fixed order, each whole when it was opened."""

    place: Path
    entries: tuple[Entry, ...]
    ids: tuple[str, ...]
    """Names that are safe as file names; "" of arrays without ids."""
    looks: tuple[Look, ...]
    broken: dict[str, str] = field(default_factory=dict)
    """Name -> what is wrong, of the pictures that were left out."""

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.entries)

    @cached_property
    def digest(self) -> str:
        """sha256 hex over ids and files, in order."""
        lines = (f"{one}\t{look.digest}\n" for one, look in zip(self.ids, self.looks, strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def formats(self) -> dict[str, int]:
        """Format -> number of pictures, the most frequent first."""
        return dict(Counter(look.format for look in self.looks).most_common())

    @property
    def sizes(self) -> dict[tuple[int, int], int]:
        """(width, height) -> number of pictures, the most frequent first."""
        return dict(Counter(look.size for look in self.looks).most_common())

    @property
    def lossy(self) -> int:
        """Number of pictures whose format loses something of the pixels that were made."""
        return sum(look.format in LOSSY for look in self.looks)

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Decode pictures: (n,H,W,3) uint8, RGB 0..255; where sizes differ, (n,) of such arrays (H,W,3).

        Raises DamagedAsset for a file that is another than when it was opened.
        """
        return stacked([self._image(int(index)) for index in indices])

    def _image(self, index: int) -> np.ndarray:
        entry = self.entries[index]
        try:
            pixels, look = decode(entry)
        except Unreadable as error:
            raise DamagedAsset(f"{self.place}/{entry.name} {error}. It was whole when it was first read: run the command again.") from None
        if look.digest != self.looks[index].digest:
            raise DamagedAsset(f"{self.place}/{entry.name} changed while it was in use. Run the command again.")
        return pixels

    def at(self, indices: Iterable[int], ids: Iterable[str] | None = None) -> PictureSet:
        """Return some of the pictures, in the order of `indices`. ids: other names for them."""
        chosen = list(indices)
        named = tuple(self.ids[i] for i in chosen) if ids is None else tuple(ids)
        return replace(self, entries=tuple(self.entries[i] for i in chosen), ids=named, looks=tuple(self.looks[i] for i in chosen))


def stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return (H,W,3) images as one (n,H,W,3) array; where sizes differ, as an (n,) array of objects."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    found = np.empty(len(images), object)
    found[:] = images
    return found


# --- decoding --------------------------------------------------------------------------------------------------------


def decode(entry: Entry) -> tuple[np.ndarray, Look]:
    """Read a picture: (H,W,3) uint8 RGB, and what it is. Raises Unreadable."""
    try:
        data = entry.read()
    except (OSError, Refused) as error:
        raise Unreadable(f"cannot be read ({one_line(error.strerror)})" if isinstance(error, OSError) else str(error)) from None
    if isinstance(data, np.ndarray):
        if data.shape[0] * data.shape[1] > PIXELS:
            raise Unreadable(too_large(data.shape[1], data.shape[0]))
        return data, Look("array", (data.shape[1], data.shape[0]), hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest())
    digest = hashlib.sha256(data).hexdigest()
    _refuse_head(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > PIXELS:
                raise Unreadable(too_large(width, height))
            if getattr(picture, "is_animated", False):
                raise Unreadable("is animated")
            pixels = np.asarray(rgb(picture))
    except Image.DecompressionBombError:
        raise Unreadable(f"has more pixels than are read; at most {PIXELS:,}") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, OverflowError, MemoryError) as error:  # PIL raises all of these
        if isinstance(error, Unreadable):
            raise
        # PIL's words for a file of no known kind name an address in memory: another in every run
        why = "no PNG, JPEG or WebP" if isinstance(error, UnidentifiedImageError) else one_line(error)[:100] or type(error).__name__
        raise Unreadable(f"cannot be decoded ({why})") from None
    return pixels, Look(_format(data), (width, height), digest)


def too_large(width: int, height: int) -> str:
    """Say that a picture has too many pixels."""
    return f"has {width:,} x {height:,} pixels; at most {PIXELS:,} are read. Make it smaller"


def _refuse_head(data: bytes) -> None:
    """Raise Unreadable for a PNG that says to be too large, before a decoder sees it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        if width * height > PIXELS:
            raise Unreadable(too_large(width, height))


def _format(data: bytes) -> str:
    """The format of a picture that PIL has read."""
    if data.startswith(b"\x89PNG"):
        return "PNG"
    if data.startswith(b"RIFF"):
        return "WebP" if _is_lossless(data) else "lossy WebP"
    return "JPEG"


def _is_lossless(data: bytes) -> bool:
    """Whether a WebP holds a chunk of lossless pixels."""
    place = 12
    while place + 8 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name in (b"VP8L", b"VP8 "):
            return name == b"VP8L"
        place += 8 + size + size % 2
    return False


# --- opening ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """A place of pictures that was read, with the captions that lie in it."""

    pictures: PictureSet
    captions: list[Caption] | None
    """Those of its file of captions, or of the text files beside the pictures; None where there are none."""
    where: Path
    """The place that the captions are from."""


def open_pictures(path: Path, captions: Path | None = None, needs_captions: bool = True) -> Opened:
    """Read all pictures of a folder or archive. captions: the file of captions, in place of those that lie there.

    Raises UsageError or DamagedAsset, one line: not there, no picture that can be decoded, captions that cannot be read.
    """
    path = Path(path)
    place = open_place(path)
    found = examined(place)
    if captions is None and needs_captions and path.is_dir():
        captions = find_captions(path)
    if captions is not None:
        return Opened(found, read_captions(captions), captions)
    return Opened(found, beside(place.texts, path) if place.texts and needs_captions else None, path)


def examined(place: Place) -> PictureSet:
    """Decode all pictures of a place once, on all processors. Raises DamagedAsset where none can be."""
    def look(entry: Entry) -> Look | Unreadable:
        try:
            return decode(entry)[1]
        except Unreadable as error:
            return error

    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # PIL warns of large pictures and odd tags; sizes have a limit of our own
        looks = list(pool.map(look, place.entries))
    whole = [(entry, one) for entry, one in zip(place.entries, looks, strict=True) if isinstance(one, Look)]
    broken = {
        entry.name or f"picture {number}": str(one) for number, (entry, one) in enumerate(zip(place.entries, looks, strict=True))
        if isinstance(one, Unreadable)
    }  # fmt: skip
    if not whole:
        name, why = next(iter(broken.items()))
        raise DamagedAsset(f"{place.path}: none of {count(len(broken), 'picture')} can be used; {one_line(name)} {why}.")
    ids = tuple(safe_id(entry.id) if entry.id else "" for entry, _ in whole)
    return PictureSet(place.path, tuple(entry for entry, _ in whole), ids, tuple(one for _, one in whole), broken)


# --- captions and pictures -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matched:
    """Captions and pictures that belong together, in the order of the captions, and what is left of both."""

    pictures: PictureSet
    prompts: tuple[str, ...]
    without_picture: list[str]
    """Captions of no picture here."""
    without_caption: list[str]
    """Pictures of no caption."""

    def remarks(self) -> list[str]:
        """Return a line for captions without a picture, and one for pictures without a caption, where there are some."""
        kinds = (("caption", "picture", self.without_picture), ("picture", "caption", self.without_caption))
        return [
            f"{self.pictures.place}: {count(len(names), what)} without a {other} left out ({named(names)})"
            for what, other, names in kinds if names
        ]


def match(pictures: PictureSet, captions: Sequence[Caption], where: Path) -> Matched:
    """Find the picture of each caption: by file, else by id, else, where captions have neither or pictures no names, by order.

    Raises UsageError, one line: none fits, two pictures or captions of one id, or unequal numbers where only the order tells.
    """
    if not captions[0].name or not pictures.ids[0]:
        return _by_order(pictures, captions, where)
    taken, prompts, absent = [], [], []
    find = _finder(pictures)
    for caption in captions:
        index = find(caption)
        if index is None:
            # a broken one is told of already
            absent += [] if any(caption.name in (name, Path(name).stem) for name in pictures.broken) else [caption.name]
        else:
            taken.append(index)
            prompts.append(caption.text)
    if not taken:
        theirs, ours = one_line(captions[0].name)[:60], one_line(pictures.entries[0].name)[:60]
        raise UsageError(
            f"{where}: none of its {count(len(captions), 'caption')} is of a picture in {pictures.place}; they are of '{theirs}' and the "
            f"like, the pictures are '{ours}' and the like. An id is the file's name without its suffix; or name files in a column 'file'.")
    if len(set(taken)) < len(taken):
        twice = next(index for index, times in Counter(taken).items() if times > 1)
        raise UsageError(f"{where} has two captions of '{one_line(pictures.entries[twice].name)}'. Keep one.")
    left = [entry.name for index, entry in enumerate(pictures.entries) if index not in set(taken)]
    chosen = pictures.at(taken)
    if len(set(chosen.ids)) < len(chosen.ids):  # in folders of one name each
        chosen = pictures.at(taken, [safe_id(str(Path(pictures.entries[index].name).with_suffix(""))) for index in taken])
    return Matched(chosen, tuple(prompts), absent, left)


def _by_order(pictures: PictureSet, captions: Sequence[Caption], where: Path) -> Matched:
    if len(pictures) != len(captions):
        what = "captions have no ids" if not captions[0].name else "pictures have no ids"
        left_out = f" (and {len(pictures.broken)} that cannot be read)" if pictures.broken else ""
        raise UsageError(f"{where}: {count(len(captions), 'caption')} for {count(len(pictures), 'picture')}{left_out} in {pictures.place}; "
                         f"{what}, so both must be in one order and equally many.")
    ids = [one if one else safe_id(caption.id) if caption.id else f"{number:06d}"
           for number, (one, caption) in enumerate(zip(pictures.ids, captions, strict=True))]  # fmt: skip
    if len(set(ids)) < len(ids):
        raise _twice(pictures)
    return Matched(pictures.at(range(len(pictures)), ids), tuple(one.text for one in captions), [], [])


def _finder(pictures: PictureSet) -> Callable[[Caption], int | None]:
    """A function that finds the index of a caption's picture. Raises UsageError, when called, for an id that two pictures have."""
    by_file = {entry.name: index for index, entry in enumerate(pictures.entries)}
    by_id: dict[str, list[int]] = {}
    for index, entry in enumerate(pictures.entries):
        for name in {entry.id, Path(entry.name).name}:
            by_id.setdefault(name, []).append(index)

    def find(caption: Caption) -> int | None:
        if caption.file in by_file:
            return by_file[caption.file]
        names = [Path(caption.file).name, Path(caption.file).stem] if caption.file else [caption.id]
        hits = next((by_id[name] for name in names if name in by_id), [])
        if len(hits) > 1:
            both = " and ".join(pictures.entries[index].name for index in hits[:2])
            raise UsageError(f"{pictures.place}: {one_line(both)} have one id, '{one_line(caption.name)}'. Rename one, or name files in a "
                             "column 'file' of the captions.")
        return hits[0] if hits else None

    return find


def _twice(pictures: PictureSet) -> UsageError:
    name = next(one for one, times in Counter(pictures.ids).items() if times > 1)
    return UsageError(f"{pictures.place}: two pictures have the id '{one_line(name)}'. Rename one.")


def named(names: Sequence[str]) -> str:
    """List the first of many names: "a.png, b.png, c.png, ..."."""
    return one_line(", ".join(names[:SHOWN]))[:200] + (", ..." if len(names) > SHOWN else "")
