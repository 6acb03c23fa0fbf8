"""One public file by HTTP: resumed where it broke off, checked byte by byte against what is known of it, tried again with growing waits.

Bytes go to a hidden file beside the target, which is put in its place once size and digest are right. A side-car says which version of the
file they are of, so that a server that changes the file between two tries cannot mix two. See RFC 9110, sections 13.1.5 and 14.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import requests
import urllib3

from scottbench.errors import Busy, DamagedAsset, Incomplete, MissingAsset, ScottbenchError, UsageError
from scottbench.store.assets import BLOCK
from scottbench.store.files import FULL, json_bytes, put_in_place, read_json, replace_file, sync
from scottbench.text import bytes_in_words, one_line

CHUNK = 2**20
"""Most bytes of one read."""
AHEAD = 8
"""Reads that may wait for their digest."""
SYNCED = 16 * 2**20
"""Bytes after which the disk is told to begin to write."""
PROGRESS = 2**20
"""Bytes that a try must bring for the count of tries to begin anew."""
AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that may be another one later."""


@dataclass(frozen=True)
class Patience:
    """Waits, in seconds, and numbers of tries."""

    tries: int = 6
    """Tries in a row that bring hardly anything."""
    connect: float = 15.0
    read: float = 30.0
    """Longest silence of a server that sends."""
    first: float = 1.0
    """The first wait; each further one is twice as long, a random half taken off."""
    longest: float = 60.0
    slow: float = 60.0
    """Seconds over which less than `least` bytes are taken for silence too."""
    least: int = 4096
    fresh: int = 3
    """How often a file is fetched from its beginning because its bytes are wrong."""


@dataclass(frozen=True)
class Wanted:
    """A file to fetch, and all that is known of it."""

    name: str
    """Its name in messages."""
    url: str
    bytes: int | None = None
    sha256: str | None = None
    """Hex digits of the digest, or its first ones."""
    git_sha1: str | None = None
    """Git's digest of the file, which the hub gives for small ones."""
    headers: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""
    """Page where a licence can be accepted."""


class Lost(Exception):
    """A try broke off and may be repeated. after: seconds that the server asks to wait."""

    def __init__(self, reason: str, after: float = 0.0):
        super().__init__(reason)
        self.after = after


class Wrong(Exception):
    """The bytes that came are not the file: it is fetched from its beginning."""


class Part:
    """The bytes that are here so far, with their digest. moved: told of every byte that comes, or is thrown away (a negative number)."""

    def __init__(self, path: Path, moved: Callable[[int], None]):
        self.path, self.moved = path, moved
        self.side = path.with_name(path.name + ".json")
        stream = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self.file: IO[bytes] = os.fdopen(stream, "r+b", buffering=0)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.close()
            raise Busy(f"another process fetches {path.name} into {path.parent}. Wait for it, then run the same line.") from None
        self.size, self._digest, self._synced = 0, hashlib.sha256(), 0
        self._hasher, self._syncer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)  # both let the network go on meanwhile
        self._hashed: deque[Future[None]] = deque()
        self._syncing: Future[None] | None = None
        while block := self.file.read(BLOCK):
            self._take(block)
        self._synced = self.size

    @property
    def sha256(self) -> str:
        """Return the digest of all bytes so far, hex."""
        self._wait(0)
        return self._digest.hexdigest()

    def _wait(self, most: int) -> None:
        while len(self._hashed) > most:
            self._hashed.popleft().result()

    def _take(self, block: bytes) -> None:
        self._wait(AHEAD)
        self._hashed.append(self._hasher.submit(self._digest.update, block))
        self.size += len(block)
        self.moved(len(block))
        if self.size - self._synced >= SYNCED and (self._syncing is None or self._syncing.done()):
            self._synced, self._syncing = self.size, self._syncer.submit(self._sync)

    def _sync(self) -> None:
        """Begin to bring bytes to the disk, so that little is left to do at the end, where an error of it is met."""
        with contextlib.suppress(OSError):
            sync(self.path)

    def add(self, block: bytes) -> None:
        """Append bytes. Raises Incomplete where the disk is full, UsageError where it cannot be written to."""
        try:
            left = memoryview(block)
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            raise no_room(error, self.path) from None
        self._take(block)

    def clear(self) -> None:
        """Throw all bytes away."""
        self.file.seek(0)
        self.file.truncate()
        self.moved(-self.size)
        self._wait(0)
        self.size, self._digest, self._synced = 0, hashlib.sha256(), 0

    def state(self) -> dict[str, Any]:
        """Return what the side-car says of the file that these bytes are of: "url", "version", "total"."""
        found = read_json(self.side)
        return {} if found is None else found

    def note(self, state: dict[str, Any]) -> None:
        """Write the side-car. Raises as `add`."""
        try:
            replace_file(self.side, json_bytes(state))
        except OSError as error:
            raise no_room(error, self.side) from None

    def close(self, forget: bool = False) -> None:
        """Close it. forget: leave nothing of it behind."""
        for pool in (self._hasher, self._syncer):
            pool.shutdown(wait=True)
        if forget:
            for path in (self.path, self.side):
                path.unlink(missing_ok=True)
        self.file.close()


