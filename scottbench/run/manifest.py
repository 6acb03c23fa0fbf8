"""The manifest of a run: what it is of, how it stands, what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench.plan.cells import PlannedMetric, by_seeds, over_seeds_id
from scottbench.plan.identity import reference_digest
from scottbench.plan.plan import Plan, PlannedCell
from scottbench.registry.label import Label
from scottbench.run.clock import peak_memory
from scottbench.store.environment import arithmetic
from scottbench.store.events import read_events, spent
from scottbench.store.files import timestamp

if TYPE_CHECKING:
    from scottbench.run.session import Work

SCHEMA = "scottbench.run/2"


def start(plan: Plan, work: Work, environments: list[dict]) -> dict:
    """The manifest of a run that begins or goes on. environments: of all attempts and workers so far, as in env.json; the last is of
    this process."""
    shown = slice(0, min(plan.preset.sample_items, plan.n, plan.chunk))  # of the reference images one chunk is kept
    return {
        "schema": SCHEMA,
        "status": "running",
        "plan_hash": plan.hash,
        "plan": plan.record,
        "command": plan.command,
        "created": work.earlier.get("created", timestamp()),
        "finished": None,
        "attempts": work.earlier.get("attempts", 0) + 1,
        "level": level(plan, environments),
        "files": {},
        "wall_seconds": 0.0,
        "forward_seconds": 0.0,
        "forward_seconds_by_part": {},
        "forward_share": None,
        "store_seconds": 0.0,
        "peak_memory_bytes": None,
        "environment": environments[-1]["environment"],
        "cells": [cell_record(cell, plan.n) for cell in plan.cells],
        "over_seeds": [over_seeds_record(cells, plan.n) for cells in by_seeds(plan.cells) if len(cells) > 1],
        "metrics": [metric_record(metric, plan) for metric in plan.metrics],
        "samples": {"ids": list(plan.items.ids[shown]), "prompts": list(plan.items.prompts[shown])},
        "model_card": plan.model_card,
        "limits": [*plan.preset.limits, *unsafe_sentence(plan)],
        "reference": {"n": plan.n, "digest": reference_digest(plan.items.digest, plan.n)},
    }


def level(plan: Plan, environments: list[dict]) -> str:
    """"exact": made on CPUs of one type with one number of threads and one torch, so that the same plan gives the same bytes there;
    "tolerance" otherwise: images and numbers agree within what `scottbench verify --resample` allows."""
    kinds = {arithmetic(entry["environment"]) for entry in environments}
    return "exact" if plan.micro_batch is not None and len(kinds) == 1 else "tolerance"


def unsafe_sentence(plan: Plan) -> list[str]:
    """For the report's limits, where weights were read from pickles."""
    if not plan.model.pickled:
        return []
    return [f"Weights were read from pickled checkpoints ({', '.join(plan.model.pickled)}), which can run code when they are read."]


def cell_record(cell: PlannedCell, n: int) -> dict:
    method = cell.method
    return {
        "id": cell.id, "method": method.label, "summary": method.noun.summary, "paper": method.noun.paper, "version": method.noun.version,
        "steps": cell.steps, "seed": cell.seed, "guidance_scale": method.guidance, "options": dict(vars(method.options)),
        "timesteps": cell.timesteps, "nfe": None, "weights_digest": method.weights_digest, "student": method.facts, "n": n,
        "error": None, "failures": {}, "no_interval": {},
    }  # fmt: skip


def over_seeds_record(cells: list[PlannedCell], n: int) -> dict:
    """What means over several seeds, and metrics of seeds together, are of: a method at a number of steps, with its cells."""
    return {
        "id": over_seeds_id(cells), "method": cells[0].method.label, "steps": cells[0].steps, "seeds": [cell.seed for cell in cells],
        "cells": [cell.id for cell in cells], "nfe": None, "n": n, "failures": {}, "no_interval": {},
    }  # fmt: skip


def metric_record(metric: PlannedMetric, plan: Plan) -> dict:
    noun, label = metric.noun, Label.parse(metric.label)
    title = noun.label if noun.label else label.name
    return {
        "name": metric.label, "label": f"{title} ({label.chosen})" if label.options else title, "unit": noun.unit, "summary": noun.summary,
        "paper": noun.paper, "higher_is_better": noun.higher_is_better, "digits": noun.digits, "scope": noun.scope,
        "fingerprint": metric.fingerprint,
        "extractor_label": plan.sources[plan.roles[noun.features]].label if noun.features else "",
    }  # fmt: skip


def update(state: dict, work: Work, status: str) -> None:
    """Status, and the times of all attempts and workers as the event log has them."""
    total = spent(read_events(work.folder.root))
    state["status"] = status
    state["wall_seconds"] = round(total["wall"], 3)
    state["forward_seconds_by_part"] = {part: round(seconds, 3) for part, seconds in total["forward"].items()}
    state["forward_seconds"] = round(sum(total["forward"].values()), 3)
    state["forward_share"] = round(state["forward_seconds"] / max(total["processes"], 1e-3), 4)
    state["store_seconds"] = round(total["store"], 3)
    state["peak_memory_bytes"] = peak_memory()
    state["finished"] = None if status == "running" else timestamp()


def finish_cell(state: dict, work: Work, cell: PlannedCell, reason: str | None) -> None:
    """Note the counted NFE of a cell, or why it has none."""
    entry = next(entry for entry in state["cells"] if entry["id"] == cell.id)
    if reason is None:
        counted = {(work.folder.facts(("images", cell.id), span) or {}).get("nfe") for span in work.chunks}
        if len(counted) == 1:
            entry["nfe"] = counted.pop()
        else:
            reason = f"method '{cell.method.label}' evaluated its network unequally often: {sorted(map(str, counted))} per image."
    entry["error"] = reason


def failures(state: dict) -> list[str]:
    """One line for each cell of the manifest that failed, and for each metric of a cell, or of several seeds, that did."""
    lines = []
    for entry in state["cells"]:
        if entry["error"] is not None:
            lines.append(f"{entry['id']}: {entry['error']}")
    for entry in (*state["cells"], *state["over_seeds"]):
        lines += [f"{entry['id']} {metric}: {reason}" for metric, reason in entry["failures"].items()]
    return lines
