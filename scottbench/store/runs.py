"""The run folders below runs/: found by path or by the head of their plan's hash, listed, and tidied."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from scottbench.errors import UsageError
from scottbench.store.files import read_json
from scottbench.store.folder import LOCK, MANIFEST
from scottbench.store.lock import is_held
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
    """The manifest's status; "killed" where it says running and nothing runs, "in use" while a process holds the folder, or "damaged"."""
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
    lock, manifest = read_json(folder / LOCK), read_json(folder / MANIFEST) or {}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if lock is None or not isinstance(lock.get("plan"), dict):
        return RunListing(folder, "", "damaged", "?", 0, 0, "?", size)
    plan = lock["plan"]
    status = "in use" if is_held(folder) else str(manifest.get("status", "begun"))
    if status == "running":
        status = "killed"  # it says that it runs, and no process holds it
    n = (plan.get("dataset") or {}).get("n", 0)
    return RunListing(folder, str(lock.get("plan_hash")), status, str(plan.get("preset")), len(plan.get("cells", [])), n,
               str(manifest.get("created", "?")), size)  # fmt: skip


def find_run(text: str, home: Path = HOME) -> Path:
    """Find the run folder that is meant by a path, a folder's name below runs/ or the head of a plan's hash (at least 4 digits).

    Raises UsageError: nothing, or more than one.
    """
    for folder in (Path(text).expanduser(), home / text):
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have is no run
            if (folder / LOCK).is_file() or (folder / MANIFEST).is_file():
                return folder
    hits = []
    if len(text) >= SHORTEST:
        hits = [folder for folder, plan_hash in _hashes(home).items() if plan_hash.startswith(text.lower())]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UsageError(f"'{one_line(text)}' is the head of {len(hits)} runs: {', '.join(map(str, hits))}. Give the folder of one.")
    heads = {plan_hash[:8]: folder for folder, plan_hash in _hashes(home).items()}
    raise UsageError(
        f"no run '{one_line(text)}': neither a run folder nor the head of a plan's hash in {home}/.{did_you_mean(text, heads)} "
        "See: scottbench runs list")


def _hashes(home: Path) -> dict[Path, str]:
    """Run folder -> hash of its plan, oldest first."""
    locks = sorted(home.glob(f"*/{LOCK}")) if home.is_dir() else []
    return {path.parent: str((read_json(path) or {}).get("plan_hash", "")) for path in locks}


def runs_of(plan_hash: str, home: Path = HOME) -> list[Path]:
    """List the run folders below `home` that were made from a plan."""
    return [folder for folder, found in _hashes(home).items() if found == plan_hash]


def leftovers(home: Path = HOME) -> list[Path]:
    """List what can go without loss: files that a killed run was writing, chunks that no side-car vouches for, runs without any chunk.

    Folders that a process holds are left out.
    """
    found: list[Path] = []
    for folder in _hashes(home):
        if is_held(folder):
            continue
        chunks = [*folder.glob("images/*/*.zip"), *folder.glob("features/*/*/*.npy")]
        if not any(path.with_suffix(".json").is_file() for path in chunks):
            found.append(folder)
            continue
        found += sorted(path for path in folder.rglob("*.tmp") if path.is_file())
        found += sorted(path for path in chunks if not path.with_suffix(".json").is_file())
    return found


def remove(paths: list[Path]) -> int:
    """Delete files and run folders; returns how many bytes that freed. Raises UsageError where the system refuses."""
    freed = 0
    for path in paths:
        files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
        freed += sum(item.stat().st_size for item in files)
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            raise UsageError(f"cannot remove {path}: {error.strerror}.") from None
    return freed
