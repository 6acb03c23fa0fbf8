"""From stored features and images to results: the value of every metric, with its interval, or why there is none.

`measure` computes and writes nothing; `write` makes of its results the rows of results, items and pairs (.parquet; bytes that depend on
the plan alone), timings.parquet, and the reasons in the manifest.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scottbench.errors import Incomplete, IntegrityError, ScottbenchError
from scottbench.plan.cells import PlannedMetric, by_seeds, over_seeds_id
from scottbench.plan.plan import Plan, PlannedCell
from scottbench.registry.guard import PluginFailed
from scottbench.registry.nouns import CellFeatures, read_only
from scottbench.run.chunks import roles_of
from scottbench.run.teacher import keep_teachers, teacher_reader
from scottbench.run.timings import write_timings
from scottbench.stats.categories import category_rows, usable
from scottbench.stats.intervals import interval
from scottbench.stats.measured import ITEMS, Measured, average, degrees_of_freedom, items_frame
from scottbench.stats.paired import pairs_frame, run_pairs
from scottbench.stats.uncertainty import Uncertainty, interval_or_reason
from scottbench.store.tables import CATEGORIES, CATEGORIES_SCHEMA, PAIRS, RESULTS, RESULTS_SCHEMA, frame
from scottbench.text import in_one_line, one_line, printable

if TYPE_CHECKING:
    from scottbench.registry.nouns import Items
    from scottbench.run.session import Work
    from scottbench.store.manifest import Manifest


@dataclass(frozen=True)
class Subject:
    """A cell that metrics are of, or all seeds of a method at a number of steps."""

    id: str
    """Its name in the manifest."""
    cells: tuple[PlannedCell, ...]
    """One cell, or one for each seed."""
    nfe: int | None
    """Counted network evaluations per image; None where nothing was counted, or seeds differ."""
    flawed: int | None = None
    """Images that no method means to make (`scottbench.run.sentinels`); None where nothing was counted."""


@dataclass(frozen=True)
class Result:
    """One metric of one cell, or of several seeds."""

    subject: Subject
    metric: PlannedMetric
    value: float | None
    no_value: str | None = None
    """Reason why there is no value; None too where the cell itself failed."""
    uncertainty: Uncertainty | None = None
    """The interval, and the influences behind it; None without a value."""
    no_interval: str | None = None
    """Reason why there is a value and no interval."""

    @property
    def is_mean(self) -> bool:
        """True of a mean over several seeds; false of one cell, and of a metric that takes all seeds together."""
        return len(self.subject.cells) > 1 and self.metric.noun.scope != "seeds"


def measure(work: Work, manifest: Manifest) -> list[Result]:
    """Compute every metric of every cell that was made, in plan order; after the seeds of a method at a number of steps, where there are
    several, the means over them and the metrics of all of them together. manifest: which cells failed, and their NFE."""
    plan, results = work.plan, []
    single = [metric for metric in plan.metrics if metric.noun.scope != "seeds"]
    several = [metric for metric in plan.metrics if metric.noun.scope == "seeds"]
    stored = functools.partial(stored_features, work)
    shared = dataclasses.replace(shared_features(work), teacher=teacher_reader(work, manifest, stored))
    keep_teachers(work, manifest, stored)
    for cells in by_seeds(plan.cells):
        own: list[Result] = []
        together: list[CellFeatures] = []
        for cell in cells:
            entry = manifest.cell(cell.id)
            subject = Subject(cell.id, (cell,), entry.nfe, sum(entry.sentinels.values()) if entry.sentinels is not None else None)
            if entry.error is None:
                given = cell_features(work, cell, shared)
                own += compute(work, subject, given, single)
                # what metrics of one cell remembered is not needed any more
                together += [dataclasses.replace(given, memo={})] if several else []
            else:
                own += [Result(subject, metric, None) for metric in single]
            work.progress("metrics", plan.n, cell.id)
        results += own
        if len(cells) > 1:
            results += _over_seeds(work, manifest, cells, own, together)
    return results


def _over_seeds(
    work: Work, manifest: Manifest, cells: Sequence[PlannedCell], own: Sequence[Result], together: list[CellFeatures]
) -> list[Result]:
    """The results of several seeds. own: the results of each cell; together: the features of each."""
    failed = [manifest.cell(cell.id) for cell in cells if manifest.cell(cell.id).error is not None]
    counted = {manifest.cell(cell.id).nfe for cell in cells if manifest.cell(cell.id).error is None}
    flaws = [sum(kinds.values()) for cell in cells if (kinds := manifest.cell(cell.id).sentinels) is not None]
    subject = Subject(
        over_seeds_id(list(cells)), tuple(cells), counted.pop() if len(counted) == 1 else None, sum(flaws) if flaws else None)
    single = [metric for metric in work.plan.metrics if metric.noun.scope != "seeds"]
    several = [metric for metric in work.plan.metrics if metric.noun.scope == "seeds"]
    if failed:  # a mean over the others would be of other seeds
        reason = f"{failed[0].id} failed: {one_line(failed[0].error)}"
        return [Result(subject, metric, None, reason) for metric in (*single, *several)]
    means = [mean(work.plan, subject, metric, [result for result in own if result.metric is metric]) for metric in single]
    return means + compute(work, subject, together, several)


# --- features and images of a run ------------------------------------------------------------------------------------


def shared_features(work: Work) -> CellFeatures:
    """Read what all cells share: features of the reference images and of the prompts."""
    roles = [] if work.plan.reference is None else roles_of(work.plan, "reference")
    real = {role: stored_features(work, "reference", role) for role in roles}
    text = {role: stored_features(work, "text", role) for role, extractor in work.extractors.items() if extractor.text_tower is not None}
    items, n, reference = work.plan.items, work.plan.n, work.plan.reference
    pictures = None if reference is None else lambda indices: reference.items.images(list(map(int, indices)))
    return CellFeatures(
        n, {}, by_role(work.plan, real), by_role(work.plan, text), reference_images=pictures,
        ids=tuple(items.ids[:n]), prompts=tuple(items.prompts[:n]), metadata=columns_of(items, n),
        apart=reference is not None and reference.own)


def columns_of(items: Items, n: int) -> dict[str, tuple[str, ...]]:
    """Return the columns of the first n items, such as "category" -> n values; none where the dataset has none."""
    return {str(name): tuple(map(str, values[:n])) for name, values in getattr(items, "metadata", {}).items()}


def cell_features(work: Work, cell: PlannedCell, shared: CellFeatures) -> CellFeatures:
    """Read what the metrics of a cell get. shared: of `shared_features`."""
    made = {role: stored_features(work, cell.id, role) for role in work.extractors}
    return dataclasses.replace(shared, generated=by_role(work.plan, made), memo={}, images=stored_images(work, cell.id))


def by_role(plan: Plan, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give every role the (n, d) features of the extractor that it uses. features: extractor -> (n, d)."""
    return {role: features[target] for role, target in plan.roles.items() if target in features}


