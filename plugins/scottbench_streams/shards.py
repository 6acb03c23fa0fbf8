"""Shards of any form: what each has to tell, which names columns go by, and what is left out of an index.

An index has a row of five whole numbers for each item that is admitted; caption and picture are found by it without a look at others.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from scottbench.errors import UsageError
from scottbench_streams.options import StreamOptions

IMAGES = ("image", "jpg", "jpeg", "png", "webp", "img", "picture")
CAPTIONS = ("caption", "text", "TEXT", "txt", "prompt")
AESTHETIC = ("aesthetic", "aesthetic_score", "AESTHETIC_SCORE", "aesthetics_score")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST_PICTURE, LARGEST_TEXT, MOST_PIXELS = 2**27, 2**20, 2**27
"""Bytes of a picture's file, bytes of a caption or of a sample's .json, pixels of a picture: at most."""
HELD = 2**29
"""Bytes of pictures' files that are held, of forms whose items cannot be read one by one."""
LEFT_OUT = ("without a picture", "without a caption", "smaller than min_size", "below min_aesthetic", "with a file that is no picture")
"""Reasons for which items are left out of an index, each of which it counts in its first row."""
NO_PICTURE, NO_CAPTION, SMALL, UGLY, BROKEN = range(5)
Kept = TypeVar("Kept")


class Shard(Protocol):
    """One file with many items."""

    path: Path

    def index(self, options: StreamOptions) -> np.ndarray:
        """Look through the file: (1 + n, 5) int64, counts of what is left out, by `LEFT_OUT`, then a row for each item. Raises UsageError
        or DamagedAsset."""

    def caption(self, row: np.ndarray) -> str:
        """Read the caption of a row (5,) of the index, not yet stripped. Raises OSError or ValueError where it cannot be read."""

    def picture(self, row: np.ndarray) -> bytes:
        """Read the bytes of the picture of a row (5,) of the index. Raises OSError or ValueError where they cannot be read."""


class Table:
    """An index that grows."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.left_out = [0] * len(LEFT_OUT)

    def add(self, *numbers: int) -> None:
        """Add an item."""
        self.rows.append((*numbers, *[0] * (5 - len(numbers))))

    def leave_out(self, reason: int) -> None:
        """Count an item that is left out."""
        self.left_out[reason] += 1

    def array(self) -> np.ndarray:
        """Return the index, (1 + n, 5) int64."""
        return np.array([tuple(self.left_out), *self.rows], np.int64).reshape(-1, 5)


class Held:
    """The most recent of things that are slow to read, up to a number of bytes in all; several threads may ask."""

    def __init__(self, most: int = HELD):
        self.most, self.size, self.lock = most, 0, Lock()
        self.things: OrderedDict[object, tuple[Any, int]] = OrderedDict()

    def get(self, key: object, make: Callable[[], tuple[Kept, int]]) -> Kept:
        """Return what is held under a key; else make it: (thing, its bytes)."""
        with self.lock:
            if key not in self.things:
                self.things[key] = make()
                self.size += self.things[key][1]
                while self.size > self.most and len(self.things) > 1:
                    self.size -= self.things.popitem(last=False)[1][1]
            self.things.move_to_end(key)
            found: Kept = self.things[key][0]
            return found


def pick(asked: str, usual: Iterable[str], there: Iterable[str]) -> str | None:
    """Choose a column or field: the one that was asked for, or the first usual one that is there; None where it is not there."""
    there = list(there)
    wanted = usual if asked == "auto" else (asked,)
    return next((name for name in wanted if name in there), None)


def text_of(fields: Mapping[str, Any], asked: str) -> str:
    """Return the caption among fields of a .json; "" where there is none."""
    name = pick(asked, CAPTIONS, (key for key, value in fields.items() if isinstance(value, str)))
    return "" if name is None else " ".join(fields[name].split())


def is_fine(score: object, least: float) -> bool:
    """Tell whether an aesthetic score, which may be missing, or text, is high enough."""
    try:
        return float(score) >= least if isinstance(score, (int, float, str)) else False
    except ValueError:
        return False


def shorter_side(data: bytes) -> int:
    """Return the shorter side of a picture in pixels, by its head alone; 0 where it is no picture."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            return min(picture.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # PIL's readers raise all of these
        return 0


def read_at(path: Path, offset: int, size: int, limit: int) -> bytes:
    """Read a part of a file. Raises OSError where it ends before, and ValueError for more bytes than `limit`."""
    if size > limit:
        raise ValueError(f"has {size:,} bytes, more than the {limit:,} that are read")
    stream = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(stream, size, offset)
        while len(data) < size and (more := os.pread(stream, size - len(data), offset + len(data))):
            data += more
    finally:
        os.close(stream)
    if len(data) < size:
        raise OSError("is cut off")
    return data


def another_schema(path: Path, columns: Mapping[str, object], what: str, option: str) -> UsageError:
    """Return the error for a table that lacks a column."""
    has = ", ".join(f"{name} ({kind})" for name, kind in list(columns.items())[:8])
    usual = {"image": IMAGES, "caption": CAPTIONS, "aesthetic": AESTHETIC}[option]
    return UsageError(f"{path} has no column of {what}; it has {has[:300]}. Usual names: {', '.join(usual)}. Name it: {option}=COLUMN.")
