"""The verdicts of a run on the claims of papers: written as it ends, and again when plug-ins bring claims that came later."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.store.files import json_bytes, with_check
from scottbench.store.folder import MANIFEST, RunFolder
from scottbench.store.lock import locked
from scottbench.store.reader import CLAIMS, FINISHED, read_manifest

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins


def write_claims(folder: RunFolder, plugins: Plugins) -> dict[str, Any]:
    """Write claims.json: every claim that the plug-ins bring, held against the finished run; the report shows them. Returns the record."""
    from scottbench.stats.measured import read_measured
    from scottbench.stats.verdicts import judge

    claims = [registered.noun for registered in plugins.nouns["claim"].values()]
    record = {"schema": "scottbench.claims/1", "claims": judge(claims, read_measured(folder.root))}
    folder.put_json(CLAIMS, record)
    return record


def judge_again(run: Path, plugins: Plugins) -> list[dict[str, Any]]:
    """Hold a run against the claims that the plug-ins bring now: its claims.json, the digest of it, and its report are made again.

    Nothing else of the run is touched. Returns the judged claims. Raises UsageError of a run that has no verdicts, for it did not end, or
    sampled no method; Busy where a process holds it.
    """
    from scottbench.report import build

    with locked(run):
        folder, manifest = RunFolder(run), read_manifest(run)
        if manifest["status"] not in FINISHED or CLAIMS not in (manifest.get("files") or {}):
            raise UsageError(f"{run} has no {CLAIMS}: it did not end, sampled no method, or is of an earlier version. "
                             "To see the verdicts, leave --write out.")
        record = write_claims(folder, plugins)
        files = manifest["files"] | {CLAIMS: hashlib.sha256(json_bytes(record)).hexdigest()}
        folder.put_json(MANIFEST, with_check({**manifest, "files": files}))
        build(run)
    return record["claims"]
