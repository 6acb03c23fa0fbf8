"""DiffusionDB: part-000001.zip with pictures and part-000001.json, which has {file name: {"p": prompt, ...}}."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from scottbench.errors import DamagedAsset, UsageError
from scottbench_streams.options import StreamOptions
from scottbench_streams.shards import (
    AESTHETIC,
    BROKEN,
    CAPTIONS,
    LARGEST_PICTURE,
    NO_CAPTION,
    SMALL,
    SUFFIXES,
    UGLY,
    Held,
    Table,
    is_fine,
    pick,
    read_at,
    shorter_side,
)

LARGEST_LIST = 2**26
"""Bytes of a part's .json at most."""
STORED, DEFLATED = 0, 8


class Zip:
    """One part. A row of its index: offset and bytes as stored, bytes of the picture, compression, number among the archive's members."""

    def __init__(self, path: Path, options: StreamOptions, held: Held):
        self.path, self.held = path, held
        self.usual = ("p", *CAPTIONS) if options.caption == "auto" else (options.caption,)

    def index(self, options: StreamOptions) -> np.ndarray:
        """Make the index, (1 + n, 5) int64. Raises UsageError for a part without its .json, DamagedAsset for one that is damaged."""
        table = Table()
        try:
            with zipfile.ZipFile(self.path) as archive:
                members, facts = archive.infolist(), self.facts(archive)
                for number, member in enumerate(members):
                    if Path(member.filename).suffix.lower() in SUFFIXES:
                        self.admit(number, member, facts.get(Path(member.filename).name), options, table)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, struct.error, zlib.error) as error:
            raise DamagedAsset(
                f"{self.path} is cut off or damaged ({str(error)[:80]}). Fetch it again; the other shards need not be.") from None
        return table.array()

    def facts(self, archive: zipfile.ZipFile) -> dict[str, dict[str, Any]]:
        """Read the part's .json. Raises UsageError where there is none."""
        lists = [member for member in archive.infolist() if member.filename.lower().endswith(".json") and member.file_size <= LARGEST_LIST]
        try:
            found = json.loads(archive.read(lists[0]))
        except (IndexError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UsageError(
                f"{self.path} holds no JSON list of its pictures, as a part of DiffusionDB does. Use tar, parquet or arrow shards.")
        return {name: facts for name, facts in found.items() if isinstance(facts, dict)}

    def admit(
        self, number: int, member: zipfile.ZipInfo, facts: dict[str, Any] | None, options: StreamOptions, table: Table
    ) -> None:
        """Add a picture to the index, or count why not."""
        if facts is None or not self.words(facts).strip():
            return table.leave_out(NO_CAPTION)
        if options.min_aesthetic is not None:
            name = pick(options.aesthetic, AESTHETIC, facts)
            if name is None or not is_fine(facts[name], options.min_aesthetic):
                return table.leave_out(UGLY)
        if member.file_size > LARGEST_PICTURE or member.compress_type not in (STORED, DEFLATED) or member.flag_bits & 1:
            return table.leave_out(BROKEN)
        head = read_at(self.path, member.header_offset, 30, 30)
        # name and extra field stand before the bytes, and may be longer than in the list at the end
        offset = member.header_offset + 30 + sum(struct.unpack_from("<HH", head, 26))
        row = offset, member.compress_size, member.file_size, member.compress_type, number
        if options.min_size and (side := shorter_side(self.picture(np.array(row)))) < options.min_size:
            return table.leave_out(SMALL if side else BROKEN)
        return table.add(*row)

    def words(self, facts: dict[str, Any]) -> str:
        """Return the prompt among the facts of a picture; "" where there is none."""
        return next((facts[name] for name in self.usual if isinstance(facts.get(name), str)), "")

    def captions(self) -> tuple[dict[int, str], int]:
        """Read all prompts of the part: ({number among its members: prompt}, bytes)."""
        with zipfile.ZipFile(self.path) as archive:
            facts = self.facts(archive)
            names = [Path(member.filename).name for member in archive.infolist()]
        found = {number: self.words(facts[name]) for number, name in enumerate(names) if name in facts}
        return found, sum(map(len, found.values())) + 100 * len(found)

    def caption(self, row: np.ndarray) -> str:
        """Read the caption of a row (5,)."""
        return self.held.get((self.path, "captions"), self.captions)[int(row[4])]

    def picture(self, row: np.ndarray) -> bytes:
        """Read the picture's bytes of a row (5,). Raises OSError or ValueError."""
        offset, stored, size, method, _ = (int(number) for number in row)
        data = read_at(self.path, offset, stored, LARGEST_PICTURE)
        if method == STORED:
            return data
        try:
            return zlib.decompressobj(-15).decompress(data, size)
        except zlib.error as error:
            raise ValueError(str(error)) from None
