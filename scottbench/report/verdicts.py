"""Claims of papers as a row of verdicts, for the first screen; the table of claims stands in pairs.py."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from scottbench.report.pairs import UNTESTED
from scottbench.store.record import RunRecord, text

SIGNS = {"reproduced": "✓", "direction holds": "✓", "inconclusive": "?", "contradicted": "✗"}
"""Verdict -> a sign that says the same without colour."""


@dataclass(frozen=True)
class Verdict:
    """How one claim stands."""

    name: str
    statement: str
    verdict: str
    sign: str


def verdict_row(record: RunRecord) -> tuple[list[Verdict], str]:
    """Return the claims that this run tests, and a sentence about the others; none where no claim was judged."""
    tested = [claim for claim in record.claims if claim["verdict"] != UNTESTED]
    row = [Verdict(text(claim, "name", "claim"), text(claim, "statement"), claim["verdict"], SIGNS.get(claim["verdict"], "·"))
           for claim in tested]  # fmt: skip
    left = Counter(claim["verdict"] for claim in record.claims)[UNTESTED]
    return row, f"{left} of {len(record.claims)} {UNTESTED}" if left else ""
