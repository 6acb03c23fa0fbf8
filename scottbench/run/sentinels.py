"""Sentinels: images that no method means to make are counted, cell by cell. They are kept and measured like all others.

Each image counts once, as the first that fits: "black", "constant" (one colour all over), "duplicate" (equal to an earlier image of its
cell). Runs of earlier versions have "non-finite" too (a pixel was NaN or infinite); now such a cell fails.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from scottbench.errors import Incomplete
from scottbench.plan.cells import PlannedCell

if TYPE_CHECKING:
    from scottbench.run.session import Work

KINDS = ("non-finite", "black", "constant")
DUPLICATE = "duplicate"
LOOKS = "looks"
"""Key of a chunk's side-car: for each image its kind, or the head of the sha256 of its pixels."""


def looks(images: np.ndarray, finite: np.ndarray | None = None) -> list[str]:
    """Describe each of (n,H,W,3) uint8 images by its kind, or by the head of its pixels' sha256 where it is of none.

    finite: (n,) bool, false where a pixel was NaN or infinite before it became uint8; None: not known.
    """
    return [look(image, finite is None or bool(finite[i])) for i, image in enumerate(images)]


def look(image: np.ndarray, finite: bool) -> str:
    """Describe one of (H,W,3) uint8 as `looks` does. finite: as of `looks`."""
    if not finite:
        return KINDS[0]
    if (image == image[0, 0]).all():
        return KINDS[2] if image[0, 0].any() else KINDS[1]
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def count(found: list[str]) -> dict[str, int]:
    """Count the images of each kind among all of a cell; kinds that are not there are left out. found: of `looks`, in item order."""
    total = Counter(found)
    kinds = {kind: total.pop(kind) for kind in KINDS if kind in total}
    twice = sum(times - 1 for times in total.values())
    return {**kinds, **({DUPLICATE: twice} if twice else {})}


def count_cell(work: Work, cell: PlannedCell) -> dict[str, int]:
    """Count the images of a cell that has all its chunks, by their side-cars; chunks of an earlier version are read and looked at.

    Raises Incomplete where a chunk is not there any more.
    """
    found: list[str] = []
    for span in work.chunks:
        place, ids = ("images", cell.id), work.ids(span)
        own = (work.folder.facts(place, span) or {}).get(LOOKS)
        if not isinstance(own, list) or len(own) != len(span) or not all(isinstance(one, str) for one in own):
            images = work.folder.get_images(place, span, ids)
            if images is None:
                raise Incomplete(f"{work.folder.root} lacks a chunk of images. Finish it first: scottbench resume {work.folder.root}")
            own = looks(images)
        found += own
    return count(found)
