"""What the verbs share: checked values, tables that are plain when piped, JSON, one line for an error."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.text import did_you_mean, one_line, printable

if TYPE_CHECKING:
    from scottbench.report.tables import Table


class Terminated(BaseException):
    """SIGTERM as an exception, so that files are closed and half-written chunks removed on the way out.

    Its argument, if it has one, is the command that goes on.
    """


class MakeRoom(Terminated):
    """SIGUSR1, a scheduler's warning before it takes the machine away, as an exception. By exit code 138 a job knows to start again."""


class Interrupted(BaseException):
    """Ctrl-C in a run, with the command that goes on: click would put a line of its own before the message of a KeyboardInterrupt."""


def rank() -> int:
    """Count this process among those that a launcher started; 0 is the main one, which alone prints results."""
    text = os.environ.get("RANK", "0").strip()
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def fail(message: str, code: int) -> int:
    """Print an error on stderr, one line or a line for each missing file; gives back the exit code."""
    worker = f" of worker {rank()}" if rank() > 0 else ""
    print(f"error{worker}: {printable(message).strip()}", file=sys.stderr)
    return code


def stopped(word: str, error: BaseException) -> str:
    """ "interrupted; finished work is kept. Go on with: scottbench resume RUN". A second argument of the error is what is kept instead."""
    kept = error.args[1] if len(error.args) > 1 else "finished work is kept"
    return f"{word}; {kept}" + (f". Go on with: {error.args[0]}" if error.args else "")


def note(message: str) -> None:
    """Print a remark on stderr."""
    print(printable(message), file=sys.stderr)


def say(message: str, indent: str = "") -> None:
    """Print a line on stdout; in a terminal's window folded between words, never within one. indent: before its further lines."""
    text = printable(message)
    if sys.stdout.isatty():
        import shutil

        from scottbench.text import folded

        text = folded(text, shutil.get_terminal_size().columns, indent)
    print(text)


def check_word(flag: str, word: str, allowed: Sequence[str]) -> None:
    """Raise UsageError unless a flag's value is one of those allowed."""
    from scottbench.errors import UsageError
    from scottbench.text import did_you_mean, one_line

    if word not in allowed:
        raise UsageError(f"{flag} {one_line(word)}: must be {', '.join(allowed)}.{did_you_mean(word, allowed)}")


def number(flag: str, text: str, at_least: float = 1, kind: type = int) -> Any:
    """`text` as a finite number of `kind` that is not under `at_least`. Raises UsageError."""
    try:
        value = kind(text)
        finite = math.isfinite(value)
    except (ValueError, OverflowError):  # a whole number may be too long for a float
        finite = False
    if not finite or value < at_least:
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{flag} must be {wanted} of at least {at_least:g}, found '{one_line(text)}'")
    return value


def maybe(flag: str, text: str | None, at_least: float = 1, kind: type = int) -> Any:
    """`number`, or None where the flag was not given."""
    return None if text is None else number(flag, text, at_least, kind)


def positive(flag: str, text: str | None) -> float | None:
    """A number above 0, or None where the flag was not given. Raises UsageError."""
    value = maybe(flag, text, 0, float)
    if value == 0:
        raise UsageError(f"{flag} must be above 0")
    return value


def names(flag: str, texts: Sequence[str]) -> list[str]:
    """Split comma lists into names, each of which may carry @key=value. Raises UsageError where one is missing or stands twice."""
    from scottbench.registry.options import split_list

    try:
        found = split_list(texts)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from None
    for position, name in enumerate(found):
        if name in found[:position]:
            raise UsageError(f"{flag} has '{one_line(name)}' twice; name each once")
    return found


def folders(flag: str, pairs: Iterable[str]) -> dict[str, str]:
    """["cd=out/cd"] -> {"cd": "out/cd"}. Raises UsageError."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or not name or not folder:
            raise UsageError(f"{flag} must have the form NAME=FOLDER, found '{one_line(pair)}'")
        if name in found:
            raise UsageError(f"{flag} names '{one_line(name)}' twice")
        found[name] = folder
    return found


def kind_of(word: str, kinds: Iterable[str]) -> str:
    """The singular of a kind: "methods" or "method" -> "method". Raises UsageError with a suggestion."""
    kinds = list(kinds)
    singular = word[:-1] if word.endswith("s") else word
    if singular in kinds:
        return singular
    plurals = [f"{kind}s" for kind in kinds]
    raise UsageError(f"unknown kind '{one_line(word)}'.{did_you_mean(word, plurals)} Kinds: {', '.join(plurals)}")


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; NaN and infinity, which JSON has not, become null."""
    print(json.dumps(_finite(document), indent=2, ensure_ascii=True, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = (), wrap: Iterable[int] = (), spare: Iterable[int] = ()
) -> None:
    """Print rows of text as a table (`show_table`). right: columns set flush right; wrap: those that may take several lines; spare: those
    that a narrow window goes without."""
    from scottbench.report.tables import Column, Entry, Table

    right, wrap, spare = set(right), set(wrap), set(spare)
    columns = [Column(title, number=x in right, wrap=x in wrap, spare=x in spare) for x, title in enumerate(header)]
    show_table(Table("", columns, [[Entry(str(field)) for field in row] for row in rows]))


def show_table(table: Table, narrow: bool = False) -> None:
    """Print a table's terminal form: drawn in a terminal's window, aligned plain text with one line a row when piped.

    narrow: in a window, headings stand one word a line and intervals below their value.
    """
    from scottbench.report.forms import terminal

    print(terminal(table, sys.stdout.isatty(), narrow))
