"""How values, intervals and p values are written, in the terminal as in the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scottbench.store.record import Cell, Record


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


METHODS = {
    "influence": "from the influence of each prompt",
    "half-sampling": "from random halves of the prompts",
}
"""ci_method -> where the standard error comes from."""


def interval_methods(record: Record, cells: Sequence[Cell]) -> str:
    """What the brackets are, and how each metric's were made."""
    of: dict[str, list[str]] = {}
    for metric in record.metrics:
        for method in dict.fromkeys(cell.intervals[metric.name].method for cell in cells if metric.name in cell.intervals):
            of.setdefault(METHODS.get(method, method), []).append(metric.label)
    if not of:
        return ""
    ways = "; ".join(f"{', '.join(names)}: {method}" for method, names in of.items())
    return f" In brackets: 95 % intervals of the value at this N, over prompts and sampling noise, centred at the value ({ways})."
