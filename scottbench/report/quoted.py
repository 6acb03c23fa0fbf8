"""Numbers that papers print, beside the run's own where it has the row. Never in one column, never bold, ranked with nothing."""

from __future__ import annotations

from typing import Any

from scottbench.report.tables import Column, Entry, Table, valued
from scottbench.store.record import MetricRecord, RunRecord, text

CAPTION = (
    "Numbers that papers print, beside this run's where it has such a row. They are ranked with nothing: captions, preprocessing of the "
    "reference, FID code and seeds differ between papers, and are mostly not stated. Confidence A: the paper's abstract or a model card; "
    "B: one secondary summary; C: summaries disagree, or the setting is unclear."
)


def quoted_tables(record: RunRecord) -> list[Table]:
    """Make the table of papers' numbers; none where the preset brought none."""
    rows = record.manifest.get("quoted") or []
    if not rows:
        return []
    columns = [Column("Method", short="method"), Column("Steps", number=True, short="steps"), Column("Metric", short="metric"),
               Column("Paper", number=True, short="paper"), Column("N", number=True, short="N"),
               Column("This run", number=True, short="here"), Column("Source", wrap=True, short="source")]  # fmt: skip
    return [Table(CAPTION, columns, [_row(record, row) for row in rows], title="numbers of papers, ranked with nothing")]


def _row(record: RunRecord, row: dict[str, Any]) -> list[Entry]:
    metric = next((one for one in record.metrics if one.name == row["metric"]), None)
    label = row["metric"] if metric is None else f"{metric.label} {metric.arrow}"
    told = [f"{text(row, 'source')}; confidence {text(row, 'confidence')}"] + [text(row, "remark")] * bool(row.get("remark"))
    where = Entry(told[0], small=tuple(told[1:]))
    size = Entry(f"{row['n']:,}", small=(text(row, "dataset"),))
    paper = Entry(f"{row['value']:g}")
    return [Entry(text(row, "method")), Entry(str(row["steps"] or "?")), Entry(label), paper, size, _ours(record, metric, row), where]


def _ours(record: RunRecord, metric: MetricRecord | None, row: dict[str, Any]) -> Entry:
    """This run's value of the row that the preset names, with its interval and N; "-" where it has none. metric: the row's, where the run
    has it."""
    cell = next((one for one in record.cells if one.method == row["row"] and one.steps == row["steps"]), None)
    value = None if metric is None or cell is None else cell.values.get(metric.name)
    if metric is None or cell is None or value is None:
        return Entry("-")
    interval = cell.intervals.get(metric.name)
    found = valued(value, (None, None) if interval is None else (interval.low, interval.high), metric.digits)
    return Entry(found.text, small=(*found.small, f"N = {cell.n:,}"))
