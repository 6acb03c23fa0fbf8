"""The nearest training image of a few samples: whether a method makes new images or remembers; where a run has looked it up."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from scottbench.report.pictures import BUDGET, Picture, Wanted, fitted, opened, shown
from scottbench.report.samples import columns_of, steps_of
from scottbench.store.nearest import Nearest, read_nearest
from scottbench.store.record import CellRecord, RunRecord

ITEMS, CELLS = 4, 8
"""Samples and rows of results that are shown."""


@dataclass
class Memory:
    """Samples beside the training image that is nearest to each."""

    caption: str
    rows: list[tuple[str, str, list[tuple[Picture, Picture]]]]
    """(method, number of steps and how near its samples are, [(sample, nearest training image)])."""
    number: int = 0


def memory(record: RunRecord, budget: int = BUDGET) -> Memory | None:
    """Show the samples that are nearest to a training image; None where the run has not looked any up, or has no pictures.

    Raises IntegrityError where what it looked up was changed.
    """
    found = read_nearest(record.folder)
    if found is None:
        return None
    cells = [cell for cell in columns_of(record) if str(cell.facts["id"]) in found.cells][:CELLS]
    chosen = {str(cell.facts["id"]): _nearest_first(found, str(cell.facts["id"])) for cell in cells}
    wanted = [Wanted(owner, found.ids[k], f"sample {found.ids[k]}", "sample") for owner, places in chosen.items() for k in places]
    samples = shown(record, wanted, budget // 2)
    others = [found.cells[owner][k] for owner, places in chosen.items() for k in places]
    near = fitted([(opened(found.pictures[one.id]), f"nearest training image {one.id}: {one.prompt}", f"{one.distance:.3g}")
                   for one in others], budget // 2)  # fmt: skip
    pairs = iter(zip(samples, near, strict=True))
    rows = [(cell.method, _detail(found, cell), [next(pairs) for _ in chosen[str(cell.facts["id"])]]) for cell in cells]
    if not any(sample.source for _, _, of_row in rows for sample, _ in of_row):
        return None
    real = ""
    if "reference" in found.cells:
        real = f" It is {_median(found, 'reference')} for the real images of the same prompts, which no model made."
    caption = (
        f"Nearest training image (right) of the {ITEMS} samples (left) that are nearest to one, of {len(found.ids)}, among "
        f"N = {found.n:,} images of the training split of {found.dataset}, by the distance of {found.extractor}, which stands below. "
        f"Beside each method the median of its samples.{real} A method whose samples are much nearer remembers."
    )
    return Memory(caption, rows)


def _nearest_first(found: Nearest, owner: str) -> list[int]:
    """The samples of a cell that are nearest to a training image."""
    distances = [one.distance for one in found.cells[owner]]
    return sorted(range(len(distances)), key=lambda k: (distances[k], k))[:ITEMS]


def _detail(found: Nearest, cell: CellRecord) -> str:
    return f"{steps_of(cell)}, median {_median(found, str(cell.facts['id']))}"


def _median(found: Nearest, owner: str) -> str:
    return f"{statistics.median(one.distance for one in found.cells[owner]):.3g}"