def stored_features(work: Work, owner: str, role: str) -> np.ndarray:
    """Read (n, d) float32 features, or (n, k, d) of k crops, in item order from the run folder. Raises Incomplete where a chunk is not
    there any more, IntegrityError where chunks do not fit each other."""
    chunks: list[np.ndarray] = []
    for span in work.plan.spans_of(owner):
        chunk = work.folder.get_features(("features", owner, role), span, work.ids(span, owner))
        if chunk is None:
            raise lost(work, f"features of {owner}")
        if chunks and chunk.shape[1] != chunks[0].shape[1]:
            raise IntegrityError(f"{work.folder.root}: the chunks of features/{owner}/{role} have rows of several lengths. Delete that "
                                 f"folder, then: scottbench resume {work.folder.root}")
        chunks.append(chunk)
    rows = np.concatenate(chunks)
    return rows if owner == "text" else work.extractors[role].source.by_crop(rows)


def lost(work: Work, what: str) -> Incomplete:
    """Make the error for chunks that were there and have gone. Raises Incomplete itself where the whole folder has."""
    with work.folder.in_place():
        return Incomplete(f"{work.folder.root}: {what} were taken away while the run went on. They are made again: scottbench resume "
                          f"{work.folder.root}")


def stored_images(work: Work, owner: str) -> Callable[[Sequence[int]], np.ndarray]:
    """Return `CellFeatures.images` of the run folder: indices to (n, H, W, 3) uint8. It reads the chunks that hold them, and keeps the
    last one. Raises Incomplete where a chunk is not there any more, ScottbenchError where pictures have several sizes."""

    @functools.lru_cache(maxsize=1)
    def chunk(number: int) -> np.ndarray:
        span = work.chunks[number]
        found = work.folder.get_images(("images", owner), span, work.ids(span))
        if found is None:
            raise lost(work, f"images of {owner}")
        if found.dtype == object:
            raise ScottbenchError("its pictures have several sizes, and this metric compares pixels. Bring them to one size")
        return found

    def images(indices: Sequence[int]) -> np.ndarray:
        numbers, places = np.divmod(np.asarray(indices, dtype=np.int64), work.plan.chunk)
        found = np.empty((len(places), *chunk(0 if not len(places) else int(numbers[0])).shape[1:]), np.uint8)
        for number in np.unique(numbers):
            found[numbers == number] = chunk(int(number))[places[numbers == number]]
        return found

    return images


