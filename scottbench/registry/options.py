"""Typed options of methods, trainers and metrics: "key=value" strings to an instance of their Options dataclass.

The dataclass is the whole declaration: annotations are the types (int, float, bool, str, Literal, each also `| None`),
defaults the defaults, the string literal under each field its documentation, `__post_init__` raising ValueError the ranges.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scottbench.errors import UsageError
from scottbench.text import did_you_mean, one_line

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Option:
    """One field of an Options class, as `scottbench show` prints it."""

    name: str
    kind: Any
    """The annotation, resolved."""
    default: Any
    """dataclasses.MISSING where the field has no default."""
    doc: str

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def describe(self) -> str:
        """What may be written: "whole number", "one of: a, b"."""
        return _describe(self.kind)


def options_of(options: type) -> list[Option]:
    """The fields of an Options dataclass, in order."""
    kinds, docs = typing.get_type_hints(options), field_docs(options)
    found = []
    for item in dataclasses.fields(options):
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        found.append(Option(item.name, kinds[item.name], default, docs.get(item.name, "")))
    return found


def field_docs(options: type) -> dict[str, str]:
    """Field -> the string literal under it, inherited fields included; {} where the source is not at hand."""
    docs = {}
    for cls in reversed(options.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
        except (OSError, TypeError, SyntaxError):
            continue
        for statement, below in zip(body, body[1:]):
            if isinstance(statement, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                docs[statement.target.id] = inspect.cleandoc(str(below.value.value))
    return docs


def make_options(options: type, values: Mapping[str, Any], owner: str) -> Any:
    """An instance of `options` from {key: text or value}. `owner` ("method 'scott'") is named in messages.

    Raises UsageError: unknown key (with a suggestion), text that is no value of the type, value out of range.
    """
    known = {option.name: option for option in options_of(options)}
    arguments = {}
    for key, value in values.items():
        if key not in known:
            allowed = f" Options: {', '.join(known)}" if known else " It has no options."
            raise UsageError(f"{owner} has no option '{one_line(key)}'.{did_you_mean(key, known)}{allowed}")
        arguments[key] = _parse(value, known[key], owner)
    missing = [name for name, option in known.items() if option.required and name not in arguments]
    if missing:
        raise UsageError(f"{owner} needs option '{missing[0]}': -O {missing[0]}=VALUE")
    try:
        return options(**arguments)
    except ValueError as error:
        raise UsageError(f"{owner}: {one_line(error)}") from None


def parse_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """["eta=0.3", "h=1"] -> {"eta": "0.3", "h": "1"}. Raises UsageError: no "=", or a key given twice."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"option '{one_line(pair)}' must have the form key=value")
        if key in values:
            raise UsageError(f"option '{one_line(key)}' is given twice")
        values[key] = value.strip()
    return values


def parse_inline(text: str) -> tuple[str, dict[str, str]]:
    """ "scott@eta=0.3,h=1" -> ("scott", {"eta": "0.3", "h": "1"}); "cd" -> ("cd", {})."""
    name, at, pairs = text.partition("@")
    if at and not pairs.strip():
        raise UsageError(f"'{one_line(text)}': key=value must follow the @")
    return name.strip(), parse_pairs(pairs.split(",")) if at else {}


def split_list(texts: Iterable[str]) -> list[str]:
    """Comma lists, given once or often, to names: ["scott@eta=0.3,h=1,cd", "ddim"] -> ["scott@eta=0.3,h=1", "cd", "ddim"].

    A piece with "=" but no "@" goes on with the inline options of the name before it. Raises UsageError on an empty piece.
    """
    names: list[str] = []
    for text in texts:
        for position, piece in enumerate(text.split(",")):
            piece = piece.strip()
            if not piece:
                raise UsageError(f"'{one_line(text)}': a name is missing between the commas")
            if "=" in piece and "@" not in piece and position > 0 and "@" in names[-1]:
                names[-1] += f",{piece}"
            else:
                names.append(piece)
    return names


def _parse(value: Any, option: Option, owner: str) -> Any:
    found = _convert(value, option.kind)
    if found is _NO_VALUE:
        raise UsageError(f"{owner}: option '{option.name}' must be {option.describe}, found '{one_line(value)}'")
    return found


_NO_VALUE = object()


def _convert(value: Any, kind: Any) -> Any:
    """`value` as an instance of `kind`, or _NO_VALUE."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return next((found for argument in arguments if (found := _convert(value, argument)) is not _NO_VALUE), _NO_VALUE)
    text = str(value).strip()
    if origin is typing.Literal:
        return next((choice for choice in arguments if str(choice) == text), _NO_VALUE)
    if kind is type(None):
        return None if text.lower() == "none" else _NO_VALUE
    if kind is bool:
        return True if text.lower() in _TRUE else False if text.lower() in _FALSE else _NO_VALUE
    if kind is str:
        return text
    try:
        number = kind(text)
    except ValueError:
        return _NO_VALUE
    return number if math.isfinite(number) else _NO_VALUE


def _describe(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(argument) for argument in arguments)
    if origin is typing.Literal:
        return f"one of: {', '.join(str(choice) for choice in arguments)}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
