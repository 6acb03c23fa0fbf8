"""An encoded training split on disk: its arrays, a digest of every chunk of them, and what to do when they are not whole.

Of kind "both": `latents.npy`, `text.npy` and, of models that take one vector a prompt too, `pooled.npy` are (n, ...) float32. Of kind
"latents": `latents.npy` alone, in float16. `chunks.ndjson` says their shapes in its first line; each further line names a chunk that is
written and the sha256 of its rows in each file, so that a killed training loses the chunk it was encoding, and bytes that changed since are
noticed and encoded again. Where two lines name one chunk, the later counts. Of several processes that encode, each but the first notes its
chunks in a file of its own, `chunks.1.ndjson`, until all have finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from scottbench.errors import Busy, DamagedAsset, ScottbenchWarning
from scottbench.store.files import append_line, replace_file, sync, whole_lines, writing
from scottbench.store.lock import locked
from scottbench.text import bytes_in_words

CHUNK = 64
"""Items of one chunk; fixed, as are the calls in which it is encoded, so that the stored numbers do not depend on a training's batch."""
RECORD = "chunks.ndjson"
OPTIONAL = "pooled"
"""The third array, of Stable Diffusion XL."""


@dataclass(frozen=True)
class Kind:
    """The arrays that a cache holds, and their number format."""

    schema: str
    names: tuple[str, ...]
    format: str
    optional: bool = False
    """The array of `OPTIONAL` may be there too."""


KINDS = {
    "both": Kind("scottbench.latents/2", ("latents", "text"), "<f4", optional=True),
    "latents": Kind("scottbench.latents-half/1", ("latents",), "<f2"),
}
"""Word of --cache -> what is kept."""
FILES = ("latents", "text", OPTIONAL)
LONG = 2**30
"""Bytes from which on checking takes seconds, so that progress is shown."""
WAIT = 1.0
"""Seconds between two looks whether another training has finished encoding."""
DIGEST = re.compile(r"[0-9a-f]{64}")


