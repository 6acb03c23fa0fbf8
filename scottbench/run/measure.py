"""From stored features and images to results, items and pairs (.parquet; bytes that depend on the plan alone) and timings.parquet."""

from __future__ import annotations

import dataclasses
import functools
import math
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from scottbench.errors import ScottbenchError
from scottbench.plan.cells import PlannedMetric, by_seeds, over_seeds_id
from scottbench.plan.plan import Plan, PlannedCell
from scottbench.registry.nouns import CellFeatures
from scottbench.run.timings import write_timings
from scottbench.stats.intervals import interval
from scottbench.stats.measured import ITEMS, Measured, average, degrees_of_freedom, items_frame
from scottbench.stats.paired import pairs_frame, run_pairs
from scottbench.stats.uncertainty import Uncertainty, interval_or_reason
from scottbench.text import in_one_line, one_line, printable

if TYPE_CHECKING:
    import numpy as np


if TYPE_CHECKING:
    import numpy as np

    from scottbench.run.session import Work
    from scottbench.store.folder import RunFolder


def measure(work: Work, state: dict) -> None:
    """Compute every metric of every cell that was made, and of its seeds together; note what fails in the manifest; write all tables.

    Where there are several seeds, metrics of single cells are averaged over them too.
    """
    plan, rows, measured = work.plan, [], []
    single = [metric for metric in plan.metrics if metric.noun.scope != "seeds"]
    several = [metric for metric in plan.metrics if metric.noun.scope == "seeds"]
    entries = {entry["id"]: entry for entry in (*state["cells"], *state["over_seeds"])}
    blank = reference(work)

    def add(cells: list[PlannedCell], entry: dict, given: CellFeatures | list[CellFeatures] | None, metrics: list[PlannedMetric]) -> None:
        values = {} if given is None else compute(work, entry, given, metrics)
        spreads = {} if given is None else spread(entry, given, metrics, values)
        for metric in metrics:
            rows.append(result_row(plan, cells, entry, metric, values.get(metric.label), spreads.get(metric.label)))
            if metric.label in spreads:
                found = evidence(plan, cells, entry, metric, values[metric.label], spreads[metric.label])
                measured.append((found, spreads[metric.label].items))

    for cells in by_seeds(plan.cells):
        together = []
        for cell in cells:
            entry = entries[cell.id]
            given = None if entry["error"] is not None else of_cell(work, cell, blank)
            add([cell], entry, given, single)
            # what metrics of one cell remembered is not needed any more
            together += [dataclasses.replace(given, memo={})] if several and given is not None else []
            work.progress("metrics", plan.n, cell.id)
        if len(cells) > 1:
            entry = entries[over_seeds_id(cells)]
            lack = over_seeds(entry, [entries[cell.id] for cell in cells])
            if lack is not None:
                entry["failures"] = {metric.label: lack for metric in plan.metrics}
            rows += [mean_row(plan, cells, entry, metric, rows, measured) for metric in single]
            add(cells, entry, together if lack is None else None, several)
    write_results(work.folder, rows)
    write_tables(work.folder.put_table, measured)
    write_timings(work, [cell for cell in plan.cells if entries[cell.id]["error"] is None])


def over_seeds(entry: dict, cells: list[dict]) -> str | None:
    """Note the NFE that several seeds share; None, or in one line which of them failed: a mean over the others is of other seeds."""
    counted = {cell["nfe"] for cell in cells if cell["error"] is None}
    entry["nfe"] = counted.pop() if len(counted) == 1 else None
    failed = [cell for cell in cells if cell["error"] is not None]
    return f"{failed[0]['id']} failed: {one_line(failed[0]['error'])}" if failed else None


def reference(work: Work) -> CellFeatures:
    """What all cells share: features of the reference images and of the prompts."""
    real = {role: stored_features(work, "reference", role) for role in work.extractors}
    text = {role: stored_features(work, "text", role) for role, extractor in work.extractors.items() if extractor.text_tower is not None}
    return CellFeatures(work.plan.n, {}, by_role(work.plan, real), by_role(work.plan, text))


def of_cell(work: Work, cell: PlannedCell, blank: CellFeatures) -> CellFeatures:
    """What the metrics of a cell get."""
    made = {role: stored_features(work, cell.id, role) for role in work.extractors}
    return dataclasses.replace(blank, generated=by_role(work.plan, made), memo={}, images=stored_images(work, cell.id))


