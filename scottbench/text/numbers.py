"""Numbers as people read them: decimals, intervals, p values, counts, durations, sizes, digests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

SOON = 90
"""Seconds below which an estimate is given in seconds; as many minutes, in minutes."""


def decimals(half_widths: Iterable[float], most: int) -> int:
    """Return the decimals of a column: the narrowest interval's half width gets two digits; `most` where there is no interval."""
    needed = [1 - math.floor(math.log10(half)) for half in half_widths if half > 0]
    return max(0, min(most, max(needed))) if needed else most


def fixed(value: float, digits: int) -> str:
    """Write a number with so many decimals; what rounds to zero has no sign: never "-0.0"."""
    text = f"{value:.{digits}f}"
    return text if float(text) != 0 else f"{0:.{digits}f}"


def bracket(low: float, high: float, digits: int) -> str:
    """Write an interval: "[76.9, 79.7]"."""
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def signed(value: float, digits: int) -> str:
    """Write a difference with its sign: "+1.2", "-0.3"; never "-0.0"."""
    text = f"{value:+.{digits}f}"
    return text if float(text) != 0 else f"{0:.{digits}f}"


def p_text(p: float) -> str:
    """Write a p value: "p = 0.012", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.995 else "p = 1.00"


def count(n: int, noun: str) -> str:
    """Write a number of things: "1 step", "2 steps", "5,000 prompts"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def counts_in_words(counts: Sequence[int]) -> str:
    """Write rising numbers of steps: "1 to 50", "1, 2, 4"; "no" for none."""
    if len(counts) > 2 and list(counts) == list(range(counts[0], counts[-1] + 1)):
        return f"{counts[0]} to {counts[-1]}"
    return ", ".join(map(str, counts)) if counts else "no"


def duration(seconds: float) -> str:
    """Write a measured time: "45 s", "5 min 12 s", "1 h 40 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def estimated(seconds: float) -> str:
    """Write a time that was estimated, with one decimal: "45 s", "5.2 min", "1.7 h"."""
    return f"{seconds:.0f} s" if seconds < SOON else f"{seconds / 60:.1f} min" if seconds < 60 * SOON else f"{seconds / 3600:.1f} h"


def bytes_in_words(size: int) -> str:
    """Write a number of bytes: 95607719 -> "95.6 MB"."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size} bytes"


def short(digest: object) -> str:
    """Return the first 12 digits of a digest; "n/a" where there is none."""
    return str(digest)[:12] if digest else "n/a"
