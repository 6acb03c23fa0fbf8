"""Tables with a column of pictures' bytes and one of captions: parquet, and the arrow files of a Hugging Face folder (`save_to_disk`).

Both are read by polars, which scottbench has already. An arrow file of that kind is a stream of messages: a schema, then record batches
(https://arrow.apache.org/docs/format/Columnar.html, "Encapsulated message format"). Its batches are found by their heads, so that one can
be read without those before it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from scottbench.errors import DamagedAsset
from scottbench_streams.options import StreamOptions
from scottbench_streams.shards import (
    AESTHETIC,
    BROKEN,
    CAPTIONS,
    IMAGES,
    LARGEST_PICTURE,
    NO_CAPTION,
    NO_PICTURE,
    SMALL,
    UGLY,
    Held,
    Table,
    another_schema,
    is_fine,
    pick,
    shorter_side,
)

BLOCK = 64
"""Rows of a parquet file that are read at once."""
LARGEST_BATCH = 2**31
"""Bytes of a record batch at most."""
SCHEMA, BATCH = 1, 3
"""Kinds of messages in an arrow stream."""


class Columns:
    """A table whose rows are read block by block. A row of its index: number of the row, and what finds its block."""

    def __init__(self, path: Path, options: StreamOptions, held: Held):
        self.path, self.options, self.held = path, options, held
        self.names: tuple[str, str, str | None] | None = None

    def schema(self) -> dict[str, Any]:
        """Return {column: type}. Raises NotImplementedError here; of a form as polars."""
        raise NotImplementedError

    def blocks(self) -> Iterator[tuple[tuple[int, ...], pl.DataFrame]]:
        """Yield (what finds a block, its rows without pictures) in order. Raises NotImplementedError here; of a form as polars."""
        raise NotImplementedError

    def read(self, block: tuple[int, ...], columns: list[str]) -> pl.DataFrame:
        """Read some columns of a block. Raises NotImplementedError here; of a form as polars."""
        raise NotImplementedError

    def chosen(self) -> tuple[str, str, str | None]:
        """Choose the columns of pictures, captions and, where it is asked for, scores. Raises UsageError where one is not there."""
        if self.names is not None:
            return self.names
        try:
            schema, o = self.schema(), self.options
        except (pl.exceptions.PolarsError, OSError, ValueError, struct.error) as error:
            raise self.damaged(error) from None
        image = pick(o.image, IMAGES, (name for name, kind in schema.items() if is_bytes(kind)))
        caption = pick(o.caption, CAPTIONS, (name for name, kind in schema.items() if kind == pl.String))
        if image is None:
            raise another_schema(self.path, schema, "pictures' bytes", "image")
        if caption is None:
            raise another_schema(self.path, schema, "captions", "caption")
        score = None if o.min_aesthetic is None else pick(o.aesthetic, AESTHETIC, schema)
        if o.min_aesthetic is not None and score is None:
            raise another_schema(self.path, schema, "aesthetic scores", "aesthetic")
        self.names = image, caption, score
        return self.names

    def damaged(self, error: Exception) -> DamagedAsset:
        """Return the error for a file that cannot be read."""
        return DamagedAsset(f"{self.path} is cut off or damaged ({' '.join(str(error).split())[:120]}). Fetch it again; the other shards "
                            "need not be.")

    def index(self, options: StreamOptions) -> np.ndarray:
        """Make the index, (1 + n, 5) int64. Raises UsageError for a table of another schema, DamagedAsset for one that is damaged."""
        image, caption, score = self.chosen()
        table = Table()
        try:
            for block, rows in self.blocks():
                sides = self.sides(block, image, rows) if options.min_size else None
                for number, text in enumerate(rows[caption].to_list()):
                    if text is None or not text.strip():
                        table.leave_out(NO_CAPTION)
                    elif score is not None and not is_fine(rows[score][number], options.min_aesthetic or 0.0):
                        table.leave_out(UGLY)
                    elif sides is not None and sides[number] < options.min_size:
                        table.leave_out(NO_PICTURE if sides[number] < 0 else SMALL if sides[number] else BROKEN)
                    else:
                        table.add(number, *block)
        except (pl.exceptions.PolarsError, OSError, ValueError, struct.error) as error:
            raise self.damaged(error) from None
        return table.array()

    def sides(self, block: tuple[int, ...], image: str, rows: pl.DataFrame) -> list[int]:
        """Return the shorter side of each picture of a block; -1 where there is none. Columns width and height are believed."""
        if {"width", "height"} <= set(rows.columns) and not rows["width"].is_null().any() and not rows["height"].is_null().any():
            return [min(int(w), int(h)) for w, h in zip(rows["width"].to_list(), rows["height"].to_list(), strict=True)]
        pictures = self.read(block, [image])[image].to_list()
        return [-1 if data is None else shorter_side(data) for data in map(bytes_of, pictures)]

    def light(self) -> list[str]:
        """List the columns that an index needs, pictures left out."""
        _, caption, score = self.chosen()
        sizes = [name for name in ("width", "height") if self.options.min_size and name in self.schema()]
        return list(dict.fromkeys([caption, *([score] if score else []), *sizes]))

    def of(self, row: np.ndarray, what: str) -> Any:
        """Return "image" or "caption" of a row (5,) of the index; its block is held for the next ones. Raises OSError where it cannot be
        read."""
        image, caption, _ = self.chosen()
        column, block = image if what == "image" else caption, tuple(int(number) for number in row[1:4])

        def make() -> tuple[list[Any], int]:
            try:
                values = self.read(block, [column])[column]
                return values.to_list(), int(values.estimated_size())
            except (pl.exceptions.PolarsError, ValueError, struct.error) as error:
                raise OSError(" ".join(str(error).split())[:120]) from None

        return self.held.get((self.path, what, block), make)[int(row[0])]

    def caption(self, row: np.ndarray) -> str:
        """Read the caption of a row (5,). Raises OSError."""
        return str(self.of(row, "caption"))

    def picture(self, row: np.ndarray) -> bytes:
        """Read the picture's bytes of a row (5,). Raises OSError or ValueError where there are none."""
        data = bytes_of(self.of(row, "image"))
        if data is None or len(data) > LARGEST_PICTURE:
            raise ValueError("has no bytes" if data is None else "is too large")
        return data


