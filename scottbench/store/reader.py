"""The one reader of a run's records: every verb that shows or uses them reads them here.

A record is opened as a regular file inside the folder, links not followed; its size is checked before it is read, its sha256 is the one
that manifest.json has, and its kinds and numbers are checked before they are used. What differs is an IntegrityError of one line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import IntegrityError, UsageError
from scottbench.store.environment import ENVIRONMENTS
from scottbench.store.files import LARGEST_JSON, NoObject, Refused, own_digest, parse_object, read_plain
from scottbench.store.folder import LOCK, MANIFEST, MOST, Binding, RunFolder, binding_of
from scottbench.store.plan_record import plan_digest
from scottbench.store.tables import CATEGORIES, ITEMS, PAIRS, RESULTS, TIMINGS, parse_frame
from scottbench.text import one_line

if TYPE_CHECKING:
    import polars as pl

OLDER = ("scottbench.run/1", "scottbench.run/2")
"""Versions whose manifests have the digests of the tables alone, or none."""
SCHEMAS = (*OLDER, "scottbench.run/3")
REQUIRED = ("plan_hash", "plan", "status", "created", "command", "cells", "metrics", "samples")
FINISHED = ("complete", "failed")
CLAIMS = "claims.json"
RECORDS = (LOCK, ENVIRONMENTS, RESULTS, ITEMS, PAIRS, CATEGORIES, TIMINGS, CLAIMS)
"""What a run writes beside its manifest and its log; the manifest of one that has ended has their digests."""
LARGEST_TABLE = 2**31
"""Bytes of a table at most."""


class Records:
    """The records of one run folder, or of a folder that was exported from one."""

    def __init__(self, folder: Path):
        """Read and check manifest.json. Raises as `read_manifest`."""
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        files = self.manifest.get("files")
        self.files: dict[str, str] = files if isinstance(files, dict) else {}
        """Name -> sha256, as the manifest has them."""

    @property
    def older(self) -> bool:
        """True of a run of an earlier version, of which only some records have digests."""
        return self.manifest["schema"] in OLDER

    def has(self, name: str) -> bool:
        """True where a record is there, or should be: the manifest has a digest of it."""
        return name in self.files or (self.folder / name).exists()

    def data(self, name: str, limit: int = LARGEST_JSON) -> bytes:
        """Return the bytes of a record. Raises IntegrityError where it is not the one that the run wrote, UsageError where the run has not
        come so far."""
        path = self.folder / name
        try:
            found = read_plain(path, limit, self.folder)
        except (OSError, Refused) as error:
            if isinstance(error, FileNotFoundError) and name not in self.files:
                raise UsageError(f"{path} is missing: the run did not finish. Finish it: scottbench resume {self.folder}") from None
            raise damaged(path, error) from None
        digest = self.files.get(name)
        if digest is None and not self.older:
            if self.manifest["status"] in FINISHED:
                raise IntegrityError(f"{path} is none of this run's records: {MANIFEST} has no digest of it. Take it away, or measure "
                                     f"again: scottbench resume {self.folder}")
            raise UsageError(f"{path} is of an attempt that did not finish. Finish it: scottbench resume {self.folder}")
        if digest is not None and hashlib.sha256(found).hexdigest() != digest:
            raise IntegrityError(f"{path} has another sha256 than {MANIFEST} says: it was changed after the run. {cure(path)}")
        return found

    def json(self, name: str, keys: Iterable[str] = ()) -> dict[str, Any]:
        """Return a JSON record. keys: what it must hold. Raises as `data`, and IntegrityError where it is damaged."""
        try:
            return parse_object(self.data(name), keys, finite=True)
        except ValueError as error:
            raise damaged(self.folder / name, error) from None

    def table(self, name: str, needed: frozenset[str] | set[str] = frozenset()) -> pl.DataFrame:
        """Return a table. needed: columns that it must have. Raises as `data`, and IntegrityError where it is damaged."""
        try:
            return parse_frame(self.data(name, LARGEST_TABLE), name, needed, self._most(name))
        except ValueError as error:
            raise damaged(self.folder / name, error) from None

    def rows(self, name: str, needed: frozenset[str] | set[str] = frozenset()) -> list[dict[str, Any]]:
        """Return a table as rows. Raises as `table`."""
        return self.table(name, needed).to_dicts()

    def _most(self, name: str) -> int:
        """Rows that a table of this run can have."""
        cells = len(self.manifest["cells"]) + len(self.manifest.get("over_seeds", []))
        values = cells * max(1, len(self.manifest["metrics"]))
        n = max([entry["n"] for entry in self.manifest["cells"]], default=0)
        most = {RESULTS: values, ITEMS: values * n, PAIRS: values * cells, TIMINGS: 16 * cells}.get(name, values * n)
        return max(10**5, most)


def chunks_of(folder: Path, manifest: dict[str, Any]) -> RunFolder:
    """Return the chunks of a run, bound to the plan of its manifest; those of an earlier version are bound to nothing."""
    found = RunFolder(folder)
    if manifest["schema"] in OLDER:
        found.binding = Binding(older=True)
    else:
        found.binding = replace(binding_of(manifest), older=False)
    return found


def damaged(path: Path, error: Exception) -> IntegrityError:
    """Make the error for a record that cannot be used, from what went wrong."""
    what = f"cannot be read ({one_line(error.strerror)})" if isinstance(error, OSError) else _words(error)
    return IntegrityError(f"{path} {what}. {cure(path)}")


def cure(path: Path) -> str:
    """Say what to do about a record that is not as it was."""
    if path.name == MANIFEST:
        return f"Put it back as it was, or delete it and measure again: scottbench resume {path.parent}"
    if path.name in (LOCK, ENVIRONMENTS):  # nothing can make them again
        return "Put it back as it was, or make a new run: scottbench run"
    return f"Put it back as it was, or measure again: scottbench resume {path.parent}"


def _words(error: Exception) -> str:
    return one_line(error) if isinstance(error, Refused) else f"is damaged ({one_line(error)[:200]})"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read manifest.json of a run that was begun by any version that this one reads.

    Raises UsageError, one line, where there is none, or it is of another schema or of a run that has just begun; IntegrityError where it is
    damaged.
    """
    path = folder / MANIFEST
    try:
        manifest = parse_object(read_plain(path, LARGEST_JSON, folder), finite=True)
    except (FileNotFoundError, NotADirectoryError):
        where = "Give a folder that `scottbench run` wrote, such as runs/..."
        raise UsageError(f"{folder} is no run folder: it has no {MANIFEST}. {where}") from None
    except NoObject:
        raise _unknown_schema(path, None) from None
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None
    if manifest.get("schema") not in SCHEMAS:
        raise _unknown_schema(path, manifest.get("schema"))
    missing = [key for key in REQUIRED if key not in manifest]
    if missing:
        raise UsageError(f"{path} lacks '{missing[0]}': the run did not finish. Finish it: scottbench run with --out {folder}")
    fault = unsound(manifest)
    if fault is not None:
        raise damaged(path, ValueError(fault))
    return manifest


