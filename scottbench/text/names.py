"""Names and text that came from outside: which names are allowed, what was probably meant, what is safe to print."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Names of methods, metrics, presets and plug-ins: safe as a file name, and free of the separators of the command line (, @ =)."""

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def is_name(text: object) -> bool:
    """Return True if `text` may be a name: letters, digits, and inside also `_ . -`; at most 64 characters."""
    return isinstance(text, str) and NAME.fullmatch(text) is not None


def closest(word: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that is most like `word`: the shortest that begins with it, else the most similar; None where nothing is
    (similarity under 0.6)."""
    found = _like(word, allowed)
    return found[0] if found else None


def _like(word: str, allowed: Iterable[str]) -> list[str]:
    """List the names that begin with `word`, the shortest first; else the one that is most similar, if any."""
    by_lower = {name.lower(): name for name in allowed}
    begun = sorted((name for name in by_lower if len(word) > 1 and name.startswith(word.lower())), key=len)
    found = begun or difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return [by_lower[name] for name in found]


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with its leading blank, of up to three that begin so "'x', 'y' or 'z'"; "" where none is close."""
    found = [f"'{name}'" for name in _like(word, allowed)[:3]]
    return f" Did you mean {' or '.join([', '.join(found[:-1]), found[-1]] if len(found) > 1 else found)}?" if found else ""


def printable(text: object) -> str:
    """Take terminal escapes, control characters (tab and newline stay) and bidirectional overrides out of `text`.

    Names, prompts and messages of plug-ins are not ours: an escape sequence in one could rewrite what the terminal shows.
    """
    return _CONTROL.sub("", _ESCAPE.sub("", str(text)))


def in_one_line(text: object) -> str:
    """Return all of `text`, printable, with every run of blanks and line ends as one blank."""
    return " ".join(printable(text).split())


def folded(text: str, width: int, indent: str = "") -> str:
    """Fold a line between words to lines of a window's width; no word is cut. indent: before further lines."""
    import textwrap

    kept = textwrap.wrap(text, max(20, width), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(kept)


def at_steps(method: str, steps: int) -> str:
    """Name a cell: "name@2"; the name alone of pictures that were made elsewhere, which have 0 steps."""
    return f"{method}@{steps}" if steps else method


def one_line(text: object) -> str:
    """Return the first line of `text` that says something, printable; "" if there is none."""
    for line in printable(text).splitlines():
        if line.strip():
            return line.strip()
    return ""