class Parquet(Columns):
    """A parquet file. Its blocks: first row, number of rows."""

    def schema(self) -> dict[str, Any]:
        """Return {column: type}. Raises as polars."""
        return dict(pl.read_parquet_schema(self.path))

    def blocks(self) -> Iterator[tuple[tuple[int, ...], pl.DataFrame]]:
        """Yield (block, its rows without pictures); 64 blocks are read at once. Raises as polars."""
        scan, at = pl.scan_parquet(self.path, glob=False).select(self.light()), 0
        while (rows := scan.slice(at, 64 * BLOCK).collect()).height:
            for first in range(0, rows.height, BLOCK):
                part = rows.slice(first, BLOCK)
                yield (at + first, part.height, 0), part
            at += rows.height

    def read(self, block: tuple[int, ...], columns: list[str]) -> pl.DataFrame:
        """Read some columns of a block. Raises as polars."""
        return pl.scan_parquet(self.path, glob=False).select(columns).slice(block[0], block[1]).collect()


class Arrow(Columns):
    """An arrow file of a Hugging Face folder. Its blocks are record batches: offset, bytes, rows."""

    def schema(self) -> dict[str, Any]:
        """Return {column: type}. Raises as polars."""
        return dict(pl.read_ipc_stream(io.BytesIO(self.head() + END)).schema)

    def head(self) -> bytes:
        """Read the message of the schema. Raises ValueError for another file."""
        kind, offset, size, _ = next(messages(self.path), (0, 0, 0, 0))
        if kind != SCHEMA:
            raise ValueError("it is no arrow stream")
        return part_of(self.path, offset, size)

    def blocks(self) -> Iterator[tuple[tuple[int, ...], pl.DataFrame]]:
        """Yield (block, its rows without pictures). Raises as polars, and ValueError for messages of other kinds."""
        for kind, offset, size, rows in messages(self.path):
            if kind == BATCH:
                yield (offset, size, rows), self.read((offset, size, rows), self.light())
            elif kind != SCHEMA:
                raise ValueError("it has messages of another kind than schema and record batches")

    def read(self, block: tuple[int, ...], columns: list[str]) -> pl.DataFrame:
        """Read some columns of a block. Raises as polars."""
        data = self.head() + part_of(self.path, block[0], block[1]) + END
        return pl.read_ipc_stream(io.BytesIO(data), columns=columns)


END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The last eight bytes of an arrow stream."""


def messages(path: Path) -> Iterator[tuple[int, int, int, int]]:
    """Yield (kind, offset, bytes with head and body, rows) of each message of an arrow stream. Raises ValueError where it is cut off."""
    end = path.stat().st_size
    with open(path, "rb") as stream:
        at = 0
        while at + 8 <= end:
            stream.seek(at)
            mark, length = struct.unpack("<Ii", stream.read(8))
            if mark != 0xFFFFFFFF or length < 0 or at + 8 + length > end:
                raise ValueError(f"no message at byte {at}")
            if length == 0:
                return
            kind, body, rows = message_head(stream.read(length))
            size = 8 + length + body
            if not 0 <= body <= LARGEST_BATCH or at + size > end:
                raise ValueError(f"the message at byte {at} is cut off")
            yield kind, at, size, rows
            at += size
    raise ValueError("it ends without an end")


def message_head(data: bytes) -> tuple[int, int, int]:
    """Read (kind, bytes of the body, rows of a record batch) from a message's head, a flatbuffer. Raises struct.error where it is none."""
    root = struct.unpack_from("<I", data, 0)[0]

    def field(table: int, number: int) -> int | None:
        """Return the offset of a field of a table; None where it has its default."""
        below = table - struct.unpack_from("<i", data, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", data, below)[0]:
            return None
        there = struct.unpack_from("<H", data, below + 4 + 2 * number)[0]
        return table + there if there else None

    kind_at, head_at, body_at = field(root, 1), field(root, 2), field(root, 3)
    kind = 0 if kind_at is None else struct.unpack_from("<B", data, kind_at)[0]
    body = 0 if body_at is None else struct.unpack_from("<q", data, body_at)[0]
    rows = 0
    if kind == BATCH and head_at is not None:
        rows_at = field(head_at + struct.unpack_from("<I", data, head_at)[0], 0)
        rows = 0 if rows_at is None else struct.unpack_from("<q", data, rows_at)[0]
    return kind, body, rows


def part_of(path: Path, offset: int, size: int) -> bytes:
    """Read a part of a file. Raises ValueError where it ends before."""
    with open(path, "rb") as stream:
        stream.seek(offset)
        data = stream.read(size)
    if len(data) < size:
        raise ValueError("it is cut off")
    return data


def is_bytes(kind: Any) -> bool:
    """Tell whether a column holds bytes, or, as of Hugging Face's images, {bytes, path}."""
    parts = kind.fields if isinstance(kind, pl.Struct) else []
    return kind == pl.Binary or any(part.name == "bytes" and part.dtype == pl.Binary for part in parts)


def bytes_of(value: Any) -> bytes | None:
    """Return the bytes of a value of such a column; None where it has none."""
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None
