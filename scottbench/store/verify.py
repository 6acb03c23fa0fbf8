"""Is a run folder what it says: schemas, hash of the plan, digest of every chunk and table; and are its images made again the same?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from scottbench.errors import UsageError
from scottbench.store.files import canonical, read_json
from scottbench.store.folder import LOCK, MANIFEST, RunFolder, spans
from scottbench.store.plan_record import older_identity
from scottbench.text import one_line


@dataclass
class Findings:
    """Lines that say what was checked, and what is wrong. Where nothing is wrong, `wrong` is empty."""

    checked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def verify(root: Path) -> Findings:
    """Check a run folder from its records alone: no plug-in, weights or torch needed. Raises UsageError where it is no run folder."""
    lock, manifest = read_json(root / LOCK), read_json(root / MANIFEST)
    if not (root / LOCK).is_file() and manifest is None:
        raise UsageError(f"{root} is no run folder: it has neither {LOCK} nor {MANIFEST}.")
    found = Findings()
    for name, document in ((LOCK, lock), (MANIFEST, manifest)):
        _check_document(found, name, document)
    if lock is None or not isinstance(lock.get("plan"), dict):
        return found
    if hashlib.sha256(canonical(lock["plan"])).hexdigest() != lock.get("plan_hash"):
        found.wrong.append(f"{LOCK}: the plan has another hash than it says")
    if manifest is not None and (manifest.get("plan_hash"), manifest.get("plan")) != (lock.get("plan_hash"), lock["plan"]):
        found.wrong.append(f"{MANIFEST}: is of another plan than {LOCK}")
    if older := older_identity(lock["plan"]):
        found.checked.append(f"{LOCK}: {older}")
    _check_chunks(found, root, lock["plan"])
    if manifest is not None:
        _check_tables(found, root, manifest)
    return found


def _check_document(found: Findings, name: str, document: dict | None) -> None:
    from scottbench.store.schemas import violations

    if document is None:
        found.wrong.append(f"{name}: missing, or not JSON")
        return
    found.wrong += [f"{name}: {one_line(line)}" for line in violations(document)]
    found.checked.append(f"{name}: schema {one_line(document.get('schema'))}")


def _check_chunks(found: Findings, root: Path, plan: dict) -> None:
    folder, whole = RunFolder(root), 0
    for owner in ("reference", *(str(cell["id"]) for cell in plan["cells"])):
        chunks = [path for kind in ("images", "features") for path in sorted((root / kind / owner).rglob("*.json"))]
        for side_car in chunks:
            place = side_car.parent.relative_to(root).parts
            first, _, last = side_car.stem.partition("-")
            span = range(int(first), int(last) + 1) if first.isdigit() and last.isdigit() else range(0)
            facts = read_json(side_car) or {}
            ids = facts.get("ids")
            if isinstance(ids, list) and len(ids) == len(span) and folder.state(place, span, ids) == "whole":
                whole += 1
            else:
                found.wrong.append(f"{side_car.relative_to(root)}: damaged; scottbench resume makes the chunk again")
        wanted = spans(int(plan["dataset"]["n"]), int(plan["chunk"]))
        missing = len(wanted) - len(list((root / "images" / owner).glob("*.json")))
        if owner != "reference" and missing > 0:
            found.wrong.append(f"images/{owner}: {missing} of {len(wanted)} chunks are missing (scottbench resume makes them)")
    found.checked.append(f"{whole} chunks: sha256")


def _check_tables(found: Findings, root: Path, manifest: dict) -> None:
    """Digests of the tables, which runs of schema 1 do not have."""
    for name, digest in (manifest.get("files") or {}).items():
        path = root / Path(name).name
        if not path.is_file():
            found.wrong.append(f"{name}: missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            found.wrong.append(f"{name}: has another sha256 than {MANIFEST} says")
        else:
            found.checked.append(f"{name}: sha256")


