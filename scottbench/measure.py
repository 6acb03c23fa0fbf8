"""From stored features and images to results, items and pairs (.parquet; bytes that depend on the plan alone) and timings.parquet."""

from __future__ import annotations

import io
import math
import traceback
from typing import TYPE_CHECKING, Any

from scottbench.errors import ScottbenchError
from scottbench.evidence import Measured, degrees_of_freedom
from scottbench.inference import Uncertainty, interval_or_reason, write_tables
from scottbench.names import one_line, printable
from scottbench.nouns import Cell
from scottbench.plan import Plan, PlannedCell, PlannedMetric

if TYPE_CHECKING:
    import numpy as np

    from scottbench.generate import Work
    from scottbench.store import RunFolder

STAGES = ("text", "denoise", "decode", "features", "store")


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
