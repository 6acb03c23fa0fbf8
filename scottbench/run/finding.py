"""What a check of `scottbench doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """Name of the check: "disk"."""
    status: Status
    """ok; warning: runs work, something is worth knowing; problem: the default run would fail or mislead; skipped: not tried."""
    found: str
    """Sentence that says what is so."""
    fix: str = ""
    """Sentence or command that mends it; "" where nothing is to be done."""
    seconds: float = 0.0
    """Time that the whole check took."""
