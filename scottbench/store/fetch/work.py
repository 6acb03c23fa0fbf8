"""Several public files at once: what is there, what it will take, the work itself, and one error that names all that lacks."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from scottbench.errors import DamagedAsset, Incomplete, MissingAsset, ScottbenchError, UsageError
from scottbench.store.assets import file_digest
from scottbench.store.fetch.ledger import Ledger
from scottbench.store.fetch.places import Places, address_of, source_of
from scottbench.store.fetch.table import Asset, File
from scottbench.store.fetch.unpack import unpack
from scottbench.store.fetch.web import Patience, Wanted, download, git_digest, no_room, part_of
from scottbench.text import bytes_in_words
from scottbench.text.transfer import Transfer

AT_ONCE = 4
"""Files that are fetched at once."""


@dataclass(frozen=True)
class Item:
    """One file of an asset, and where it stands."""

    asset: Asset
    file: File
    source: str
    target: Path
    there: bool
    """It is at its place, and what is known of it holds."""
    damaged: bool = False
    """There is a file, of another size or digest than the known one."""
    sha256: str | None = None
    """The digest to hold: the known one, or the one that was recorded when it was fetched first."""
    trusted: bool = False
    """`sha256` is of the first fetch."""

    @property
    def size(self) -> int | None:
        """Return the bytes to expect, to the byte or about."""
        return self.file.size


def items_of(assets: Iterable[Asset], places: Places, ledger: Ledger, checking: Callable[[int], None] = lambda size: None) -> list[Item]:
    """Look which files of the assets are there. checking: called with the size of each file that has to be read for its digest."""
    found = []
    for asset in assets:
        for file in asset.files:
            source, target = source_of(asset, file), places.target(asset, file)
            first = ledger.first(source) if file.sha256 is None else None
            sha256 = file.sha256 if first is None else str(first["sha256"])
            there = places.is_there(asset, file)
            damaged = not there and not file.is_archive and target.is_file()
            if there and target.is_file() and sha256 is not None and not _holds(source, target, sha256, ledger, checking):
                there, damaged = False, True
            found.append(Item(asset, file, source, target, there, damaged, sha256, first is not None))
    return found


def _holds(source: str, path: Path, sha256: str, ledger: Ledger, checking: Callable[[int], None]) -> bool:
    """Look whether a file has a digest: by the ledger where it was verified and not touched since, else by reading it."""
    known = ledger.verified(source, path)
    if known is None:
        checking(path.stat().st_size)
        known = file_digest(path)
        if known.startswith(sha256):
            with contextlib.suppress(OSError):  # it is read again next time
                ledger.note(source, path, known, "was there")
    return known.startswith(sha256)


# --- what it will take -------------------------------------------------------------------------------------------------


def nearest(path: Path) -> Path:
    """Return the folder, at or above a path, that is there."""
    return next((place for place in (path, *path.parents) if place.is_dir()), Path("/"))


def left_of(item: Item) -> int:
    """Return the bytes that are still to come of a file that is not there, without those that a stopped fetch left."""
    part = part_of(item.target)
    here = part.stat().st_size if part.is_file() else 0
    return max(0, (item.size or 0) - here)


def on_disk(item: Item) -> int:
    """Return the bytes that a file takes at most while it is fetched and, if it is an archive, unpacked."""
    unpacked = item.file.unpacked if item.file.unpacked is not None else item.size or 0
    return left_of(item) + (unpacked if item.file.is_archive else 0)


def room(items: Iterable[Item]) -> list[tuple[Path, int, int]]:
    """Return (a folder, bytes needed there, bytes free there) for each file system that gets something."""
    found: dict[int, tuple[Path, int, int]] = {}
    for item in items:
        place = nearest(item.target.parent)
        device = place.stat().st_dev
        first, needed, free = found.get(device, (place, 0, shutil.disk_usage(place).free))
        found[device] = (first, needed + on_disk(item), free)
    return list(found.values())


def check_room(items: Iterable[Item]) -> None:
    """Raise Incomplete where a disk has less room than the files need."""
    for place, needed, free in room(items):
        if needed > free:
            raise Incomplete(f"{place} has {bytes_in_words(free)} free, and {bytes_in_words(needed)} are needed. Free some space, or name "
                             "another disk with --dest; nothing was fetched.")  # fmt: skip


# --- the work ----------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """The things that all files that are fetched share."""

    places: Places
    ledger: Ledger
    transfer: Transfer
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    patience: Patience = field(default_factory=Patience)
    stop: threading.Event = field(default_factory=threading.Event)
    blobs: dict[Path, threading.Lock] = field(default_factory=dict)
    """A lock for each file of the hub's cache, which has two names where two files are alike."""


