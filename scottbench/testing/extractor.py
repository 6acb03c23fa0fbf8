"""Checks of an extractor: the same features in any batch, float32, and a digest that sees every byte of the weights."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scottbench.errors import ScottbenchError
from scottbench.models.extractors import OpenExtractor, Source, find_extractor, open_extractor
from scottbench.registry.nouns import Extractor
from scottbench.testing.changed import LARGEST, OPENED, asked, change, changed_package, data_files
from scottbench.testing.finding import Check, Doubt, NotConforming, Subject, raise_first
from scottbench.testing.made import MadeItems

CLOSE = 1e-3
"""Difference of two features, as a share of their size, that counts as none: sums in another order differ by less."""
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".npz", ".npy")
"""Files of weights."""


def check_extractor(extractor: Extractor, spec: dict[str, Any] | None = None) -> None:
    """Check that an extractor keeps the rules: the same features in any batch, float32 and finite, a digest that sees every byte of the
    weights. spec: the keys of [extractors.ROLE], over its defaults. Raises NotConforming for the first rule that is broken, MissingAsset
    where its weights are not here."""
    raise_first(EXTRACTOR_CHECKS, Subject("extractor", extractor, settings={} if spec is None else {"spec": spec}))


def spec_of(subject: Subject) -> tuple[dict[str, Any], Callable[[str], Path]]:
    """Return the keys to find it by, and how its paths are read: those given, else those of a preset that names it, else its defaults."""
    if "spec" in subject.settings or subject.plugins is None:
        return dict(subject.settings.get("spec", {})), Path
    for found in subject.plugins.nouns["preset"].values():
        for spec in found.noun.extractors.values():
            if spec.get("kind") == subject.noun.name and "folder" in spec and Path(found.noun.path(spec["folder"])).exists():
                return {key: value for key, value in spec.items() if key != "kind"}, found.noun.path
    return {}, Path


def source_of(subject: Subject) -> Source:
    """Find it, once. Raises MissingAsset where its weights are not here."""

    def find() -> Source:
        spec, path = spec_of(subject)
        with OPENED.watching() as files:
            source = find_extractor(subject.noun, spec, path)
        subject.seen["files"] = list(files)
        return source

    return subject.once("source", find)


def opened(subject: Subject) -> OpenExtractor:
    """Open it, once."""

    def open_it() -> OpenExtractor:
        source = source_of(subject)
        with OPENED.watching() as files:
            found = open_extractor(source)
        subject.seen["files"] += files
        return found

    return subject.once("open", open_it)


def features(subject: Subject, places: list[int]) -> np.ndarray:
    """Give the features (n,d), or scores (n,1), of made pictures with their prompts."""
    items = MadeItems(8, side=64)
    return opened(subject).features(items.images(places), [items.prompts[i] for i in places])


def check_features(subject: Subject) -> str:
    """Features are (n,d) float32 and finite, of prompts too where it has a text tower; a score is (n,1). Raises NotConforming."""
    found = {"features": features(subject, list(range(5)))}
    if opened(subject).text_tower is not None:
        found["text_features"] = opened(subject).text_features(["a red apple", "a blue cat"])
    for what, rows in found.items():
        n = 5 if what == "features" else 2
        if rows.ndim != 2 or len(rows) != n or rows.dtype != np.float32:
            raise NotConforming(
                f"{subject.who}: {what} gives {rows.shape} {rows.dtype} of {n}.",
                f"It must give ({n},d) float32: end the tower with .float().",
                "open",
            )
        if not np.isfinite(rows).all():
            raise NotConforming(
                f"{subject.who}: {what} are NaN or infinite.", "Look at mean and deviation that pictures are normalised by.", "open"
            )
    if subject.noun.gives == "score" and found["features"].shape[1] != 1:
        raise NotConforming(
            f"{subject.who}: it gives a score, and {found['features'].shape[1]} numbers an image.",
            'Give one, or gives="features".',
            "gives",
        )
    return f"{found['features'].shape[1]} numbers an image, float32 and finite"


def check_batch(subject: Subject) -> str:
    """An image's features are the same alone and in any company. Raises NotConforming."""
    together = features(subject, list(range(5)))
    for places in ([2], [4, 0], [3, 3, 7, 1, 2]):
        rows = features(subject, places)
        for row, place in zip(rows, places):
            if place < 5 and not np.allclose(row, together[place], rtol=CLOSE, atol=CLOSE * (np.abs(together).max() + 1e-12)):
                worst = float(np.abs(row - together[place]).max())
                raise NotConforming(
                    f"{subject.who}: the features of an image change with its batch, by {worst:.2g}.",
                    "Put the network into eval mode, and take no mean over the batch.",
                    "open",
                )
    return "an image's features are the same in batches of 1, 2 and 5"


