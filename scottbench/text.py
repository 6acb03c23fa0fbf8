"""Names and text that came from outside: which names are allowed, what was probably meant, what is safe to print."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Names of nouns, presets and plug-ins: safe as a file name, and free of the separators of the command line (, @ =)."""

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def is_name(text: object) -> bool:
    """Whether `text` may name a noun: letters, digits, and inside also `_ . -`; at most 64 characters."""
    return isinstance(text, str) and NAME.fullmatch(text) is not None


def closest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that is most like `word`, or None where nothing is (similarity under 0.6)."""
    by_lower = {name.lower(): name for name in allowed}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[match[0]] if match else None


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """" Did you mean 'x'?" with its leading blank, or "" where nothing is close."""
    match = closest(word, allowed)
    return f" Did you mean '{match}'?" if match is not None else ""


def printable(text: object) -> str:
    """`text` without terminal escapes, control characters (tab and newline stay) and bidirectional overrides.

    Names, prompts and messages of plug-ins are not ours: an escape sequence in one could rewrite what the terminal shows.
    """
    return _CONTROL.sub("", _ESCAPE.sub("", str(text)))


def in_one_line(text: object) -> str:
    """All of `text`, printable, with every run of blanks and line ends as one blank."""
    return " ".join(printable(text).split())


def one_line(text: object) -> str:
    """The first line of `text` that says something, printable; "" if there is none."""
    for line in printable(text).splitlines():
        if line.strip():
            return line.strip()
    return ""


def decimals(half_widths: Iterable[float], most: int) -> int:
    """Decimals of a column: so many that the narrowest interval's half width has two digits, `most` where there is no interval."""
    needed = [1 - math.floor(math.log10(half)) for half in half_widths if half > 0]
    return max(0, min(most, max(needed))) if needed else most


def bracket(low: float, high: float, digits: int) -> str:
    """ "[76.9, 79.7]"."""
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def signed(value: float, digits: int) -> str:
    """ "+1.2", "-0.3"; never "-0.0"."""
    text = f"{value:+.{digits}f}"
    return text if float(text) != 0 else f"{0:.{digits}f}"


def p_text(p: float) -> str:
    """ "p = 0.012", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.995 else "p = 1.00"


def count(n: int, noun: str) -> str:
    """ "1 step", "2 steps", "5,000 prompts"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def duration(seconds: float) -> str:
    """ "45 s", "5 min 12 s", "1 h 40 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def short(digest: object) -> str:
    """The first 12 digits of a digest."""
    return str(digest)[:12] if digest else "n/a"
