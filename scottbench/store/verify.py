"""Is a run folder what it says: schemas, hash of the plan, every chunk in its place, digests of all records and of the page?"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scottbench.errors import IntegrityError, ScottbenchError, UsageError
from scottbench.store import folder as folders
from scottbench.store.environment import ENVIRONMENTS
from scottbench.store.events import NAME as LOG
from scottbench.store.events import begins_as, read_log
from scottbench.store.files import LARGEST_JSON, OURS, SAFE, Refused, parse_object, read_json, read_plain
from scottbench.store.folder import LOCK, MANIFEST, RunFolder, binding_of, spans
from scottbench.store.plan_record import older_identity
from scottbench.store.reader import FINISHED, LARGEST_TABLE, OLDER, RECORDS, Records, read_environments, unsound
from scottbench.store.record import record_of
from scottbench.store.sums import SUMS, check_sums
from scottbench.store.tables import ITEM_COLUMNS, ITEMS, RESULTS
from scottbench.text import one_line

CHUNK_FILE = re.compile(r"(\d{5,8})-(\d{5,8})\.(json|zip|npy)")


@dataclass
class Findings:
    """Lines that say what was checked, and what is wrong. Where nothing is wrong, `wrong` is empty."""

    checked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def verify(root: Path) -> Findings:
    """Check a run folder, or one that was exported, from its files alone: no plug-in, weights or torch needed. Raises UsageError where it
    is no run folder."""
    if not (root / LOCK).is_file() and not (root / MANIFEST).is_file():
        raise UsageError(f"{root} is no run folder: it has neither {LOCK} nor {MANIFEST}.")
    found = Findings()
    lock, manifest = (_document(found, root, name) for name in (LOCK, MANIFEST))
    if lock is not None and (fault := folders.unsound(lock)) is not None:
        found.wrong.append(f"{LOCK}: {fault}")
        lock = None
    if manifest is not None and (fault := unsound(manifest)) is not None:
        found.wrong.append(f"{MANIFEST}: {fault}")
        manifest = None
    if lock is not None and manifest is not None and (manifest["plan_hash"], manifest["plan"]) != (lock["plan_hash"], lock["plan"]):
        found.wrong.append(f"{MANIFEST}: is of another plan than {LOCK}")
    if lock is not None and (older := older_identity(lock["plan"])):
        found.checked.append(f"{LOCK}: {older}")
    exported = is_export(root, manifest)
    if lock is not None and not exported:
        _check_chunks(found, root, lock, manifest)
    elif lock is not None:
        found.checked.append("no images or features: tables and page alone")
    if manifest is not None:
        _check_records(found, root, manifest, exported)
    for folder in (root, root / "report"):
        found.wrong += _attempt(found, f"{folder.relative_to(root) / SUMS}", functools.partial(check_sums, folder))
    return found


def is_export(root: Path, manifest: dict[str, Any] | None) -> bool:
    """True of a folder for publication, which `scottbench export -o` makes: records without images, features and log."""
    if manifest is not None and manifest["schema"] not in OLDER:
        return (root / SUMS).exists()
    return not any((root / name).exists() for name in ("images", "features", LOG))


def _document(found: Findings, root: Path, name: str) -> dict[str, Any] | None:
    """A JSON record, its schema checked; None where it cannot be read."""
    from scottbench.store.schemas import violations

    try:
        document = parse_object(read_plain(root / name, LARGEST_JSON, root), finite=True)
    except (OSError, Refused, ValueError) as error:
        found.wrong.append(f"{name}: missing, or not JSON ({one_line(error.strerror if isinstance(error, OSError) else error)})")
        return None
    wrong = [f"{name}: {one_line(line)[:200]}" for line in violations(document)]
    found.wrong += wrong
    if not wrong:
        found.checked.append(f"{name}: schema {one_line(document.get('schema'))}")
    return None if wrong else document


# --- chunks ----------------------------------------------------------------------------------------------------------


def _check_chunks(found: Findings, root: Path, lock: dict[str, Any], manifest: dict[str, Any] | None) -> None:
    """Every chunk that the plan asks for is whole and in its place, and nothing else lies there. lock: sound."""
    folder, plan = RunFolder(root), lock["plan"]
    folder.binding = binding_of(lock)
    folder.bind(_of_scores(root))
    wanted = spans(plan["dataset"]["n"], plan["chunk"])
    real = real_spans(plan)
    failed = {cell["id"] for cell in ([] if manifest is None else manifest["cells"]) if cell["error"] is not None}
    seen: set[Path] = set()
    ids: dict[tuple[str, range], list[str]] = {}
    whole = 0
    sealed = None
    if manifest is not None and manifest["status"] in FINISHED and manifest["schema"] not in OLDER:
        sealed = manifest["chunks"]
    for place, chunks in _places(found, folder, plan, sealed).items():
        missing = 0
        for span in chunks:
            own = "reference" if place[1] == "reference" and has_own_reference(plan) else ""
            state = _state(found, folder, place, span, ids, own)
            files = [root.joinpath(*place, f"{span.start:05d}-{span.stop - 1:05d}{part}") for part in (".json", ".zip", ".npy")]
            seen |= set(files)
            whole += state == "whole"
            missing += state == "absent"
            if state == "damaged":
                found.wrong.append(f"{files[0].relative_to(root)}: damaged, or of another place; scottbench resume makes the chunk again")
        if missing and place[1] not in failed:
            found.wrong.append(f"{'/'.join(place)}: {missing} of {len(chunks)} chunks are missing (scottbench resume makes them)")
    found.checked.append(f"{whole} chunks: place and sha256")
    _check_others(found, folder, seen)
    if sealed is not None:
        _check_side_cars(found, folder, sealed, wanted, real)


def has_own_reference(plan: dict[str, Any]) -> bool:
    """True of a plan whose reference images are a set of their own, or none; not one for each item."""
    return "reference" in plan["dataset"]


def real_spans(plan: dict[str, Any]) -> list[range]:
    """Return the chunks of a plan's reference images."""
    if not has_own_reference(plan):
        return spans(plan["dataset"]["n"], plan["chunk"])
    own = plan["dataset"]["reference"]
    return spans(own["n"], plan["chunk"]) if own else []


