"""The report's tables of results: one row a cell; of several seeds one row a method at a number of steps first, their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scottbench.report.best import best_rows, best_time, dearer, in_turns
from scottbench.report.recorded import recorded_rows
from scottbench.report.tables import CALL, TIE, TIME, Column, Entry, Table, number
from scottbench.store.manifest import flawed
from scottbench.store.record import CellRecord, MetricRecord, RunRecord, groups, section
from scottbench.text import count, decimals, fixed

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
    columns += [Column("ms/image ↓", number=True, metric=TIME), Column("ms/call", number=True, metric=CALL, spare=True)] if timed else []
    best = [best_rows(record, metric, cells) for metric in metrics]
    caption = {"cell": _results_caption, "mean": _mean_caption, "seeds": _seeds_caption}[scope]
    marks = _ranking(record, cells, best)
    table = Table(caption(record, cells, parts, marks), columns, [], title=_title(metrics, cells, scope),
                  brief=_brief(record, metrics, cells, marks))  # fmt: skip
    reasons, tied = Reasons(), bool(record.pairs) and any(len(rows) > 1 for rows in best)
    shown = [metric_column(metric, cells) for metric in metrics]
    times = _times(cells, reasons) if timed else [[] for _ in cells]
    for y, cell in enumerate(cells):
        nfe = cell.facts.get("nfe")
        flaw = flawed(cell.facts)
        mark = reasons.mark(f"Images: {flaw}.") if flaw else ""
        row = [Entry(cell.method, mark=mark), Entry(cell.steps_text), *([Entry(", ".join(map(str, cell.seeds)))] if several else [])]
        row.append(Entry(number(nfe), short="-" if nfe is None else str(nfe)))
        for metric, column, rows in zip(metrics, shown, best, strict=True):
            value = column[y]
            if value is None:
                row.append(Entry("n/a", mark=reasons.mark(f"Not available: {cell.reason(metric.name)}"), short="-"))
                continue
            ends, mark = _interval(metric, cell, cells, reasons)
            tie = tied and y in rows and len(rows) > 1
            small = () if ends is None else (f"[{ends[0]}, {ends[1]}]",)
            row.append(Entry(value, y in rows, mark=TIE if tie else mark, small=small, tie=tie, ends=ends))
        table.rows.append(row + times[y])
    for found in recorded_rows(record, metrics, cells):
        mark = reasons.mark(found.note)
        named = Entry(found.method, mark=mark, short=f"{found.method} (recorded)")  # a terminal shows no footnotes
        lead = [named, Entry(str(found.steps)), *([Entry("-")] if several else []), Entry(str(found.nfe))]
        table.rows.append([*lead, *map(found.entry, metrics, [metric_decimals(metric, cells) for metric in metrics]),
                           *([Entry("-")] * 2 if timed else [])])  # fmt: skip
    table.notes = [*([(TIE, TIED)] if tied else []), *reasons.notes]
    return table


TIED = "None of the values so marked in a column is beaten by another: no test tells them apart."


class Reasons:
    """Footnotes of a table: each reason once, under a letter."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, why: str) -> str:
        """Return the letter of a reason."""
        return self._marks.setdefault(why, "abcdefghijklmnopqrstuvwxyz"[len(self._marks) % 26])

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(letter, sentence) of each."""
        return [(mark, why) for why, mark in self._marks.items()]


def _times(cells: list[CellRecord], reasons: Reasons) -> list[list[Entry]]:
    """Return each row's time per image and per network call."""
    best, dear, entries = best_time(cells), dearer(cells), []
    for y, cell in enumerate(cells):
        call = Entry("-") if cell.call is None else Entry(fixed(1000 * cell.call, 2))
        if cell.milliseconds is None:
            entries.append([Entry("n/a", mark=reasons.mark("Not available: no time was recorded"), short="-"), call])
            continue
        found = None if cell.sampling is None else cell.sampling[1]
        ends = None if found is None else (fixed(1000 * found[0], 1), fixed(1000 * found[1], 1))
        mark = reasons.mark(f"{dear[y]}.") if y in dear else ""
        small = () if ends is None else (f"[{ends[0]}, {ends[1]}]",)
        entries.append([Entry(fixed(cell.milliseconds, 1), y in best, mark=mark, small=small, ends=ends), call])
    return entries


def _metric_columns(metrics: list[MetricRecord]) -> list[Column]:
    """A heading a metric; on a terminal with its extractor only where the title does not name it for all."""
    columns, alone = [], len({metric.extractor for metric in metrics}) == 1
    for metric in metrics:
        detail = ", ".join(part for part in (metric.extractor, metric.unit) if part)
        name = metric.label if alone or not metric.extractor else f"{metric.label}, {metric.extractor}"
        columns.append(Column(f"{metric.label} {metric.arrow}", detail, number=True, short=f"{name} {metric.arrow}", metric=metric.name))
    return columns


def _title(metrics: list[MetricRecord], cells: list[CellRecord], scope: str) -> str:
    """ "metrics on pocket features, N = 5000": what all columns and rows share, in few words."""
    extractors = {metric.extractor for metric in metrics}
    title = f"metrics on {metrics[0].extractor}, " if len(extractors) == 1 and metrics[0].extractor else ""
    title += f"N = {cells[0].n}"
    seeds = ", ".join(dict.fromkeys(",".join(map(str, cell.seeds)) for cell in cells))
    return {"cell": title, "mean": f"mean over seeds {seeds}: {title} prompts a seed",
            "seeds": f"over seeds {seeds} together: {title} prompts"}[scope]  # fmt: skip


