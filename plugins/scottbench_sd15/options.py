"""Options of the datasets; nothing heavy is imported for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SIDE = 512
"""Pixels of a reference picture of COCO, unless other ones are asked for."""


@dataclass(frozen=True)
class ListOptions:
    """The way in which captions are drawn."""

    captions: Path | None = None
    """A file of your own, a prompt a line, in place of the rule: --prompts FILE."""
    seed: int = 0
    """Seed of the rule."""


@dataclass(frozen=True)
class ReferenceOptions:
    """The size that pictures are brought to."""

    side: int = SIDE
    """Pixels of the centred square, by LANCZOS."""