def _places(
    found: Findings, folder: RunFolder, plan: dict[str, Any], sealed: dict[str, str] | None
) -> dict[tuple[str, ...], list[range]]:
    """Place -> chunks that a run of a plan has there. sealed: "images/CELL" and the like, as the manifest of a run that has ended lists
    them; None: as they lie there."""
    cells, wanted, real = [str(cell["id"]) for cell in plan["cells"]], spans(plan["dataset"]["n"], plan["chunk"]), real_spans(plan)
    places: dict[tuple[str, ...], list[range]] = {("images", "reference"): real[:1]} if real else {}
    places |= {("images", cell): wanted for cell in cells}
    if sealed is not None:
        listed = [tuple(name.split("/")) for name in sealed]
        kept = [place for place in listed if len(place) == 3 and place[0] == "features"]
        return {**places, **{place: real if place[1] == "reference" else wanted for place in kept}}
    # the reference has features only of networks by which a metric compares with it
    of_real = _roles(folder, plan, real[0], "reference") if real else {}
    roles = {**of_real, **_roles(folder, plan, wanted[0], cells[0])}
    asked = {entry.get("digest"): role for role, entry in plan["extractors"].items()}
    for digest in () if folder.binding.older else asked.keys() - roles.values():
        found.wrong.append(f"features: those of '{one_line(asked[digest])}' are missing")
    places |= {("features", owner, role): wanted for owner in cells for role in roles}
    places |= {("features", "reference", role): real for role in of_real}
    # a network without a text tower makes no features of prompts
    return places | {("features", "text", role): wanted for role in roles if (folder.root / "features" / "text" / role).is_dir()}


def _roles(folder: RunFolder, plan: dict[str, Any], first: range, owner: str) -> dict[str, str]:
    """Role under which the features of a plan's network lie, with its digest: two roles with one network share a folder. owner: whose to
    look at; first: its first chunk."""
    there = sorted(path.name for path in (folder.root / "features" / owner).glob("*") if SAFE.fullmatch(path.name))
    if folder.binding.older:
        return {role: str(plan["extractors"][role].get("digest")) for role in there if role in plan["extractors"]}
    made = {role: (folder.facts(("features", owner, role), first) or {}).get("extractor") for role in there}
    asked = {entry.get("digest") for entry in plan["extractors"].values()}
    return {role: str(digest) for role, digest in made.items() if digest in asked}


def _state(
    found: Findings, folder: RunFolder, place: tuple[str, ...], span: range, ids: dict[tuple[str, range], list[str]], whose: str = ""
) -> str:
    """How a chunk stands: "whole", "damaged", "absent", or "wrong" where that is told already. ids: those of a chunk in other places, to
    which this one is added; whose: "reference" where it has ids of its own."""
    try:
        facts = folder.facts(place, span)
        own = [] if facts is None else facts["ids"]
        state = folder.state(place, span, own)
    except ScottbenchError as error:
        found.wrong.append(one_line(error))
        return "wrong"
    if state == "whole" and (len(own) != len(span) or ids.setdefault((whose, span), own) != own):
        return "damaged"
    return state


def _of_scores(root: Path) -> dict[str, str]:
    """Role -> digest of the extractors of metrics that were measured later; their features lie among the run's."""
    found: dict[str, str] = {}
    for path in sorted(root.glob(f"scores/*/{MANIFEST}")):
        try:
            plan = Records(path.parent).manifest["plan"]
            found |= {role: entry["digest"] for role, entry in plan["extractors"].items()}
        except (ScottbenchError, KeyError, TypeError, AttributeError):
            continue  # told where the scores are checked
    return found


