"""A run folder's records, read, checked and joined by cell. Everything in a report comes from here or from images/."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.names import one_line
from scottbench.report.numbers import count

if TYPE_CHECKING:
    import polars as pl

SCHEMAS = ("scottbench.run/1", "scottbench.run/2")
REQUIRED = ("plan_hash", "plan", "status", "created", "command", "cells", "metrics", "samples")
RESULT_COLUMNS = {"method", "steps", "seed", "n", "metric", "value", "fingerprint"}
PAIR_COLUMNS = {"metric", "method_a", "steps_a", "method_b", "steps_b", "n", "difference", "ci_low", "ci_high", "p_holm", "verdict"}
TIMING_COLUMNS = {"method", "steps", "seed", "stage", "seconds_per_image"}
GENERATION = ("text", "denoise", "decode")
"""Stages that a user of a method would pay for; features and storage are the benchmark's own."""
STAGES = (*GENERATION, "features", "store")


@dataclass(frozen=True)
class Metric:
    """One column of the results."""

    name: str
    label: str
    unit: str
    higher_is_better: bool
    digits: int
    fingerprint: str
    extractor: str
    """Label of the network behind its features; "" if the run names none."""
    summary: str

    @property
    def title(self) -> str:
        """The name with its extractor: "FID (pocket features)". A number never stands under the bare name of another's."""
        return f"{self.label} ({self.extractor})" if self.extractor else self.label

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    def show(self, value: float) -> str:
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a value: prompts and sampling noise."""

    low: float
    high: float
    method: str
    """Where its standard error comes from: "influence" or "half-sampling"."""


@dataclass
class Cell:
    """One method at one number of steps and one seed."""

    facts: dict
    """Its entry in manifest.json."""
    values: dict[str, float] = field(default_factory=dict)
    """Metric -> value, for metrics that could be computed."""
    fingerprints: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Metric -> (n, fingerprint)."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Metric -> interval, where the run recorded one."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds per image."""

    @property
    def method(self) -> str:
        return str(self.facts["method"])

    @property
    def steps(self) -> int:
        return self.facts["steps"]

    @property
    def n(self) -> int:
        """Images measured: the results' N, or the manifest's where nothing could be measured."""
        return next(iter(self.fingerprints.values()), (self.facts["n"], ""))[0]

    @property
    def name(self) -> str:
        return f"{self.method} at {count(self.steps, 'step')}"

    @property
    def milliseconds(self) -> float | None:
        """Generation time per image; None where nothing was timed."""
        parts = [self.seconds[stage] for stage in GENERATION if stage in self.seconds]
        return 1000 * sum(parts) if parts else None

    def reason(self, metric: str) -> str:
        """Why a metric has no value here, as far as the run recorded it."""
        if self.facts.get("error") is not None:
            return one_line(self.facts["error"])
        return one_line(section(self.facts, "failures").get(metric, "the reason was not recorded"))


@dataclass(frozen=True)
class Record:
    """A run, as its folder tells it."""

    folder: Path
    manifest: dict
    metrics: list[Metric]
    cells: list[Cell]
    pairs: list[dict] = field(default_factory=list)
    """Rows of pairs.parquet; none in a run of an earlier version."""
    claims: list[dict] = field(default_factory=list)
    """Judged claims, as claims.json has them; likewise."""

    @property
    def plan(self) -> dict:
        return section(self.manifest, "plan")

    def groups(self) -> list[list[Cell]]:
        """Cells that may be ranked together, in plan order: equal N, and an equal fingerprint of every metric both have."""
        groups: list[list[Cell]] = []
        for cell in self.cells:
            home = next((group for group in groups if all(_comparable(cell, other) for other in group)), None)
            if home is None:
                groups.append([cell])
            else:
                home.append(cell)
        return groups


def _comparable(a: Cell, b: Cell) -> bool:
    return a.n == b.n and all(a.fingerprints[metric] == b.fingerprints[metric] for metric in a.fingerprints.keys() & b.fingerprints.keys())


