"""The nearest training image of each sample of a run, by the distance of features: a model that remembers is nearer than real images are.

It is made on demand, after a run, since it needs the features of the training split. These are computed once for a dataset and an
extractor, and kept in the cache of large files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scottbench.errors import Incomplete, UsageError
from scottbench.models.extractors import open_extractor
from scottbench.plan.plan import Plan
from scottbench.run.chunks import bind
from scottbench.run.teacher import read_kept, write_kept
from scottbench.store.assets import cache_dir, offline
from scottbench.store.contents import pack_images
from scottbench.store.environment import flush_denormals
from scottbench.store.files import canonical, json_bytes
from scottbench.store.folder import RunFolder
from scottbench.store.lock import locked
from scottbench.store.nearest import FOLDER, IMAGES, RECORD, SCHEMA
from scottbench.store.sums import SUMS, sums_of

if TYPE_CHECKING:
    from scottbench.models.extractors import Source
    from scottbench.registry.nouns import Items

MOST = 50_000
"""Training images that are looked through, the first ones."""
CHUNK = 64
"""Images that are decoded at once."""


def nearest(plan: Plan, items: Items, root: Path, on_progress: Callable[[int, int], None]) -> Path:
    """Find the nearest training image of each sample of each cell, and of its reference image, and write them to nearest/ in the run
    folder; return that folder.

    items: the training split. Raises UsageError where no network of the run gives features of images or the run shows no samples,
    Incomplete where chunks are missing, Busy while another process holds the run.
    """
    folder, role = RunFolder(root), _role(plan)
    bind(folder, plan)
    shown = min(plan.preset.sample_items, plan.n, plan.chunk)
    if not shown:
        raise UsageError(f"{root} shows no samples, so there is nothing to look up.")
    with locked(root), offline():
        flush_denormals()
        train = training_features(plan, items, plan.sources[role], on_progress)
        owners = [cell.id for cell in plan.cells]
        real = plan.reference is not None and "reference" not in plan.record["dataset"]
        rows = {owner: _features(folder, plan, owner, role)[:shown] for owner in [*owners, *(["reference"] if real else [])]}
        found = {owner: closest(features, train) for owner, features in rows.items()}
        record = {
            "schema": SCHEMA, "dataset": plan.record["dataset"]["name"], "n": len(train), "extractor": plan.sources[role].label,
            "ids": list(plan.items.ids[:shown]),
            "cells": {owner: [{"id": items.ids[index], "prompt": items.prompts[index], "distance": float(distance)}
                              for index, distance in zip(*pair, strict=True)] for owner, pair in found.items()},
        }  # fmt: skip
        indices = sorted({int(index) for places, _ in found.values() for index in places})
        pictures = pack_images([items.ids[index] for index in indices], items.images(indices))
        files = {RECORD: json_bytes(record), IMAGES: pictures}
        for name, data in {**files, SUMS: sums_of(files)}.items():
            folder.put(f"{FOLDER}/{name}", data)
    return root / FOLDER


def closest(features: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (k,) places of the nearest rows of `train`, (n,d), to `features`, (k,d), and their Euclidean distances, (k,) float64."""
    own, other = features.astype(np.float64), train.astype(np.float64)
    places, distances = np.empty(len(own), np.int64), np.empty(len(own))
    for k, row in enumerate(own):
        squares = ((other - row) ** 2).sum(axis=1)
        places[k] = squares.argmin()
        distances[k] = np.sqrt(squares[places[k]])
    return places, distances


def training_features(plan: Plan, items: Items, source: Source, on_progress: Callable[[int, int], None]) -> np.ndarray:
    """Return the features of the training images, (n,d) float32: those of the cache, else computed and kept there."""
    n = min(len(items.ids), MOST)
    words: dict[str, Any] = {"items": items.digest, "n": n, "extractor": source.papers, "digest": source.digest}
    path = cache_dir() / "training" / f"{hashlib.sha256(canonical(words)).hexdigest()[:32]}.safetensors"
    if path.exists():
        return read_kept(path, n, "the features of the training split")
    extractor, parts = open_extractor(source, plan.device), []
    for start in range(0, n, CHUNK):
        parts.append(extractor.features(items.images(range(start, min(n, start + CHUNK)))))
        on_progress(min(n, start + CHUNK), n)
    made = np.concatenate(parts).astype(np.float32)
    write_kept(path, made)
    return made


def _role(plan: Plan) -> str:
    """The first network of the run that gives features of images. Raises UsageError where none does."""
    for role, source in plan.sources.items():
        if not source.gives_score:
            return role
    raise UsageError("no metric of this run is of features of images, so no distance can be told. Make a run with such a metric.")


def _features(folder: RunFolder, plan: Plan, owner: str, role: str) -> np.ndarray:
    """The features of a cell's first chunk, (n,d) float32. Raises Incomplete where it is missing."""
    span = plan.spans_of(owner)[0]
    found = folder.get_features(("features", owner, role), span, list(plan.ids_of(owner)[span.start : span.stop]))
    if found is None:
        raise Incomplete(f"{folder.root} lacks features of {owner}. Finish it first: scottbench resume {folder.root}")
    return found
