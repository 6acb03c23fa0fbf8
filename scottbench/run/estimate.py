"""What a plan will cost, before it runs: time and disk from a probe of three images for every method and step count."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scottbench.models.diffusion_model import DiffusionModel
from scottbench.plan.plan import Plan, PlannedCell
from scottbench.run import sample
from scottbench.run.chunks import Inventory, inventory
from scottbench.run.clock import Clock
from scottbench.run.session import Work
from scottbench.run.worker import open_extractors, open_weights
from scottbench.store.assets import offline
from scottbench.store.folder import RunFolder

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


def estimate(plan: Plan, folder: Path | None) -> Estimate:
    """Make three images of every method and step count, twice where it is the first, and scale. folder: a run of the same plan to go on
    with, None for a new one. Nothing is left on disk."""
    count = min(PROBE, plan.n)
    real = None if plan.reference is None else dataclasses.replace(plan.reference, n=min(count, plan.reference.n))
    probe = dataclasses.replace(plan, n=count, chunk=count, micro_batch=None, reference=real)
    costs: dict[tuple, CellCost] = {}
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as watched, offline():
        work = Work(probe, RunFolder(Path(place)), Clock(plan.device), {}, count, lambda event: None, lambda event, **facts: None)
        open_extractors(work, watched)
        reference = _timed(work, lambda: sample.reference_features(work)) / count
        if plan.teacher is not None:
            work.empty_prompt()  # made before the clock of the first cell runs
        students: dict[Path, DiffusionModel] = {}
        for cell in plan.cells:
            key = (cell.method.label, cell.steps)
            if key not in costs:
                costs[key] = _probe(work, cell, students, warm=bool(costs))
    cells = [dataclasses.replace(costs[cell.method.label, cell.steps], id=cell.id) for cell in plan.cells]
    done = inventory(RunFolder(Path(place) if folder is None else folder), plan)
    left = 1 - done.whole / done.chunks
    seconds = plan.n * (reference + sum(cell.seconds_per_image for cell in cells))
    size = plan.n * sum(cell.bytes_per_image for cell in cells)
    return Estimate(cells, left * seconds, round(left * size), done)


def _probe(work: Work, cell: PlannedCell, students: dict[Path, DiffusionModel], warm: bool) -> CellCost:
    span = range(work.plan.n)
    if cell.method.pictures is not None:
        seconds = _timed(work, lambda: sample.take_pictures(work, cell, work.mine))
    else:
        model = open_weights(work, cell, students)
        if not warm:
            sample.make_images(work, cell, model, span)  # the first passes of a process prepare kernels and memory
        seconds = _timed(work, lambda: sample.sample_cell(work, cell, model, work.mine))
    files = [path for kind in ("images", "features") for path in (work.folder.root / kind / cell.id).rglob("*") if path.is_file()]
    facts = work.folder.facts(("images", cell.id), span) or {}
    return CellCost(cell.id, facts.get("nfe"), seconds / len(span), sum(path.stat().st_size for path in files) / len(span))


def _timed(work: Work, do: Callable[[], object]) -> float:
    before = work.clock.now()
    do()
    return work.clock.now() - before
