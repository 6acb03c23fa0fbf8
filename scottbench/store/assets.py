"""Files that a plan needs: are they here, are they whole, and which line fetches them. Nothing here opens a socket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scottbench.errors import DamagedAsset, MissingAsset
from scottbench.store.files import replace_file
from scottbench.text import bytes_in_words as bytes_in_words  # plug-ins name sizes too

BLOCK = 8 * 2**20
"""Bytes that are read and hashed at once: a thread that hashes beside an import has to wait for it after every block."""
SUMS = "SHA256SUMS"
"""Digests of an asset folder, one `<sha256>  <relative path>` a line, as the sha256sum tool writes and checks them."""


@dataclass(frozen=True)
class Needed:
    """One file that must be here before a run starts."""

    path: Path
    """Its place; within the folder of an extractor, where `find_folder` is given it."""
    fetch: str = ""
    """The command line that fetches it; "" where only a new installation helps."""
    bytes: int | None = None
    """Its size, where it is known; another size is a damaged file."""
    sha256: str | None = None
    """Expected digest, hex; None where the publisher gives none."""


def cache_dir() -> Path:
    """Return the folder of large files that no package ships: $SCOTTBENCH_CACHE, else one in the user's cache folder."""
    chosen = os.environ.get("SCOTTBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scottbench"


def file_digest(path: Path) -> str:
    """Return the sha256 hex of a file's bytes."""
    total = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        block = memoryview(bytearray(min(BLOCK, os.fstat(stream.fileno()).st_size + 1)))
        while read := stream.readinto(block):
            total.update(block[:read])
    return total.hexdigest()


def listing_digest(rows: Iterable[tuple[str, Path]]) -> str:
    """Return a sha256 hex over words, and over size and time of the file beside each, without a look into the files. Raises OSError."""
    total = hashlib.sha256()
    for words, path in rows:
        found = path.stat()
        total.update(f"{words}\t{found.st_size}\t{found.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    return total.hexdigest()


def remembered_digest(listing: str, make: Callable[[], str]) -> str:
    """Return the digest that was made for a listing once, kept in the cache folder; else make it. listing: of `listing_digest`."""
    path = cache_dir() / "digests" / listing
    try:
        known = path.read_bytes()[:64].decode()
        if len(known) == 64 and set(known) <= set("0123456789abcdef"):
            return known
    except (OSError, UnicodeDecodeError):
        pass
    found = make()
    with contextlib.suppress(OSError):  # a cache that is read only costs the time again
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, found.encode())
    return found


def require(what: str, files: Iterable[Needed], known: dict[Path, str] | None = None) -> None:
    """Raise MissingAsset (or DamagedAsset, if all are here) with one line for each file that is absent or not as expected.

    known: digests of files that were hashed just now; those are not read again.
    """
    digest_of = lambda path: file_digest(path) if known is None or path not in known else known[path]  # noqa: E731
    missing, damaged = [], []
    for file in files:
        hint = f"  fetch: {file.fetch}" if file.fetch else ""
        if not file.path.is_file():
            size = f" ({bytes_in_words(file.bytes)})" if file.bytes is not None else ""
            missing.append(f"  missing {file.path}{size}{hint}")
        elif file.bytes is not None and file.path.stat().st_size != file.bytes:
            damaged.append(f"  damaged {file.path}: {file.path.stat().st_size} bytes, expected {file.bytes}{hint}")
        elif file.sha256 is not None and digest_of(file.path) != file.sha256:
            damaged.append(f"  damaged {file.path}: sha256 is not {file.sha256[:12]}...{hint}")
    if missing or damaged:
        raise (MissingAsset if missing else DamagedAsset)("\n".join([f"{what} cannot be used:", *missing, *damaged]))


def verify_folder(folder: Path, what: str, known: dict[Path, str] | None = None) -> None:
    """Check every file that the folder's SHA256SUMS lists; a folder without one is not checked. Arguments as in `require`.

    Raises as `require`, and DamagedAsset for a SHA256SUMS that cannot be read.
    """
    sums = folder / SUMS
    if not sums.is_file():
        return
    files = []
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise DamagedAsset(f"{what} cannot be used:\n  damaged {sums}: a line is not '<sha256>  <file>'")
        files.append(Needed(folder / name, sha256=digest))
    require(what, files, known)


def walked(folder: Path) -> list[Path]:
    """List the files below a folder, sorted, as a library that opens them by name finds them: through links to files and folders.

    Names that begin with a dot are left out: they are of file systems and editors (`._x`, `.ipynb_checkpoints`). So are `__pycache__`,
    links to nowhere, and a folder that is reached a second time from within itself.
    """
    found: list[Path] = []

    def enter(place: Path, above: frozenset[Path]) -> None:
        real = place.resolve()
        try:
            inside = [] if real in above else list(place.iterdir())
        except OSError:
            return  # who opens a file of it meets the error
        for path in inside:
            if path.name.startswith(".") or path.name == "__pycache__":
                continue
            if path.is_dir():
                enter(path, above | {real})
            elif path.is_file():
                found.append(path)

    if folder.is_dir():
        enter(folder, frozenset())
    return sorted(found)


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over weights, configs and vocabularies of the folder, for builders of shipped assets.

    READMEs and the file of measured quality are left out: they may change afterwards.
    """
    known = [path for path in walked(folder) if path.suffix in {".safetensors", ".json", ".txt"} and path.name != "quality.json"]
    lines = [f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in known]
    replace_file(folder / SUMS, "".join(lines).encode())


def gather(checks: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Run all checks and return {name: result}; one error names everything that is missing, of the kind that `require` raises."""
    results, errors = {}, []
    for name, check in checks.items():
        try:
            results[name] = check()
        except MissingAsset as error:
            errors.append(error)
    if errors:
        kind = DamagedAsset if all(isinstance(error, DamagedAsset) for error in errors) else MissingAsset
        raise kind("\n".join(dict.fromkeys(str(error) for error in errors)))
    return results


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Tell the hub libraries, loaded or not, to use local files only and to print no bars; undone at the end."""
    settings = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    before = {name: os.environ.get(name) for name in settings}
    # the library reads its variable once, when it is imported
    constants: Any = sys.modules.get("huggingface_hub.constants")
    was_offline = None if constants is None else constants.HF_HUB_OFFLINE
    os.environ.update(settings)
    if constants is not None:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if constants is not None:
            constants.HF_HUB_OFFLINE = was_offline
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
