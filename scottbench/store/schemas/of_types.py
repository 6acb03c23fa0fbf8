"""JSON Schemas made from the types of the records. `python -m scottbench.store.schemas.of_types` writes them where they ship."""

from __future__ import annotations

import dataclasses
import types
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from scottbench.store.files import json_bytes, replace_file
from scottbench.store.manifest import Manifest, Recorded
from scottbench.store.plan_record import LockRecord
from scottbench.store.schemas import HERE
from scottbench.store.types import Optional, Rule

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"}, float: {"type": "number"}, type(None): {"type": "null"},
    Any: {},
}  # fmt: skip


def documents() -> dict[str, dict[str, Any]]:
    """Return the schemas of the versions that are written now, by the name of their file."""
    kinds = {
        "run-3.json": (Manifest, Manifest.title), "plan-3.json": (LockRecord, LockRecord.__doc__),
        "recorded-1.json": (Recorded, Recorded.__doc__),
    }  # fmt: skip
    return {name: {"$schema": DIALECT, "title": title, **schema_of(kind)} for name, (kind, title) in kinds.items()}


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the schema of a type: a record (dataclass or TypedDict), a list, a table, a choice, a plain value. Raises TypeError for any
    other."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = dict(schema_of(arguments[0]))
        for note in arguments[1:]:
            found |= dict(note.keywords) if isinstance(note, Rule) else {}
        return found
    if origin is NotRequired:
        return schema_of(arguments[0])
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one) for one in arguments]}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        inner = schema_of(arguments[1])
        return {"type": "object", "additionalProperties": inner} if inner else {"type": "object"}
    if dataclasses.is_dataclass(kind) or is_typeddict(kind):
        return _record(kind)
    if kind in SIMPLE:
        return dict(SIMPLE[kind])
    raise TypeError(f"{kind} has no JSON Schema")


def _record(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    hints = {name: hint for name, hint in hints.items() if "ClassVar" not in str(get_origin(hint))}
    lax = {name for name, hint in hints.items() if get_origin(hint) is NotRequired or Optional in get_args(hint)}
    return {
        "type": "object",
        "required": [name for name in hints if name not in lax],
        "properties": {name: schema_of(hint) for name, hint in hints.items()},
    }


def write() -> None:
    """Replace the shipped files."""
    for name, document in documents().items():
        replace_file(HERE / name, json_bytes(document))


if __name__ == "__main__":
    write()
