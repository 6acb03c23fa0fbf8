"""Words that the types of records are made of; `scottbench.store.schemas.of_types` turns each into JSON Schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Rule:
    """Keywords of JSON Schema that a Python type cannot say."""

    keywords: tuple[tuple[str, Any], ...]


class Optional:
    """Marks a field that records of the same schema may lack: early ones were written without it."""


def rule(**keywords: Any) -> Rule:
    """Return the JSON Schema keywords for `Annotated`: rule(minimum=1)."""
    return Rule(tuple(keywords.items()))


Digest = Annotated[str, rule(pattern="^[0-9a-f]{64}$")]
"""A sha256 in hex."""
Positive = Annotated[int, rule(minimum=1)]
Natural = Annotated[int, rule(minimum=0)]
Amount = Annotated[float, rule(minimum=0)]
"""A number that is not negative: seconds."""
Reasons = dict[str, str]
"""Metric -> why it has no value, or no interval."""
