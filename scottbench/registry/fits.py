"""Fields of a noun, held against their annotations: a summary that is no text is found when the plug-in is loaded, not in a report."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from scottbench.text import one_line


def misfit(noun: Any) -> str | None:
    """Say in words which field of a noun (a dataclass) has a value of a wrong type; None where all are right."""
    for item in dataclasses.fields(noun):
        value, kind = getattr(noun, item.name), str(item.type)
        allowed = _allowed(kind)
        if kind == "str | tuple[str, ...]":
            fits = isinstance(value, str) or _fits_tuple(value, kind)
        else:
            fits = _fits_tuple(value, kind) if kind.startswith("tuple") else any(_fits(value, one) for one in kind.split(" | "))
        if allowed is not None and not fits:
            return f"field '{item.name}' must be {allowed}, found {one_line(repr(value))[:80]}"
    return None


def _allowed(kind: str) -> str | None:
    if kind == "str | tuple[str, ...]":
        return "text or a tuple of texts"
    words = {"str": "text", "bool": "True or False", "int": "a whole number", "float": "a number", "type": "a class"}
    if kind.startswith("Callable"):
        return "a function" + (" or None" if kind.endswith("| None") else "")
    if kind.startswith("tuple"):
        return "a tuple of whole numbers" if "int" in kind else "a tuple of texts" if "str" in kind else "two numbers or None"
    found = [words.get(one, "None" if one == "None" else "") for one in kind.split(" | ")]
    return " or ".join(found) if all(found) else None


def _fits(value: Any, kind: str) -> bool:
    if kind == "None":
        return value is None
    if kind.startswith("Callable"):
        return callable(value)
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"str": str, "bool": bool, "type": type}.get(kind, object))


def _fits_tuple(value: Any, kind: str) -> bool:
    if "str" in kind:
        return isinstance(value, (tuple, list)) and all(isinstance(item, str) for item in value)
    if "int" in kind:
        return isinstance(value, (tuple, list, range)) and all(_fits(item, "int") for item in value)
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(item is None or _fits(item, "float") for item in value)
