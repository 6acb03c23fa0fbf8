"""What the system may answer at any moment (a full disk, a folder that has gone, no memory), as a message and its exit code."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from scottbench.cli.streams import CannotPrint
from scottbench.errors import LOWER, Incomplete, OutOfMemory, UsageError, lack_of_memory
from scottbench.text import in_one_line

GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY,
            errno.ENXIO, errno.ENODEV}  # fmt: skip
TRAIN_LOWER = ("try a smaller --batch-size, more micro-batches (--accumulate), --gradient-checkpointing, --frozen half, --offload, or one "
               "of the preset's recipes (--recipe).")  # fmt: skip
"""Advice of `scottbench train`, where it is not known what it does already."""
LONGEST = 120
"""Characters of a name that a message shows."""


def of_the_system(error: BaseException, arguments: Sequence[str]) -> tuple[str, int] | None:
    """Return (message, exit code) of an error that the system made, not we; None for any other.

    arguments: of the command line. A file that has gone counts only where it was the user's: below a folder that they name, or below the
    current one. Of any other it would be a mistake of ours.
    """
    if isinstance(error, CannotPrint):
        return (f"cannot write to stdout: {error.error.strerror}. What was computed is kept; send the output elsewhere, and run the line "
                "again.", Incomplete.exit_code)  # fmt: skip
    if (lack := lack_of_memory(error)) is not None:
        advice = TRAIN_LOWER if arguments[:1] == ["train"] else LOWER
        return f"{lack}. What was stored is kept; {advice}", OutOfMemory.exit_code
    if isinstance(error, ValueError) and "null byte" in str(error):
        return "a name holds a null byte, which no file can have. Name another.", UsageError.exit_code
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "a path begins with ~ and names a user whom this machine does not have. Write the path in full.", UsageError.exit_code
    if not isinstance(error, OSError):
        return None
    from scottbench.store.files import FULL

    name = shown(error.filename)
    if error.errno in FULL:
        return f"no space left{name and f' while writing {name}'}. What was stored is kept: free some space, then run the line again.", 4
    if error.filename is None:
        return None
    if error.errno in UNUSABLE:
        return f"{name} cannot be used: {error.strerror}. Name another file or folder.", UsageError.exit_code
    if error.errno in GONE and is_theirs(error.filename, arguments):
        return (f"{name} is not there: {error.strerror}. If its folder was moved or deleted meanwhile, put it back and run the line again; "
                "what was stored in it is as it was.", Incomplete.exit_code)  # fmt: skip
    if error.errno == errno.EIO:
        return f"{name} cannot be read or written: {error.strerror}. Look after its disk; what was stored is kept.", Incomplete.exit_code
    return None


def shown(name: object) -> str:
    """Return a file's name for a message, in one line and not too long; "" of none."""
    text = "" if name is None else in_one_line(os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def is_theirs(name: object, arguments: Sequence[str]) -> bool:
    """Return True if a file is below the current folder or one that the command line names."""
    if not isinstance(name, (str, bytes, os.PathLike)):
        return False
    try:
        path, here = os.path.abspath(os.fsdecode(name)), os.getcwd()
    except OSError:  # the current folder has gone
        return True
    places = [here, *(os.path.abspath(os.path.expanduser(argument.rpartition("=")[2])) for argument in arguments)]
    return any(path == place or path.startswith(place.rstrip(os.sep) + os.sep) for place in places)
