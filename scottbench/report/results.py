"""The report's tables of results: one row a cell; of several seeds one row a method at a number of steps first, their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scottbench.report.recorded import recorded_rows
from scottbench.report.tables import Column, Entry, Table, number
from scottbench.store.manifest import flawed
from scottbench.store.record import CellRecord, MetricRecord, RunRecord, groups, section
from scottbench.text import bracket, decimals

if TYPE_CHECKING:
    from scottbench.store.record import CellRecord, RunRecord

METHODS = {
    "influence": "from the influence of each prompt",
    "half-sampling": "from random halves of the prompts",
}
"""ci_method -> where the standard error comes from."""


SCOPES = ("mean", "seeds", "cell")
"""Means over several seeds, metrics of several seeds together, single cells."""


def results_tables(record: RunRecord, scopes: Sequence[str] = SCOPES) -> list[Table]:
    """Make one table for each of `scopes` that the run has, and for each set of cells that may be ranked together.

    scopes: of SCOPES, in the order of the tables.
    """
    tables = []
    for scope in scopes:
        metrics, cells = record.of_scope(scope)
        parts = groups(cells) if metrics or scope == "cell" else []
        tables += [_results_table(record, metrics, group, len(parts), scope) for group in parts]
    return tables


def leading_tables(record: RunRecord) -> list[Table]:
    """Make a terminal's tables: means over seeds where there are several, else single cells; then metrics of seeds together."""
    single = "mean" if record.of_scope("mean")[0] else "cell"
    return results_tables(record, [scope for scope in (single, "seeds") if record.of_scope(scope)[0]])


def _results_table(record: RunRecord, metrics: list[MetricRecord], cells: list[CellRecord], parts: int, scope: str) -> Table:
    timed, several = scope == "cell" and any(cell.steps for cell in record.cells), len({cell.seeds for cell in record.cells}) > 1
    columns = [Column("Method", short="method"), Column("Steps", number=True, short="steps")]
    columns += [Column("Seed" if timed else "Seeds", number=True, short="seed" if timed else "")] if several else []
    columns += [Column("NFE", number=True), *_metric_columns(metrics)]
    columns += [Column("ms/image ↓", number=True)] if timed else []
    caption = {"cell": _results_caption, "mean": _mean_caption, "seeds": _seeds_caption}[scope]
    table = Table(caption(record, cells, parts), columns, [], title=_title(metrics, cells, scope))
    shown = [metric_column(metric, cells) for metric in metrics]
    shown += [[None if cell.milliseconds is None else f"{cell.milliseconds:.1f}" for cell in cells]] if timed else []
    bold = [best(column, higher) for column, higher in zip(shown, [*(metric.higher_is_better for metric in metrics), False])]
    reasons: dict[str, str] = {}
    for y, cell in enumerate(cells):
        nfe = cell.facts.get("nfe")
        flaw = flawed(cell.facts)
        mark = _letter(reasons, f"Images: {flaw}.") if flaw else ""
        row = [Entry(cell.method, mark=mark), Entry(cell.steps_text), *([Entry(", ".join(map(str, cell.seeds)))] if several else [])]
        row.append(Entry(number(nfe), short="-" if nfe is None else str(nfe)))
        for x, column in enumerate(shown):
            metric, value = metrics[x] if x < len(metrics) else None, column[y]
            if value is None:
                why = "no time was recorded" if metric is None else cell.reason(metric.name)
                row.append(Entry("n/a", mark=_letter(reasons, f"Not available: {why}"), short="-"))
            else:
                small, mark = _time_interval(cell) if metric is None else _interval(metric, cell, cells, reasons)
                row.append(Entry(value, y in bold[x], mark=mark, small=small))
        table.rows.append(row)
    for found in recorded_rows(record, metrics, cells):
        mark = _letter(reasons, found.note)
        named = Entry(found.method, mark=mark, short=f"{found.method} (recorded)")  # a terminal shows no footnotes
        lead = [named, Entry(str(found.steps)), *([Entry("-")] if several else []), Entry(str(found.nfe))]
        table.rows.append([*lead, *map(found.entry, metrics, [metric_decimals(metric, cells) for metric in metrics]),
                           *([Entry("-")] if timed else [])])  # fmt: skip
    table.notes = [(mark, why) for why, mark in reasons.items()]
    return table


def _metric_columns(metrics: list[MetricRecord]) -> list[Column]:
    """A heading a metric; on a terminal with its extractor only where the title does not name it for all."""
    columns, alone = [], len({metric.extractor for metric in metrics}) == 1
    for metric in metrics:
        detail = ", ".join(part for part in (metric.extractor, metric.unit) if part)
        name = metric.label if alone or not metric.extractor else f"{metric.label}, {metric.extractor}"
        columns.append(Column(f"{metric.label} {metric.arrow}", detail, number=True, short=f"{name} {metric.arrow}"))
    return columns


def _title(metrics: list[MetricRecord], cells: list[CellRecord], scope: str) -> str:
    """ "metrics on pocket features, N = 5000": what all columns and rows share, in few words."""
    extractors = {metric.extractor for metric in metrics}
    title = f"metrics on {metrics[0].extractor}, " if len(extractors) == 1 and metrics[0].extractor else ""
    title += f"N = {cells[0].n}"
    seeds = ", ".join(dict.fromkeys(",".join(map(str, cell.seeds)) for cell in cells))
    return {"cell": title, "mean": f"mean over seeds {seeds}: {title} prompts a seed",
            "seeds": f"over seeds {seeds} together: {title} prompts"}[scope]  # fmt: skip


