"""Made data: cells of features for metrics, items with images and prompts for datasets and trainings, with faults on request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scottbench.errors import UsageError
from scottbench.registry.nouns import CellFeatures
from scottbench.text import one_line

COLOURS, THINGS = ("red", "green", "blue", "dark", "pale"), ("apple", "pear", "cat", "star", "moon", "tree", "house")


def made_cells(
    n: int = 64, width: int = 8, side: int = 192, seeds: int = 2, roles: Sequence[str] = (), scores: Sequence[str] = ()
) -> list[CellFeatures]:
    """Make features (n, width) of generated images, reference images and prompts, one cell a seed; images are (n,side,side,3).

    Roles "image" and "clip" are both there, and those of `roles`; the numbers are normal, and the images smooth, each of its own colour.
    There are ids, prompts, a column "category" and a teacher's features too. scores: roles of extractors that give each
    generated image one number, (n,1), and see no reference.
    """
    generator = np.random.default_rng(0)
    draw = lambda rows, shift: (generator.normal(size=(rows, width)) + shift).astype(np.float32)  # noqa: E731
    names = tuple(role for role in dict.fromkeys(("image", "clip", *roles)) if role not in scores)
    reference, text = {role: draw(n, 0.0) for role in names}, {"clip": draw(n, 0.2), "image": draw(n, 0.2)}
    teacher = {role: draw(n, 0.1) for role in names}
    ids, prompts = tuple(f"item-{i}" for i in range(n)), tuple(f"a thing of kind {i % 5}" for i in range(n))
    columns = {"category": tuple("ab"[i % 2] for i in range(n))}
    ramp = np.zeros((1, side, side, 3), np.float32) + np.linspace(0, 105, side, dtype=np.float32)[None, :, None, None]
    hues = np.array([[37, 59, 83]], np.int64)

    def images_of(seed: int) -> Callable[[Sequence[int]], np.ndarray]:
        return lambda indices: (ramp + (np.asarray(indices)[:, None] * hues % 101 + 10 * seed)[:, None, None]).astype(np.uint8)

    cells = []
    for images in map(images_of, range(seeds)):
        generated = {role: draw(n, 0.3) for role in names} | {role: generator.random((n, 1), np.float32) for role in scores}
        cells.append(
            CellFeatures(
                n,
                generated,
                reference,
                text,
                images=images,
                reference_images=images_of(0),
                ids=ids,
                prompts=prompts,
                metadata=columns,
                teacher=lambda method, steps, seed: teacher,
            )
        )
    return cells


def made_cell(n: int = 64, d: int = 8, roles: Sequence[str] = ()) -> CellFeatures:
    """Make one cell of n images: features (n,d) float32, as the first of `made_cells`."""
    return made_cells(n, d, seeds=1, roles=roles)[0]


FAULTS = ("same_id", "empty_prompt", "sizes", "float", "changing", "digest", "lost")
"""Faults of `MadeItems`."""


class MadeItems:
    """n items of made pictures, with ids, prompts and a digest, as `scottbench.Items`.

    Faults, each by its name: same_id (two items have one id), empty_prompt, sizes (the last picture is smaller), float (pictures in
    0..1), changing (a picture is another at every look), digest (it says nothing of the pictures), lost (one picture less than asked for).
    """

    def __init__(self, n: int = 20, side: int = 64, **faults: bool) -> None:
        """Make items of side x side pixels. Raises UsageError for a fault that there is not."""
        unknown = sorted(set(faults) - set(FAULTS))
        if unknown:
            raise UsageError(f"made items have no fault '{one_line(unknown[0])}'. Faults: {', '.join(FAULTS)}")
        self.side, self.faults, self.looks = side, {name for name, on in faults.items() if on}, 0
        self.ids: Sequence[str] = [f"item-{0 if 'same_id' in self.faults and i == n - 1 else i:03d}" for i in range(n)]
        prompts = [f"a {COLOURS[i % len(COLOURS)]} {THINGS[i % len(THINGS)]}" for i in range(n)]
        if "empty_prompt" in self.faults:
            prompts[-1] = ""
        self.prompts: Sequence[str] = prompts
        self.changes: dict[int, int] = {}
        """Item -> a number added to its first pixel."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """Digest ids, prompts and pixels: sha256 hex."""
        if "digest" in self.faults:
            return hashlib.sha256("".join(self.ids).encode()).hexdigest()
        total = hashlib.sha256()
        for i, (name, prompt) in enumerate(zip(self.ids, self.prompts, strict=True)):
            total.update(f"{name}\t{prompt}\n".encode() + self._picture(i).tobytes())
        return total.hexdigest()

    def _picture(self, i: int) -> np.ndarray:
        """One picture, (H,W,3) uint8: a shaded square of a hue of its own."""
        draw = np.random.default_rng(i)
        ramp = np.linspace(0, 1, self.side)
        picture = draw.uniform(40, 200, 3) + 40 * (ramp[:, None, None] * draw.normal(size=3) + ramp[None, :, None] * draw.normal(size=3))
        found = picture.clip(0, 255).astype(np.uint8)
        found[0, 0, 0] += self.changes.get(i, 0)
        return found

    def images(self, indices: Sequence[int]) -> Any:
        """Give n pictures, (n,H,W,3) uint8 0..255."""
        found = np.stack([self._picture(int(i)) for i in indices])
        self.looks += 1
        if "changing" in self.faults:
            found = found + np.uint8(self.looks)
        if "lost" in self.faults:
            found = found[:-1]
        if "float" in self.faults:
            found = (found / 255).astype(np.float32)
        if "sizes" in self.faults:
            return [picture[: self.side // 2] if i == len(self) - 1 else picture for i, picture in zip(indices, found)]
        return found


def rows_of(cells: Sequence[CellFeatures], places: np.ndarray) -> list[CellFeatures]:
    """Choose items of cells by (k,) places, with fresh memos: their features, texts, images, ids and prompts; references stay whole."""
    return [replace(chosen(cell, places), memo={}, reference_memo={}) for cell in cells]


def chosen(cell: CellFeatures, places: np.ndarray) -> CellFeatures:
    """Choose the items of one cell by (k,) places."""
    take = lambda table: {role: rows[places] for role, rows in table.items()}  # noqa: E731
    images, teacher = cell.images, cell.teacher
    reader = None if images is None else lambda indices: images([int(places[i]) for i in indices])
    ids, prompts = (tuple(texts[i] for i in places) if texts else () for texts in (cell.ids, cell.prompts))
    columns = {column: tuple(values[i] for i in places) for column, values in cell.metadata.items()}
    return replace(
        cell,
        n=len(places),
        generated=take(cell.generated),
        text=take(cell.text),
        images=reader,
        ids=ids,
        prompts=prompts,
        metadata=columns,
        teacher=None if teacher is None else lambda method, steps, seed: take(teacher(method, steps, seed)),
    )
