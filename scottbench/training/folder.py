"""The folder of a training: which training it holds, whether another may begin or go on there, and its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scottbench.errors import DamagedAsset, UsageError
from scottbench.store.files import as_read, json_bytes, read_object, replace_file, whole_lines

CONFIGURATION = "training.json"
SINCE = {"micro_batches": 1, "precision": "no"}
"""Keys that trainings of older versions did not note, and what they were."""
UNKNOWN = ("made_by",)
"""Keys that they did not note, and that nobody knows any more."""


def check_folder(out: Path, config: dict, resume: bool) -> None:
    """Refuse a folder that holds another training, and to resume where there is none or a different one. Raises UsageError, or
    DamagedAsset where the folder cannot be read; writes nothing."""
    path = out / CONFIGURATION
    if not resume and any((out / name).exists() for name in ("checkpoint", "checkpoint.old", "student.json")):
        raise UsageError(f"{out} already holds a student. Continue its training with --resume, or give another --out.")
    if not resume and (out / "best" / "student.json").is_file():
        raise UsageError(f"{out / 'best'} holds the best student of a training that ended early. Move it away, or give another --out.")
    if resume and not path.is_file():
        raise UsageError(f"nothing to resume at {out}: no {CONFIGURATION}. Start without --resume.")
    if resume:
        check_same(out, config)


def make_folder(out: Path) -> None:
    """Make the folder of a training. Raises UsageError where it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from None


def check_same(out: Path, config: dict) -> None:
    """Raises UsageError where the folder's training has another configuration, DamagedAsset where that cannot be read."""
    path = out / CONFIGURATION
    found = SINCE | {key: config[key] for key in UNKNOWN if key in config} | read_object(
        path, lambda error: DamagedAsset(f"cannot read {path}: {error}. Restore it, or train anew with another --out."))
    there, here = flat(found), flat(as_read(config))
    different = [key for key in sorted(here.keys() | there.keys()) if key.split(".")[0] in config and there.get(key) != here.get(key)]
    if different:
        listed = ", ".join(f"{key} was {shown(there, key)}, now {shown(here, key)}" for key in different[:3])
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise UsageError(f"{out} was trained with another configuration ({listed}{more}). Give the same one, or another --out.")


def flat(config: dict) -> dict[str, Any]:
    """Take one level out of a table: {"options": {"lr": 1}} -> {"options.lr": 1}."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return found


def shown(values: dict, key: str) -> str:
    """Write a value for an error message; of a digest its head."""
    return str(values[key])[:16] if key in values else "not there"


def begin(out: Path, config: dict, resume: bool) -> None:
    """Remember the configuration, once nothing stands in the way of the first step; a new training begins a new log. Raises UsageError
    where the folder cannot be written."""
    try:
        if not resume:
            (out / "log.jsonl").unlink(missing_ok=True)
        replace_file(out / CONFIGURATION, json_bytes(config, sort_keys=True))
    except OSError as error:
        raise unwritable(out, error) from None


def forget_lines_after(out: Path, step: int) -> None:
    """Take out of the log the lines that a killed training wrote after its last checkpoint: they will be written again."""
    path = out / "log.jsonl"
    kept = [line for line in whole_lines(path) if line["step"] <= step]
    replace_file(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def unwritable(out: Path, error: OSError) -> UsageError:
    """Return the error for a folder that cannot be written."""
    return UsageError(f"cannot write to {out}: {error.strerror}. Give another folder with --out.")
