"""What the verbs share: checked values, tables that are plain when piped, JSON, one line for an error."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from scottbench.errors import UsageError
from scottbench.text import did_you_mean, one_line, printable


class Terminated(BaseException):
    """SIGTERM, as an exception: files are closed and half-written chunks removed on the way out. Its argument, if it has one, is the
    command that goes on."""


class Interrupted(BaseException):
    """Ctrl-C in a run, with the command that goes on: click would put a line of its own before the message of a KeyboardInterrupt."""


def rank() -> int:
    """Number of this process among those that a launcher started; 0 is the main one, which alone prints results."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0


def fail(message: str, code: int) -> int:
    """Print an error on stderr, one line or a line for each missing file; gives back the exit code."""
    worker = f" of worker {rank()}" if rank() > 0 else ""
    print(f"error{worker}: {printable(message).strip()}", file=sys.stderr)
    return code


def stopped(word: str, error: BaseException) -> str:
    """ "interrupted; finished work is kept. Go on with: scottbench resume RUN"."""
    return f"{word}; finished work is kept" + (f". Go on with: {error.args[0]}" if error.args else "")


def note(message: str) -> None:
    """A remark on stderr."""
    print(printable(message), file=sys.stderr)


def number(flag: str, text: str, at_least: float = 1, kind: type = int) -> Any:
    """`text` as a finite number of `kind` that is not under `at_least`. Raises UsageError."""
    wanted = "a whole number" if kind is int else "a number"
    try:
        value = kind(text)
        if not math.isfinite(value) or value < at_least:
            raise ValueError
    except ValueError:
        raise UsageError(f"{flag} must be {wanted} of at least {at_least:g}, found '{one_line(text)}'") from None
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
    """A comma list that may be given more than once; an entry may carry @key=value. Raises UsageError on a repeated entry."""
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
    """ "methods" or "method" -> "method". Raises UsageError with a suggestion."""
    kinds = list(kinds)
    singular = word[:-1] if word.endswith("s") else word
    if singular in kinds:
        return singular
    plurals = [f"{kind}s" for kind in kinds]
    raise UsageError(f"unknown kind '{one_line(word)}'.{did_you_mean(word, plurals)} Kinds: {', '.join(plurals)}")


def print_json(document: Any) -> None:
    """One JSON document on stdout; NaN and infinity, which JSON has not, become null."""
    print(json.dumps(_finite(document), indent=2, ensure_ascii=True, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    right: Iterable[int] = (),
    wrap: Iterable[int] = (),
    stack: Iterable[int] = (),
    bold: Iterable = (),
) -> None:
    """A table on stdout: rich on a terminal, aligned plain text, one line a row, when piped.

    right: columns set flush right. On a terminal only: wrap, columns of text that may take several lines; stack, columns whose
    heading stands one word a line; bold, (row, column) pairs to stress.
    """
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    right, wrap, stack, bold = set(right), set(wrap), set(stack), set(bold)
    style = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)} if terminal else {"box": None, "padding": (0, 2, 0, 0)}
    table = Table(**style, show_edge=False, pad_edge=False, header_style="bold")
    for x, title in enumerate(map(printable, header)):
        heading = "\n".join(title.split()) if terminal and x in stack else title
        table.add_column(Text(heading), justify="right" if x in right else "left", no_wrap=not (terminal and x in wrap))
    for y, row in enumerate(rows):
        cells = [printable(cell) if terminal else one_line(cell) for cell in row]
        # Text, not str: a name of a plug-in must not be read as markup
        table.add_row(*[Text(cell, style="bold" if (y, x) in bold else "") for x, cell in enumerate(cells)])
    # force_terminal: FORCE_COLOR would otherwise put escapes into a pipe
    console = Console(force_terminal=terminal, width=None if terminal else 10_000, emoji=False, markup=False, highlight=False)
    # rich would leave out the columns that do not fit; a line that the terminal folds loses nothing
    console.width = max(console.width, Measurement.get(console, console.options.update(width=10_000), table).minimum)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines()))
