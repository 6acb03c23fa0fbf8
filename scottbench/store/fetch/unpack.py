"""Archives from outside, opened with mistrust: no path leads out, no link, no device, no more bytes than stated, and all or nothing.

Files go to a hidden folder beside their place, and from there to it when the last one is whole: zip by its checksums, tar by its length.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from scottbench.errors import DamagedAsset
from scottbench.store.assets import BLOCK
from scottbench.store.fetch.table import File, archive_kind, inside
from scottbench.store.fetch.web import no_room
from scottbench.store.files import put_in_place
from scottbench.text import bytes_in_words, one_line

ENTRIES = 2_000_000
"""Most entries of an archive; COCO's largest has 118,288."""
MANY = 1000
"""Files from which on all of the disk is synced at once, since one by one would take longer than the download."""
RATIO, LEAST = 50, 2**30
"""Most bytes that an archive may unpack to: so many times its own, or so many."""


@dataclass(frozen=True)
class Entry:
    """One regular file of an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, file: File, folder: Path, told: Callable[[int], None] = lambda count: None) -> None:
    """Unpack an archive below `folder`: the table's members, or its folder. told: called with bytes that are written.

    Raises DamagedAsset for an archive that is torn, dangerous, or lacks what the table says; Incomplete where the disk is full;
    UsageError where it cannot be written to. Nothing of a failed one is left.
    """
    hidden = folder / f".{file.name.replace('/', '-')}.unpacking"
    shutil.rmtree(hidden, ignore_errors=True)  # of a killed one
    try:
        hidden.mkdir(parents=True)
        names = _write_all(archive, file, hidden, told)
        _check_whole(archive, file, names)
        _move(hidden, folder, file, names)
    except OSError as error:
        raise no_room(error, folder) from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError) as error:
        reason = f"{archive.name} is no whole archive that can be unpacked: {one_line(error)}"
        raise DamagedAsset(f"{reason}. It is fetched again next time.") from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _write_all(archive: Path, file: File, hidden: Path, told: Callable[[int], None]) -> list[str]:
    """Write the wanted files of an archive below `hidden` and return their names. Raises ValueError and what the libraries raise."""
    names, total, most = [], 0, max(LEAST, RATIO * archive.stat().st_size)
    seen: set[str] = set()
    for entry in (entries_of_zip if archive_kind(file.name) == "zip" else entries_of_tar)(archive):
        name = PurePosixPath(inside(entry.name)).as_posix()
        if name in seen:
            raise ValueError(f"it has {name[:80]} twice")
        seen.add(name)
        total += entry.size
        if total > most or len(seen) > ENTRIES:
            raise ValueError(f"it would unpack to more than {bytes_in_words(most)}, or to more than {ENTRIES:,} files")
        if file.members and name not in file.members:
            continue
        if file.folder and not PurePosixPath(name).is_relative_to(file.folder):
            continue
        _write(entry, hidden / name, told)
        names.append(name)
    return names


def _write(entry: Entry, path: Path, told: Callable[[int], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = entry.size
    with entry.open() as source, open(path, "xb") as target:
        while block := source.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise ValueError(f"{entry.name[:80]} is longer than it says")
            target.write(block)
            told(len(block))
    if left:
        raise EOFError(f"{entry.name[:80]} is shorter than it says")


def _check_whole(archive: Path, file: File, names: list[str]) -> None:
    """Raise DamagedAsset where an archive lacks what the table says that it gives."""
    lacking = sorted(set(file.members) - set(names))
    if lacking:
        raise DamagedAsset(f"{archive.name} does not hold {lacking[0]}: it is another archive than the known one.")
    if file.folder and len(names) < max(1, file.count):
        raise DamagedAsset(f"{archive.name} holds {len(names):,} files in {file.folder}/, expected {max(1, file.count):,}.")


def _move(hidden: Path, folder: Path, file: File, names: list[str]) -> None:
    """Put unpacked files in their place; a folder that is there already gets what it lacks, and loses nothing. Raises OSError."""
    if len(names) > MANY:
        os.sync()
    if file.folder and not (folder / file.folder).exists():
        put_in_place(hidden / file.folder, folder / file.folder)
        return
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        put_in_place(hidden / name, target)


def entries_of_zip(archive: Path) -> Iterator[Entry]:
    """Go through the files of a zip. Raises ValueError for a link, a device or an encrypted one."""
    with zipfile.ZipFile(archive) as found:
        for info in found.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                raise ValueError(f"{info.filename[:80]} is a link or no plain file")
            if info.flag_bits & 1:
                raise ValueError(f"{info.filename[:80]} is encrypted")
            yield Entry(info.filename, info.file_size, partial(found.open, info))


def entries_of_tar(archive: Path) -> Iterator[Entry]:
    """Go through the files of a tar, packed by gzip or plain. Raises ValueError for a link or a device."""
    with tarfile.open(archive, "r|*" if archive.name.endswith("gz") else "r:") as found:
        for info in found:
            if info.isdir():
                continue
            if not info.isreg():
                raise ValueError(f"{info.name[:80]} is a link or no plain file")

            yield Entry(info.name, info.size, partial(_extracted, found, info))


def _extracted(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    assert stream is not None
    return stream
