"""What a plan will cost, before it runs: time and disk as its run has needed so far, else from a probe of three images for every method
and step count."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scottbench.models.diffusion_model import DiffusionModel
from scottbench.plan.plan import Plan, PlannedCell
from scottbench.run import sample
from scottbench.run.chunks import Inventory, inventory
from scottbench.run.clock import Clock
from scottbench.run.session import Work
from scottbench.run.timings import observed
from scottbench.run.worker import open_extractors, open_weights
from scottbench.store.assets import offline
from scottbench.store.folder import RunFolder
from scottbench.store.timings import STAGES

PROBE = 3
"""Images of a probe."""


@dataclass
class CellCost:
    """The cost of one image of a cell."""

    id: str
    nfe: int | None
    """None of pictures made elsewhere."""
    seconds_per_image: float
    """Text, denoising, decoding, features and storing."""
    bytes_per_image: float


@dataclass
class Estimate:
    """The cost of a plan, and how much of it is done."""

    cells: list[CellCost]
    seconds: float
    """Time for everything that is left to do, metrics and report aside."""
    bytes: int
    """Disk for everything that is left to do."""
    done: Inventory
    recorded: int = 0
    """Cells whose cost is that of chunks which the run has made; the others' is of a probe."""


def estimate(plan: Plan, folder: Path | None) -> Estimate:
    """Scale what the run has taken so far; for cells that it has no chunk of, make three images of every method and step count, twice where
    it is the first. folder: a run of the same plan to go on with, None for a new one. Nothing is left on disk."""
    with tempfile.TemporaryDirectory() as place:
        done = inventory(RunFolder(Path(place) if folder is None else folder), plan)
    own = {} if folder is None else {cell.id: cost for cell in plan.cells if (cost := _recorded(plan, cell, folder)) is not None}
    reference: float = 0.0
    probed: dict[tuple[str, int], CellCost] = {}
    if len(own) < len(plan.cells):
        reference, probed = _probed(plan, [cell for cell in plan.cells if cell.id not in own])
    cells = [
        own[cell.id] if cell.id in own else dataclasses.replace(probed[cell.method.label, cell.steps], id=cell.id) for cell in plan.cells
    ]
    left = 1 - done.whole / done.chunks
    real = 0 if plan.reference is None else plan.reference.n
    seconds = real * reference + plan.n * sum(cell.seconds_per_image for cell in cells)
    size = plan.n * sum(cell.bytes_per_image for cell in cells)
    return Estimate(cells, left * seconds, round(left * size), done, len(own))


def _recorded(plan: Plan, cell: PlannedCell, folder: Path) -> CellCost | None:
    """Return what a cell's chunks have taken, by their side-cars; None where none of them was timed."""
    store = RunFolder(folder)
    work = Work(plan, store, Clock("cpu"), {}, 1, lambda event: None, lambda event, **facts: None)
    stages = observed(work, cell, plan.sources)
    facts = [side for span in work.chunks if (side := store.facts(("images", cell.id), span)) is not None]
    if not facts or not stages["sampling"]:
        return None
    seconds = 0.0
    for stage in STAGES:
        warm = [(spent, images) for spent, images, cold in stages[stage] if not cold] or [entry[:2] for entry in stages[stage]]
        seconds += sum(spent for spent, _ in warm) / max(1, sum(images for _, images in warm))
    return CellCost(cell.id, facts[0].get("nfe"), seconds, _size(store, cell) / sum(images for _, images, _ in stages["sampling"]))


def _size(store: RunFolder, cell: PlannedCell) -> int:
    """Count the bytes of a cell's chunks."""
    places = [store.root / kind / cell.id for kind in ("images", "features")]
    return sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())


def _probed(plan: Plan, cells: Sequence[PlannedCell]) -> tuple[float, dict[tuple[str, int], CellCost]]:
    """Make three images of each method and number of steps of some cells: seconds of a reference image, and what each costs."""
    count = min(PROBE, plan.n)
    real = None if plan.reference is None else dataclasses.replace(plan.reference, n=min(count, plan.reference.n))
    probe = dataclasses.replace(plan, n=count, chunk=count, micro_batch=None, reference=real)
    costs: dict[tuple[str, int], CellCost] = {}
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as watched, offline():
        work = Work(probe, RunFolder(Path(place)), Clock(plan.device), {}, count, lambda event: None, lambda event, **facts: None)
        open_extractors(work, watched)
        reference = _timed(work, lambda: sample.reference_features(work)) / count
        if plan.teacher is not None:
            work.empty_prompt()  # made before the clock of the first cell runs
        students: dict[Path, DiffusionModel] = {}
        for cell in cells:
            key = (cell.method.label, cell.steps)
            if key not in costs:
                costs[key] = _probe(work, cell, students, warm=bool(costs))
    return reference, costs


def _probe(work: Work, cell: PlannedCell, students: dict[Path, DiffusionModel], warm: bool) -> CellCost:
    span = range(work.plan.n)
    if cell.method.pictures is not None:
        seconds = _timed(work, lambda: sample.take_pictures(work, cell, work.mine))
    else:
        model = open_weights(work, cell, students)
        if not warm:
            sample.make_images(work, cell, model, span)  # the first passes of a process prepare kernels and memory
        seconds = _timed(work, lambda: sample.sample_cell(work, cell, model, work.mine))
    facts = work.folder.facts(("images", cell.id), span) or {}
    return CellCost(cell.id, facts.get("nfe"), seconds / len(span), _size(work.folder, cell) / len(span))


def _timed(work: Work, do: Callable[[], object]) -> float:
    before = work.clock.now()
    do()
    return work.clock.now() - before
