"""One process at a time in a folder: a lock file that names its holder and that nobody has to remove after a crash.

The kernel's advisory lock is what counts: it ends with the process, however that dies. The text of the file is for people, and for
file systems whose locks do not reach other hosts: there a holder on another host counts as alive while it touches the file.
A lock that the kernel does not vouch for can be taken over by hand (`take`, the command line's --take-lock).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from scottbench.errors import Busy, UsageError
from scottbench.store.files import read_json, timestamp, writing
from scottbench.text import one_line

NAME = "lock.json"
BEAT, STALE = 5.0, 300.0
"""Seconds between two signs of life, and without one until a holder on another host is taken for dead."""
WATCH = 2.5 * BEAT
"""Seconds for which a lock is watched whose last sign of life is later than our clock: two clocks say nothing about its age."""
LARGEST = 2**16
"""Bytes of a lock file of ours."""
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What file systems without advisory locks answer."""
OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A link is not followed, so that nothing but a lock is written over; a pipe is not waited for."""
TAKE = "--take-lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder within the block.

    Raises Busy, one line that names the holder, if another process holds it; UsageError where the lock file is no file of ours.
    """
    path = Path(folder) / NAME
    stream = _open(path, WATCH)
    try:
        record = {"pid": os.getpid(), "host": socket.gethostname(), "started": timestamp()}
        with writing(path):
            os.ftruncate(stream, 0)
            os.pwrite(stream, (json.dumps(record) + "\n").encode(), 0)
        over = threading.Event()
        threading.Thread(target=_sign_of_life, args=(stream, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
    finally:
        # removed while it is still held: whoever was quicker to open it sees that its file has gone, and opens a new one
        with contextlib.suppress(OSError):
            if _is_at(stream, path):
                path.unlink()
        os.close(stream)


def _sign_of_life(stream: int, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(stream)


def _open(path: Path, watch: float) -> int:
    """A descriptor that holds the lock of the file at `path`. watch: seconds for which a lock from the future is watched; 0: it is held."""
    while True:
        stream = _open_file(path)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(stream)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise _busy(path) from None
            if error.errno not in NO_LOCKS:
                raise
            stream = _open_file(path)
        if _lives_elsewhere(stream, path, watch):
            os.close(stream)
            raise _busy(path)
        if _is_at(stream, path):
            return stream
        os.close(stream)  # the holder removed it between our two calls


def _open_file(path: Path) -> int:
    """A descriptor of the lock file, made if need be. Raises UsageError where something else is in its place."""
    try:
        with writing(path):
            stream = os.open(path, OPEN, 0o644)
    except OSError as error:
        if error.errno in {errno.EISDIR, errno.ELOOP, errno.ENXIO}:
            raise _no_file(path) from None
        raise
    found = os.fstat(stream)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_size > LARGEST:
        os.close(stream)
        raise _no_file(path)
    return stream


def _is_at(stream: int, path: Path) -> bool:
    """Tell whether the opened file is still the one at `path`."""
    try:
        return os.fstat(stream).st_ino == os.stat(path, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return False


def _lives_elsewhere(stream: int, path: Path, watch: float) -> bool:
    """Tell whether a holder on another host gives signs of life, which this host's kernel cannot know."""
    if holder_of(path).get("host") in (None, socket.gethostname()):
        return False
    last = os.fstat(stream).st_mtime
    if last <= time.time():
        return time.time() - last < STALE
    if watch == 0:
        return True
    end = time.monotonic() + watch
    while time.monotonic() < end:
        time.sleep(min(BEAT, watch) / 10)
        if os.fstat(stream).st_mtime != last:
            return True
    return False


def holder_of(path: Path) -> dict:
    """Return {"pid", "host", "started"} of a lock file; {} where there is none or nothing legible in it."""
    try:
        found = os.lstat(path)
    except OSError:
        return {}
    return (read_json(path) or {}) if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST else {}


def is_held(folder: Path) -> bool:
    """True while a process holds the folder, and where that cannot be told."""
    path = Path(folder) / NAME
    if not os.path.lexists(path):
        return False
    try:
        os.close(_open(path, 0))
    except (Busy, UsageError, OSError):
        return True
    return False


def take(folder: Path) -> None:
    """Remove the lock of a folder whose holder has died, or what is in its place; the next `locked` then gets it.

    Raises Busy where the holder is a process of this machine, which the kernel knows to be alive, and UsageError where the file system
    refuses, as for a folder with things in it.
    """
    path = Path(folder) / NAME
    if not os.path.lexists(path):
        return
    if _held_here(path):
        raise Busy(f"{_in_use(path)} It is alive: {TAKE} cannot take the lock of a process of this machine. End it first, or wait.")
    with writing(path, "Remove it by hand, if no process works there."):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def _held_here(path: Path) -> bool:
    """Tell whether a process of this machine holds the kernel's lock."""
    try:
        stream = _open_file(path)
    except UsageError:
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in NO_LOCKS and holder_of(path).get("host") in (None, socket.gethostname())
    finally:
        os.close(stream)
    return False


def _no_file(path: Path) -> UsageError:
    return UsageError(f"{path} is a folder, a link, a pipe or larger than a lock, and none of scottbench's. If no process works there, "
                      f"put it away with {TAKE} (it is removed), or by hand.")


def _in_use(path: Path) -> str:
    holder = holder_of(path)
    if not holder:
        return f"{path.parent} is in use by another process."
    pid, host, started = (one_line(str(holder.get(key, "?"))[:80]) for key in ("pid", "host", "started"))
    return f"{path.parent} is in use by process {pid} on {host}, since {started}."


def _busy(path: Path) -> Busy:
    elsewhere = holder_of(path).get("host") not in (None, socket.gethostname())
    died = f" If that process has died, take its lock over: the same line with {TAKE}." if elsewhere else ""
    return Busy(f"{_in_use(path)} Wait until it has ended, or name another folder with --out.{died}")
