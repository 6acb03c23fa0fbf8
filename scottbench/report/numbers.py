"""How values, intervals and p values are written, in the terminal as in the report."""

from __future__ import annotations

import math
from collections.abc import Iterable


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
