"""The run folder: chunks that exist whole and in their place or not at all, side-cars with digests, records replaced in one piece.

Every file is written under a temporary name, synced, renamed, and its folder synced. A chunk is described by its side-car only after
that; a chunk without a side-car that names its ids, its sha256 and its place does not exist, so a killed run loses at most the chunks that
it had not written yet, and a chunk that was moved or copied elsewhere is not taken for another. Chunks are fixed by the plan, never by the
batch size.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scottbench.errors import Incomplete, IntegrityError, ScottbenchError, UsageError
from scottbench.store import contents
from scottbench.store.differences import refuse
from scottbench.store.files import (
    LARGEST_JSON,
    OURS,
    SAFE,
    Refused,
    as_read,
    canonical,
    check_name,
    identity,
    json_bytes,
    make_folders,
    own_digest,
    parse_object,
    read_json,
    read_plain,
    with_check,
    write_file,
    writing,
)
from scottbench.store.plan_record import PLAN_SCHEMA, LockRecord, PlanRecord, Setting, plan_digest
from scottbench.text import one_line

if TYPE_CHECKING:
    import numpy as np

CHUNK = 64
"""Items per chunk: the unit of storing, resuming and sharing out."""
MOST = 10**7
"""Items of a plan at most. More are no plan of ours, and their chunks alone would fill the memory."""

LOCK = "plan.lock.json"
MANIFEST = "manifest.json"
UNCLAIMED = {"lock.json", LOCK + ".tmp"}
"""What a run that was killed before it wrote its plan may leave, beside `OURS`; a folder with nothing else is as good as empty."""
SIDE_CAR = 2**22
"""Bytes of a side-car at most."""


@dataclass(frozen=True)
class Binding:
    """The things that the chunks of a run are bound to, as its plan says."""

    plan: str = ""
    """The plan's hash; "" in a folder without a plan."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Cell -> digest of the weights that it samples from."""
    extractors: Mapping[str, str] = field(default_factory=dict)
    """Role -> digest of the network behind its features."""
    older: bool = False
    """True of a run of an earlier version, whose side-cars name no place."""

    def of(self, place: Sequence[str]) -> dict[str, str | None]:
        """Return what a side-car says of its place: "plan", "place", "weights" (none of reference and prompts), "extractor" (none of
        images)."""
        role = place[2] if len(place) > 2 else ""
        return {
            "plan": self.plan, "place": "/".join(place), "weights": self.weights.get(place[1]), "extractor": self.extractors.get(role),
        }  # fmt: skip

    def fits(self, place: Sequence[str], facts: Mapping[str, Any]) -> bool:
        """True where a side-car names this place, or is of an earlier version and names none."""
        wanted = self.of(place)
        if self.older and not wanted.keys() & facts.keys():
            return True
        if len(place) > 2 and wanted["extractor"] is None and facts.get("extractor") in self.extractors.values():
            # a plan names roles, and the features of two roles with one network lie under either
            wanted["extractor"] = facts["extractor"]
        return all(key in facts and facts[key] == value for key, value in wanted.items())


def binding_of(record: Mapping[str, Any]) -> Binding:
    """Return what the chunks of a run are bound to. record: its plan.lock.json, as `RunFolder.locked_plan` reads it."""
    plan = record["plan"]
    weights = {cell["id"]: cell.get("weights_digest") for cell in plan.get("cells", [])}
    extractors = {role: entry.get("digest") for role, entry in plan.get("extractors", {}).items()}
    return Binding(record["plan_hash"], weights, extractors, record.get("schema") != PLAN_SCHEMA)


def unsound(record: Mapping[str, Any]) -> str | None:
    """Say in a few words what makes a plan.lock.json one that no run wrote; None where it is sound."""
    plan, settings = record["plan"], record.get("settings", {})
    if not isinstance(plan, dict) or plan_digest(plan) != record["plan_hash"]:
        return "the plan has another hash than it says"
    if not isinstance(settings, dict) or not all(isinstance(one, dict) and isinstance(one.get("origin"), str) for one in settings.values()):
        return "its settings are no table"
    n, chunk = plan.get("dataset", {"n": 1}), plan.get("chunk", 1)
    n = n.get("n", 1) if isinstance(n, dict) else None
    if type(n) is not int or not 1 <= n <= MOST or type(chunk) is not int or not 1 <= chunk <= MOST:
        return f"n and chunk must be whole numbers from 1 to {MOST:,}"
    cells, extractors = plan.get("cells", []), plan.get("extractors", {})
    if not isinstance(cells, list) or not all(isinstance(one, dict) and SAFE.fullmatch(str(one.get("id"))) for one in cells):
        return "its cells are no list of cells"
    if not isinstance(extractors, dict) or not all(isinstance(one, dict) for one in extractors.values()):
        return "its extractors are no table"
    return None


