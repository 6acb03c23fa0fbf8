"""Files: checked names, the one way to write that a kill or a full disk cannot tear, and the one way to read a JSON record.

Every file goes under a temporary name, is synced, is renamed, and then its folder is synced. So a reader, and a machine that lost its
power, finds the old bytes or the new ones.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scottbench.errors import Incomplete, ScottbenchError, UsageError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a file system answers when it is full."""
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,119}")
"""Names that become files: no separators, no leading dot, nothing that a file system rewrites."""


class NoObject(ValueError):
    """A file holds JSON of another kind than an object."""


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as a file name; otherwise raise UsageError. what: what it names, for the message."""
    if not SAFE.fullmatch(name):
        raise UsageError(f"{what} {name[:80]!r} cannot be a file name: letters, digits, '_', '.', '+', '=' and '-' only, at most 120.")
    return name


def canonical(record: dict[str, Any]) -> bytes:
    """Return the JSON bytes that digests are taken of: sorted keys, no blanks, no NaN."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def json_bytes(record: Mapping[str, object], indent: int = 1, sort_keys: bool = False) -> bytes:
    """Return a record as the lines of a JSON file. ASCII only: names and prompts are not ours, and a control character of theirs must
    not reach a terminal that shows the file."""
    return (json.dumps(record, indent=indent, sort_keys=sort_keys, ensure_ascii=True) + "\n").encode()


def as_read(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as it would come back from its JSON file: tuples are lists, every key is text."""
    found: dict[str, Any] = json.loads(json.dumps(record))
    return found


def timestamp() -> str:
    """Return the time in UTC, to the second: "2026-01-31T12:00:00Z"."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- write -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(path: Path, hint: str | None = None) -> Iterator[None]:
    """Turn what a file system may answer to a write into one clear message.

    hint: the sentence that says what to do next; None gives those of a run folder. Raises Incomplete where the disk is full, and UsageError
    where the place cannot be written. With no hint an answer of another kind stays an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            say = hint or "Finished chunks are kept: free some space, then run the same line with --out on this run folder."
            raise Incomplete(f"no space left while writing {path} ({error.strerror}). {say}") from None
        if hint is not None or error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            say = hint or "Name a folder that is writable with --out."
            raise UsageError(f"cannot write {path}: {error.strerror}. {say}") from None
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}:
            raise UsageError(f"{path} cannot be a run folder: {error.strerror}. Name another with --out.") from None
        raise


def write_file(path: Path, data: bytes, hint: str | None = None) -> Path:
    """Replace a file in one step, and return its path; folders above it are made. Raises Incomplete or UsageError as `writing` does."""
    with writing(path, hint):
        replace_file(path, data)
    return path


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file in one step, as `write_file`, for callers that word the OSError themselves."""
    temporary = path.with_name(path.name + ".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def replace_folder(new: Path, folder: Path) -> None:
    """Put the folder `new` in the place of `folder`. A kill in between leaves the old one as "NAME.old"; see `restore_folder`."""
    for path in (*new.rglob("*"), new):
        sync(path)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        restore_folder(folder)
        raise
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Take back the folder that a killed `replace_folder` had set aside, where there is no new one."""
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():
        os.replace(old, folder)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a loss of power, where the file system can."""
    stream = os.open(path, os.O_RDONLY)
    try:
        os.fsync(stream)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(stream)


# --- read ------------------------------------------------------------------------------------------------------------


def read_object(path: Path, broken: Callable[[Exception], ScottbenchError], keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read the JSON object of a file. keys: what it must hold.

    broken: makes the error to raise of what went wrong: an OSError; a ValueError where the file is no JSON or lacks a key; NoObject.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise NoObject("it holds no JSON object")
        if absent := [key for key in keys if key not in record]:
            raise ValueError(f"it lacks '{absent[0]}'")
    except (OSError, ValueError) as error:
        raise broken(error) from None
    except RecursionError:
        raise broken(ValueError("it is nested too deeply")) from None
    return record


def read_json(path: Path) -> dict[str, Any] | None:
    """Read the JSON object of a file; None where there is none or it cannot be read."""
    try:
        return read_object(path, UsageError)
    except UsageError:
        return None


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log of one JSON object a line. Lines that are torn or hold something else are left out; no file is no line."""
    try:
        text = Path(path).read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.split("\n"):
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            found += [record] if isinstance(record, dict) else []
    return found
