"""nearest/ of a run folder: the training image nearest to each sample, as `scottbench score RUN --nearest` wrote it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scottbench.errors import IntegrityError
from scottbench.store.contents import Unfit, unpack_pictures
from scottbench.store.files import LARGEST_JSON, parse_object, read_plain
from scottbench.store.sums import check_sums

FOLDER, RECORD, IMAGES = "nearest", "nearest.json", "images.zip"
SCHEMA = "scottbench.nearest/1"
LARGEST = 2**28
"""Bytes of the archive of pictures at most."""


@dataclass(frozen=True)
class Near:
    """The training image nearest to a sample."""

    id: str
    prompt: str
    distance: float


@dataclass(frozen=True)
class Nearest:
    """The training images that were looked up for a run's samples."""

    dataset: str
    n: int
    """Training images that were looked through."""
    extractor: str
    ids: list[str]
    """Samples, in the order of each list of `cells`."""
    cells: dict[str, list[Near]]
    """Id of a cell, or "reference" -> one entry a sample."""
    pictures: dict[str, bytes]
    """Id of a training image -> PNG."""


def read_nearest(root: Path) -> Nearest | None:
    """Read nearest/ of a run folder; None where nothing was looked up. Raises IntegrityError where it was changed or is damaged."""
    folder = root / FOLDER
    if not check_sums(folder):
        return None
    try:
        record = parse_object(read_plain(folder / RECORD, LARGEST_JSON, root), ["dataset", "n", "extractor", "ids", "cells"], finite=True)
        return _checked(record, read_plain(folder / IMAGES, LARGEST, root))
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise IntegrityError(f"{folder} is damaged ({str(error)[:200]}). Make it again: scottbench score {root} --nearest") from None


def _checked(record: dict[str, Any], images: bytes) -> Nearest:
    """Return a record whose parts are all of their kind and belong together. Raises Unfit, KeyError or TypeError for another."""
    if record.get("schema") != SCHEMA:
        raise Unfit(f"is not of {SCHEMA}")
    ids = [_text(one) for one in _list(record["ids"])]
    cells = {_text(name): [_near(one) for one in _list(found)] for name, found in dict(record["cells"]).items()}
    if any(len(found) != len(ids) for found in cells.values()):
        raise Unfit("has lists of other lengths than its samples")
    named = list(dict.fromkeys(one.id for found in cells.values() for one in found))
    return Nearest(_text(record["dataset"]), int(record["n"]), _text(record["extractor"]), ids, cells, _pictures(images, named))


def _pictures(data: bytes, named: list[str]) -> dict[str, bytes]:
    """Item id -> PNG of an archive, whose entries are in an order of their own."""
    import io
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = [name.removesuffix(".png") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise Unfit("holds no zip archive of images") from error
    if set(held) != set(named):
        raise Unfit("holds other pictures than it names")
    return dict(zip(held, unpack_pictures(data, held), strict=True))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Unfit("has no list where one must be")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit("has no text where some must be")
    return value


def _near(value: Any) -> Near:
    if not isinstance(value, dict) or isinstance(value["distance"], bool) or not isinstance(value["distance"], (int, float)):
        raise Unfit("has no distance where one must be")
    distance = float(value["distance"])
    if not math.isfinite(distance) or distance < 0:
        raise Unfit("has a distance that is none")
    return Near(_text(value["id"]), _text(value["prompt"]), distance)
