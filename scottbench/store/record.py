"""A run folder's records, read, checked and joined by cell. Everything in a report comes from here or from images/."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scottbench.errors import IntegrityError
from scottbench.store.reader import CLAIMS, Records, damaged
from scottbench.store.tables import CATEGORIES, CATEGORY_COLUMNS, PAIR_COLUMNS, PAIRS, RESULT_COLUMNS, RESULTS, TIMING_COLUMNS, TIMINGS
from scottbench.store.timings import BUSY, per_image
from scottbench.text import count, fixed, one_line


@dataclass(frozen=True)
class MetricRecord:
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
    scope: str = "cell"
    """"cell", or "seeds": of all seeds of a method at a number of steps together."""

    @property
    def title(self) -> str:
        """The name with its extractor: "FID (pocket features)". A number never stands under the bare name of another's."""
        return f"{self.label} ({self.extractor})" if self.extractor else self.label

    @property
    def arrow(self) -> str:
        """The direction that is better."""
        return "↑" if self.higher_is_better else "↓"

    def show(self, value: float) -> str:
        """Return a value with this column's decimals."""
        return fixed(value, self.digits)


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a value: prompts and sampling noise."""

    low: float
    high: float
    method: str
    """The source of its standard error: "influence" or "half-sampling"."""


@dataclass
class CellRecord:
    """One method at one number of steps and one seed, or (`Record.over_seeds`) all its seeds together."""

    facts: dict[str, Any]
    """Its entry in manifest.json; of several seeds together with "seed" None and "error" None."""
    values: dict[str, float] = field(default_factory=dict)
    """Metric -> value, for metrics that could be computed."""
    fingerprints: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Metric -> (n, fingerprint)."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Metric -> interval, where the run recorded one."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds per image."""
    sampling: tuple[float, tuple[float, float] | None] | None = None
    """Seconds per image of text encoder, U-Net and decoder, which a user of the method would pay for, and their interval."""
    load: float | None = None
    """The highest load of the machine while it was made, per processor; None where that was not recorded."""
    rounds: int | None = None
    """The number of rounds, each of all cells, that it was made in; 1: cell after cell; None where that was not recorded."""

    @property
    def method(self) -> str:
        """The method's label."""
        return str(self.facts["method"])

    @property
    def steps(self) -> int:
        """Number of sampling steps."""
        return int(self.facts["steps"])

    @property
    def steps_text(self) -> str:
        """Return the number of steps as tables show it: "-" of pictures that were made elsewhere."""
        return str(self.steps) if self.steps else "-"

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seed, or all seeds that it puts together."""
        return tuple(self.facts["seeds"]) if "seeds" in self.facts else (self.facts["seed"],)

    @property
    def n(self) -> int:
        """Images measured: the results' N, or the manifest's where nothing could be measured."""
        return next(iter(self.fingerprints.values()), (self.facts["n"], ""))[0]

    @property
    def name(self) -> str:
        """Its name in prose: "scott at 2 steps"; the name alone of pictures made elsewhere."""
        if self.steps == 0:
            return self.method
        return f"{self.method} at {count(self.steps, 'step')}"

    @property
    def milliseconds(self) -> float | None:
        """Sampling time per image; None where nothing was timed."""
        return None if self.sampling is None else 1000 * self.sampling[0]

    @property
    def call(self) -> float | None:
        """Seconds of one network call for one image; None where calls or their time were not recorded."""
        nfe = self.facts.get("nfe")
        return self.seconds["denoise"] / nfe if nfe and "denoise" in self.seconds else None

    @property
    def busy(self) -> bool:
        """True where more work wanted a processor than there are, so that times are of no use for a ranking."""
        return self.load is not None and self.load > BUSY

    def reason(self, metric: str) -> str:
        """Say why a metric has no value here, as far as the run recorded it."""
        if self.facts.get("error") is not None:
            return one_line(self.facts["error"])
        return one_line(section(self.facts, "failures").get(metric, "the reason was not recorded"))


@dataclass(frozen=True)
class RunRecord:
    """A run, as its folder tells it."""

    folder: Path
    manifest: dict[str, Any]
    metrics: list[MetricRecord]
    """All of them, in plan order."""
    cells: list[CellRecord]
    over_seeds: list[CellRecord] = field(default_factory=list)
    """One entry per method and number of steps where there are several seeds; none in a run of one seed. It has the values of the metrics
    of scope "seeds", and the means over seeds of the others (which runs of earlier versions lack)."""
    pairs: list[dict[str, Any]] = field(default_factory=list)
    """Rows of pairs.parquet; none in a run of an earlier version."""
    claims: list[dict[str, Any]] = field(default_factory=list)
    """Judged claims, as claims.json has them; none in a run of an earlier version."""
    categories: list[dict[str, Any]] = field(default_factory=list)
    """Rows of categories.parquet; none where the dataset's items have no columns."""

    @property
    def plan(self) -> dict[str, Any]:
        """The plan's record."""
        return section(self.manifest, "plan")

    @functools.cached_property
    def tested(self) -> dict[tuple[str, str, int, str, int], dict[str, Any]]:
        """Give (metric, method and steps of A, method and steps of B) -> row of `pairs`."""
        found: dict[tuple[str, str, int, str, int], dict[str, Any]] = {}
        for row in self.pairs:
            found.setdefault((row["metric"], row["method_a"], row["steps_a"], row["method_b"], row["steps_b"]), row)
        return found

    def of_scope(self, scope: str) -> tuple[list[MetricRecord], list[CellRecord]]:
        """Return the metrics of a scope, and what has values of them; scope "mean": metrics of single cells, averaged over seeds."""
        cells = self.cells if scope == "cell" else self.over_seeds
        metrics = [metric for metric in self.metrics if (metric.scope == "seeds") == (scope == "seeds")]
        if scope == "mean" and not any(metric.name in cell.fingerprints for cell in cells for metric in metrics):
            return [], []
        return metrics, cells

    def leading(self) -> tuple[list[MetricRecord], list[CellRecord]]:
        """Return the metrics, and the cells that may be ranked by them, that abstract and figures are about: means over seeds, else
        single cells, else several seeds together."""
        for scope in ("mean", "cell", "seeds"):
            metrics, cells = self.of_scope(scope)
            if metrics:
                break
        return metrics, groups(cells if cells else self.cells)[0]

    def first_seed(self) -> list[CellRecord]:
        """Return the cells of the plan's first seed, for what all seeds share."""
        return [cell for cell in self.cells if cell.facts["seed"] == self.cells[0].facts["seed"]]