def fetch_all(items: Sequence[Item], work: Work, at_once: int = AT_ONCE) -> None:
    """Fetch the files that are not there, several at once; what fails costs no other file.

    Raises one error for all that failed: Incomplete where the same line may go on, MissingAsset, DamagedAsset or UsageError else.
    """
    errors: list[ScottbenchError] = []
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        futures: list[Future[None]] = [pool.submit(fetch_one, item, work) for item in items]
        try:
            for future in futures:
                try:
                    future.result()
                except ScottbenchError as error:
                    errors.append(error)
        except BaseException:
            work.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if errors:
        raise together(errors, len(items))


def together(errors: Sequence[ScottbenchError], count: int) -> ScottbenchError:
    """Return one error of several: resumable where all are, DamagedAsset where all are damaged, else by the first that is neither."""
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    lines = "\n".join(dict.fromkeys(f"  {error}" for error in errors))
    head = f"{len(errors)} of {count} files could not be fetched; the others are in their place:"
    for kind in (Incomplete, DamagedAsset, UsageError):
        if all(isinstance(error, kind) for error in errors):
            return kind(f"{head}\n{lines}")
    return MissingAsset(f"{head}\n{lines}")


def fetch_one(item: Item, work: Work) -> None:
    """Fetch one file to its place, or one archive and unpack it, and record its digest. Raises as `fetch_all`."""
    try:
        if item.asset.hub:
            _from_hub(item, work)
        else:
            url = address_of(item.asset, item.file, work.environ)
            take(item, Wanted(item.file.name, url, item.file.bytes, item.sha256, accept=item.asset.accept), work)
    except DamagedAsset as error:
        if not item.trusted:
            raise
        raise DamagedAsset(f"{error} The expected digest is that of the first fetch on this machine; where the new file is to be trusted, "
                           f"remove the lines of {item.source} from {work.ledger.path}.") from None  # fmt: skip


def take(item: Item, wanted: Wanted, work: Work) -> None:
    """Fetch a file to the item's target, unpack it where it is an archive, and record it. Raises as `fetch_all`."""
    item.target.parent.mkdir(parents=True, exist_ok=True)
    if item.size is None and wanted.bytes is not None:
        work.transfer.expect(wanted.bytes)
    whole = item.file.is_archive and item.target.is_file() and _is_whole(item)
    if whole:  # it was fetched, and could not be unpacked then
        work.transfer.moved(item.target.stat().st_size)
        digest = file_digest(item.target)
    else:
        digest = download(wanted, item.target, work.transfer.moved, work.stop, work.patience)
    finish(item, digest, wanted.url, work)


def _is_whole(item: Item) -> bool:
    """Look whether an archive that lies at its place is the known one."""
    if item.file.bytes is not None and item.target.stat().st_size != item.file.bytes:
        return False
    return item.sha256 is not None and file_digest(item.target).startswith(item.sha256)


def finish(item: Item, digest: str, came_from: str, work: Work) -> None:
    """Unpack what is an archive and remove it, and record the digest. Raises as `unpack` and `no_room`."""
    size = item.target.stat().st_size
    if item.file.is_archive:
        try:
            unpack(item.target, item.file, work.places.folder(item.asset))
        except DamagedAsset:
            item.target.unlink(missing_ok=True)
            raise
        item.target.unlink(missing_ok=True)
    try:
        work.ledger.note(item.source, item.target, digest, came_from.partition("?")[0], size)
    except OSError as error:
        raise no_room(error, work.ledger.path) from None


def _from_hub(item: Item, work: Work) -> None:
    """Fetch a file of the hub. Raises as `fetch_all`."""
    from scottbench.store.fetch import hub

    wanted, told = hub.ask(item.asset, item.file, work.environ, work.stop, work.patience)
    if wanted.sha256 is None and item.sha256 is not None:
        wanted = replace(wanted, sha256=item.sha256)
    if not work.places.in_hub_cache(item.asset):
        take(item, wanted, work)
        return
    blob = hub.blob_of(work.places, item.asset, told)
    if item.size is None and wanted.bytes is not None:
        work.transfer.expect(wanted.bytes)
    with work.blobs.setdefault(blob, threading.Lock()):
        digest = file_digest(blob) if blob.is_file() else None
        if digest is None or not _is_told(blob, digest, wanted):
            digest = download(wanted, blob, work.transfer.moved, work.stop, work.patience)
    finish(replace(item, target=hub.link(work.places, item.asset, item.file, told)), digest, wanted.url, work)


def _is_told(blob: Path, digest: str, wanted: Wanted) -> bool:
    """Look whether the bytes in the hub's cache are those that the hub tells of."""
    sizes = wanted.bytes is None or blob.stat().st_size == wanted.bytes
    return sizes and digest.startswith(wanted.sha256 or "") and wanted.git_sha1 in (None, git_digest(blob))