def read_record(folder: Path) -> Record:
    """Read a run folder. Raises UsageError, one line, where it is no run folder, of another schema, damaged or unfinished."""
    folder = Path(folder)
    manifest = _manifest(folder)
    cells = {}
    try:
        for facts in manifest["cells"]:
            cells[facts["method"], facts["steps"], facts["seed"]] = Cell({"id": facts["id"], "n": int(facts["n"]), **facts})
        metrics = [_metric(entry) for entry in manifest["metrics"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{folder / 'manifest.json'} is damaged ({one_line(repr(error))}). Make the run again: scottbench run") from None
    for row in _rows(folder / "results.parquet", RESULT_COLUMNS):
        cell = cells.get((row["method"], row["steps"], row["seed"]))
        if cell is None:
            raise UsageError(
                f"{folder}: results.parquet has a cell that manifest.json lacks ({one_line(row['method'])}, {row['steps']} steps). "
                "Its files are of two runs; make the run again: scottbench run"
            )
        cell.fingerprints[row["metric"]] = (row["n"], row["fingerprint"])
        if row["value"] is not None and row["value"] == row["value"]:
            cell.values[row["metric"]] = row["value"]
            if row.get("ci_low") is not None and row.get("ci_high") is not None:
                cell.intervals[row["metric"]] = Interval(row["ci_low"], row["ci_high"], text(row, "ci_method"))
    for row in _rows(folder / "timings.parquet", TIMING_COLUMNS):
        cell = cells.get((row["method"], row["steps"], row["seed"]))
        if cell is not None:
            cell.seconds[row["stage"]] = row["seconds_per_image"]
    pairs = _rows(folder / "pairs.parquet", PAIR_COLUMNS) if (folder / "pairs.parquet").is_file() else []
    return Record(folder, manifest, metrics, list(cells.values()), pairs, _claims(folder / "claims.json"))


def _metric(entry: dict) -> Metric:
    return Metric(
        name=entry["name"],
        label=text(entry, "label", entry["name"]),
        unit=text(entry, "unit"),
        higher_is_better=bool(entry["higher_is_better"]),
        digits=int(entry["digits"]),
        fingerprint=entry["fingerprint"],
        extractor=text(entry, "extractor_label"),
        summary=text(entry, "summary"),
    )


def text(entry: dict, key: str, default: str = "") -> str:
    """entry[key] as text; the default where it is absent, null or empty."""
    value = entry.get(key)
    return default if value is None or value == "" else str(value)


def section(entry: dict, key: str) -> dict:
    """entry[key], a table; {} where it is absent or null."""
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def _manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    if not path.is_file():
        raise UsageError(f"{folder} is no run folder: it has no manifest.json. Give a folder that `scottbench run` wrote, such as runs/...")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({one_line(error)}). Make the run again: scottbench run") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema not in SCHEMAS:
        raise UsageError(
            f"{path} has schema {one_line(repr(schema))}; this version reads {' and '.join(SCHEMAS)}. Use the scottbench that made the run."
        )
    missing = [key for key in REQUIRED if key not in manifest]
    if missing:
        raise UsageError(f"{path} lacks '{missing[0]}': the run did not finish. Finish it: scottbench run with --out {folder}")
    return manifest


def _claims(path: Path) -> list[dict]:
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))["claims"] if path.is_file() else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({one_line(repr(error))}). Delete it: scottbench claims judges anew") from None
    return [claim for claim in claims if isinstance(claim, dict)]


def _rows(path: Path, needed: set[str]) -> list[dict[str, Any]]:
    import polars as pl

    if not path.is_file():
        raise UsageError(f"{path} is missing: the run did not finish. Finish it: scottbench run with --out {path.parent}")
    try:
        table: pl.DataFrame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path} cannot be read ({one_line(error)}). Make the run again: scottbench run") from None
    absent = needed - set(table.columns)
    if absent:
        raise UsageError(f"{path} lacks column '{min(absent)}': another version wrote it. Make the run again: scottbench run")
    return table.to_dicts()