def by_role(plan: Plan, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {role: features[target] for role, target in plan.roles.items() if target in features}


def stored_features(work: Work, owner: str, role: str) -> np.ndarray:
    """(n, d) float32 in item order, from the run folder."""
    import numpy as np

    chunks = [work.folder.get_features(("features", owner, role), span, work.ids(span)) for span in work.chunks]
    assert all(chunk is not None for chunk in chunks), f"features of {owner} are incomplete"
    return np.concatenate(chunks)


def stored_images(work: Work, owner: str) -> Callable[[Sequence[int]], np.ndarray]:
    """`CellFeatures.images` of the run folder: reads the chunks that hold the indices, and keeps the last one."""
    import numpy as np

    @functools.lru_cache(maxsize=1)
    def chunk(number: int) -> np.ndarray:
        span = work.chunks[number]
        found = work.folder.get_images(("images", owner), span, work.ids(span))
        assert found is not None, f"images of {owner} are incomplete"
        return found

    def images(indices: Sequence[int]) -> np.ndarray:
        numbers, places = np.divmod(np.asarray(indices, dtype=np.int64), work.plan.chunk)
        found = np.empty((len(places), *chunk(0 if not len(places) else int(numbers[0])).shape[1:]), np.uint8)
        for number in np.unique(numbers):
            found[numbers == number] = chunk(int(number))[places[numbers == number]]
        return found

    return images


def compute(work: Work, entry: dict, given: CellFeatures | list[CellFeatures], metrics: list[PlannedMetric]) -> dict[str, float]:
    """Metric -> value; where one cannot be computed, the "failures" of the manifest's entry get the reason instead."""
    values, failures = {}, entry["failures"]
    for metric in metrics:
        try:
            value = float(metric.noun.compute(given, metric.options))
        except ScottbenchError as error:
            failures[metric.label] = in_one_line(error)  # what is missing stands on lines of its own
        except Exception as error:  # a plug-in may raise anything; the other numbers must not be lost
            work.folder.put(f"errors/{entry['id']}-{metric.noun.name}.txt", printable(traceback.format_exc()).encode())
            failures[metric.label] = f"{type(error).__name__}: {one_line(error)} (traceback in errors/)"
        else:
            if math.isfinite(value):
                values[metric.label] = value
            else:
                failures[metric.label] = f"the value is {value}"
    return values


def spread(
    entry: dict, given: CellFeatures | list[CellFeatures], metrics: list[PlannedMetric], values: dict[str, float]
) -> dict[str, Uncertainty]:
    """Metric -> interval and influences of each value; where there is none, "no_interval" of the entry says why."""
    found = {}
    for metric in metrics:
        if metric.label in values:
            result = interval_or_reason(metric.noun, given, metric.options, values[metric.label])
            (entry["no_interval"] if isinstance(result, str) else found)[metric.label] = result
    return found


def evidence(
    plan: Plan, cells: list[PlannedCell], entry: dict, metric: PlannedMetric, value: float, uncertainty: Uncertainty
) -> Measured:
    first = cells[0]
    return Measured(
        first.method.label, first.steps, tuple(cell.seed for cell in cells), metric.label, metric.noun.higher_is_better, plan.n,
        metric.fingerprint, value, uncertainty.influence, degrees_of_freedom(uncertainty.method, plan.n),
        tuple(plan.items.ids[: plan.n]), metric.noun.digits, entry["id"])


def result_row(
    plan: Plan, cells: list[PlannedCell], entry: dict, metric: PlannedMetric, value: float | None, uncertainty: Uncertainty | None
) -> dict[str, Any]:
    """One cell's row; of several seeds together, `seed` is empty and `seeds` names them."""
    noun, method = metric.noun, cells[0].method
    low, high, how = None, None, None
    if uncertainty is not None:
        low, high, how = uncertainty.interval.low, uncertainty.interval.high, uncertainty.method
    return {
        "method": method.label, "steps": cells[0].steps, "nfe": entry["nfe"], "seed": cells[0].seed if len(cells) == 1 else None,
        "guidance_scale": method.guidance, "dataset": plan.preset.dataset, "n": plan.n, "metric": metric.label, "value": value,
        "unit": noun.unit, "higher_is_better": noun.higher_is_better, "fingerprint": metric.fingerprint, "ci_low": low, "ci_high": high,
        "ci_method": how, "seeds": ",".join(str(cell.seed) for cell in cells),
    }  # fmt: skip


def mean_row(
    plan: Plan, cells: list[PlannedCell], entry: dict, metric: PlannedMetric, rows: list[dict], measured: list[tuple[Measured, Any]]
) -> dict[str, Any]:
    """The row of a metric's mean over several seeds, whose interval rests on the mean of each prompt's influences: prompts are shared."""
    own = [row for row in rows if (row["method"], row["steps"], row["metric"]) == (cells[0].method.label, cells[0].steps, metric.label)]
    values = [row["value"] for row in own]
    if None in values:
        entry["failures"].setdefault(metric.label, f"{cells[values.index(None)].id} has no value")
        return result_row(plan, cells, entry, metric, None, None)
    found = [one for one, _ in measured if (one.method, one.steps, one.metric) == (own[0]["method"], own[0]["steps"], metric.label)]
    spread = None
    if len(found) == len(cells):
        mean = average(found)
        spread = Uncertainty(interval(mean.value, mean.influence, mean.df, metric.noun.bounds), own[0]["ci_method"], mean.influence, None)
    else:
        entry["no_interval"][metric.label] = "one of its seeds has none"
    return result_row(plan, cells, entry, metric, sum(values) / len(values), spread)


def write_results(folder: RunFolder, rows: list[dict]) -> None:
    """One row per cell and metric, and per metric of all seeds of a method at a number of steps (together, or their mean), in plan order.
    No time and no path: equal plans give equal bytes."""
    import polars

    schema = {
        "method": polars.String, "steps": polars.Int32, "nfe": polars.Int32, "seed": polars.Int64, "guidance_scale": polars.Float64,
        "dataset": polars.String, "n": polars.Int32, "metric": polars.String, "value": polars.Float64, "unit": polars.String,
        "higher_is_better": polars.Boolean, "fingerprint": polars.String, "ci_low": polars.Float64, "ci_high": polars.Float64,
        "ci_method": polars.String, "seeds": polars.String,
    }  # fmt: skip
    folder.put_table("results.parquet", polars.DataFrame(rows, schema=schema))


def write_tables(put: Any, measured: Sequence[tuple[Measured, np.ndarray | None]]) -> None:
    """items.parquet and pairs.parquet of a run. put: (file name, data frame) -> None."""
    put(ITEMS, items_frame(measured))
    put("pairs.parquet", pairs_frame(run_pairs([one for one, _ in measured])))