class Progress(Protocol):
    """progress("encode" or "check", done, total): the form of the function that is told how far it has come."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@dataclass
class Cache:
    """A folder with the encoded rows of n items, as far as they are there."""

    folder: Path
    n: int
    shapes: dict[str, tuple[int, ...]]
    """Name of an array -> shape of a row."""
    digests: dict[int, dict[str, str]] = field(default_factory=dict)
    """First item of a chunk -> {name: sha256 hex of its rows}."""
    kind: str = "both"
    """Key of `KINDS`."""
    broken: dict[int, list[int]] = field(default_factory=dict)
    """First item of a chunk -> its items that could not be read, whose rows are zeros."""

    @property
    def format(self) -> str:
        """Return numpy's word for the number format of all arrays."""
        return KINDS[self.kind].format

    def left_out(self) -> list[int]:
        """List the items that could not be read, ascending."""
        return sorted(item for items in self.broken.values() for item in items)

    @property
    def names(self) -> tuple[str, ...]:
        """List the arrays."""
        return tuple(self.shapes)

    def path(self, name: str) -> Path:
        """Name the file of an array."""
        return self.folder / f"{name}.npy"

    def header(self, name: str) -> bytes:
        """Return the bytes that stand before the rows of an array."""
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": self.format, "fortran_order": False, "shape": (self.n, *self.shapes[name])})
        return stream.getvalue()

    def row_bytes(self, name: str) -> int:
        """Count the bytes of one row of an array."""
        return int(self.format[-1]) * math.prod(self.shapes[name])

    def chunks(self) -> range:
        """List the first item of every chunk."""
        return range(0, self.n, CHUNK)

    def rows(self, first: int) -> int:
        """Count the items of a chunk."""
        return min(CHUNK, self.n - first)

    def is_whole(self) -> bool:
        """Tell whether every chunk was written and the files are as long as they should be; their bytes are not looked at."""
        try:
            long_enough = all(
                self.path(name).stat().st_size >= len(self.header(name)) + self.n * self.row_bytes(name) for name in self.names)
        except OSError:
            return False
        return long_enough and all(first in self.digests for first in self.chunks())

    def damaged(self, progress: Progress) -> list[int]:
        """List the first item of each chunk that is missing, or whose bytes are not those that were written. One chunk is in memory."""
        found: list[int] = []
        shown = self.n * sum(map(self.row_bytes, self.names)) > LONG
        with contextlib.ExitStack() as files:
            try:
                streams = {name: files.enter_context(open_regular(self.path(name))) for name in self.names}
                if any(stream.read(len(self.header(name))) != self.header(name) for name, stream in streams.items()):
                    return list(self.chunks())
            except OSError:
                return list(self.chunks())
            for first in self.chunks():
                if self.digests.get(first) != {name: self.digest_at(stream, name, first) for name, stream in streams.items()}:
                    found.append(first)
                if shown:
                    progress("check", min(first + CHUNK, self.n), self.n)
        return found

    def digest_at(self, stream: io.BufferedReader, name: str, first: int) -> str:
        """Return the sha256 hex of a chunk's bytes; of another text where they cannot be read, or are too few."""
        try:
            stream.seek(len(self.header(name)) + first * self.row_bytes(name))
            return hashlib.sha256(stream.read(self.rows(first) * self.row_bytes(name))).hexdigest()
        except OSError:
            return ""

    def write(self, first: int, rows: dict[str, np.ndarray], broken: Sequence[int] = (), record: str = RECORD) -> None:
        """Put a chunk in its place: rows (k, ...) of each array. They are written, not mapped: a mapped write to a full disk kills the
        process. broken: items of it that could not be read. record: the file that notes it. Raises OSError."""
        line: dict[str, object] = {"first": first} | {name: hashlib.sha256(rows[name].tobytes()).hexdigest() for name in self.names}
        for name in self.names:
            write_at(self.path(name), len(self.header(name)) + first * self.row_bytes(name), rows[name].tobytes())
        append_line(self.folder / record, line | ({"broken": list(broken)} if broken else {}))
        self.digests[first] = {name: str(line[name]) for name in self.names}
        if broken:
            self.broken[first] = list(broken)

    def keep(self) -> None:
        """Write the record anew without what was torn in it, with what other processes noted. Raises OSError."""
        head = {"schema": KINDS[self.kind].schema, "items": self.n, **{name: list(shape) for name, shape in self.shapes.items()}}
        lines: list[dict[str, object]] = [head]
        for first in sorted(self.digests):
            lines.append({"first": first, **self.digests[first], **({"broken": self.broken[first]} if first in self.broken else {})})
        replace_file(self.folder / RECORD, "".join(json.dumps(line) + "\n" for line in lines).encode())
        for path in others_records(self.folder):
            path.unlink()

    def forget(self, chunks: Sequence[int]) -> None:
        """Take chunks, each named by its first item, for missing."""
        for first in chunks:
            self.digests.pop(first, None)
            self.broken.pop(first, None)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return {"latents": (n,C,h,w), "text": (n,L,D)} and "pooled" (n,P) where there is, memory-mapped; of kind
        "latents" the first alone. Raises OSError or ValueError where they are not whole."""
        return {
            name: np.memmap(self.path(name), self.format, "r", len(self.header(name)), (self.n, *self.shapes[name])) for name in self.names}


def read_cache(folder: Path, n: int, kind: str = "both") -> Cache | None:
    """Read the record of a folder; None where there is none, or one of another number of items, of another kind or of another version."""
    if (folder / RECORD).is_symlink() or not (folder / RECORD).is_file():
        return None
    lines = whole_lines(folder / RECORD)
    head, form = lines[0] if lines else {}, KINDS[kind]
    shapes = {name: head.get(name) for name in (*form.names, *([OPTIONAL] if form.optional and OPTIONAL in head else []))}
    if head.get("schema") != form.schema or head.get("items") != n or not all(map(is_shape, shapes.values())):
        return None
    found = Cache(folder, n, {name: tuple(shape) for name, shape in shapes.items() if shape is not None}, kind=kind)
    for line in [*lines[1:], *(line for path in others_records(folder) for line in whole_lines(path))]:
        first, digests, broken = line.get("first"), {name: line.get(name) for name in found.names}, line.get("broken", [])
        if type(first) is not int or first not in found.chunks() or not isinstance(broken, list):
            continue
        inside = all(type(item) is int and first <= item < first + found.rows(first) for item in broken)
        if inside and all(isinstance(d, str) and DIGEST.fullmatch(d) for d in digests.values()):
            found.forget([first])
            found.digests[first] = {name: str(digest) for name, digest in digests.items()}
            found.broken |= {first: broken} if broken else {}
    return found


def others_records(folder: Path) -> list[Path]:
    """List the records of processes that encoded beside the first one."""
    return sorted(path for path in folder.glob("chunks.*.ndjson") if path.is_file() and not path.is_symlink())


def record_of(rank: int) -> str:
    """Name the file in which a process notes the chunks that it has written."""
    return RECORD if rank == 0 else f"chunks.{rank}.ndjson"


def is_shape(value: object) -> bool:
    """Tell whether a value of a record is the shape of a row."""
    return isinstance(value, list) and 0 < len(value) <= 4 and all(type(side) is int and 0 < side < 2**20 for side in value)


def begin_cache(folder: Path, n: int, shapes: dict[str, tuple[int, ...]], kind: str = "both") -> Cache:
    """Empty a folder but for its lock, and begin the files of its arrays and the record. Raises OSError."""
    made = Cache(folder, n, shapes, kind=kind)
    for path in (folder / "facts.json", folder / RECORD, *others_records(folder), *map(made.path, FILES)):
        # never cut short: another training may have the old file mapped
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    for name in made.names:
        write_at(made.path(name), 0, made.header(name))
    made.keep()
    return made


def finish(cache: Cache) -> None:
    """Make what was written survive a loss of power. Raises OSError."""
    for name in cache.names:
        sync(cache.path(name))
    cache.keep()


def note_what_is_lost(folder: Path, cache: Cache | None, damaged: list[int]) -> None:
    """Warn of chunks that were written once and are not what was written any more, and of a folder whose bytes cannot be checked."""
    if cache is None and (folder / "facts.json").exists():
        told = f"the encoded training split in {folder} has no digests (it is of an older version): it is encoded again."
    elif cache is not None and (changed := [first for first in damaged if first in cache.digests]):
        told = (f"the encoded training split in {folder} is not what was written in {len(changed)} of its {len(cache.chunks())} chunks: "
                "they are encoded again. Trainings since they changed have used them as they were.")
    else:
        return
    warnings.warn(ScottbenchWarning(told), stacklevel=2)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder within the block; wait for another training that encodes the same split."""
    with contextlib.ExitStack() as held:
        told = False
        while True:
            try:
                held.enter_context(locked(folder))
                break
            except Busy:
                if not told:
                    warnings.warn(ScottbenchWarning(
                        f"another training encodes the same training split into {folder}: this one waits for it."), stacklevel=2)
                told = True
                time.sleep(WAIT)
        yield


@contextlib.contextmanager
def keeping(folder: Path, needed: int) -> Iterator[None]:
    """Turn what a file system may answer to a write into one line. Raises Incomplete where the disk is full, and UsageError where the
    cache cannot be written. needed: bytes of the whole split."""
    advice = (f"The encoded training split needs {bytes_in_words(needed)}; what is encoded already is kept. Free some space, or set "
              "SCOTTBENCH_CACHE to another folder, and train again.")
    with writing(folder, advice):
        yield


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Write bytes at a place of a file, which is made where there is none. Raises OSError, also where the path is a link."""
    stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(stream, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(stream)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading. Raises OSError where it is no regular file."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(f"{path} is no regular file")
    return open(path, "rb")


def refuse(folder: Path) -> DamagedAsset:
    """Return the error for an encoded split that a process does not find whole."""
    return DamagedAsset(f"the encoded training split in {folder} is not whole. Train again: what is missing in it will be encoded.")
