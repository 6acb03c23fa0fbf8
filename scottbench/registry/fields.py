"""The one parser of typed dataclasses: options as text, and tables of a TOML file.

The dataclass is the whole declaration: annotations are the types (int, float, bool, str, Literal, list, dict, another dataclass, each also
`| None`), defaults the defaults, `__post_init__` raising ValueError the ranges. Text is converted; a TOML value has a type already and is
kept as it is, but that an integer may stand for a float.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar

from scottbench.errors import UsageError
from scottbench.text import did_you_mean, one_line

Made = TypeVar("Made")
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
NO_VALUE = object()
"""Stands for a value that is none of the annotated type."""


@dataclass(frozen=True)
class Form:
    """How the values were written, and how a mistake in them is put."""

    is_text: bool
    """Values are text, to be converted; else they are those of a TOML file."""
    unknown: str
    wrong: str
    missing: str


TEXT = Form(
    is_text=True,
    unknown="{where} has no option '{key}'.{hint} {known}",
    wrong="{where}: option '{key}' must be {allowed}, found '{found}'",
    missing="{where} needs option '{key}': -O {key}=VALUE",
)
"""Options as a person writes them: "key=value"."""
TOML = Form(
    is_text=False,
    unknown="{where}: unknown key '{key}'.{hint}",
    wrong="{where}: '{key}' must be {allowed}, found {found}",
    missing="{where}: key '{key}' is missing; needed: {missing}",
)
"""The keys of a table of a TOML file."""


def make(cls: type[Made], values: Any, where: str, form: Form = TOML, **given: Any) -> Made:
    """Make an instance of a dataclass from {key: value}.

    where: what the values are of, named in messages: "method 'scott'", "preset FILE". given: fields that are no keys.
    Raises UsageError: no table, an unknown key (with a suggestion), a value of another type or out of range, a missing key.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} must be a table, found {values!r}")
    declared: Any = cls  # of a dataclass; the type system has no word for one
    kinds, fields = typing.get_type_hints(cls), {item.name: item for item in dataclasses.fields(declared) if item.name not in given}
    found = {}
    for key, value in values.items():
        if key not in fields:
            known = f"Options: {', '.join(fields)}" if fields else "It has no options."
            raise UsageError(form.unknown.format(where=where, key=one_line(key), hint=did_you_mean(key, fields), known=known))
        found[key] = _read(value, kinds[key], where, key, form)
    needed = [name for name, item in fields.items() if item.default is MISSING and item.default_factory is MISSING]
    missing = [name for name in needed if name not in found]
    if missing:
        raise UsageError(form.missing.format(where=where, key=missing[0], missing=", ".join(missing)))
    try:
        return cls(**given, **found)
    except Exception as error:  # __post_init__ of a plug-in's options may raise anything
        raise UsageError(f"{where}: {one_line(error)}") from None


def _read(value: Any, kind: Any, where: str, key: str, form: Form) -> Any:
    """A value as its field has it; a table becomes the dataclass that the field is of, and so does each of a list of tables."""
    nested = _dataclass_in(kind)
    if nested is not None and typing.get_origin(kind) is list and isinstance(value, list):
        return [make(nested, entry, f"{where}: [[{key}]]", form) for entry in value]
    if nested is not None and typing.get_origin(kind) is not list:
        return make(nested, value, f"{where} {key}", form)
    found = convert(value, kind) if form.is_text else value if fits(value, kind) else NO_VALUE
    if found is NO_VALUE:
        raise _wrong(where, key, kind, value, form)
    return found


def _wrong(where: str, key: str, kind: Any, value: object, form: Form) -> UsageError:
    """The error for a value that is none of the annotated type, with what is allowed and what was found."""
    if typing.get_origin(kind) is typing.Literal and not form.is_text:
        choices = [str(choice) for choice in typing.get_args(kind)]
        hint = did_you_mean(str(value), choices)
        return UsageError(f"{where}: {key} must be one of {', '.join(choices)}, found {value!r}.{hint}")
    found = one_line(value) if form.is_text else repr(value)
    return UsageError(form.wrong.format(where=where, key=key, allowed=describe(kind, form), found=found))


def _dataclass_in(kind: Any) -> type | None:
    """The dataclass of `Arm`, `Quoted | None` or `list[Comparison]`; None of any other annotation."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union, list) else (kind,)
    return next((one for one in kinds if isinstance(one, type) and dataclasses.is_dataclass(one)), None)


def convert(value: object, kind: Any) -> Any:
    """Convert text to the annotated type; NO_VALUE where it says no such value. Numbers are finite."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return next((found for argument in arguments if (found := convert(value, argument)) is not NO_VALUE), NO_VALUE)
    text = str(value).strip()
    if origin is typing.Literal:
        return next((choice for choice in arguments if str(choice) == text), NO_VALUE)
    if kind is type(None):
        return None if text.lower() == "none" else NO_VALUE
    if kind is bool:
        return True if text.lower() in TRUE else False if text.lower() in FALSE else NO_VALUE
    if kind is str:
        return text
    if kind is Path:
        return Path(text).expanduser() if text else NO_VALUE
    try:
        number = kind(text)
    except ValueError:
        return NO_VALUE
    return number if math.isfinite(number) else NO_VALUE


def fits(value: object, kind: Any) -> bool:
    """Return True where a TOML value has the annotated type. An integer may stand for a float; true and false are no numbers."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if isinstance(value, bool) and kind is not bool:
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def describe(kind: Any, form: Form = TEXT) -> str:
    """Say what may be written where a type is annotated: "a whole number or none", "one of: a, b", "a list of numbers"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        # TOML has no word for None: there the key is left out
        return " or ".join(describe(argument, form) for argument in arguments if form.is_text or argument is not type(None))
    if origin is typing.Literal:
        return f"one of: {', '.join(str(choice) for choice in arguments)}"
    if origin is list:
        return f"a list of {describe(arguments[0], form).removeprefix('a ')}s"
    if dict in (kind, origin):
        return "a table"
    text = "text" if form.is_text else "string"
    names = {Path: "a path", int: "a whole number", float: "a number", bool: "true or false", str: text, type(None): "none"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def check_keys(table: Collection[str], allowed: Collection[str], where: str, title: str) -> None:
    """Raise UsageError for a key of the TOML table [title] that is none of the allowed ones."""
    for key in table:
        if key not in allowed:
            raise UsageError(f"{where}: unknown key '{one_line(key)}' in [{title}].{did_you_mean(key, allowed)}")
