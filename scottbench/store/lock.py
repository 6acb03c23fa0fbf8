"""One process at a time in a run folder: a lock file that names its holder and that nobody has to remove after a crash.

The kernel's advisory lock is what counts: it ends with the process, however that dies. The text of the file is for people, and for
file systems whose locks do not reach other hosts: there a holder on another host counts as alive while it touches the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from scottbench.errors import Busy
from scottbench.store.files import read_json, timestamp, writing
from scottbench.text import one_line

NAME = "lock.json"
BEAT, STALE = 60.0, 300.0
"""Seconds between two signs of life, and without one until a holder on another host is taken for dead."""
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What file systems without advisory locks answer."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder within the block. Raises Busy, one line that names the holder, if another process holds it."""
    path = Path(folder) / NAME
    stream = _open(path)
    try:
        record = {"pid": os.getpid(), "host": socket.gethostname(), "started": timestamp()}
        with writing(path):
            os.ftruncate(stream, 0)
            os.pwrite(stream, (json.dumps(record) + "\n").encode(), 0)
        over = threading.Event()
        threading.Thread(target=_sign_of_life, args=(path, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
    finally:
        # removed while it is still held: whoever was quicker to open it sees that its file has gone, and opens a new one
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(stream)


def _sign_of_life(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def _open(path: Path) -> int:
    """A descriptor that holds the lock of the file at `path`."""
    while True:
        with writing(path):
            stream = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(stream)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise _busy(path) from None
            if error.errno not in NO_LOCKS:
                raise
            with writing(path):
                stream = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        holder = holder_of(path)
        if holder.get("host") not in (None, socket.gethostname()) and time.time() - os.fstat(stream).st_mtime < STALE:
            os.close(stream)
            raise _busy(path)
        try:
            if os.fstat(stream).st_ino == path.stat().st_ino:
                return stream
        except FileNotFoundError:
            pass
        os.close(stream)  # the holder removed it between our two calls


def holder_of(path: Path) -> dict:
    """Return {"pid", "host", "started"} of a lock file; {} where there is none or nothing legible in it."""
    return read_json(path) or {}


def is_held(folder: Path) -> bool:
    """True while a process holds the run folder."""
    path = Path(folder) / NAME
    if not path.exists():
        return False
    try:
        os.close(_open(path))
    except Busy:
        return True
    return False


def _busy(path: Path) -> Busy:
    holder = holder_of(path)
    if not holder:
        return Busy(f"{path.parent} is in use by another process. Wait until it has ended, or name another folder with --out.")
    pid, host, started = (one_line(holder.get(key, "?")) for key in ("pid", "host", "started"))
    return Busy(
        f"{path.parent} is in use by process {pid} on {host}, since {started}. Wait until it has ended, or name another folder with --out.")