# --- numbers ---------------------------------------------------------------------------------------------------------


def compute(work: Work, subject: Subject, given: CellFeatures | list[CellFeatures], metrics: Sequence[PlannedMetric]) -> list[Result]:
    """Compute each metric, then the interval of each that has a value. A plug-in may raise anything: the other numbers are not lost."""
    found = [_value(work, subject, given, metric) for metric in metrics]
    return [_with_interval(result, given) for result in found]


def _value(work: Work, subject: Subject, given: CellFeatures | list[CellFeatures], metric: PlannedMetric) -> Result:
    try:
        found = metric.noun.compute(read_only(given), metric.options)
    except (Incomplete, IntegrityError):  # of the run folder: images that a metric asked for
        raise
    except Exception as error:  # a plug-in may raise anything
        if isinstance(error, ScottbenchError) and not isinstance(error, PluginFailed):
            return Result(subject, metric, None, in_one_line(error))  # what is missing stands on lines of its own
        work.folder.put(f"errors/{subject.id}-{metric.noun.name}.txt", printable(traceback.format_exc()).encode())
        why = in_one_line(error) if isinstance(error, PluginFailed) else f"{type(error).__name__}: {one_line(error)}"
        return Result(subject, metric, None, f"{why} (traceback in errors/)")
    try:
        value = float(found)
    except (TypeError, ValueError):
        return Result(subject, metric, None, f"compute returned {one_line(repr(found))[:80]}, which is no number")
    if not math.isfinite(value):
        return Result(subject, metric, None, f"the value is {value}")
    return Result(subject, metric, value)


def _with_interval(result: Result, given: CellFeatures | list[CellFeatures]) -> Result:
    if result.value is None:
        return result
    found = interval_or_reason(result.metric.noun, read_only(given), result.metric.options, result.value)
    if isinstance(found, str):
        return dataclasses.replace(result, no_interval=found)
    return dataclasses.replace(result, uncertainty=found)


def mean(plan: Plan, subject: Subject, metric: PlannedMetric, own: Sequence[Result]) -> Result:
    """Average a metric over several seeds. own: its result for each seed, in their order.

    The interval rests on the mean of each prompt's influences: prompts are shared.
    """
    values = []
    for result in own:
        if result.value is None:
            return Result(subject, metric, None, f"{result.subject.id} has no value")
        values.append(result.value)
    value = sum(values) / len(values)
    spreads = [result.uncertainty for result in own if result.uncertainty is not None]
    if len(spreads) < len(own):
        return Result(subject, metric, value, no_interval="one of its seeds has none")
    averaged = average([evidence(plan, result) for result in own])
    ends = interval(averaged.value, averaged.influence, averaged.df, metric.noun.bounds)
    return Result(subject, metric, value, uncertainty=Uncertainty(ends, spreads[0].method, averaged.influence, None))


# --- views of the results --------------------------------------------------------------------------------------------


