"""plan -> images and features -> metrics -> record -> report. A cell that fails costs no other cell its numbers."""

from __future__ import annotations

import contextlib
import datetime
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from scottbench import generate, record
from scottbench.assets import offline
from scottbench.clock import Clock
from scottbench.errors import Incomplete, MissingAsset, ScottbenchError, UsageError
from scottbench.features import open_extractor
from scottbench.generate import Work
from scottbench.names import one_line
from scottbench.plan import CHUNK, Plan, PlannedCell
from scottbench.store import MANIFEST, RunFolder

if TYPE_CHECKING:
    from scottbench.model import DiffusionModel
    from scottbench.plugins import Plugins


def execute(plan: Plan, plugins: Plugins, out: Path | None, batch_size: int | None, progress: Callable[[dict], None]) -> Path:
    """Run a plan, or go on with it, and return its run folder.

    out: the run folder; None = runs/<UTC>-<preset>-<plan8>. batch_size: images per U-Net call, at most 64 (a chunk); None = `auto_batch`.
    Raises UsageError (folder), Incomplete (disk full), and, after all that could be done was stored, ScottbenchError if a cell
    or a metric failed.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch-size {batch_size}: must be auto or a whole number of at least 1.")
    clock = Clock(plan.device)
    clock.started -= plan.seconds
    folder = RunFolder.open(default_folder(plan) if out is None else Path(out), plan.hash, plan.record)
    size = auto_batch(plan.model.latent_shape) if batch_size is None else min(batch_size, CHUNK)
    work = Work(plan, folder, clock, {}, size, progress, folder.manifest() or {})
    state = record.start(plan, plugins, work.earlier)
    folder.put_json(MANIFEST, state)
    try:
        with offline():
            run_cells(work, state)
            record.measure(work, state)
    except BaseException:
        record.update(state, work, "failed")
        with contextlib.suppress(ScottbenchError):  # the first failure is the one to report
            folder.put_json(MANIFEST, state)
        raise
    failures = record.failures(state)
    record.update(state, work, "failed" if failures else "complete")
    folder.put_json(MANIFEST, state)
    progress({"stage": "report", "cell": None, "done": 0, "total": 1})
    write_claims(folder, plugins)
    from scottbench.report import build

    build(folder.root)
    progress({"stage": "report", "cell": None, "done": 1, "total": 1})
    if failures:
        lines = "\n".join(f"  {line}" for line in failures)
        raise ScottbenchError(f"{len(failures)} part(s) of the run failed; the others are in {folder.root}:\n{lines}")
    return folder.root


def write_claims(folder: RunFolder, plugins: Plugins) -> None:
    """claims.json: every claim that the plug-ins bring, held against the finished run; the report shows them."""
    from scottbench.evidence import read_evidence
    from scottbench.verdicts import judge

    claims = [registered.noun for registered in plugins.nouns["claim"].values()]
    folder.put_json("claims.json", {"schema": "scottbench.claims/1", "claims": judge(claims, read_evidence(folder.root))})


def auto_batch(latent_shape: tuple[int, int, int]) -> int:
    """Images per U-Net call where nobody says: a chunk of small latents, (C,h,w) up to 16x16; 8 of larger ones, since 64 guided
    images of 512x512 are more than a usual GPU holds."""
    return CHUNK if latent_shape[1] * latent_shape[2] <= 16 * 16 else 8


def default_folder(plan: Plan) -> Path:
    """runs/<UTC>-<preset>-<plan8> below the current folder."""
    now = datetime.datetime.now(datetime.UTC)
    return Path("runs") / f"{now:%Y%m%dT%H%M%SZ}-{plan.preset.name}-{plan.hash[:8]}"


def run_cells(work: Work, state: dict) -> None:
    """Reference, prompts, then cell after cell. Each set of weights is opened once."""

    torch.set_flush_denormal(True)  # subnormal activations, frequent on white, cost a CPU many times a normal product
    students: dict[Path, DiffusionModel] = {}
    with contextlib.ExitStack() as watched:
        watched.enter_context(work.clock.watching(work.plan.model.text_encoder, "forward", "text encoder"))
        watched.enter_context(work.clock.watching(work.plan.model.vae, "decode", "decoder"))
        for role, source in work.plan.sources.items():
            work.extractors[role] = extractor = open_extractor(source, work.plan.device)
            watched.enter_context(work.clock.watching(extractor, "image_tower", "extractor"))
            if extractor.text_tower is not None:
                watched.enter_context(work.clock.watching(extractor, "text_tower", "extractor"))
        generate.reference(work)
        generate.prompts(work)
        for position, cell in enumerate(work.plan.cells):
            reason = attempt(work, cell, students)
            later = {other.method.student for other in work.plan.cells[position + 1 :]}
            for folder in students.keys() - later:
                del students[folder]
            record.finish_cell(state, work, cell, reason)
            work.folder.put_json(MANIFEST, state)


def open_weights(work: Work, cell: PlannedCell, students: dict[Path, DiffusionModel]) -> DiffusionModel:
    """The model that a cell samples from: the teacher, or its student, opened at its first cell."""
    folder = cell.method.student
    if folder is None:
        return work.plan.model
    if folder not in students:
        students[folder] = work.plan.model.with_student(folder, cell.method.noun.trainer)
    return students[folder]


def attempt(work: Work, cell: PlannedCell, students: dict[Path, DiffusionModel]) -> str | None:
    """Make a cell; None, or in one line why it failed. What stops the whole run is raised. A traceback goes to errors/."""
    try:
        model = open_weights(work, cell, students)
        with work.clock.watching(model.unet, "forward", "U-Net"):
            generate.cell(work, cell, model)
    except (Incomplete, UsageError, MissingAsset, MemoryError):
        raise
    except ScottbenchError as error:
        return str(error)
    except Exception as error:  # a plug-in may raise anything; the other cells must go on
        work.folder.put(f"errors/{cell.id}.txt", traceback.format_exc().encode())
        return f"{type(error).__name__}: {one_line(error)} (traceback in errors/{cell.id}.txt)"
    return None
