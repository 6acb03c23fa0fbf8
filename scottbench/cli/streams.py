"""The standard streams as they may be: closed, full, or of an encoding that lacks our signs.

What cannot be shown is replaced, what cannot be told on stderr is lost without a word, and what cannot be printed on stdout is one
`CannotPrint`. Only `main` makes the streams so: in a notebook they belong to the notebook.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from typing import Any

ALIKE = {"↓": "v", "↑": "^", "≤": "<=", "≥": ">=", "±": "+-", "…": "...",
         "\N{MULTIPLICATION SIGN}": "x", "\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{MINUS SIGN}": "-"}  # fmt: skip
"""Signs of ours, each with one that every encoding has; any other that cannot be shown is "?"."""
NAME = "scottbench"
"""Name of the error handler that takes them."""
_REPLACED: list[Any] = []
"""The streams before ours, kept alive: one that nobody holds closes the bytes that ours writes to."""


class CannotPrint(Exception):
    """Stdout takes no more: `error` is the system's answer. No OSError, which click and others take for their own."""

    def __init__(self, error: OSError):
        super().__init__(str(error))
        self.error = error


class _Stdout(io.TextIOWrapper):
    """Stdout. Raises CannotPrint in place of an OSError."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise CannotPrint(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise CannotPrint(error) from None


class _Stderr(io.TextIOWrapper):
    """Stderr. What it cannot take is lost: the exit code is there, and nobody can be told."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def prepare() -> None:
    """Put streams that keep the rules above in the place of this process's stdout and stderr."""
    codecs.register_error(NAME, _alike)
    _fill_closed()
    sys.stdout = _stream(_Stdout, sys.stdout, 1)
    sys.stderr = _stream(_Stderr, sys.stderr, 2)


def give_up() -> None:
    """Send what stdout still holds, and all that follows, nowhere: Python would complain of it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fill_closed() -> None:
    """Open each of descriptors 0 to 2 that is closed on nothing: else the next file opened would get its number, and our prints."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _stream(kind: type[io.TextIOWrapper], old: Any, number: int) -> Any:
    """A stream of `kind` over the bytes of `old`, with its encoding; one over descriptor `number` where there is none.

    A stream that is none of the interpreter's own (a test's, a notebook's) is given back as it is.
    """
    if old is None:
        return kind(open(number, "wb", buffering=0, closefd=False), encoding="utf-8", errors=NAME, write_through=True)
    if type(old) is not io.TextIOWrapper:
        return old
    made = kind(old.buffer, encoding=old.encoding, errors=NAME, line_buffering=old.line_buffering, write_through=number == 2)
    _REPLACED.append(old)
    return made


def _alike(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks, for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ALIKE.get(sign, "?") for sign in error.object[error.start : error.end]), error.end
