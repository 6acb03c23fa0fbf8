"""Rows of a published run beside a run's own: a student's numbers say little without its teacher's, which take hours to make again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scottbench.report.tables import Entry, valued
from scottbench.store.record import CellRecord, MetricRecord, RunRecord, section

OF_THE_MAKER = ("scottbench ", "code ")
"""Parts of a fingerprint that tell who computed a value and not what it is of."""


@dataclass(frozen=True)
class RecordedCell:
    """A row of a published run that compares with a run's own rows."""

    method: str
    steps: int
    nfe: int
    values: dict[str, dict[str, Any]]
    """Metric -> value, low, high; of the metrics that compare alone."""
    note: str
    """Where it is from, in a sentence."""

    def entry(self, metric: MetricRecord, digits: int) -> Entry:
        """Return the value of a metric with its interval; "-" where it has none that compares."""
        found = self.values.get(metric.name)
        if found is None:
            return Entry("-")
        return valued(found["value"], (found["low"], found["high"]), digits)


def recorded_rows(record: RunRecord, metrics: Sequence[MetricRecord], cells: Sequence[CellRecord]) -> list[RecordedCell]:
    """Find the rows of the preset's published run that may stand beside `cells`: equal N, and a metric with an equal fingerprint, but for
    the version that computed it. What the run has measured itself is left out, and so are all where the published run is not known to be of
    the model that this run samples."""
    recorded = section(record.manifest, "recorded")
    sampled = section(section(record.manifest, "plan"), "model").get("digest")
    if sampled is not None and recorded.get("model") != sampled:
        return []
    ours = {metric: _what(*cell.fingerprints[metric]) for cell in cells for metric in cell.fingerprints}
    own = {(cell.method, cell.steps) for cell in record.cells}
    note = (
        f"Recorded in {recorded.get('source')} (scottbench {recorded.get('version')}), not measured in this run: same N, prompts, "
        "reference images and extractor. Ranked with nothing."
    )
    found, shown = [], {metric.name for metric in metrics}
    for row in recorded.get("rows", []):
        values = {name: value for name, value in row["values"].items()
                  if name in shown and ours.get(name) == _what(row["n"], value["fingerprint"])}  # fmt: skip
        if values and (row["method"], row["steps"]) not in own:
            found.append(RecordedCell(row["method"], row["steps"], row["nfe"], values, note))
    return found


def _what(n: int, fingerprint: str) -> tuple[int, tuple[str, ...]]:
    """Cut a fingerprint down to what is measured: N, metric, extractor, resize rule, reference."""
    return n, tuple(part for part in fingerprint.split("; ") if not part.startswith(OF_THE_MAKER))
