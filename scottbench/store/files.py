"""Files of a run folder: checked names, records as JSON, and one way to write that a kill or a full disk cannot tear."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from scottbench.errors import Incomplete, UsageError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a file system answers when it is full."""
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,119}")
"""Names that become files: no separators, no leading dot, nothing that a file system rewrites."""


def check_name(name: str, what: str) -> str:
    """`name`, if it is safe as a file name; otherwise UsageError."""
    if not SAFE.fullmatch(name):
        raise UsageError(f"{what} {name[:80]!r} cannot be a file name: letters, digits, '_', '.', '+', '=' and '-' only, at most 120.")
    return name


def canonical(record: dict) -> bytes:
    """The JSON bytes that digests are taken of: sorted keys, no blanks, no NaN."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def timestamp() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a file system may answer into a message: disk full -> Incomplete, not writable -> UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise Incomplete(
                f"no space left while writing {path} ({error.strerror}). Finished chunks are kept: free some space, then run the same line "
                "with --out on this run folder.") from None
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise UsageError(f"cannot write {path}: {error.strerror}. Name a folder that is writable with --out.") from None
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}:
            raise UsageError(f"{path} cannot be a run folder: {error.strerror}. Name another with --out.") from None
        raise


def read_json(path: Path) -> dict | None:
    """A JSON object of a file; None where there is none or it cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the file system can."""
    stream = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(stream)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(stream)


def write_file(path: Path, data: bytes, again: str = "the same line again") -> Path:
    """Write `data` to `path` in one piece; returns it. Raises Incomplete (disk full) or UsageError, one line that ends with `again`."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        kind = Incomplete if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else UsageError
        raise kind(f"cannot write {path}: {error.strerror}. Free some space or make the folder writable, then: {again}") from None
    return path
