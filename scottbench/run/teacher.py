"""Features of the teacher's own images, for the metrics that compare with them: of this run's cell, of the cache, which they go to, or of
the preset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from scottbench.errors import DamagedAsset, MissingAsset
from scottbench.plan.cells import TeacherImages
from scottbench.plan.teachers import found_file, kept_file, kept_rows
from scottbench.store.files import Refused, parse_object, read_plain, write_file
from scottbench.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from scottbench.run.session import Work
    from scottbench.store.manifest import Manifest

LARGEST = 2**31
"""Bytes of a file of the cache at most."""


def teacher_reader(
    work: Work, manifest: Manifest, stored: Callable[[str, str], np.ndarray]
) -> Callable[[str, int, int], dict[str, np.ndarray]] | None:
    """Return `CellFeatures.teacher` of a run, or None where no metric asks for it. stored: (cell, role of a network) -> (n,d) features.

    It raises MissingAsset where the teacher's cell failed, or for a cell that no metric asked for; DamagedAsset as `read_kept`.
    """
    asked = {(one.method, one.steps, one.seed): one for metric in work.plan.metrics if (one := metric.teacher) is not None}
    if not asked:
        return None

    def features(images: TeacherImages) -> dict[str, np.ndarray]:
        plan, cell = work.plan, images.cell_in(work.plan.cells)
        if cell is not None:
            if (reason := manifest.cell(cell.id).error) is not None:
                raise MissingAsset(f"the teacher's images are missing: {cell.id} failed ({one_line(reason)})")
            made = {role: stored(cell.id, role) for role in plan.sources}
        else:
            files = {role: found_file(images, source, plan.preset, plan.n) for role, source in plan.sources.items()}
            made = {role: read_kept(path, plan.n) for role, path in files.items() if path is not None}
        return {role: made[target] for role, target in plan.roles.items() if target in made}

    def teacher(method: str, steps: int, seed: int) -> dict[str, np.ndarray]:
        if (method, steps, seed) not in asked:
            raise MissingAsset(f"no metric of this run has asked for the teacher's images by {method} at {steps} steps, seed {seed}")
        return features(asked[method, steps, seed])

    return teacher


def keep_teachers(work: Work, manifest: Manifest, stored: Callable[[str, str], np.ndarray]) -> None:
    """Write the features of teachers' cells that this run made, and metrics asked for, to the cache, where that has fewer items.

    stored: (cell, role of a network) -> (n,d) features.
    """
    for metric in work.plan.metrics:
        cell = None if metric.teacher is None else metric.teacher.cell_in(work.plan.cells)
        if metric.teacher is None or cell is None or manifest.cell(cell.id).error is not None:
            continue
        for role in {work.plan.roles[role] for role in metric.noun.roles}:
            path = kept_file(metric.teacher, work.plan.sources[role])
            if kept_rows(path) < work.plan.n:
                write_kept(path, stored(cell.id, role))


def write_kept(path: Path, features: np.ndarray, dtype: type[np.floating] = np.float32) -> None:
    """Write (n, d) features with their sha256, in float32 or, for a preset to bring, float16."""
    from safetensors.numpy import save

    rows = np.ascontiguousarray(features, dtype=dtype)
    write_file(path, save({"features": rows}, {"sha256": hashlib.sha256(rows.tobytes()).hexdigest()}))


def read_kept(path: Path, n: int, what: str = "the teacher's features") -> np.ndarray:
    """Read the first n rows of a file of features, (n,d) float32, also where they are kept in half precision. what: it holds, for a
    message. Raises DamagedAsset where it is not what was written, or too short."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    cure = f"Delete {path}, and make it again."
    try:
        data = read_plain(path, LARGEST)
        rows = load(data)["features"]
        header = parse_object(data[8 : 8 + int.from_bytes(data[:8], "little")])
        whole = header["__metadata__"]["sha256"] == hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()
    except (OSError, Refused, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DamagedAsset(f"cannot read {what}: {one_line(error)}. {cure}") from None
    if not whole or rows.ndim != 2 or len(rows) < n or not np.isfinite(rows).all():
        raise DamagedAsset(f"{what} are not those that were written. {cure}")
    return rows[:n].astype(np.float32)
