"""WebDataset: tars whose files KEY.jpg, KEY.txt and KEY.json are one sample. Nothing is unpacked to disk."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from scottbench.errors import DamagedAsset, UsageError
from scottbench_streams.options import StreamOptions
from scottbench_streams.shards import (
    AESTHETIC,
    BROKEN,
    LARGEST_PICTURE,
    LARGEST_TEXT,
    NO_CAPTION,
    NO_PICTURE,
    SMALL,
    SUFFIXES,
    UGLY,
    Table,
    is_fine,
    pick,
    read_at,
    shorter_side,
    text_of,
)

Place = tuple[int, int]
"""Offset and size of a member's bytes."""


class Tar:
    """One tar. A row of its index: offset and size of the picture, offset and size of the caption, 1 where that is a .json."""

    def __init__(self, path: Path, options: StreamOptions):
        self.path, self.asked = path, options.caption

    def index(self, options: StreamOptions) -> np.ndarray:
        """Make the index, (1 + n, 5) int64. Raises UsageError for a member that leads out or is no plain file, DamagedAsset where the tar
        is cut off."""
        table = Table()
        for parts in self.samples():
            self.admit(parts, options, table)
        return table.array()

    def samples(self) -> Iterator[dict[str, Place]]:
        """Yield {suffix: place} of each sample: members of one key that follow each other. Raises as `index`."""
        key: tuple[PurePosixPath, str] | None = None
        parts: dict[str, Place] = {}
        found = 0
        try:
            with tarfile.open(self.path, "r:") as archive:
                for member in archive:
                    if member.isdir():
                        continue
                    self.check(member)
                    where = PurePosixPath(member.name)
                    stem, _, suffix = where.name.partition(".")
                    if (where.parent, stem) != key:
                        if parts:
                            yield parts
                            found += 1
                        key, parts = (where.parent, stem), {}
                    parts[f".{suffix.lower()}"] = member.offset_data, member.size
                self.check_end(archive.offset, found)
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise DamagedAsset(
                f"{self.path} is cut off or damaged after {found:,} samples ({str(error)[:80]}). Fetch it again; the other shards need not "
                "be.") from None
        if parts:
            yield parts

    def check(self, member: tarfile.TarInfo) -> None:
        """Raise UsageError for a member that is no plain file, or whose name leads out of the archive."""
        where = PurePosixPath(member.name)
        if not member.isreg() or member.issparse() or where.is_absolute() or ".." in where.parts or "\\" in member.name:
            what = "is no plain file" if not member.isreg() or member.issparse() else "leads out of the archive"
            name = " ".join(member.name.split())[:80]
            raise UsageError(f"{self.path}: '{name}' {what}. Such an archive is not opened.")

    def check_end(self, offset: int, found: int) -> None:
        """Raise DamagedAsset where something else than zeros follows the last member: the reader stops at a damaged head without a word."""
        with open(self.path, "rb") as stream:
            stream.seek(offset)
            if any(stream.read(4096)):
                raise DamagedAsset(f"{self.path} is damaged after {found:,} samples. Fetch it again; the other shards need not be.")

    def admit(self, parts: dict[str, Place], options: StreamOptions, table: Table) -> None:
        """Add a sample to the index, or count why not."""
        picture = next((parts[suffix] for suffix in SUFFIXES if suffix in parts), None)
        if picture is None:
            return table.leave_out(NO_PICTURE)
        text = parts.get(".txt") if self.asked == "auto" else None
        if text is not None and not self.text(text).strip():
            text = None
        if text is None and not text_of(self.fields(parts.get(".json")), self.asked):
            return table.leave_out(NO_CAPTION)
        if options.min_aesthetic is not None:
            fields = self.fields(parts.get(".json"))
            name = pick(options.aesthetic, AESTHETIC, fields)
            if name is None or not is_fine(fields[name], options.min_aesthetic):
                return table.leave_out(UGLY)
        if picture[1] > LARGEST_PICTURE:
            return table.leave_out(BROKEN)
        if options.min_size:
            side = shorter_side(read_at(self.path, *picture, LARGEST_PICTURE))
            if side < options.min_size:
                return table.leave_out(SMALL if side else BROKEN)
        words = text if text is not None else parts[".json"]
        return table.add(*picture, *words, int(text is None))

    def text(self, place: Place) -> str:
        """Read a .txt; "" where it is too long, or no text."""
        try:
            return read_at(self.path, *place, LARGEST_TEXT).decode()
        except ValueError:
            return ""

    def fields(self, place: Place | None) -> dict[str, Any]:
        """Read a .json; {} where it is none."""
        if place is None:
            return {}
        try:
            found = json.loads(read_at(self.path, *place, LARGEST_TEXT))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def caption(self, row: np.ndarray) -> str:
        """Read the caption of a row (5,)."""
        place = int(row[2]), int(row[3])
        return text_of(self.fields(place), self.asked) if row[4] else self.text(place)

    def picture(self, row: np.ndarray) -> bytes:
        """Read the picture's bytes of a row (5,). Raises OSError or ValueError."""
        return read_at(self.path, int(row[0]), int(row[1]), LARGEST_PICTURE)
