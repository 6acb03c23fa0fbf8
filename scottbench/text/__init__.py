"""Words for people, each written once: names (names.py), numbers, durations and sizes (numbers.py), progress (progress.py)."""

from __future__ import annotations

from scottbench.text.names import NAME, at_steps, closest, did_you_mean, folded, in_one_line, is_name, one_line, printable
from scottbench.text.numbers import (
    bracket,
    bytes_in_words,
    count,
    counts_in_words,
    decimals,
    duration,
    estimated,
    fixed,
    p_text,
    short,
    signed,
)

__all__ = [
    "NAME", "at_steps", "bracket", "bytes_in_words", "closest", "count", "counts_in_words", "decimals", "did_you_mean", "duration",
    "estimated", "fixed", "folded", "in_one_line", "is_name", "one_line", "p_text", "printable", "short", "signed",
]  # fmt: skip
