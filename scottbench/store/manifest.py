"""manifest.json, typed: what a run is of, how it stands and what failed. The JSON Schema of version 3 is made from these types.

Readers of finished runs take the manifest as `scottbench.store.record` reads it, since runs of earlier versions lack some of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NotRequired, TypedDict

from scottbench.store.files import with_check
from scottbench.store.types import Amount, Digest, Natural, Optional, Positive, Reasons, rule

SCHEMA: Literal["scottbench.run/3"] = "scottbench.run/3"
Status = Literal["running", "complete", "failed", "incomplete", "interrupted"]
Level = Literal["exact", "tolerance"]


class Git(TypedDict):
    """The checkout that the package runs from."""

    commit: str
    dirty: bool


class Environment(TypedDict):
    """The machine and the packages that a process computed with."""

    python: str
    platform: str
    cpu: str
    threads: Positive
    packages: dict[str, str]
    git: Git | None
    device: str
    variables: dict[str, str]
    flags: dict[str, Any]


class Samples(TypedDict):
    """The items whose images the report shows."""

    ids: list[str]
    prompts: list[str]


class Reference(TypedDict):
    """The reference images: how many (0: there are none), and their digest."""

    n: Natural
    digest: Digest


TOLERATED = 0.01
"""Share of images that no method means to make, above which a run has failed."""


def sentinels(cell: Mapping[str, Any]) -> dict[str, int]:
    """Return kind -> number of a cell's images that no method means to make. cell: its entry in a manifest of any version."""
    counts = cell.get("sentinels")
    return {str(kind): n for kind, n in counts.items() if type(n) is int and n > 0} if isinstance(counts, dict) else {}


def is_flawed(cell: Mapping[str, Any]) -> bool:
    """True of a cell (its entry in the manifest) of which too many images are black, constant, duplicates or not finite."""
    return sum(sentinels(cell).values()) > TOLERATED * cell["n"]


def flawed(cell: Mapping[str, Any]) -> str:
    """Say which images of a cell (its entry in the manifest) no method means to make: "3 of 64 images are flawed (2 black, 1 duplicate)";
    "" where there are none."""
    counts = sentinels(cell)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    return f"{sum(counts.values()):,} of {cell['n']:,} images are flawed ({kinds})" if counts else ""


@dataclass
class CellEntry:
    """One method at one number of steps and one seed."""

    id: str
    method: str
    summary: str
    paper: str
    version: str
    steps: Annotated[Natural, rule(description="0: pictures that were made elsewhere")]
    seed: Natural
    guidance_scale: float
    options: dict[str, Any]
    timesteps: list[Amount]
    nfe: Positive | None
    weights_digest: Digest
    student: dict[str, Any] | None
    n: Positive
    error: str | None = None
    failures: Reasons = field(default_factory=dict)
    no_interval: Annotated[Reasons, Optional, rule(description="Metric -> why it has no interval.")] = field(default_factory=dict)
    sentinels: Annotated[dict[str, int] | None, Optional, rule(
        description="kind of image that no method means to make -> how many of the cell's; null where nothing was counted")] = None


@dataclass
class SeedsEntry:
    """All seeds of a method at one number of steps: means over them, and metrics of all of them together."""

    id: str
    method: str
    steps: Positive
    seeds: Annotated[list[Natural], rule(minItems=2, uniqueItems=True)]
    cells: list[str]
    nfe: Positive | None
    n: Positive
    failures: Annotated[Reasons, rule(description="Metric -> why it has no value.")] = field(default_factory=dict)
    no_interval: Annotated[Reasons, rule(description="Metric -> why it has no interval.")] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricEntry:
    """One metric, as the report's columns need it."""

    name: str
    label: str
    unit: str
    summary: str
    paper: str
    higher_is_better: bool
    digits: Natural
    scope: Annotated[
        str, Optional, rule(description="cell, or seeds: of all seeds of a method at a number of steps together. cell where it is absent.")]
    fingerprint: str
    extractor_label: str


class Log(TypedDict):
    """The event log as it was when the run ended; later lines may follow."""

    bytes: Natural
    sha256: Digest


class RecordedValue(TypedDict):
    """A value that another run measured."""

    value: float
    low: float | None
    high: float | None
    fingerprint: str


class RecordedRow(TypedDict):
    """One cell of another run, or the mean over its seeds."""

    method: str
    steps: Positive
    nfe: Positive
    n: Positive
    values: Annotated[dict[str, RecordedValue], rule(description="metric -> what was measured")]


class Recorded(TypedDict):
    """Rows of a published run, to be shown beside this one's where they compare."""

    schema: Literal["scottbench.recorded/1"]
    source: Annotated[str, rule(description="name of the published run")]
    version: Annotated[str, rule(description="scottbench that made it")]
    model: NotRequired[Annotated[Digest, rule(description="sha256 of the weights that were sampled; absent of older versions")]]
    rows: list[RecordedRow]


