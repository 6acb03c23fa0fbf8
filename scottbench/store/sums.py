"""SHA256SUMS: the digests of a folder's files beside them, for what has no manifest of its own: a report, a folder for publication.

One `<sha256>  <name>` a line, as the sha256sum tool writes and checks them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from scottbench.errors import IntegrityError
from scottbench.store.assets import SUMS as SUMS
from scottbench.store.files import Refused, read_plain

LARGEST = 2**31
"""Bytes of a file that is checked at most."""


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """Return the lines of a SHA256SUMS. files: name -> content."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())).encode()


def check_sums(folder: Path) -> bool:
    """Check every file that a folder's SHA256SUMS names; False where there is none. Raises IntegrityError for the first that differs, and
    for lines that name no file inside the folder."""
    path = folder / SUMS
    try:
        text = read_plain(path, 2**22, folder).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read ({error}).") from None
    for line in text.splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise IntegrityError(f"{path}: a line is not '<sha256>  <file>'.")
        try:
            found = hashlib.sha256(read_plain(folder / name, LARGEST, folder)).hexdigest()
        except (OSError, Refused) as error:
            raise IntegrityError(f"{folder / name} cannot be read ({error.strerror if isinstance(error, OSError) else error}).") from None
        if found != digest:
            raise IntegrityError(f"{folder / name} has another sha256 than {SUMS} beside it says: it was changed after it was written.")
    return True
