"""What a run leaves behind: manifest, results, items and pairs (.parquet; bytes that depend on the plan alone), timings.parquet."""

from __future__ import annotations

import io
import math
import traceback
from typing import TYPE_CHECKING, Any

from scottbench.environment import arithmetic, peak_memory
from scottbench.errors import ScottbenchError
from scottbench.events import read_events, spent
from scottbench.evidence import Measured, degrees_of_freedom
from scottbench.inference import Uncertainty, interval_or_reason, write_tables
from scottbench.names import one_line, printable
from scottbench.nouns import Cell
from scottbench.plan import Plan, PlannedCell, PlannedMetric, reference_digest
from scottbench.store import timestamp

if TYPE_CHECKING:
    import numpy as np

    from scottbench.generate import Work
    from scottbench.store import RunFolder

SCHEMA = "scottbench.run/2"
STAGES = ("text", "denoise", "decode", "features", "store")


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


def metric_record(metric: PlannedMetric, plan: Plan) -> dict:
    noun, (name, _, chosen) = metric.noun, metric.label.partition("@")
    title = noun.label if noun.label else name
    return {
        "name": metric.label, "label": f"{title} ({chosen})" if chosen else title, "unit": noun.unit, "summary": noun.summary,
        "paper": noun.paper, "higher_is_better": noun.higher_is_better, "digits": noun.digits, "fingerprint": metric.fingerprint,
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
    """One line for each cell and metric of the manifest that failed."""
    lines = []
    for entry in state["cells"]:
        if entry["error"] is not None:
            lines.append(f"{entry['id']}: {entry['error']}")
        lines += [f"{entry['id']} {metric}: {reason}" for metric, reason in entry["failures"].items()]
    return lines


# --- results ---------------------------------------------------------------------------------------------------------


def measure(work: Work, state: dict) -> None:
    """Compute every metric of every cell that was made, note what fails in the manifest, and write both tables."""
    plan, rows = work.plan, []
    real = {role: stored_features(work, "reference", role) for role in work.extractors}
    text = {role: stored_features(work, "text", role) for role, extractor in work.extractors.items() if extractor.text_tower is not None}
    real, text, shared, measured = by_role(plan, real), by_role(plan, text), {}, []
    for cell, entry in zip(plan.cells, state["cells"], strict=True):
        values, spreads = {}, {}
        if entry["error"] is None:
            made = {role: stored_features(work, cell.id, role) for role in work.extractors}
            given = Cell(plan.n, by_role(plan, made), real, text, real_memo=shared)
            values = compute(work, cell, given, entry["failures"])
            spreads = spread(work, given, values, entry["no_interval"])
        rows += [result_row(plan, cell, entry, metric, values.get(metric.label), spreads.get(metric.label)) for metric in plan.metrics]
        measured += [
            (evidence(plan, cell, metric, values[metric.label], spreads[metric.label]), spreads[metric.label].items)
            for metric in plan.metrics if metric.label in spreads
        ]  # fmt: skip
        work.progress("metrics", plan.n, cell.id)
    write_results(work.folder, rows)
    write_tables(lambda name, frame: work.folder.put(name, parquet(frame)), measured)
    write_timings(work, [cell for cell, entry in zip(plan.cells, state["cells"], strict=True) if entry["error"] is None])


def by_role(plan: Plan, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {role: features[target] for role, target in plan.roles.items() if target in features}


def stored_features(work: Work, owner: str, role: str) -> np.ndarray:
    """(n, d) float32 in item order, from the run folder."""
    import numpy as np

    chunks = [work.folder.get_features(("features", owner, role), span, work.ids(span)) for span in work.chunks]
    assert all(chunk is not None for chunk in chunks), f"features of {owner} are incomplete"
    return np.concatenate(chunks)


def compute(work: Work, cell: PlannedCell, given: Cell, failures: dict[str, str]) -> dict[str, float]:
    """Metric -> value; where one cannot be computed, `failures` gets the reason instead."""
    values = {}
    for metric in work.plan.metrics:
        try:
            value = float(metric.noun.compute(given, metric.options))
        except ScottbenchError as error:
            failures[metric.label] = one_line(error)
        except Exception as error:  # a plug-in may raise anything; the other numbers must not be lost
            work.folder.put(f"errors/{cell.id}-{metric.noun.name}.txt", printable(traceback.format_exc()).encode())
            failures[metric.label] = f"{type(error).__name__}: {one_line(error)} (traceback in errors/)"
        else:
            if math.isfinite(value):
                values[metric.label] = value
            else:
                failures[metric.label] = f"the value is {value}"
    return values


def spread(work: Work, given: Cell, values: dict[str, float], reasons: dict[str, str]) -> dict[str, Uncertainty]:
    """Metric -> interval and influences of each value; where there is none, `reasons` says why."""
    found = {}
    for metric in work.plan.metrics:
        if metric.label in values:
            result = interval_or_reason(metric.noun, given, metric.options, values[metric.label])
            (reasons if isinstance(result, str) else found)[metric.label] = result
    return found


def evidence(plan: Plan, cell: PlannedCell, metric: PlannedMetric, value: float, uncertainty: Uncertainty) -> Measured:
    return Measured(
        cell.method.label, cell.steps, (cell.seed,), metric.label, metric.noun.higher_is_better, plan.n, metric.fingerprint, value,
        uncertainty.influence, degrees_of_freedom(uncertainty.method, plan.n), tuple(plan.items.ids[: plan.n]), metric.noun.digits, cell.id)


def result_row(
    plan: Plan, cell: PlannedCell, entry: dict, metric: PlannedMetric, value: float | None, uncertainty: Uncertainty | None
) -> dict[str, Any]:
    noun, method = metric.noun, cell.method
    low, high, how = None, None, None
    if uncertainty is not None:
        low, high, how = uncertainty.interval.low, uncertainty.interval.high, uncertainty.method
    return {
        "method": method.label, "steps": cell.steps, "nfe": entry["nfe"], "seed": cell.seed, "guidance_scale": method.guidance,
        "dataset": plan.preset.dataset, "n": plan.n, "metric": metric.label, "value": value, "unit": noun.unit,
        "higher_is_better": noun.higher_is_better, "fingerprint": metric.fingerprint, "ci_low": low, "ci_high": high, "ci_method": how,
    }  # fmt: skip


def write_results(folder: RunFolder, rows: list[dict]) -> None:
    """One row per cell and metric, in plan order. No time and no path: equal plans give equal bytes."""
    import polars

    schema = {
        "method": polars.String, "steps": polars.Int32, "nfe": polars.Int32, "seed": polars.Int64, "guidance_scale": polars.Float64,
        "dataset": polars.String, "n": polars.Int32, "metric": polars.String, "value": polars.Float64, "unit": polars.String,
        "higher_is_better": polars.Boolean, "fingerprint": polars.String, "ci_low": polars.Float64, "ci_high": polars.Float64,
        "ci_method": polars.String,
    }  # fmt: skip
    folder.put("results.parquet", parquet(polars.DataFrame(rows, schema=schema)))


def write_timings(work: Work, cells: list[PlannedCell]) -> None:
    """Seconds per finished cell and stage, summed over its chunks' side-cars, so that a resumed run counts all its attempts."""
    import polars

    rows = []
    for cell in cells:
        seconds = dict.fromkeys(STAGES, 0.0)
        for span in work.chunks:
            places = [("images", cell.id), *(("features", cell.id, role) for role in work.extractors)]
            for facts in (work.folder.facts(place, span) for place in places):
                for stage, value in ((facts or {}).get("seconds") or {}).items():
                    seconds[stage] += value
        key = {"method": cell.method.label, "steps": cell.steps, "seed": cell.seed}
        rows += [{**key, "stage": stage, "n": work.plan.n, "seconds_total": total} for stage, total in seconds.items()]
    schema = {"method": polars.String, "steps": polars.Int32, "seed": polars.Int64, "stage": polars.String, "n": polars.Int32}
    frame = polars.DataFrame(rows, schema={**schema, "seconds_total": polars.Float64})
    work.folder.put("timings.parquet", parquet(frame.with_columns(seconds_per_image=polars.col("seconds_total") / polars.col("n"))))


def parquet(frame: Any) -> bytes:
    """Uncompressed Parquet: the tables are tiny, and no codec's version can change the bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="uncompressed")
    return buffer.getvalue()
