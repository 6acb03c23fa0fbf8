"""Typed options of methods, trainers and metrics: "key=value" strings to an instance of their Options dataclass.

The dataclass is the whole declaration (see fields.py); the string literal under each field is its documentation.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scottbench.errors import UsageError
from scottbench.registry.fields import TEXT, describe, make
from scottbench.text import one_line


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
        """Say that the option has no default."""
        return self.default is dataclasses.MISSING

    @property
    def describe(self) -> str:
        """Say what may be written: "a whole number", "one of: a, b"."""
        return describe(self.kind)


def options_of(options: type) -> list[Option]:
    """Return the fields of an Options dataclass, in order."""
    kinds, docs = typing.get_type_hints(options), field_docs(options)
    declared: Any = options  # a dataclass; the type system has no word for one
    found = []
    for item in dataclasses.fields(declared):
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        found.append(Option(item.name, kinds[item.name], default, docs.get(item.name, "")))
    return found


def field_docs(options: type) -> dict[str, str]:
    """Return {field: the string literal under it}, inherited fields included; {} where the source is not at hand."""
    docs = {}
    for cls in reversed(options.__mro__[:-1]):
        try:
            (definition, *_) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        except (OSError, TypeError, SyntaxError):
            continue
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for statement, below in zip(body, body[1:]):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                docs[statement.target.id] = inspect.cleandoc(str(below.value.value))
    return docs


def make_options(options: type, values: Mapping[str, Any], owner: str) -> Any:
    """Make an instance of `options` from {key: text or value}. `owner` ("method 'scott'") is named in messages.

    Raises UsageError: unknown key (with a suggestion), text that is no value of the type, value out of range.
    """
    return make(options, values, owner, TEXT)


def parse_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """Read ["eta=0.3", "h=1"] as {"eta": "0.3", "h": "1"}. Raises UsageError: no "=", or a key given twice."""
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


def split_list(texts: Iterable[str]) -> list[str]:
    """Split comma lists, given once or often, into names: ["scott@eta=0.3,h=1,cd", "ddim"] -> ["scott@eta=0.3,h=1", "cd", "ddim"].

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
