"""JSON Schemas of the records of a run folder, one file a version, and the check against them. Old versions stay, so that old runs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scottbench.errors import DamagedAsset
from scottbench.store.files import read_object
from scottbench.text import one_line

HERE = Path(__file__).parent


def known() -> dict[str, Path]:
    """Return "scottbench.run/2" -> its file, for every version that was ever written."""
    found = {}
    for path in sorted(HERE.glob("*.json")):
        kind, _, version = path.stem.rpartition("-")
        found[f"scottbench.{kind}/{version}"] = path
    return found


def violations(document: dict[str, Any]) -> list[str]:
    """List what is wrong with a record, one line each, by the schema that it names; one line if it names none that is known."""
    from jsonschema import Draft202012Validator

    paths, name = known(), str(document.get("schema"))
    if name not in paths:
        return [f"schema {name!r} is not known; known: {', '.join(paths)}"]
    path = paths[name]
    schema = read_object(path, lambda error: DamagedAsset(f"{path} cannot be read ({one_line(error)}). Install scottbench again."))
    validator = Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(document), key=lambda error: list(map(str, error.absolute_path)))
    return [f"{'.'.join(map(str, error.absolute_path)) or 'record'}: {error.message}" for error in errors]
