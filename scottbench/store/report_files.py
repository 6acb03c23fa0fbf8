"""The files of a run folder that a report is made of, each read whole or refused in one line; and how files are written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import Incomplete, UsageError
from scottbench.text import one_line

if TYPE_CHECKING:
    import polars as pl

SCHEMAS = ("scottbench.run/1", "scottbench.run/2")
REQUIRED = ("plan_hash", "plan", "status", "created", "command", "cells", "metrics", "samples")


def read_manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    if not path.is_file():
        raise UsageError(f"{folder} is no run folder: it has no manifest.json. Give a folder that `scottbench run` wrote, such as runs/...")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({one_line(error)}). Make the run again: scottbench run") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema not in SCHEMAS:
        raise UsageError(
            f"{path} has schema {one_line(repr(schema))}; this version reads {' and '.join(SCHEMAS)}. Use the scottbench that made the run."
        )
    missing = [key for key in REQUIRED if key not in manifest]
    if missing:
        raise UsageError(f"{path} lacks '{missing[0]}': the run did not finish. Finish it: scottbench run with --out {folder}")
    return manifest


def read_claims(path: Path) -> list[dict]:
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))["claims"] if path.is_file() else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({one_line(repr(error))}). Delete it: scottbench claims judges anew") from None
    return [claim for claim in claims if isinstance(claim, dict)]


def read_rows(path: Path, needed: set[str]) -> list[dict[str, Any]]:
    import polars as pl

    if not path.is_file():
        raise UsageError(f"{path} is missing: the run did not finish. Finish it: scottbench run with --out {path.parent}")
    try:
        table: pl.DataFrame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path} cannot be read ({one_line(error)}). Make the run again: scottbench run") from None
    absent = needed - set(table.columns)
    if absent:
        raise UsageError(f"{path} lacks column '{min(absent)}': another version wrote it. Make the run again: scottbench run")
    return table.to_dicts()


def write_file(path: Path, data: bytes, again: str = "the same line again") -> Path:
    """Write `data` to `path` in one piece; returns it. Raises Incomplete (disk full) or UsageError, one line that ends with `again`."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        kind = Incomplete if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else UsageError
        raise kind(f"cannot write {path}: {error.strerror}. Free some space or make the folder writable, then: {again}") from None
    return path