def _interval(metric: MetricRecord, cell: CellRecord, cells: list[CellRecord], reasons: Reasons) -> tuple[tuple[str, str] | None, str]:
    """(ends as printed, footnote mark): the interval, or the mark of the note that says why there is none; neither where it has none."""
    found = cell.intervals.get(metric.name)
    if found is not None:
        digits = metric_decimals(metric, cells)
        return (fixed(found.low, digits), fixed(found.high, digits)), ""
    why = section(cell.facts, "no_interval").get(metric.name)
    return None, "" if why is None else reasons.mark(f"No interval: {why}")


def _brief(record: RunRecord, metrics: list[MetricRecord], cells: list[CellRecord], marks: str) -> str:
    """A caption for a paper."""
    extractors = list(dict.fromkeys(metric.extractor for metric in metrics if metric.extractor))
    on = f", on {' and '.join(extractors)}" if extractors else ""
    spread = " 95 % intervals." if any(cell.intervals for cell in cells) else ""
    return f"Results on {_dataset(record)}, N = {cells[0].n:,}{on}.{spread} {marks[:1].upper()}{marks[1:]}."


def _results_caption(record: RunRecord, cells: list[CellRecord], parts: int, marks: str) -> str:
    seed = f", seed {cells[0].facts['seed']}" if len({cell.seeds for cell in record.cells}) == 1 else ""
    timed = ", median over chunks of images with its 95 % interval" if any(cell.sampling and cell.sampling[1] for cell in cells) else ""
    if not any(cell.steps for cell in record.cells):
        return (
            f"Results on {_dataset(record)}, N = {cells[0].n:,} pictures per row, made elsewhere. ↓ lower is better, ↑ higher is better; "
            f"{marks}.{_apart(parts)}{interval_methods(record, cells)}"
        )
    loaded = ""
    if any(cell.busy for cell in cells):
        loaded = "; the machine was busy with other work meanwhile, so that no time is marked"
    elif not all(map(in_turns, (cell for cell in cells if cell.steps))):
        loaded = "; rows were timed one after another, so that no time is marked"
    return (
        f"Results on {_dataset(record)}, N = {cells[0].n:,} images per row{seed}. ↓ lower is better, ↑ higher is better; "
        f"{marks}. NFE: network evaluations per image, counted. ms/image: text encoder, U-Net and decoder on this machine"
        f"{timed}{loaded}; ms/call: one evaluation of the network.{_apart(parts)}{interval_methods(record, cells)}"
    )


def _mean_caption(record: RunRecord, cells: list[CellRecord], parts: int, marks: str) -> str:
    return (
        f"Results on {_dataset(record)}, means over seeds, N = {cells[0].n:,} prompts per row and seed. ↓ lower is better, ↑ higher is "
        f"better; {marks}. NFE: network evaluations per image, counted. Seeds are of sampling noise: none of training."
        f"{_apart(parts)}{interval_methods(record, cells)}"
    )


def _seeds_caption(record: RunRecord, cells: list[CellRecord], parts: int, marks: str) -> str:
    return (
        f"Results over several seeds together on {_dataset(record)}, N = {cells[0].n:,} prompts per row, one image of each at every seed: "
        f"how the images of one prompt differ. ↓ lower is better, ↑ higher is better; {marks}."
        f"{_apart(parts)}{interval_methods(record, cells)}"
    )


def _dataset(record: RunRecord) -> str:
    """The data in words: their name, and beside it a reference that is a set of its own, with its number M of images."""
    name = str(section(record.plan, "dataset").get("name", "the dataset"))
    own = section(record.plan, "dataset").get("reference")
    return f"{name} against M = {number(own.get('n'))} images of {own.get('name')}" if isinstance(own, dict) else name


def _ranking(record: RunRecord, cells: list[CellRecord], best: Sequence[set[int]]) -> str:
    """Say in half a sentence what bold means."""
    if len(cells) == 1:
        return "one row, so none is marked best"
    if not record.pairs:
        return "the best of each column in bold, by no test"
    if not any(best):
        return "none is marked best: no test was made of these rows"
    rows = "any other row" if _all_tested(record, cells) else "any row that it was tested against"
    return f"bold: not beaten by {rows} of the column (paired test, Holm over {count(len(record.pairs), 'test')}, 5 %)"


def _all_tested(record: RunRecord, cells: list[CellRecord]) -> bool:
    """Tell whether the run tested all rows against each other; one of an earlier version did so at equal and neighbouring steps alone."""
    tested = {frozenset({(row["method_a"], row["steps_a"]), (row["method_b"], row["steps_b"])}) for row in record.pairs}
    return 2 * len(tested) >= len(cells) * (len(cells) - 1)


def _apart(parts: int) -> str:
    return " Rows of another N or fingerprint are in a table of their own and are not ranked with these." if parts > 1 else ""


def metric_column(metric: MetricRecord, cells: Sequence[CellRecord]) -> list[str | None]:
    """A metric's values as they are printed, with as many decimals as their intervals bear; None where there is none."""
    digits = metric_decimals(metric, cells)
    return [fixed(cell.values[metric.name], digits) if metric.name in cell.values else None for cell in cells]


def metric_decimals(metric: MetricRecord, cells: Sequence[CellRecord]) -> int:
    """Decimals of a metric's column: those that its narrowest interval bears, the metric's own where it has none."""
    found = [cell.intervals[metric.name] for cell in cells if metric.name in cell.intervals]
    return decimals([(interval.high - interval.low) / 2 for interval in found], metric.digits)


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
