"""Files of the hub: huggingface_hub says which commit, size and digest a file has and which token to show; the bytes come by web.py.

huggingface_hub's own download writes to a file of a random name and begins anew after a kill (2.4), so that 5 GB could be lost at the last
byte. The cache that it reads is written here as its documentation lays it out: blobs/DIGEST, snapshots/COMMIT/NAME, refs/NAME.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scottbench.errors import Incomplete, MissingAsset, UsageError
from scottbench.store.fetch.places import Places, address_of
from scottbench.store.fetch.table import Asset, File
from scottbench.store.fetch.web import AGAIN, Patience, Wanted, no_room, place, proxy_of, refused
from scottbench.store.files import replace_file, sync
from scottbench.text import one_line

COMMIT = re.compile(r"[0-9a-f]{40}")
ETAG = re.compile(r"[\w.-]{1,120}")


@dataclass(frozen=True)
class Told:
    """The hub's answer about a file."""

    commit: str
    etag: str
    """The sha256 of a large file, git's digest of a small one."""
    bytes: int | None


def ask(asset: Asset, file: File, environ: Mapping[str, str], stop: threading.Event, patience: Patience) -> tuple[Wanted, Told]:
    """Ask the hub about a file and return what to fetch. Raises MissingAsset, where it is gated with the page to accept the licence on;
    Incomplete where the hub cannot be reached; UsageError where HF_HUB_OFFLINE is set."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.utils import build_hf_headers

    if environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise UsageError(f"{file.name}: HF_HUB_OFFLINE is set. Unset it to fetch files of the hub, or use --import.")
    url, wait = address_of(asset, file, environ), patience.first
    for number in range(1, patience.tries + 1):
        try:
            told = get_hf_file_metadata(url, timeout=patience.connect)
            break
        except Exception as error:  # of the library, or of the one of two HTTP libraries that it uses
            later = _later(error, asset, file, url)
            if number == patience.tries or stop.is_set():
                raise Incomplete(f"{file.name}: {later} ({number} tries, {place(url)}). Run the same line later.") from None
        stop.wait(wait)
        wait = min(2 * wait, patience.longest)
    etag, commit = str(told.etag), str(told.commit_hash)
    if not COMMIT.fullmatch(commit) or not ETAG.fullmatch(etag):
        raise MissingAsset(f"{file.name}: {place(url)} does not answer as the hub does (no commit or no digest). Look at HF_ENDPOINT.")
    known = f"hub file {asset.hub}/{file.name}"
    if file.sha256 is not None and re.fullmatch(r"[0-9a-f]{64}", etag) and not etag.startswith(file.sha256):
        raise MissingAsset(f"{known}: the hub's has sha256 {etag[:12]}..., expected {file.sha256[:12]}...: another file, not fetched.")
    sha256 = file.sha256 if file.sha256 is not None else etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    wanted = Wanted(known, url, told.size if file.bytes is None else file.bytes, sha256, etag if COMMIT.fullmatch(etag) else None,
                    {key: value for key, value in build_hf_headers().items() if key.lower() == "authorization"},
                    accept=asset.accept if asset.accept else _page(asset))  # fmt: skip
    return wanted, Told(commit, etag, told.size)


def _page(asset: Asset) -> str:
    kind = "" if asset.repo_type == "model" else f"{asset.repo_type}s/"
    return f"https://huggingface.co/{kind}{asset.hub}"


def _later(error: Exception, asset: Asset, file: File, url: str) -> str:
    """Say why a question may be answered later. Raises MissingAsset for what will not be, and the error itself where it is no answer."""
    from huggingface_hub.utils import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    code = getattr(getattr(error, "response", None), "status_code", None)
    known, page = f"hub file {asset.hub}/{file.name}", asset.accept if asset.accept else _page(asset)
    if isinstance(error, GatedRepoError) or code in (401, 403):
        raise MissingAsset(refused(known, place(url), 403 if code is None else code, page)) from None
    if isinstance(error, (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)) or code in (404, 410):
        raise MissingAsset(f"{known}: {place(url)} is not there ({code}). Look at {_page(asset)}.") from None
    if code is not None and code not in AGAIN:
        raise MissingAsset(f"{known}: {place(url)} answers {code}, no file.") from None
    name, library = type(error).__name__, type(error).__module__.partition(".")[0]
    if name == "ProxyError":
        return f"{proxy_of(url)} does not pass it on ({one_line(error)[:120]})"
    if code is not None:
        return f"the hub answers {code}"
    if isinstance(error, OSError) or library in {"httpx", "httpx2", "httpcore", "requests", "urllib3"}:
        return f"the hub cannot be reached ({name})"
    raise error


# --- the hub's cache ---------------------------------------------------------------------------------------------------


def blob_of(places: Places, asset: Asset, told: Told) -> Path:
    """Return the path of a file's bytes in the hub's cache."""
    return places.repository(asset) / "blobs" / told.etag


def link(places: Places, asset: Asset, file: File, told: Told) -> Path:
    """Give a blob its name in the snapshot of its commit, and return that path. Raises Incomplete or UsageError where it cannot."""
    root = places.repository(asset)
    path = root / "snapshots" / told.commit / file.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        blob = blob_of(places, asset, told)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.symlink_to(os.path.relpath(blob, path.parent))
        sync(path.parent)
        note_revision(places, asset, told.commit)
    except OSError as error:
        raise no_room(error, path) from None
    return path


def note_revision(places: Places, asset: Asset, commit: str) -> None:
    """Write which commit a revision that is none means. Raises OSError."""
    revision = asset.revision if asset.revision else "main"
    if not COMMIT.fullmatch(revision):
        replace_file(places.repository(asset) / "refs" / revision, commit.encode())