def no_room(error: OSError, path: Path) -> ScottbenchError:
    """Return the error for the user of a file that could not be written."""
    if error.errno in FULL:
        what = f"no space left while writing {path} ({error.strerror})"
        return Incomplete(f"{what}. What came is kept: free some space, then run the same line.")
    return UsageError(f"cannot write {path}: {error.strerror}. Name a folder that is writable with --dest.")


def part_of(target: Path) -> Path:
    """Return the hidden file beside a target that holds what came so far."""
    return target.with_name(f".{target.name}.part")


def download(wanted: Wanted, target: Path, moved: Callable[[int], None], stop: threading.Event, patience: Patience) -> str:
    """Fetch a file to `target` and return its sha256, hex; what a stopped one left is gone on with.

    moved: told of bytes as they come. stop: set from elsewhere, ends it by Incomplete. Raises MissingAsset for what is not there or not
    to be had, DamagedAsset for a file that is another than the known one, Incomplete (resumable) where the network or the disk gives up,
    Busy, and UsageError.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Part(part_of(target), moved)
    except OSError as error:
        raise no_room(error, target) from None
    forget = False
    try:
        _fetch(wanted, part, stop, patience)
        found = part.sha256
        try:
            put_in_place(part.path, target)
        except OSError as error:
            raise no_room(error, target) from None
        forget = True
        return found
    except DamagedAsset:
        forget = True
        raise
    finally:
        part.close(forget)


def _fetch(wanted: Wanted, part: Part, stop: threading.Event, patience: Patience) -> None:
    """Bring all bytes into `part`, try after try. Raises as `download`."""
    failed, wrong = 0, 0
    with requests.Session() as session:
        while True:
            before = part.size
            try:
                _try(wanted, part, session, stop, patience)
                check(wanted, part)
                return
            except Lost as error:
                failed = 1 if part.size - before >= PROGRESS else failed + 1
                if failed >= patience.tries:
                    kept = "run the same line later"
                    if part.size:
                        kept = f"{bytes_in_words(part.size)} of it are kept: the same line goes on from there"
                    raise Incomplete(f"{wanted.name}: {one_line(error)} ({failed} tries, {place(wanted.url)}); {kept}.") from None
                wait = max(error.after, min(patience.longest, patience.first * 2 ** (failed - 1)) * random.uniform(0.5, 1))
                stop.wait(wait)
                if stop.is_set():
                    raise Incomplete(f"{wanted.name}: stopped. What came is kept: the same line goes on from there.") from None
            except Wrong as error:
                wrong += 1
                part.clear()
                if wrong >= patience.fresh:
                    raise DamagedAsset(
                        f"{wanted.name}: {one_line(error)} ({wrong} times, from {place(wanted.url)}). Nothing of it is kept. Try another "
                        "mirror (SCOTTBENCH_MIRROR, HF_ENDPOINT), or ask who publishes it."
                    ) from None
                stop.wait(patience.first * random.uniform(0.5, 1))


def _try(wanted: Wanted, part: Part, session: requests.Session, stop: threading.Event, patience: Patience) -> None:
    """Ask once for what is missing and take it in. Raises Lost, Wrong, and as `download`."""
    state = part.state()
    if part.size and state.get("url") != wanted.url:
        part.clear()
    if part.size and wanted.bytes is not None and part.size >= wanted.bytes:
        if part.size == wanted.bytes:
            return
        part.clear()
    headers = {"Accept-Encoding": "identity", "User-Agent": "scottbench", **wanted.headers}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if isinstance(state.get("version"), str):
            headers["If-Range"] = state["version"]
    with answering(wanted), session.get(wanted.url, headers=headers, stream=True, timeout=(patience.connect, patience.read)) as answer:
        total = _begin(wanted, part, state, answer)
        if total is not None and part.size == total:
            return
        _take_in(wanted, part, answer, total, (stop, patience))


def _begin(wanted: Wanted, part: Part, state: dict[str, Any], answer: requests.Response) -> int | None:
    """Read the head of an answer: make `part` fit to what will come, and return the size of the whole file, None where nobody says it."""
    check_status(wanted, answer)
    head = answer.headers
    length = head.get("Content-Length", "")
    total = int(length) if length.isdecimal() and answer.status_code == 200 else None
    spans = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", head.get("Content-Range", "").strip())
    if answer.status_code in (206, 416):
        total = int(spans[2]) if spans is not None and spans[2] != "*" else None
        starts = int(spans[1]) if spans is not None and spans[1] is not None else None
        if answer.status_code == 416 and total == part.size:
            return total
        if answer.status_code == 416 or starts != part.size or (state.get("total") is not None and total != state["total"]):
            raise Wrong(f"what is here so far ({part.size} bytes) does not fit to what the server has")
    elif part.size:  # it cannot go on in the middle, or has another file now
        part.clear()
    if head.get("Content-Encoding", "identity") != "identity":
        raise Wrong(f"the server sends it as '{one_line(head['Content-Encoding'])}'")
    if wanted.bytes is not None and total is not None and total != wanted.bytes:
        raise Wrong(f"the server says that it has {total} bytes, expected {wanted.bytes}")
    tag = head.get("ETag", "")
    version = tag if tag.startswith('"') else head.get("Last-Modified")  # a weak tag does not tell bytes apart
    if part.size == 0:
        part.note({"url": wanted.url, "version": version, "total": total})
    return total


def _take_in(wanted: Wanted, part: Part, answer: requests.Response, total: int | None, until: tuple[threading.Event, Patience]) -> None:
    """Take in the body of an answer. Raises Lost where it ends early or falls silent, Wrong where it is too long, and as `Part.add`."""
    stop, patience = until
    most, raw = wanted.bytes if wanted.bytes is not None else total, answer.raw
    read = getattr(raw, "read1", None)  # gives what is there, so that a server that drips is seen
    then, seen = time.monotonic(), part.size
    while True:
        block = raw.read(64 * 2**10, decode_content=False) if read is None else read(CHUNK, decode_content=False)
        if not block:
            break
        if most is not None and part.size + len(block) > most:
            raise Wrong(f"the server sends more than {most} bytes")
        part.add(block)
        if stop.is_set():
            raise Incomplete(f"{wanted.name}: stopped. What came is kept: the same line goes on from there.")
        now = time.monotonic()
        if now - then >= patience.slow:
            if part.size - seen < patience.least:
                raise Lost(f"the server sends less than {patience.least} bytes in {patience.slow:.0f} s")
            then, seen = now, part.size
    if total is not None and part.size < total:
        raise Lost(f"the connection closed after {part.size} of {total} bytes")


def check(wanted: Wanted, part: Part) -> None:
    """Check size and digests of a whole file. Raises Wrong."""
    if wanted.bytes is not None and part.size != wanted.bytes:
        raise Wrong(f"it has {part.size} bytes, expected {wanted.bytes}")
    if wanted.sha256 is not None and not part.sha256.startswith(wanted.sha256):
        raise Wrong(f"its sha256 is {part.sha256[:12]}..., expected {wanted.sha256[:12]}...")
    if wanted.git_sha1 is not None and git_digest(part.path) != wanted.git_sha1:
        raise Wrong("its digest is not the one that the hub gives")


def git_digest(path: Path) -> str:
    """Return git's digest of a file's bytes, hex."""
    total = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


# --- what a server, or the way to it, answers ------------------------------------------------------------------------


def place(url: str) -> str:
    """Return host and path of an address, without a password or a signature in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def check_status(wanted: Wanted, answer: requests.Response) -> None:
    """Raise the error of an answer that brings no file: Lost where it may bring one later, MissingAsset or Incomplete else."""
    code, where = answer.status_code, place(wanted.url)
    if code in (200, 206, 416):
        return
    if code in (401, 403):
        raise MissingAsset(refused(wanted.name, where, code, wanted.accept))
    if code in (404, 410):
        raise MissingAsset(f"{wanted.name}: {where} is not there ({code}). It may have moved: see its publisher's page, or set a mirror.")
    if code == 407:
        raise Incomplete(f"{wanted.name}: {proxy_of(wanted.url)} asks for a name and a password (407). Put them into that variable.")
    if code in AGAIN:
        after = answer.headers.get("Retry-After", "")
        raise Lost(f"the server answers {code} ({one_line(answer.reason)})", min(float(after), 300.0) if after.isdecimal() else 0.0)
    raise MissingAsset(f"{wanted.name}: {where} answers {code} ({one_line(answer.reason)}), no file.")