def groups(cells: list[CellRecord]) -> list[list[CellRecord]]:
    """Group the cells that may be ranked together, in plan order: equal N, and an equal fingerprint of every metric both have."""
    found: list[list[CellRecord]] = []
    for cell in cells:
        home = next((group for group in found if all(_comparable(cell, other) for other in group)), None)
        if home is None:
            found.append([cell])
        else:
            home.append(cell)
    return found


def _comparable(a: CellRecord, b: CellRecord) -> bool:
    return a.n == b.n and all(a.fingerprints[metric] == b.fingerprints[metric] for metric in a.fingerprints.keys() & b.fingerprints.keys())


def read_record(folder: Path) -> RunRecord:
    """Read a run folder. Raises as `record_of`, and as `scottbench.store.reader.read_manifest`."""
    return record_of(Records(folder))


def record_of(records: Records) -> RunRecord:
    """Join a run's records. Raises IntegrityError, one line, where one is damaged or not of this run; UsageError where the run did not
    finish."""
    folder, manifest = records.folder, records.manifest
    cells: dict[tuple, CellRecord] = {}
    together: dict[tuple, CellRecord] = {}
    for facts in manifest["cells"]:
        cells[facts["method"], facts["steps"], facts["seed"]] = CellRecord({"id": facts["id"], "n": int(facts["n"]), **facts})
    for facts in manifest.get("over_seeds", []):
        together[facts["method"], facts["steps"]] = _together(facts, manifest["cells"])
    metrics = [_metric(entry) for entry in manifest["metrics"]]
    for row in records.rows(RESULTS, RESULT_COLUMNS):
        place = (row["method"], row["steps"])
        cell = together.get(place) if row["seed"] is None else cells.get((*place, row["seed"]))
        if cell is None:
            raise IntegrityError(
                f"{folder}: results.parquet has a cell that manifest.json lacks ({one_line(row['method'])}, {row['steps']} steps). "
                "Its files are of two runs; make the run again: scottbench run"
            )
        _take_row(folder, cell, row)
    timings = records.rows(TIMINGS, TIMING_COLUMNS)
    sampling = per_image(timings)
    for row in timings:
        timed = (row["method"], row["steps"], row["seed"])
        if timed in cells and row["seconds_per_image"] is not None:
            cells[timed].seconds[row["stage"]] = row["seconds_per_image"]
            cells[timed].sampling = sampling.get(timed)
            cells[timed].rounds = row.get("rounds") if row.get("rounds") is not None else cells[timed].rounds
            cells[timed].load = row.get("load") if row.get("load") is not None else cells[timed].load
    pairs = records.rows(PAIRS, PAIR_COLUMNS) if records.has(PAIRS) else []
    parts = records.rows(CATEGORIES, CATEGORY_COLUMNS) if records.has(CATEGORIES) else []
    if unknown := {row["metric"] for row in parts} - {metric.name for metric in metrics}:
        raise damaged(folder / CATEGORIES, ValueError(f"the run has no metric {one_line(min(unknown))}"))
    return RunRecord(folder, manifest, metrics, list(cells.values()), list(together.values()), pairs, read_claims(records), parts)


