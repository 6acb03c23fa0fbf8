"""The run folder: chunks that exist whole or not at all, side-cars with digests, records replaced in one piece.

A chunk is written under a temporary name, synced (images), renamed, and only then described by its side-car. A chunk without a
side-car that names its ids and its sha256 does not exist, so a killed run loses at most the chunk it was writing. Chunks are fixed by
the plan, never by the batch size.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import Incomplete, UsageError

if TYPE_CHECKING:
    import numpy as np

SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,119}")
"""Names that become files: no separators, no leading dot, nothing that a file system rewrites."""
LOCK = "plan.lock.json"
MANIFEST = "manifest.json"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every zip entry, so that equal images give equal bytes."""
FULL = {errno.ENOSPC, errno.EDQUOT}


def check_name(name: str, what: str) -> str:
    """`name`, if it is safe as a file name; otherwise UsageError."""
    if not SAFE.fullmatch(name):
        raise UsageError(f"{what} {name[:80]!r} cannot be a file name: letters, digits, '_', '.', '+', '=' and '-' only, at most 120.")
    return name


def spans(n: int, chunk: int) -> list[range]:
    """Items 0..n-1 as chunks of `chunk` items in plan order; the last may be shorter."""
    return [range(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def canonical(record: dict) -> bytes:
    """The JSON bytes that digests are taken of: sorted keys, no blanks, no NaN."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a file system may answer into a message: disk full -> Incomplete, not writable -> UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise Incomplete(
                f"no space left while writing {path}. Finished chunks are kept: free some space, then run the same line with --out on this "
                "run folder.") from None
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise UsageError(f"cannot write {path}: {error.strerror}. Name a folder that is writable with --out.") from None
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}:
            raise UsageError(f"{path} cannot be a run folder: {error.strerror}. Name another with --out.") from None
        raise


class RunFolder:
    """One run on disk. Places are given as parts below the root, e.g. ("images", cell id)."""

    def __init__(self, root: Path):
        self.root = Path(root)

    @classmethod
    def open(cls, root: Path, plan_hash: str, plan: dict) -> RunFolder:
        """A new run folder, or the folder of the same plan to go on with. Raises UsageError for anything else."""
        root = Path(root)
        folder = cls(root)
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, not a run folder. Name a new or empty folder with --out.")
        found = folder._locked_hash()
        if found is None:
            with writing(root):
                if root.is_dir() and any(root.iterdir()):
                    raise UsageError(f"{root} is not empty and holds no run. Name a new or empty folder with --out.")
                root.mkdir(parents=True, exist_ok=True)
            folder.put_json(LOCK, {"schema": "scottbench.plan/1", "plan_hash": plan_hash, "plan": plan})
        elif found != plan_hash:
            raise UsageError(
                f"{root} holds a run of plan {found[:12]}, this plan is {plan_hash[:12]}. Name another folder with --out, or none.")
        return folder

    def _locked_hash(self) -> str | None:
        path = self.root / LOCK
        if not path.is_file():
            return None
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["plan_hash"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path} is damaged. Name another folder with --out.") from None

    def put(self, name: str, data: bytes, sync: bool = True) -> Path:
        """Replace a file in one step; a reader sees the old or the new bytes, never a part. Without `sync` a power failure may
        still tear it: good enough for what a digest guards and a moment makes again, and 15 ms cheaper."""
        path = self.root / name
        temporary = path.with_name(path.name + ".tmp")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    if sync:
                        os.fsync(stream.fileno())
                os.replace(temporary, path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        return path

    def put_json(self, name: str, record: dict, sync: bool = True) -> None:
        self.put(name, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode(), sync)

    def manifest(self) -> dict | None:
        """The manifest of an earlier attempt, if there is a readable one."""
        try:
            return json.loads((self.root / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    # --- chunks ------------------------------------------------------------------------------------------------------

    def put_images(self, place: Sequence[str], span: range, ids: Sequence[str], images: np.ndarray, facts: dict | None = None) -> None:
        """A chunk of images, (len(span), H, W, 3) uint8, as a stored zip of PNGs named by item id. Equal images, equal bytes."""
        from PIL import Image

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for item_id, image in zip(ids, images, strict=True):
                png = io.BytesIO()
                # level 1: 3x faster than the default for 10 % more bytes at 64x64
                Image.fromarray(image).save(png, "PNG", compress_level=1)
                archive.writestr(zipfile.ZipInfo(check_name(item_id, "item id") + ".png", EPOCH), png.getvalue())
        self._put_chunk(place, span, ".zip", buffer.getvalue(), ids, facts)

    def get_images(self, place: Sequence[str], span: range, ids: Sequence[str]) -> np.ndarray | None:
        """(len(span), H, W, 3) uint8 of a chunk that exists; None otherwise."""
        import numpy as np
        from PIL import Image

        data = self._get_chunk(place, span, ".zip", ids)
        if data is None:
            return None
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return np.stack([np.asarray(Image.open(archive.open(f"{item_id}.png"))) for item_id in ids])

    def put_features(self, place: Sequence[str], span: range, ids: Sequence[str], features: np.ndarray, facts: dict | None = None) -> None:
        """A chunk of features, (len(span), d) float32, as .npy."""
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(features, dtype=np.float32), allow_pickle=False)
        self._put_chunk(place, span, ".npy", buffer.getvalue(), ids, facts)

    def get_features(self, place: Sequence[str], span: range, ids: Sequence[str]) -> np.ndarray | None:
        """(len(span), d) float32 of a chunk that exists; None otherwise."""
        import numpy as np

        data = self._get_chunk(place, span, ".npy", ids)
        return None if data is None else np.load(io.BytesIO(data), allow_pickle=False)

    def facts(self, place: Sequence[str], span: range) -> dict | None:
        """A chunk's side-car: sha256, ids and whatever was measured when it was made; None if unreadable."""
        try:
            record = json.loads(self._path(place, span, ".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _path(self, place: Sequence[str], span: range, suffix: str) -> Path:
        for part in place:
            check_name(part, "folder name")
        return self.root.joinpath(*place, f"{span.start:05d}-{span.stop - 1:05d}{suffix}")

    def _put_chunk(self, place: Sequence[str], span: range, suffix: str, data: bytes, ids: Sequence[str], facts: dict | None) -> None:
        assert len(ids) == len(span)
        path, side_car = self._path(place, span, suffix), self._path(place, span, ".json")
        # the old side-car goes first: it must never describe new bytes
        with writing(side_car):
            side_car.unlink(missing_ok=True)
        self.put(str(path.relative_to(self.root)), data, sync=suffix == ".zip")
        record = {"sha256": hashlib.sha256(data).hexdigest(), "ids": list(ids), **(facts if facts is not None else {})}
        self.put_json(str(side_car.relative_to(self.root)), record, sync=False)

    def _get_chunk(self, place: Sequence[str], span: range, suffix: str, ids: Sequence[str]) -> bytes | None:
        record = self.facts(place, span)
        if record is None or record.get("ids") != list(ids):
            return None
        try:
            data = self._path(place, span, suffix).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == record.get("sha256") else None
