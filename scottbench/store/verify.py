"""Is a run folder what it says: schemas, hash of the plan, digest of every chunk and table; and are its images made again the same?"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import UsageError
from scottbench.store.folder import LOCK, MANIFEST, RunFolder, canonical, read_json, spans
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan
    from scottbench.run.sample import Work

MEAN, LARGEST = 1.0, 32
"""What level tolerance allows between two makings of an image: mean and largest difference, in grey levels of 255."""


@dataclass
class Findings:
    """What was checked, and what is wrong with it; nothing wrong, nothing in `wrong`."""

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


def resample(work: Work, plan: Plan, count: int, exact: bool) -> Findings:
    """Make `count` random images of the run again and compare them with the stored ones: byte for byte if `exact`, else within MEAN and
    LARGEST. Raises UsageError where the run has fewer images."""
    import numpy as np

    from scottbench.run.sample import remake
    from scottbench.run.worker import open_weights

    found, students = Findings(), {}
    everything = [(cell, number) for cell in plan.cells for number in range(plan.n)]
    if count > len(everything):
        raise UsageError(f"--resample {count}: the run has {len(everything)} images.")
    chosen = sorted(random.sample(range(len(everything)), count))
    for cell, number in (everything[place] for place in chosen):
        span = next(span for span in work.chunks if number in span)
        name = f"{cell.id}/{plan.items.ids[number]}"
        stored = work.folder.get_images(("images", cell.id), span, work.ids(span))
        if stored is None:
            found.wrong.append(f"{name}: its chunk is missing or damaged")
            continue
        made = remake(work, cell, open_weights(work, cell, students), span, number - span.start)
        difference = np.abs(made.astype(int) - stored[number - span.start].astype(int))
        mean, largest = float(difference.mean()), int(difference.max())
        if largest if exact else (mean > MEAN or largest > LARGEST):
            found.wrong.append(f"{name}: made again, it differs by {mean:.3f} grey levels on average, {largest} at most")
        else:
            found.checked.append(f"{name}: {'the same bytes' if largest == 0 else f'within {mean:.3f} grey levels'}")
    return found