def evidence(plan: Plan, result: Result) -> Measured:
    """Return what paired tests need of a result. Raises ValueError for one without an interval."""
    subject, metric, spread = result.subject, result.metric, result.uncertainty
    if result.value is None or spread is None:
        raise ValueError(f"{metric.label} of {subject.id} has no interval")
    first = subject.cells[0]
    return Measured(
        first.method.label, first.steps, tuple(cell.seed for cell in subject.cells), metric.label, metric.noun.higher_is_better, plan.n,
        metric.fingerprint, result.value, spread.influence, degrees_of_freedom(spread.method, plan.n), tuple(plan.items.ids[: plan.n]),
        metric.noun.digits, subject.id)


def measured(plan: Plan, results: Iterable[Result]) -> list[tuple[Measured, np.ndarray | None]]:
    """Return the evidence of every result with an interval, and its (n,) values per item where it has them. Means over seeds are left
    out: their seeds are in."""
    kept = [(result, result.uncertainty) for result in results if not result.is_mean]
    return [(evidence(plan, result), spread.items) for result, spread in kept if spread is not None]


def row(plan: Plan, result: Result) -> dict[str, Any]:
    """Return a result's row of results.parquet; of several seeds `seed` is empty and `seeds` names them. No time and no path: equal plans
    give equal bytes."""
    cells, metric, spread = result.subject.cells, result.metric, result.uncertainty
    ends = (None, None, None) if spread is None else (spread.interval.low, spread.interval.high, spread.method)
    return {
        "method": cells[0].method.label, "steps": cells[0].steps, "nfe": result.subject.nfe,
        "seed": cells[0].seed if len(cells) == 1 else None, "guidance_scale": cells[0].method.guidance, "dataset": plan.data_name,
        "n": plan.n, "metric": metric.label, "value": result.value, "unit": metric.noun.unit,
        "higher_is_better": metric.noun.higher_is_better, "fingerprint": metric.fingerprint, "ci_low": ends[0], "ci_high": ends[1],
        "ci_method": ends[2], "seeds": ",".join(str(cell.seed) for cell in cells),
        "flawed": result.subject.flawed,
    }  # fmt: skip


def note_reasons(manifest: Manifest, results: Iterable[Result]) -> None:
    """Note in the manifest why results have no value or no interval, and the NFE that several seeds share."""
    for result in results:
        name, label = result.subject.id, result.metric.label
        if len(result.subject.cells) > 1:
            manifest.entry(name).nfe = result.subject.nfe
        if result.no_value is not None:
            manifest.no_value(name, label, result.no_value)
        if result.no_interval is not None:
            manifest.no_spread(name, label, result.no_interval)


def write(work: Work, manifest: Manifest, results: Sequence[Result]) -> None:
    """Write all tables of a run, and note the reasons in its manifest."""
    note_reasons(manifest, results)
    work.folder.put_table(RESULTS, frame([row(work.plan, result) for result in results], RESULTS_SCHEMA))
    write_tables(work.folder.put_table, measured(work.plan, results))
    write_categories(work, results)
    write_timings(work, [cell for cell in work.plan.cells if manifest.cell(cell.id).error is None])


def write_categories(work: Work, results: Sequence[Result]) -> None:
    """Write categories.parquet, where the dataset's items have columns that part them."""
    columns = columns_of(work.plan.items, work.plan.n)
    rows = []
    for result in results if usable(columns) else ():
        spread = result.uncertainty
        if not result.is_mean and spread is not None and spread.items is not None:
            rows += category_rows(evidence(work.plan, result), spread.items, columns, result.metric.noun.bounds)
    if rows:
        work.folder.put_table(CATEGORIES, frame(rows, CATEGORIES_SCHEMA))


def write_tables(put: Callable[[str, Any], object], found: Sequence[tuple[Measured, np.ndarray | None]]) -> None:
    """Write items.parquet and pairs.parquet of a run. put: (file name, data frame) -> anything; found: of `measured`, each with the
    (n,) values per item or None."""
    put(ITEMS, items_frame(found))
    put(PAIRS, pairs_frame(run_pairs([one for one, _ in found])))