def unsound(manifest: dict[str, Any]) -> str | None:
    """Say what makes a manifest one that no run wrote, in a few words; None where it is sound."""
    from scottbench.store.schemas import violations

    wrong = violations(manifest)
    if wrong:
        return one_line(wrong[0])
    if manifest.get("check") not in (None, own_digest(manifest)):
        return "was changed after the run"
    if any(entry["n"] > MOST for entry in manifest["cells"]):
        return f"n must be at most {MOST:,}"
    if manifest["schema"] not in OLDER and plan_digest(manifest["plan"]) != manifest["plan_hash"]:
        return "the plan has another hash than it says"
    return None


def _unknown_schema(path: Path, schema: object) -> UsageError:
    return UsageError(f"{path} has schema {one_line(repr(schema))[:80]}; this version reads {', '.join(SCHEMAS)}. Use the scottbench that "
                      "made the run.")


def read_environments(folder: Path) -> list[dict[str, Any]]:
    """Read the environments of all attempts of a run from env.json: [{"attempt", "worker", "environment"}]; [] where there is none.

    Raises IntegrityError where it is damaged: whether a run has level exact rests on it.
    """
    from scottbench.store.schemas import violations

    path = folder / ENVIRONMENTS
    try:
        record = parse_object(read_plain(path, LARGEST_JSON, folder), ["attempts"], finite=True)
        wrong = violations(record)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None
    if wrong:
        raise damaged(path, ValueError(wrong[0]))
    return list(record["attempts"])