class QuotedValue(TypedDict):
    """A number that a paper prints, shown beside this run's and ranked with nothing."""

    method: Annotated[str, rule(description="the method as the paper calls it")]
    steps: Annotated[Natural, rule(description="0: not stated")]
    metric: str
    value: float
    n: Positive
    dataset: str
    source: Annotated[str, rule(description="table or page where it stands")]
    confidence: Literal["A", "B", "C"]
    row: Annotated[str, rule(description='method of this run whose value stands beside it; "": none')]
    remark: str


@dataclass
class Manifest:
    """manifest.json of a run that begins, goes on or has ended."""

    title: ClassVar[str] = "manifest of a run, version 3: digests of all records and chunks"

    schema: Literal["scottbench.run/3"]
    status: Status
    plan_hash: Digest
    plan: dict[str, Any]
    """The plan's record, as in plan.lock.json."""
    command: str
    created: str
    finished: str | None
    attempts: Positive
    level: Level
    files: Annotated[dict[str, Digest], rule(description="sha256 of the records beside it; before the run has ended, of the plan alone")]
    wall_seconds: Amount
    forward_seconds: Amount
    forward_seconds_by_part: dict[str, float]
    forward_share: float | None
    store_seconds: Amount
    peak_memory_bytes: Natural | None
    environment: Environment
    cells: Annotated[list[CellEntry], rule(minItems=1)]
    over_seeds: Annotated[list[SeedsEntry], Optional, rule(description=(
        'What means over seeds and metrics of scope "seeds" are of: each method at each number of steps, all its seeds together; empty in '
        "a run of one seed."))]  # fmt: skip
    metrics: list[MetricEntry]
    samples: Samples
    model_card: dict[str, Any] | None
    limits: list[str]
    reference: Reference
    chunks: Annotated[dict[str, Digest], rule(description=(
        "Folder of chunks -> sha256 over the digests of its side-cars, which have those of the chunks; empty before the run has ended."))]
    log: Annotated[Log | None, rule(description="the event log up to the end of the run; null before")]
    recorded: Annotated[Recorded | None, Optional, rule(description="what the preset brings of a published run; null: nothing")] = None
    quoted: Annotated[list[QuotedValue] | None, Optional, rule(description="papers' numbers that the preset brings; null: none")] = None
    shard: Annotated[str | None, Optional, rule(description="I/K: the part of the chunks that was made here; null: all of them")] = None
    scored: Annotated[Digest | None, Optional, rule(description="hash of the plan whose images were measured again")] = None
    check: Annotated[Digest | None, Optional, rule(description="sha256 of all that this record says, but for itself")] = None

    def cell(self, cell_id: str) -> CellEntry:
        """Return the entry of a cell of the plan."""
        return next(entry for entry in self.cells if entry.id == cell_id)

    @property
    def entries(self) -> list[CellEntry | SeedsEntry]:
        """The cells, then several seeds together."""
        return [*self.cells, *self.over_seeds]

    def entry(self, entry_id: str) -> CellEntry | SeedsEntry:
        """Return the entry of a cell, or of several seeds together."""
        return next(entry for entry in self.entries if entry.id == entry_id)

    def failed(self, cell_id: str, reason: str | None) -> None:
        """Note why a cell has no images; None: it has them."""
        self.cell(cell_id).error = reason

    def no_value(self, entry_id: str, metric: str, reason: str) -> None:
        """Note why a metric of a cell, or of several seeds, could not be computed."""
        self.entry(entry_id).failures[metric] = reason

    def no_spread(self, entry_id: str, metric: str, reason: str) -> None:
        """Note why a metric of a cell, or of several seeds, has a value and no interval."""
        self.entry(entry_id).no_interval[metric] = reason

    def failures(self) -> list[str]:
        """Return one line for each cell that failed, then one for each metric of a cell, or of several seeds, that did."""
        lines = [f"{cell.id}: {cell.error}" for cell in self.cells if cell.error is not None]
        lines += [f"{cell.id}: {flawed(vars(cell))}" for cell in self.cells if is_flawed(vars(cell))]
        for entry in self.entries:
            lines += [f"{entry.id} {metric}: {reason}" for metric, reason in entry.failures.items()]
        return lines

    def spent(self, total: dict[str, Any]) -> None:
        """Note the times of all attempts and workers. total: of `scottbench.store.events.spent`."""
        forward: dict[str, float] = total["forward"]
        self.wall_seconds = round(total["wall"], 3)
        self.forward_seconds_by_part = {part: round(seconds, 3) for part, seconds in forward.items()}
        self.forward_seconds = round(sum(forward.values()), 3)
        # on a GPU extractors run beside U-Nets, and their seconds add up to more than passed
        self.forward_share = min(1.0, round(self.forward_seconds / max(total["processes"], 1e-3), 4))
        self.store_seconds = round(total["store"], 3)

    def as_json(self) -> dict[str, Any]:
        """Return the record that is written; of new metrics of an old run, "scored" stands in the place of "shard"."""
        record = dict(vars(self))
        for name in ("cells", "over_seeds", "metrics"):
            record[name] = [dict(vars(entry)) for entry in record[name]]
        del record["shard" if self.scored is not None else "scored"]
        return with_check(record)
