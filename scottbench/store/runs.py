"""The run folders below runs/: found by path or by the head of their plan's hash, listed, and tidied."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from scottbench.errors import ScottbenchError, UsageError
from scottbench.store.environment import ENVIRONMENTS
from scottbench.store.events import NAME as EVENTS
from scottbench.store.files import OURS, read_json
from scottbench.store.folder import LOCK, MANIFEST, RunFolder
from scottbench.store.lock import is_held
from scottbench.store.plan_record import older_identity
from scottbench.store.reader import FINISHED, read_manifest
from scottbench.store.tables import RESULTS
from scottbench.text import did_you_mean, one_line

HOME = Path("runs")
SHORTEST = 4
"""Characters of a hash that name a run at least."""


@dataclass(frozen=True)
class RunListing:
    """One run folder, as its records tell it."""

    folder: Path
    plan_hash: str
    status: str
    """The manifest's status; "killed" where it says running and nothing runs, "in use" while a process holds the folder, or "damaged".
    ", older" follows where the plan's identity is of an older version."""
    preset: str
    cells: int
    n: int
    created: str
    bytes: int


def all_runs(home: Path = HOME) -> list[RunListing]:
    """Read every run folder directly below `home`, oldest first; a damaged one too."""
    folders = [path.parent for path in sorted(home.glob(f"*/{LOCK}"))] if home.is_dir() else []
    return [_read(folder) for folder in folders]


def _read(folder: Path) -> RunListing:
    from scottbench.store.schemas import violations

    size = sum(path.lstat().st_size for path in _files(folder))
    try:
        lock = RunFolder(folder).locked_plan()
        wrong = [] if lock is None else violations(lock)
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else {}
    except ScottbenchError:
        return RunListing(folder, "", "damaged", "?", 0, 0, "?", size)
    if lock is None or wrong:
        return RunListing(folder, "", "damaged", "?", 0, 0, "?", size)
    plan = lock["plan"]
    status = "in use" if is_held(folder) else str(manifest.get("status", "begun"))
    if status == "running":
        status = "killed"  # it says that it runs, and no process holds it
    status += ", older" if older_identity(plan) else ""
    return RunListing(folder, str(lock["plan_hash"]), status, str(plan["preset"]), len(plan["cells"]), plan["dataset"]["n"],
               str(manifest.get("created", "?")), size)  # fmt: skip


def _files(folder: Path) -> list[Path]:
    """All files below a folder, links not followed."""
    return [Path(parent) / name for parent, _, names in os.walk(folder) for name in names]


def find_run(text: str, home: Path = HOME) -> Path:
    """Find the run folder that is meant by a path, a folder's name below runs/ or the head of a plan's hash (at least 4 digits).

    Raises UsageError: nothing, or more than one.
    """
    for folder in (_expanded(text), home / text):
        if _is_file(folder / LOCK) or _is_file(folder / MANIFEST):
            return folder
    hits = []
    if len(text) >= SHORTEST:
        hits = [folder for folder, plan_hash in hashes(home).items() if plan_hash.startswith(text.lower())]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UsageError(f"'{one_line(text)}' is the head of {len(hits)} runs: {', '.join(map(str, hits))}. Give the folder of one.")
    heads = {plan_hash[:8]: folder for folder, plan_hash in hashes(home).items()}
    raise UsageError(
        f"no run '{one_line(text)}': neither a run folder nor the head of a plan's hash in {home}/.{did_you_mean(text, heads)} "
        "See: scottbench runs list")


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # the home of a user that is not there
        return Path(text)


def _is_file(path: Path) -> bool:
    """Whether a path is a file; a name that no file system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def hashes(home: Path = HOME) -> dict[Path, str]:
    """Return run folder -> hash of its plan, of the runs below `home`, oldest first."""
    locks = sorted(home.glob(f"*/{LOCK}")) if home.is_dir() else []
    return {path.parent: str((read_json(path, path.parent) or {}).get("plan_hash", "")) for path in locks}


def runs_of(plan_hash: str, home: Path = HOME) -> list[Path]:
    """List the run folders below `home` that were made from a plan."""
    return [folder for folder, found in hashes(home).items() if found == plan_hash]


@dataclass(frozen=True)
class Leftover:
    """Something that a killed run of ours left behind, and that can go without loss."""

    path: Path
    what: str
    """In words: "a file that was being written"."""
    bytes: int


KNOWN = {LOCK, MANIFEST, ENVIRONMENTS, EVENTS, "lock.json"}
"""Files that a run has before it has a chunk."""
HALF = re.compile(r"(\d{5,8}-\d{5,8}\.(zip|npy|json)|[a-z_.]+\.(json|parquet|ndjson))\.tmp")
"""What earlier versions called a file that was being written."""
CHUNK_FILE = re.compile(r"\d{5,8}-\d{5,8}\.(zip|npy)")


def leftovers(home: Path = HOME) -> list[Leftover]:
    """List what killed runs left: files that were being written, chunks that no side-car vouches for, runs without any chunk.

    Only what is known to be of ours is listed, and only in a run that says that it did not end and that no process holds: nothing in a
    folder with results, or of a plan that cannot be read, is ever listed, nor a folder that is a link.
    """
    found: list[Leftover] = []
    for folder in hashes(home):
        if folder.is_symlink() or not _was_killed(folder) or is_held(folder):
            continue
        files = _files(folder)
        half = [path for path in files if OURS.fullmatch(path.name) or HALF.fullmatch(path.name)]
        orphans = [path for path in files if _is_chunk(folder, path) and not path.with_suffix(".json").exists()]
        whole = [path for path in files if _is_chunk(folder, path) and path not in orphans]
        known = {*half, *orphans, *(folder / name for name in KNOWN)}
        if not whole and set(files) <= known and not any(path.is_symlink() for path in folder.rglob("*")):
            found.append(Leftover(folder, "a run without any chunk", sum(path.lstat().st_size for path in files)))
            continue
        found += [Leftover(path, "a file that was being written", path.lstat().st_size) for path in sorted(half)]
        found += [Leftover(path, "a chunk that was not finished", path.lstat().st_size) for path in sorted(orphans)]
    return found


def _was_killed(folder: Path) -> bool:
    """Whether a folder is of a run of ours that did not end, by its records, and holds no result."""
    if any(path.exists() or path.is_symlink() for path in (folder / RESULTS, folder / "report", folder / "scores", folder / "exports")):
        return False
    try:
        lock = RunFolder(folder).locked_plan()
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    except ScottbenchError:
        return False
    return lock is not None and (manifest is None or (manifest["status"] not in FINISHED and manifest["plan_hash"] == lock["plan_hash"]))


def _is_chunk(folder: Path, path: Path) -> bool:
    """Whether a file lies where a chunk does, by its name."""
    parts = path.relative_to(folder).parts
    kind = (parts[0], len(parts), path.suffix)
    return kind in {("images", 3, ".zip"), ("features", 4, ".npy")} and CHUNK_FILE.fullmatch(path.name) is not None


def remove(found: list[Leftover]) -> int:
    """Delete leftovers; returns how many bytes that freed. Raises UsageError where the system refuses."""
    freed = 0
    for left in found:
        try:
            if left.path.is_dir() and not left.path.is_symlink():
                # file by file, then the empty folders: what somebody put there meanwhile stays
                for path in _files(left.path):
                    path.unlink()
                for parent, _, _ in os.walk(left.path, topdown=False):
                    os.rmdir(parent)
            else:
                left.path.unlink()
        except OSError as error:
            raise UsageError(f"cannot remove {left.path}: {error.strerror}.") from None
        freed += left.bytes
    return freed