def _time_interval(cell: CellRecord) -> tuple[tuple[str, ...], str]:
    """(small lines, footnote mark) of a time."""
    ends = None if cell.sampling is None else cell.sampling[1]
    return () if ends is None else (bracket(1000 * ends[0], 1000 * ends[1], 1),), ""


def _interval(metric: MetricRecord, cell: CellRecord, cells: list[CellRecord], reasons: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """(small lines, footnote mark): the interval, or the mark of the note that says why there is none; neither in a run without them."""
    found = cell.intervals.get(metric.name)
    if found is not None:
        return (bracket(found.low, found.high, metric_decimals(metric, cells)),), ""
    why = section(cell.facts, "no_interval").get(metric.name)
    return (), "" if why is None else _letter(reasons, f"No interval: {why}")


def _results_caption(record: RunRecord, cells: list[CellRecord], parts: int) -> str:
    seed = f", seed {cells[0].facts['seed']}" if len({cell.seeds for cell in record.cells}) == 1 else ""
    timed = ", median over chunks of images with its 95 % interval" if any(cell.sampling and cell.sampling[1] for cell in cells) else ""
    if not any(cell.steps for cell in record.cells):
        return (
            f"Results on {_dataset(record)}, N = {cells[0].n:,} pictures per row, made elsewhere. ↓ lower is better, ↑ higher is better; "
            f"{_ranking(cells)}.{_apart(parts)}{interval_methods(record, cells)}"
        )
    return (
        f"Results on {_dataset(record)}, N = {cells[0].n:,} images per row{seed}. ↓ lower is better, ↑ higher is better; "
        f"{_ranking(cells)}. NFE: network evaluations per image, counted. ms/image: text encoder, U-Net and decoder on this machine"
        f"{timed}.{_apart(parts)}{interval_methods(record, cells)}"
    )


def _mean_caption(record: RunRecord, cells: list[CellRecord], parts: int) -> str:
    return (
        f"Results on {_dataset(record)}, means over seeds, N = {cells[0].n:,} prompts per row and seed. ↓ lower is better, ↑ higher is "
        f"better; {_ranking(cells)}. NFE: network evaluations per image, counted. Seeds are of sampling noise: none of training."
        f"{_apart(parts)}{interval_methods(record, cells)}"
    )


def _seeds_caption(record: RunRecord, cells: list[CellRecord], parts: int) -> str:
    return (
        f"Results over several seeds together on {_dataset(record)}, N = {cells[0].n:,} prompts per row, one image of each at every seed: "
        f"how the images of one prompt differ. ↓ lower is better, ↑ higher is better; {_ranking(cells)}."
        f"{_apart(parts)}{interval_methods(record, cells)}"
    )


def _dataset(record: RunRecord) -> str:
    return record.plan.get("dataset", {}).get("name", "the dataset")


def _ranking(cells: list[CellRecord]) -> str:
    return "the best of each column in bold" if len(cells) > 1 else "one row, so none is marked best"


def _apart(parts: int) -> str:
    return " Rows of another N or fingerprint are in a table of their own and are not ranked with these." if parts > 1 else ""


def _letter(reasons: dict[str, str], why: str) -> str:
    return reasons.setdefault(why, "abcdefghijklmnopqrstuvwxyz"[len(reasons) % 26])


def metric_column(metric: MetricRecord, cells: Sequence[CellRecord]) -> list[str | None]:
    """A metric's values as they are printed, with as many decimals as their intervals bear; None where there is none."""
    digits = metric_decimals(metric, cells)
    return [f"{cell.values[metric.name]:.{digits}f}" if metric.name in cell.values else None for cell in cells]


def metric_decimals(metric: MetricRecord, cells: Sequence[CellRecord]) -> int:
    """Decimals of a metric's column: those that its narrowest interval bears, the metric's own where it has none."""
    found = [cell.intervals[metric.name] for cell in cells if metric.name in cell.intervals]
    return decimals([(interval.high - interval.low) / 2 for interval in found], metric.digits)


def best(column: Sequence[str | None], higher_is_better: bool) -> set[int]:
    """Rows that are best, compared as printed, so that equal numbers are marked alike; none where fewer than two rows have one."""
    present = {y: float(text) for y, text in enumerate(column) if text is not None}
    if len(present) < 2:
        return set()
    top = (max if higher_is_better else min)(present.values())
    return {y for y, value in present.items() if value == top}


def interval_methods(record: RunRecord, cells: Sequence[CellRecord]) -> str:
    """Explain the brackets and how each metric's were made; "" where there are none."""
    of: dict[str, list[str]] = {}
    for metric in record.metrics:
        for method in dict.fromkeys(cell.intervals[metric.name].method for cell in cells if metric.name in cell.intervals):
            of.setdefault(METHODS.get(method, method), []).append(metric.label)
    if not of:
        return ""
    ways = "; ".join(f"{', '.join(names)}: {method}" for method, names in of.items())
    return f" In brackets: 95 % intervals of the value at this N, over prompts and sampling noise, centred at the value ({ways})."
