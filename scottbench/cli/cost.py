"""What `scottbench plan` prints: cells, images, network calls, minutes, disk, and what is already done."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan
    from scottbench.plan.request import RunRequest
    from scottbench.registry.loader import Plugins
    from scottbench.run.blank import RunPrediction
    from scottbench.run.estimate import Estimate

KEYS = (lambda cell: cell.method.label, lambda cell: cell.steps, lambda cell: cell.seed)


def print_cost(plugins: Plugins, request: RunRequest, out: Path | None, as_json: bool) -> None:
    """Probe and print. Raises what planning raises: missing assets are all named at once."""
    from scottbench.cli.printing import note, print_json, say
    from scottbench.text import bytes_in_words, count, estimated

    with contextlib.redirect_stdout(sys.stderr):
        plan, predicted = _planned(plugins, request)
    if plan is None:
        _print_prediction(plugins, predicted, as_json)
        return
    with contextlib.redirect_stdout(sys.stderr):
        from scottbench.run.estimate import estimate

        folder = _folder(plan, out)
        found = estimate(plan, folder)
    level = "exact" if plan.exact else "tolerance"
    for warning in plan.warnings:
        note(f"warning: {warning}")
    if as_json:
        print_json(_document(plan, found, folder))
        return
    say(_headline(plan), "    ")
    rows = []
    for cost, cell in zip(found.cells, plan.cells, strict=True):
        made = [f"{cell.method.guidance:g}", f"{plan.n:,}", str(cost.nfe)] if cell.steps else ["-", f"{plan.n:,}", "-"]
        rows.append([cost.id, *made, f"{1000 * cost.seconds_per_image:.1f}"])
    show_cells(rows)
    left = "nothing"
    if found.done.whole < found.done.chunks:
        sources = [f"the times of {found.recorded} of its {count(len(plan.cells), 'cell')}"] if found.recorded else []
        sources += ["a probe of three images"] if found.recorded < len(plan.cells) else []
        left = f"about {estimated(found.seconds)} and {bytes_in_words(found.bytes)}, by {' and '.join(sources)}"
    say(f"left to do: {left}; level {level}", "    ")
    where = "nothing, a new run" if folder is None else f"{folder}: {found.done.whole} of {found.done.chunks} chunks"
    say(f"already done: {where}", "    ")


def _headline(plan: Plan) -> str:
    """Say in a line what a plan is of: methods, steps, seeds, prompts, images."""
    from scottbench.text import count

    methods, steps, seeds = ({key(cell) for cell in plan.cells if cell.steps} for key in KEYS)
    counts = f"{count(len(methods), 'method')} x {count(len(steps), 'step count')} x {count(len(seeds), 'seed')} x {plan.n:,} prompts"
    given = sum(cell.steps == 0 for cell in plan.cells)
    rows_given = f", {count(given, 'row')} of pictures given" if given else ""
    images = plan.n * (len(plan.cells) - given)
    return f"plan {plan.hash[:8]}  preset {plan.preset.name}  {counts} = {images:,} images{rows_given}"


def show_cells(rows: Sequence[Sequence[str]]) -> None:
    """Print the table of cells: id, guidance, images, NFE, ms/image."""
    from scottbench.cli.printing import print_table

    print_table(["cell", "guidance", "images", "NFE", "ms/image"], rows, right=(1, 2, 3, 4))


def _document(plan: Plan, found: Estimate, folder: Path | None) -> dict[str, Any]:
    """What `print_cost` prints, as one JSON object."""
    return {
        "plan_hash": plan.hash, "preset": plan.preset.name, "prompts": plan.n, "images": plan.n * len(plan.cells),
        "level": "exact" if plan.exact else "tolerance",
        "cells": [{**vars(cost), "guidance_scale": cell.method.guidance} for cost, cell in zip(found.cells, plan.cells, strict=True)],
        "seconds": found.seconds, "bytes": found.bytes, "recorded": found.recorded,
        "run": None if folder is None else str(folder), "chunks": found.done.chunks, "chunks_done": found.done.whole,
        "settings": plan.settings, "warnings": plan.warnings,
    }  # fmt: skip


def _planned(plugins: Plugins, request: RunRequest) -> tuple[Plan | None, Any]:
    """(the plan, None), or, where weights or data are not here, (None, what can be told of it). Raises as `make_plan`."""
    from scottbench.errors import DamagedAsset, MissingAsset, Unfit
    from scottbench.plan.plan import make_plan

    try:
        return make_plan(plugins, request), None
    except MissingAsset as error:
        if isinstance(error, (DamagedAsset, Unfit)):
            raise
        from scottbench.run.blank import predict

        predicted = predict(plugins, request, error)
        if predicted is None:
            raise
    return None, predicted


def _print_prediction(plugins: Plugins, found: RunPrediction, as_json: bool) -> None:
    """Print what a run would cost that cannot be begun yet."""
    from scottbench.cli.predicted import run_document, run_lines
    from scottbench.cli.printing import print_json
    from scottbench.text import printable

    if as_json:
        print_json(run_document(found))
        return
    print(f"not planned to the end: something is not here yet  preset {found.preset}  {len(found.cells)} cells x {found.n:,} prompts")
    rows = [[cell.id, f"{cell.guidance:g}", f"{found.n:,}", str(cell.nfe), f"{1000 * cell.seconds_per_image:.1f}"] for cell in found.cells]
    show_cells(rows)
    for line in [*run_lines(found), _downloads(plugins, found.preset)]:
        print(printable(line))


def _downloads(plugins: Plugins, preset: str) -> str:
    """Say in a line what the public files of a preset come to, those that are here included."""
    from scottbench.plan.needs import needs_of
    from scottbench.text import bytes_in_words, count

    files = [file for asset in needs_of(plugins, [preset], "run").assets for file in asset.files]
    sizes = [file.size for file in files if file.size is not None]
    unknown = len(files) - len(sizes)
    more = f" and {count(unknown, 'file')} of unknown size" if unknown else ""
    return f"download {bytes_in_words(sum(sizes))} in {count(len(sizes), 'file')}{more}, all in all: scottbench fetch {preset}"


def _folder(plan: Plan, out: Path | None) -> Path | None:
    """The run folder that would be gone on with: `out`, else the newest of this plan. Raises as `refuse` if it holds another run."""
    from scottbench.store.differences import check_whole, refuse
    from scottbench.store.folder import RunFolder
    from scottbench.store.runs import runs_of

    folders = runs_of(plan.hash) if out is None else [out]
    if not folders:
        return None
    there = RunFolder(folders[-1]).locked_plan()
    if there is not None and there["plan_hash"] != plan.hash:
        raise refuse(folders[-1], there, {"plan_hash": plan.hash, "plan": plan.record})
    if there is not None:
        check_whole(folders[-1], there)
    return folders[-1]