def spans(n: int, chunk: int) -> list[range]:
    """Cut items 0..n-1 into chunks of `chunk` items in plan order; the last may be shorter."""
    return [range(start, min(start + chunk, n)) for start in range(0, n, chunk)]


class RunFolder:
    """One run on disk. Places are given as parts below the root, e.g. ("images", cell id)."""

    def __init__(self, root: Path):
        self.root = Path(root)
        self.held: tuple[int, int] | None = None

    @classmethod
    def open(cls, root: Path, plan_hash: str, plan: dict, settings: dict | None = None) -> RunFolder:
        """Make a new run folder, or open the folder of the same plan to go on with.

        settings: {name: {"value", "origin"}} of what was asked for, kept beside the plan. Raises UsageError for a folder of anything
        else, IntegrityError for one of the same words whose digests are others now, or whose plan was changed.
        """
        root = Path(root)
        folder = cls(root)
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, not a run folder. Name a new or empty folder with --out.")
        found = folder.locked_plan()
        if found is None:
            with writing(root):
                if root.is_dir() and any(path.name not in UNCLAIMED and not OURS.fullmatch(path.name) for path in root.iterdir()):
                    raise UsageError(f"{root} is not empty and holds no run. Name a new or empty folder with --out.")
                root.mkdir(parents=True, exist_ok=True)
            record: LockRecord = {
                "schema": PLAN_SCHEMA, "plan_hash": plan_hash, "plan": cast(PlanRecord, plan),
                "settings": cast(dict[str, Setting], {} if settings is None else settings),
            }  # fmt: skip
            folder.put_json(LOCK, record)
        elif found["plan_hash"] != plan_hash:
            raise refuse(root, found, {"plan_hash": plan_hash, "plan": plan})
        return folder

    def locked_plan(self) -> dict | None:
        """Read {"plan_hash", "plan", "settings"} of plan.lock.json; None where there is none. Raises IntegrityError where it is damaged, or
        is not what a run wrote."""
        path = self.root / LOCK
        try:
            record = parse_object(read_plain(path, LARGEST_JSON, self.root), ["plan_hash", "plan"], finite=True)
            fault = unsound(record)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            fault = one_line(error.strerror if isinstance(error, OSError) else error)
        if fault is not None:
            raise IntegrityError(f"{path} is damaged ({fault}). Put the file back as it was, or name another folder with --out.")
        return {"settings": {}, **record}

    @functools.cached_property
    def binding(self) -> Binding:
        """Return the things that the chunks of this folder are bound to. Raises IntegrityError as `locked_plan`."""
        found = self.locked_plan()
        return Binding() if found is None else binding_of(found)

    def bind(self, extractors: Mapping[str, str]) -> None:
        """Add extractors, role -> digest, that the run's own plan does not name: features for other metrics are bound to them."""
        self.binding = replace(self.binding, extractors={**extractors, **self.binding.extractors})

    # --- a folder that is moved away -----------------------------------------------------------------------------------

    def hold(self) -> None:
        """Remember which folder this is: one that is moved or deleted is not made a second time under its old name."""
        self.held = identity(self.root)

    def gone(self) -> bool:
        """True where the folder that was held is not under its name any more."""
        return self.held is not None and identity(self.root) != self.held

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Write within the block. Raises Incomplete where the folder was moved or deleted, before or meanwhile."""
        moved = Incomplete(
            f"{self.root} was moved or deleted while the run went on. Where it is now, it holds all finished chunks: go on with it there "
            "(scottbench resume RUN).")
        if self.gone():
            raise moved
        try:
            yield
        except ScottbenchError:
            if self.gone():
                raise moved from None
            raise

    def put(self, name: str, data: bytes) -> Path:
        """Replace a file in one step: a reader, and a machine that lost its power, sees the old or the new bytes, never a part. Raises
        Incomplete where the folder has gone, and as `write_file`."""
        with self.in_place():
            return write_file(self.root / name, data, root=self.root)

    def put_json(self, name: str, record: Mapping[str, object]) -> None:
        """Replace a JSON file in one step."""
        self.put(name, json_bytes(record))

    def put_table(self, name: str, frame: Any) -> None:
        """Replace a table by a polars data frame. Uncompressed Parquet: tables are tiny, and no codec's version can change the bytes."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="uncompressed")
        self.put(name, buffer.getvalue())

    def manifest(self) -> dict | None:
        """Read the manifest of an earlier attempt, if there is a readable one."""
        return read_json(self.root / MANIFEST, self.root)

    # --- chunks ------------------------------------------------------------------------------------------------------

    def put_images(
        self, place: Sequence[str], span: range, ids: Sequence[str], images: np.ndarray, facts: dict | None = None,
        each: Callable[..., Any] = map,
    ) -> None:  # fmt: skip
        """Store a chunk of images, (n, H, W, 3) uint8, as a zip of PNGs named by item id. Equal images, equal bytes. each: a `map` that
        may do several images at once."""
        self.put_chunk(place, span, contents.pack_images(ids, images, each), {"ids": list(ids), **({} if facts is None else facts)})

    def get_images(self, place: Sequence[str], span: range, ids: Sequence[str]) -> np.ndarray | None:
        """Return the (n, H, W, 3) uint8 images of a chunk that exists; None otherwise. Raises IntegrityError as `chunk`."""
        found = self._vouched(place, span, ids)
        if found is None:
            return None
        with self._fit(place, span):
            return contents.unpack_images(found[0], ids)

    def put_features(self, place: Sequence[str], span: range, ids: Sequence[str], features: np.ndarray, facts: dict | None = None) -> None:
        """Store a chunk of features, (n, d) float32, as .npy."""
        self.put_chunk(place, span, contents.pack_features(features), {"ids": list(ids), **({} if facts is None else facts)})

    def get_features(self, place: Sequence[str], span: range, ids: Sequence[str]) -> np.ndarray | None:
        """Return the (n, d) float32 features of a chunk that exists, read-only; None otherwise. Raises IntegrityError as `chunk`."""
        found = self._vouched(place, span, ids)
        if found is None:
            return None
        with self._fit(place, span):
            return contents.unpack_features(found[0], len(ids))

    def facts(self, place: Sequence[str], span: range) -> dict | None:
        """Read a chunk's side-car: sha256, ids, its place and whatever was measured when it was made; None if unreadable."""
        data = self.side_car(place, span)
        try:
            found = None if data is None else parse_object(data, ["ids", "sha256"], finite=True)
        except ValueError:
            return None
        if found is None or not _plain_facts(found):
            return None
        # a side-car that names its place vouches for itself too; those of earlier versions name none
        return found if "place" not in found or found.get("check") == own_digest(found) else None

    def side_car(self, place: Sequence[str], span: range) -> bytes | None:
        """Read the bytes of a chunk's side-car; None where there is none that is a plain file."""
        try:
            return read_plain(self._path(place, span, ".json"), SIDE_CAR, self.root)
        except (OSError, Refused):
            return None

    def digest(self, place: Sequence[str], chunks: Sequence[range]) -> str | None:
        """Return the sha256 over what the side-cars of a place vouch for, in order, times aside: a chunk that is made again takes another
        time. None where one is missing."""
        total = hashlib.sha256()
        for span in chunks:
            facts = self.facts(place, span)
            if facts is None:
                return None
            total.update(canonical({key: value for key, value in facts.items() if key not in ("seconds", "cold", "check")}))
        return total.hexdigest()

    def _path(self, place: Sequence[str], span: range, suffix: str | None = None) -> Path:
        """Path of a chunk: images are .zip, features .npy; or of its side-car, ".json"."""
        for part in place:
            check_name(part, "folder name")
        suffix = _suffix(place) if suffix is None else suffix
        return self.root.joinpath(*place, f"{span.start:05d}-{span.stop - 1:05d}{suffix}")

    def put_chunk(self, place: Sequence[str], span: range, data: bytes, facts: dict) -> None:
        """Store a chunk's bytes, then its side-car: `facts`, which name the "ids", with the sha256 and the place."""
        assert len(facts["ids"]) == len(span)  # or the chunk could never be read
        path, side_car = self._path(place, span), self._path(place, span, ".json")
        # the old side-car goes first: it must never describe new bytes
        with self.in_place(), writing(side_car):
            make_folders(side_car.parent, self.root)  # none of them is a link
            side_car.unlink(missing_ok=True)
        self.put(str(path.relative_to(self.root)), data)
        record = as_read({**facts, **self.binding.of(place), "sha256": hashlib.sha256(data).hexdigest()})
        self.put_json(str(side_car.relative_to(self.root)), with_check(record))

    def chunk(self, place: Sequence[str], span: range, ids: Sequence[str]) -> tuple[bytes, dict] | None:
        """Return (bytes, side-car) of a chunk that exists; None otherwise.

        Raises IntegrityError where a side-car vouches for something that no run wrote: no archive of the ids' images, no array of theirs.
        """
        found = self._vouched(place, span, ids)
        if found is not None:
            with self._fit(place, span):
                contents.check(_suffix(place), found[0], ids)
        return found

    def _vouched(self, place: Sequence[str], span: range, ids: Sequence[str]) -> tuple[bytes, dict] | None:
        """(bytes, side-car) of a chunk whose side-car names these ids, this place and the bytes' sha256."""
        facts = self.facts(place, span)
        if facts is None or facts["ids"] != list(ids) or not self.binding.fits(place, facts):
            return None
        try:
            data = read_plain(self._path(place, span), contents.LARGEST[_suffix(place)], self.root)
        except (OSError, Refused):
            return None
        return (data, facts) if hashlib.sha256(data).hexdigest() == facts["sha256"] else None

    @contextlib.contextmanager
    def _fit(self, place: Sequence[str], span: range) -> Iterator[None]:
        try:
            yield
        except contents.Unfit as error:
            path = self._path(place, span)
            raise IntegrityError(f"{path} {error}, though its side-car vouches for it: no run wrote it. Delete it, then: scottbench resume "
                                 f"{self.root}") from None

    def stored(self, place: Sequence[str]) -> dict[range, list[str]]:
        """Return chunk -> ids of its items, in the run's order, as the side-cars of a place tell; nothing is checked but their kinds.

        Raises IntegrityError where a side-car beside a chunk cannot be read.
        """
        found = {}
        for path in sorted(self.root.joinpath(*place).glob("*.json")):
            first, _, last = path.stem.partition("-")
            if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < int(first) + MOST):
                continue
            span = range(int(first), int(last) + 1)
            facts = self.facts(place, span)
            if facts is not None and all(isinstance(one, str) for one in facts["ids"]):
                found[span] = list(facts["ids"])
            elif self._path(place, span).exists():
                raise IntegrityError(f"{path} is damaged. Put it back as it was, or make the chunk again: scottbench resume {self.root}")
        return found

    def whole(self, place: Sequence[str], span: range, ids: Sequence[str]) -> bytes | None:
        """Return the bytes of a chunk; None where it was taken away. Raises IntegrityError where it is there and is damaged, or is of
        another place."""
        found, path = self.chunk(place, span, ids), self._path(place, span)
        if found is None and path.exists():
            raise IntegrityError(f"{path} is not what its side-car vouches for, or lies in the place of another. Put it back as it was, or "
                                 f"make the chunk again: scottbench resume {self.root}")
        return None if found is None else found[0]

    def state(self, place: Sequence[str], span: range, ids: Sequence[str]) -> str:
        """Say how a chunk of images or features stands: "whole", "damaged" (something is there that no side-car vouches for), "absent".
        Raises IntegrityError as `chunk`."""
        if self.chunk(place, span, ids) is not None:
            return "whole"
        there = any(self._path(place, span, part).exists() for part in (None, ".json"))
        return "damaged" if there else "absent"


def _suffix(place: Sequence[str]) -> str:
    return ".zip" if place[0] == "images" else ".npy"


def _plain_facts(facts: Mapping[str, Any]) -> bool:
    """Whether what was measured of a chunk has the kinds that readers add up."""
    nfe, seconds = facts.get("nfe"), facts.get("seconds")
    if not (isinstance(facts["ids"], list) and isinstance(facts["sha256"], str) and (nfe is None or (type(nfe) is int and nfe > 0))):
        return False
    return seconds is None or (isinstance(seconds, dict) and all(type(one) in (int, float) and one >= 0 for one in seconds.values()))
