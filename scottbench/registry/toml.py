"""The one reader of TOML: config files, presets and claims. What is too large or too deep is refused in one line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from scottbench.text import one_line

LARGEST = 256 * 2**10
"""Bytes of a file."""
DEEPEST = 32
"""Tables and lists inside each other."""
_LONG_KEY = re.compile(r"(?<![\w\"'-])[\w\"'-]++(?:[ \t]*+\.[ \t]*+[\w\"'-]++){32}")
"""A key of too many parts, a.b.c: the parser would spend minutes on one of thousands."""


class NoToml(ValueError):
    """A file is no TOML that we read; the message says why, in one line."""


def read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises NoToml: unreadable, too large, too deep, no TOML, or a whole number of more than 64 bits."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise NoToml(f"it has more than {LARGEST:,} bytes")
        text = data.decode("utf-8")
        if _LONG_KEY.search(text):
            raise NoToml(f"it has a key of more than {DEEPEST} parts")
        table = tomllib.loads(text)
    except NoToml:
        raise
    except RecursionError:
        raise NoToml(f"it is nested more than {DEEPEST} deep") from None
    except (OSError, ValueError, MemoryError) as error:
        raise NoToml(_why(error)) from None
    _check(table)
    return table


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"it is no UTF-8 text (byte {error.start})"
    if "integer string conversion" in str(error):
        return "it has a whole number of more than 64 bits"
    return one_line(error)[:200] if str(error) else type(error).__name__


def _check(table: dict[str, Any]) -> None:
    """Raise NoToml for a table that is too deep, or holds a whole number of more than 64 bits, which no reader need take."""
    level: list[Any] = [table]
    for _ in range(DEEPEST):
        below = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
        if any(isinstance(item, int) and not -(2**63) <= item < 2**63 for item in below):
            raise NoToml("it has a whole number of more than 64 bits")
        level = [item for item in below if isinstance(item, (dict, list))]
        if not level:
            return
    raise NoToml(f"it is nested more than {DEEPEST} deep")