def refused(name: str, where: str, code: int, accept: str) -> str:
    """Say what to do about a file that a server does not give to us."""
    way = (
        f"Accept the licence at {accept}, then set HF_TOKEN (or `hf auth login`), and run the same line"
        if accept
        else ("It may need a licence that is accepted on its publisher's page, or not be public any more")
    )
    return f"{name}: {where} is not given to us ({code}). {way}."


def proxy_of(url: str) -> str:
    """Name the variable whose proxy an address goes through, without what stands in it."""
    names = [f"{urlsplit(url).scheme}_proxy", "all_proxy"]
    found = next((one for name in names for one in (name, name.upper()) if os.environ.get(one)), None)
    return "the proxy" if found is None else f"the proxy that {found} names"


@contextlib.contextmanager
def answering(wanted: Wanted) -> Iterator[None]:
    """Turn what the libraries raise of a connection into Lost, or into an error for the user where trying again is of no use.

    Raises MissingAsset for a certificate that is not valid, UsageError for an address that is none."""
    host = urlsplit(wanted.url).hostname
    try:
        yield
    except requests.exceptions.ProxyError as error:
        raise Lost(f"{proxy_of(wanted.url)} does not pass it on ({_cause(error)})") from None
    except requests.exceptions.SSLError as error:
        raise MissingAsset(
            f"{wanted.name}: the certificate of {host} cannot be checked ({_cause(error)}). Set REQUESTS_CA_BUNDLE to the "
            "certificates of your network, or a mirror."
        ) from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema) as error:
        raise UsageError(f"{wanted.name}: '{one_line(wanted.url)[:200]}' is no address ({_cause(error)}). Correct the mirror.") from None
    except requests.exceptions.TooManyRedirects:
        raise MissingAsset(f"{wanted.name}: {place(wanted.url)} leads round in a circle.") from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise Lost(f"{host} is silent") from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Lost(f"the connection to {host} broke ({_cause(error)})") from None
    except OSError as error:
        if error.errno not in {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH}:
            raise
        raise Lost(f"the connection to {host} broke ({error.strerror})") from None


def _cause(error: BaseException) -> str:
    """The innermost reason of an error of the libraries, in a line without objects' addresses or addresses of proxies."""
    inner: Any = error
    for _ in range(6):
        found = getattr(inner, "reason", None)
        if not isinstance(found, BaseException):
            found = next((one for one in getattr(inner, "args", ()) if isinstance(one, BaseException)), None)
        if found is None:
            break
        inner = found
    return re.sub(r"<[^>]*>:? ?|https?://\S*@\S*", "", one_line(inner))[:160]