def _take_row(folder: Path, cell: CellRecord, row: dict[str, Any]) -> None:
    """Note a row of results.parquet at its cell. Raises IntegrityError where its interval is none."""
    value, low, high = row["value"], row.get("ci_low"), row.get("ci_high")
    cell.fingerprints[row["metric"]] = (row["n"], row["fingerprint"])
    if value is None or value != value:
        return
    cell.values[row["metric"]] = value
    if low is not None and high is not None:
        room = 1e-9 * max(1.0, abs(value))
        if not low - room <= value <= high + room:
            raise IntegrityError(
                f"{folder / RESULTS} is damaged ({one_line(row['metric'])} of {one_line(row['method'])} lies outside its own interval). "
                f"Put it back as it was, or measure again: scottbench resume {folder}")
        cell.intervals[row["metric"]] = Interval(low, high, text(row, "ci_method"))


def _together(facts: dict, cells: list[dict]) -> CellRecord:
    """Several seeds as one entry: what its metrics are is in `facts`, what it was sampled with in its first cell."""
    first = next((cell for cell in cells if cell["id"] in facts["cells"]), {})
    kept = {key: first.get(key) for key in ("weights_digest", "student", "guidance_scale")}
    own = {"id": facts["id"], "n": int(facts["n"]), "seed": None, "seeds": [int(seed) for seed in facts["seeds"]], "error": None}
    return CellRecord({**kept, **facts, **own})


def _metric(entry: dict) -> MetricRecord:
    return MetricRecord(
        name=entry["name"],
        label=text(entry, "label", entry["name"]),
        unit=text(entry, "unit"),
        higher_is_better=bool(entry["higher_is_better"]),
        digits=int(entry["digits"]),
        fingerprint=entry["fingerprint"],
        extractor=text(entry, "extractor_label"),
        summary=text(entry, "summary"),
        scope=text(entry, "scope", "cell"),
    )


def text(entry: dict, key: str, default: str = "") -> str:
    """Return entry[key] as text; the default where it is absent, null or empty."""
    value = entry.get(key)
    return default if value is None or value == "" else str(value)


def section(entry: dict, key: str) -> dict:
    """Return entry[key], a table; {} where it is absent or null."""
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def read_claims(records: Records) -> list[dict[str, Any]]:
    """Read the judged claims of claims.json; none where there is no such file. Raises IntegrityError where it is damaged."""
    if not records.has(CLAIMS):
        return []
    claims = records.json(CLAIMS, ["claims"])["claims"]
    if not isinstance(claims, list) or not all(isinstance(claim, dict) and _is_claim(claim) for claim in claims):
        raise damaged(records.folder / CLAIMS, ValueError("its claims are none"))
    return claims


def _is_claim(claim: dict[str, Any]) -> bool:
    """Whether a judged claim has what tables show of it, each of its kind."""
    evidence, quoted = claim.get("evidence", []), claim.get("quoted", [])
    if not isinstance(evidence, list) or not isinstance(quoted, list) or not isinstance(claim.get("verdict"), str):
        return False
    numbers, names = ("better", "worse", "n"), ("metric", "better_cell", "worse_cell", "dataset", "source", "confidence")
    return all(isinstance(one, dict) and {"text", "verdict"} <= one.keys() for one in evidence) and all(
        isinstance(one, dict) and _has_text(one, names) and all(type(one.get(key)) in (int, float) for key in numbers) for one in quoted)


def _has_text(entry: dict[str, Any], keys: Iterable[str]) -> bool:
    """Whether an entry has text under each of the keys."""
    return all(isinstance(entry.get(key), str) for key in keys)
