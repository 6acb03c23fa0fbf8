"""Files: checked names, the one way to write that a kill or a full disk cannot tear, and the one way to read a JSON record.

Every file goes under a temporary name, is synced, is renamed, and then its folder is synced. So a reader, and a machine that lost its
power, finds the old bytes or the new ones.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scottbench.errors import Incomplete, ScottbenchError, UsageError
from scottbench.text import bytes_in_words

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a file system answers when it is full."""
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,119}")
"""Names that become files: no separators, no leading dot, nothing that a file system rewrites."""

LARGEST_JSON = 64 * 2**20
"""Bytes. No record of ours comes near; a larger file is refused before it is read."""
OURS = re.compile(r"\.scottbench-[0-9a-f]{16}\.tmp")
"""Names of files that are being written. A kill leaves them behind; nobody can guess them, and nothing else has such a name."""


class NoObject(ValueError):
    """A file holds JSON of another kind than an object."""


class Refused(ValueError):
    """A file is not one to open: a link, no regular file, or too large. The message ends a sentence that begins with its name."""


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


def own_digest(record: Mapping[str, object]) -> str:
    """Return the sha256 hex of a record as it is read back, but for its own "check", which is to hold this."""
    return hashlib.sha256(canonical(as_read({key: value for key, value in record.items() if key != "check"}))).hexdigest()


def with_check(record: Mapping[str, object]) -> dict[str, Any]:
    """Return a record that vouches for itself: "check" holds the digest of all the rest."""
    return {**record, "check": own_digest(record)}


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


def write_file(path: Path, data: bytes, hint: str | None = None, root: Path | None = None) -> Path:
    """Replace a file in one step, and return its path; folders above it are made. root: as of `replace_file`.

    Raises Incomplete or UsageError as `writing` does.
    """
    with plainly(path), writing(path, hint):
        replace_file(path, data, root)
    return path


@contextlib.contextmanager
def plainly(path: Path) -> Iterator[None]:
    """Turn the refusal to write to something else than a file into one clear message. Raises UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise
        raise UsageError(
            f"{path} is a link, a folder or no plain file, which nothing is written to. Remove it, or name another with --out.") from None


def replace_file(path: Path, data: bytes, root: Path | None = None) -> None:
    """Replace a file in one step, as `write_file`, for callers that word the OSError themselves.

    root: a folder that is there, above `path`; no folder between the two may be a link then, and it is not made again where it has gone.
    None: all folders above `path` are made.
    """
    if root is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        make_folders(path.parent, root)
    temporary = path.parent / f".scottbench-{secrets.token_hex(8)}.tmp"
    try:
        # a name that is there already, a link's too, is an error and never opened
        stream = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(stream, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def put_in_place(temporary: Path, path: Path) -> None:
    """Sync a file that is written to its end and give it the name `path`, in the same folder or file system. Raises OSError."""
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def append_line(path: Path, record: Mapping[str, object]) -> None:
    """Append a record to a log as one line, whole or not at all as far as other writers see: one write to a file opened for appending.

    A torn last line, which a killed writer left, does not swallow this one. Raises OSError, also where `path` is a link or no plain file.
    """
    data = (json.dumps(record) + "\n").encode()
    # a FIFO must not make us wait
    stream = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        found = os.fstat(stream)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ENXIO, "no plain file")
        if found.st_size and os.pread(stream, 1, found.st_size - 1) != b"\n":
            data = b"\n" + data
        os.write(stream, data)
    finally:
        os.close(stream)


def make_folders(folder: Path, root: Path) -> None:
    """Make the folders from below `root` down to `folder`. Raises OSError where one of them is a link or a file, or `root` has gone."""
    for place in reversed([path for path in (folder, *folder.parents) if root in path.parents]):
        try:
            os.mkdir(place)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                raise OSError(errno.ENOTDIR, "a link or a file stands where a folder must be", str(place)) from None


def identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another of its name; None where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def left_by_a_kill(root: Path) -> list[Path]:
    """List the files below a folder that a killed writer of ours left; links are not followed."""
    return sorted(Path(folder) / name for folder, _, names in os.walk(root) for name in names if OURS.fullmatch(name))


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


def read_plain(path: Path, limit: int, root: Path | None = None) -> bytes:
    """Return the bytes of a regular file. limit: more are refused before any is read.

    root: the folder above `path` out of which nothing may lead: neither the file nor a folder below `root` may be a link. None: links
    are followed. Raises OSError, and Refused for a link, anything but a regular file, or one that is too large.
    """
    path, flags = Path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not make us wait
    if root is not None:
        flags |= os.O_NOFOLLOW
        for folder in path.parents:
            if root not in folder.parents:
                break
            if stat.S_ISLNK(os.lstat(folder).st_mode):
                raise Refused(f"lies in a folder that is a link ({folder.name})")
    try:
        stream = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and root is not None:
            raise Refused("is a link") from None
        raise
    with open(stream, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Refused("is no regular file")
        if found.st_size > limit:
            raise Refused(f"has {bytes_in_words(found.st_size)}, more than the {bytes_in_words(limit)} that are read")
        return file.read(limit + 1)[: found.st_size]


def parse_object(data: bytes, keys: Iterable[str] = (), finite: bool = False) -> dict[str, Any]:
    """Read a JSON object. keys: what it must hold. finite: no number in it may be infinite or not a number.

    Raises ValueError where it is no JSON, is nested too deeply or lacks a key, and NoObject where it is JSON of another kind.
    """
    strict: dict[str, Any] = {"parse_float": _finite, "parse_constant": _finite} if finite else {}
    try:
        record = json.loads(data.decode("utf-8"), **strict)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(record, dict):
        raise NoObject("it holds no JSON object")
    if absent := [key for key in keys if key not in record]:
        raise ValueError(f"it lacks '{absent[0]}'")
    return record


def parse_json(text: str) -> Any:
    """Read JSON of any kind. Raises ValueError where it is none, or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


def read_object(path: Path, broken: Callable[[Exception], ScottbenchError], keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read the JSON object of a file, links followed. keys: what it must hold.

    broken: makes the error to raise of what went wrong: an OSError; Refused; a ValueError where the file is no JSON or lacks a key;
    NoObject. Records of a run folder are read by `scottbench.store.reader`.
    """
    try:
        return parse_object(read_plain(path, LARGEST_JSON), keys)
    except (OSError, ValueError) as error:
        raise broken(error) from None


def read_json(path: Path, root: Path | None = None) -> dict[str, Any] | None:
    """Read the JSON object of a file; None where there is none or it cannot be read. root: as of `read_plain`."""
    try:
        return parse_object(read_plain(path, LARGEST_JSON, root))
    except (OSError, ValueError):
        return None


def whole_lines(path: Path, root: Path | None = None, limit: int = LARGEST_JSON) -> list[dict[str, Any]]:
    """Read a log of one JSON object a line. Lines that are torn or hold something else are left out; no file is no line.

    root, limit: as of `read_plain`; a file that it refuses is none.
    """
    try:
        text = read_plain(path, limit, root).decode("utf-8", errors="replace")
    except (OSError, Refused):
        return []
    found = []
    for line in text.split("\n"):
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            found += [record] if isinstance(record, dict) else []
    return found