def _check_others(found: Findings, folder: RunFolder, seen: set[Path]) -> None:
    """Files among the chunks that the run's own plan does not ask for: features for other metrics, or nothing of ours."""
    for kind in ("images", "features"):
        for parent, _, names in os.walk(folder.root / kind):
            for path in sorted(Path(parent) / name for name in names):
                place, match = path.parent.relative_to(folder.root).parts, CHUNK_FILE.fullmatch(path.name)
                if path in seen or OURS.fullmatch(path.name):
                    continue
                if match is None or kind != "features" or len(place) != 3 or not _is_of_scores(folder, place, path):
                    found.wrong.append(one_line(f"{path.relative_to(folder.root)}: is no chunk of this run"))
                elif path.suffix == ".json" and _state(found, folder, place, range(int(match[1]), int(match[2]) + 1), {}) != "whole":
                    found.wrong.append(f"{path.relative_to(folder.root)}: damaged, or of another place")


def _is_of_scores(folder: RunFolder, place: tuple[str, ...], path: Path) -> bool:
    """Whether a file lies among features that a metric measured later asked for."""
    facts = read_json(path.with_suffix(".json"), folder.root) or {}
    return folder.binding.extractors.get(place[2], facts.get("extractor")) in folder.binding.extractors.values()


def _check_side_cars(found: Findings, folder: RunFolder, chunks: dict[str, str], wanted: list[range], real: list[range]) -> None:
    """The digests over the side-cars, which the manifest of a run that has ended has. wanted, real: chunks of items and of reference."""
    for name, digest in chunks.items():
        place = tuple(name.split("/"))
        own = real if len(place) > 1 and place[1] == "reference" else wanted
        try:
            same = folder.digest(place, own[:1] if place == ("images", "reference") else own) == digest
        except ScottbenchError:
            same = False
        if not same:
            found.wrong.append(one_line(f"{name}: its side-cars are not those that {MANIFEST} tells of"))


# --- records ---------------------------------------------------------------------------------------------------------


def _check_records(found: Findings, root: Path, manifest: dict[str, Any], exported: bool) -> None:
    """Digests and contents of all records. Runs of schema 1 have no digests, those of schema 2 only of the tables."""
    records, older = Records(root), manifest["schema"] in OLDER
    there = [name for name in RECORDS if name in records.files or (not older and (root / name).exists())]
    for name in there if manifest["status"] in FINISHED else records.files:
        if name not in RECORDS:
            found.wrong.append(one_line(f"{MANIFEST}: {name} is no record of a run"))
            continue
        found.wrong += _attempt(found, f"{name}: sha256", functools.partial(records.data, name, LARGEST_TABLE))
    if not found.wrong and (root / RESULTS).exists() and manifest["status"] in FINISHED:
        found.wrong += _attempt(found, "tables and claims: columns and numbers", functools.partial(_read_all, records))
    if (root / ENVIRONMENTS).exists():
        found.wrong += _attempt(found, f"{ENVIRONMENTS}: schema", functools.partial(read_environments, root))
    if not exported:
        _check_log(found, root, manifest)
    if not older and manifest["status"] in FINISHED and (root / "report" / "index.html").exists() and not (root / "report" / SUMS).exists():
        found.wrong.append("report/index.html: has no digest beside it; scottbench report makes the page again")
    for folder in sorted((root / "scores").glob("*")):
        found.wrong += _attempt(found, f"{one_line(folder.relative_to(root))}: schema, sha256, numbers",
                                functools.partial(_check_score, root, folder))  # fmt: skip


def _check_log(found: Findings, root: Path, manifest: dict[str, Any]) -> None:
    """The event log up to the end of the run is the one that the manifest tells of, and no line of it comes again."""
    log = manifest.get("log")
    if log is None:
        return
    data = read_log(root)
    lines = [] if data is None else data.splitlines()
    if not begins_as(data, log):
        found.wrong.append(f"{LOG}: is not the log that {MANIFEST} tells of")
    elif len(set(lines)) < len(lines):  # each has its time and its readings
        found.wrong.append(f"{LOG}: holds a line twice")
    else:
        found.checked.append(f"{LOG}: sha256")


def _read_all(records: Records) -> None:
    record_of(records)
    if records.has(ITEMS):
        records.table(ITEMS, ITEM_COLUMNS)


def _check_score(root: Path, folder: Path) -> None:
    """Read the records of metrics that were measured later. Raises IntegrityError, and as the readers do."""
    records = Records(folder)
    _read_all(records)
    found, plan = Findings(), records.manifest["plan"]
    wanted = spans(plan["dataset"]["n"], plan["chunk"])
    _check_side_cars(found, RunFolder(root), records.manifest.get("chunks", {}), wanted, real_spans(plan))
    if found.wrong:
        raise IntegrityError(found.wrong[0])


def _attempt(found: Findings, name: str, check: Callable[[], Any]) -> Iterable[str]:
    """Run a check and note its name among those that hold; the line of what is wrong, where something is. A check that returns False had
    nothing to check."""
    try:
        if check() is not False:
            found.checked.append(name)
    except ScottbenchError as error:
        return [one_line(error)]
    return []