def check_digest(subject: Subject) -> str:
    """The digest is a sha256 and the same when it is found again. Raises NotConforming."""
    import re

    spec, path = spec_of(subject)
    digest = source_of(subject).digest
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest) or len(set(digest)) == 1:
        raise NotConforming(
            f"{subject.who}: its digest is {str(digest)[:40]!r}.",
            "Digest weights and config: scottbench.models.extractors.find_folder does.",
            "find",
        )
    if find_extractor(subject.noun, spec, path).digest != digest:
        raise NotConforming(f"{subject.who}: found again it has another digest.", "Equal files have equal digests.", "find")
    return "a sha256, the same when it is found again"


def check_byte(subject: Subject) -> str:
    """A byte of the weights that is changed gives another digest, or is refused. Raises NotConforming, or Doubt where none is seen."""
    source = source_of(subject)
    opened(subject)
    digest, path = source.digest, Path(source.path)
    inside = data_files(subject.seen["files"], subject.code.folder) if subject.code.folder else []
    weights = [file for file in inside if file.suffix in WEIGHTS]
    if weights:  # they come with the package
        target = Path(subject.code.folder).name if subject.code.file.endswith("__init__.py") else Path(subject.code.file).stem
        with changed_package(subject.code.file, weights[0]) as copy:
            told = asked("extractor", subject.noun.name, target, copy, spec_of(subject)[0])
        after, refused, name = told["digest"], bool(told["refused"]), weights[0].name
    else:
        seen = [file for file in data_files(subject.seen["files"], str(path if path.is_dir() else path.parent)) if file.suffix in WEIGHTS]
        if not seen:
            return "no weights were read: there is no byte to change"
        after, refused, name = _with_other_weights(subject, path, seen[0])
    if refused or after != digest:
        return f"with a byte of {name} changed it {'is refused' if refused else 'has another digest'}"
    raise NotConforming(
        f"{subject.who}: with a byte of {name} changed the digest is the same.",
        "Digest the bytes of all weights: scottbench.models.extractors.find_folder does.",
        "find",
    )


def _with_other_weights(subject: Subject, path: Path, weights: Path) -> tuple[str, bool, str]:
    """Find it in a copy of its folder, or of its file, with a byte of its weights changed: (digest, it was refused, the file's name).
    Raises Doubt where they are too large to copy, or it looks nowhere else."""
    spec, reader = spec_of(subject)
    folder = Path(os.path.abspath(path if path.is_dir() else path.parent))
    key = next((name for name in ("folder", "file") if name in spec), "folder")
    size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) if path.is_dir() else weights.stat().st_size
    if size > LARGEST:
        raise Doubt(
            f"{subject.who}: its weights are too large to copy, so no byte of them is changed.", "Try that in a test of your own.", "find"
        )
    with tempfile.TemporaryDirectory() as base:
        copy = Path(base) / folder.name
        if path.is_dir():
            shutil.copytree(folder, copy)
        else:
            copy.mkdir()
            shutil.copy(path, copy)
        changed = copy / weights.relative_to(folder)
        change(changed)
        given = {**spec, key: str(changed if key == "file" else copy)}
        try:
            found = find_extractor(subject.noun, given, lambda text: Path(text) if Path(text).is_absolute() else reader(text))
        except ScottbenchError:
            return "", True, weights.name
        if not str(found.path).startswith(base):
            raise Doubt(
                f"{subject.who}: it takes no '{key}', so no byte of its weights is changed.", "Try that in a test of your own.", "find"
            )
        return found.digest, False, weights.name


EXTRACTOR_CHECKS = (
    Check("features", check_features),
    Check("batch", check_batch),
    Check("digest", check_digest),
    Check("weight byte", check_byte, full=True),
)
"""The checks of an extractor."""
