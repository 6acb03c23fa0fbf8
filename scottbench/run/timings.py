"""timings.parquet of a run, written from the side-cars of its chunks, so that a resumed run counts all its attempts."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING

from scottbench.store.tables import TIMINGS, TIMINGS_SCHEMA, frame
from scottbench.store.timings import COLD, LOAD, ROUND, SAMPLING, STAGES, median_interval

if TYPE_CHECKING:
    from scottbench.plan.plan import PlannedCell
    from scottbench.run.session import Work


def observed(work: Work, cell: PlannedCell, roles: Iterable[str] | None = None) -> dict[str, list[tuple[float, int, bool]]]:
    """Stage -> (seconds, images, cold) of every chunk of a cell that was timed in it. roles: of its features; None: of open extractors."""
    kinds = list(work.extractors if roles is None else roles)
    found: dict[str, list[tuple[float, int, bool]]] = {stage: [] for stage in (*STAGES, "sampling")}
    for span in work.chunks:
        seconds: dict[str, float] = {}
        places = [("images", cell.id), *(("features", cell.id, role) for role in kinds)]
        cold = False
        for facts in (work.folder.facts(place, span) or {} for place in places):
            cold = cold or bool(facts.get(COLD))
            for stage, value in (facts.get("seconds") or {}).items():
                seconds[stage] = seconds.get(stage, 0.0) + value
        if all(stage in seconds for stage in SAMPLING):
            seconds["sampling"] = sum(seconds[stage] for stage in SAMPLING)
        for stage, value in seconds.items():
            found[stage].append((value, len(span), cold))
    return found


def write_timings(work: Work, cells: list[PlannedCell]) -> None:
    """Per cell and stage: the total, the machine's highest load, the number of rounds that it was made in, and the median of seconds per
    image with its 95 % interval over the chunks counted."""
    rows = []
    for cell in cells:
        sides = [work.folder.facts(("images", cell.id), span) or {} for span in work.chunks]
        loads = [side[LOAD] for side in sides if side.get(LOAD) is not None]
        turns = {side[ROUND] for side in sides if ROUND in side}
        for stage, chunks in observed(work, cell).items():
            counted = [(value, size) for value, size, cold in chunks if not cold] or [(value, size) for value, size, _ in chunks]
            each = [value / size for value, size in counted]
            ends = median_interval(each)
            low, high = (None, None) if ends is None else ends
            rows.append({
                "method": cell.method.label, "steps": cell.steps, "seed": cell.seed, "stage": stage, "n": work.plan.n,
                "seconds_total": sum(value for value, _, _ in chunks), "seconds_per_image": statistics.median(each) if each else None,
                "ci_low": low, "ci_high": high, "chunks": len(each),
                "load": max(loads, default=None), "rounds": len(turns) or None,
            })  # fmt: skip
    work.folder.put_table(TIMINGS, frame(rows, TIMINGS_SCHEMA))
