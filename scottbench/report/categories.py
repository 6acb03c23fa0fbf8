"""The report's tables of categories: one for each column that the dataset's items have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scottbench.report.tables import Column, Entry, Table, valued

if TYPE_CHECKING:
    from scottbench.store.record import MetricRecord, RunRecord


def category_tables(record: RunRecord) -> list[Table]:
    """Make one table for each column: a row for each cell and metric that is a mean over items, a column for each category."""
    return [_table(record, column) for column in dict.fromkeys(row["column"] for row in record.categories)]


def _table(record: RunRecord, column: str) -> Table:
    rows = [row for row in record.categories if row["column"] == column]
    sizes = {row["category"]: row["n"] for row in rows}
    metrics = {metric.name: metric for metric in record.metrics}
    several = len({row["seeds"] for row in rows}) > 1
    columns = [Column("Method", short="method"), Column("Steps", number=True, short="steps")]
    columns += [Column("Seeds", number=True, short="seeds")] if several else []
    columns += [Column("Metric", short="metric")]
    columns += [Column(category, f"n = {n:,}", number=True) for category, n in sizes.items()]
    groups: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["steps"], row["seeds"], row["metric"]), {})[row["category"]] = row
    table = Table(
        f"Means over the items of each {column}. Intervals (95 %) are given where items are independent; metrics that are no mean over "
        "items have no row.", columns, [], title=f"by {column}")  # fmt: skip
    for (method, steps, seeds, name), found in groups.items():
        metric = metrics[name]
        heads = [Entry(method), Entry(str(steps)), *([Entry(seeds)] if several else []), Entry(f"{metric.label} {metric.arrow}")]
        table.rows.append(heads + [_entry(metric, found.get(category)) for category in sizes])
    return table


def _entry(metric: MetricRecord, row: dict[str, Any] | None) -> Entry:
    if row is None or row["value"] is None:
        return Entry("n/a", short="-")
    return valued(row["value"], (row.get("ci_low"), row.get("ci_high")), metric.digits)
