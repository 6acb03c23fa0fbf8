"""The work of one process: reference, prompts, then cell after cell. A cell that fails costs no other cell its images."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import LOWER, Incomplete, IntegrityError, MissingAsset, ScottbenchError, UsageError, telling_memory
from scottbench.models.compiled import compile_unet
from scottbench.models.extractors import open_extractor
from scottbench.models.pipeline import open_student
from scottbench.plan.plan import PlannedCell
from scottbench.registry.guard import PluginFailed
from scottbench.run import sample
from scottbench.run.session import Work
from scottbench.store.environment import flush_denormals, set_tf32
from scottbench.text import one_line, printable

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel


def run_cells(work: Work, saved: Callable[[], None]) -> dict[str, str]:
    """Make this process's chunks: reference, prompts, then cell after cell. Returns {cell: why it failed}. Each set of weights is opened
    once."""
    flush_denormals()
    set_tf32(work.plan.record.get("tf32") == "on")
    students: dict[Path, DiffusionModel] = {}
    reasons: dict[str, str] = {}
    with contextlib.ExitStack() as watched:
        watched.enter_context(work.conveyor)
        open_extractors(work, watched)
        if work.plan.teacher is not None:
            watched.enter_context(work.clock.watching(work.plan.model.text_encoder, "forward", "text encoder"))
            watched.enter_context(work.clock.watching(work.plan.model.vae, "decode", "decoder"))
        sample.reference_features(work)
        sample.embed_prompts(work)
        for position, cell in enumerate(work.plan.cells):
            reason = attempt(work, cell, students)
            if reason is not None:
                reasons[cell.id] = reason
            later = {other.method.student for other in work.plan.cells[position + 1 :]}
            for folder in students.keys() - later:
                del students[folder]
            work.log_event("cell", part=cell.id, **({} if reason is None else {"error": reason}))
            saved()
    return reasons


def open_extractors(work: Work, watched: contextlib.ExitStack) -> None:
    """Open the plan's extractors; their passes are clocked until the stack closes."""
    for role, source in work.plan.sources.items():
        work.extractors[role] = extractor = open_extractor(source, work.plan.device)
        extractor.each = work.conveyor.each
        watched.enter_context(work.clock.watching(extractor, "image_tower", "extractor"))
        if extractor.pair_tower is not None:
            watched.enter_context(work.clock.watching(extractor, "pair_tower", "extractor"))
        if extractor.text_tower is not None:
            watched.enter_context(work.clock.watching(extractor, "text_tower", "extractor"))


def open_weights(work: Work, cell: PlannedCell, students: dict[Path, DiffusionModel]) -> DiffusionModel:
    """Return the model that a cell samples from: the teacher, or its student, opened at its first cell."""
    folder, facts = cell.method.student, cell.method.facts
    if folder is not None and facts is not None and folder not in students:
        students[folder] = open_student(work.plan.model, folder, facts["trainer"], facts)
    model = work.plan.model if folder is None or facts is None else students[folder]
    compile_unet(model.unet, work.plan.compiled)
    return model


def attempt(work: Work, cell: PlannedCell, students: dict[Path, DiffusionModel]) -> str | None:
    """Make a cell; None, or in one line why it failed. What stops the whole run is raised again. A traceback goes to errors/."""
    try:
        if cell.method.pictures is not None:
            sample.take_pictures(work, cell)
            return None
        model = open_weights(work, cell, students)
        with telling_memory(LOWER), work.clock.watching(model.unet, "forward", "U-Net"):
            sample.sample_cell(work, cell, model)
    except (Incomplete, IntegrityError, UsageError, MissingAsset, MemoryError):
        raise
    except PluginFailed as error:
        work.folder.put(f"errors/{cell.id}.txt", printable(traceback.format_exc()).encode())
        return f"{error} (traceback in errors/{cell.id}.txt)"
    except ScottbenchError as error:
        return str(error)
    except Exception as error:  # a plug-in may raise anything; the other cells must go on
        work.folder.put(f"errors/{cell.id}.txt", printable(traceback.format_exc()).encode())
        return f"{type(error).__name__}: {one_line(error)} (traceback in errors/{cell.id}.txt)"
    return None
