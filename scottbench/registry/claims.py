"""A claim: a TOML file of a plug-in that states what a paper says, so that a run can be held against it (see verdicts.py)."""

from __future__ import annotations

import typing
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from scottbench.errors import UsageError
from scottbench.registry.presets import describe, fits, read_toml
from scottbench.text import did_you_mean, is_name

CONFIDENCE = ("A", "B", "C")
EFFECTS = ("difference", "ratio")


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: which cells of a run it means."""

    method: str
    """Label of the method, or its name where the run has it once."""
    steps: int | None = None
    """Number of sampling steps; absent on both sides: each number that both have."""
    student: dict = field(default_factory=dict)
    """Options that the trainer of its student had, for an ablation: all other options, data and updates must be equal on both sides."""

    @property
    def name(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.student.items())
        return f"{self.method}{f'[{options}]' if options else ''}{'' if self.steps is None else f'@{self.steps}'}"


@dataclass(frozen=True)
class Quoted:
    """The paper's own numbers, shown beside ours and ranked with nothing."""

    better: float
    """Value of the better side, in the paper's unit."""
    worse: float
    """Of the other."""
    dataset: str
    """What it was measured on."""
    n: int
    """Images."""
    source: str
    """Where they stand."""
    confidence: Literal["A", "B", "C"]
    """A: stated in the paper's abstract or a model card; B: from one secondary summary; C: summaries disagree or the setting is
    unclear."""


@dataclass(frozen=True)
class Comparison:
    """`better` beats `worse` in `metric`, in the metric's own direction."""

    metric: str
    """Label of the metric in the run."""
    better: Arm
    """The side that the claim says wins."""
    worse: Arm
    """The other."""
    effect: Literal["difference", "ratio"] = "difference"
    """What is estimated, better - worse or better / worse, with the interval that decides."""
    quoted: Quoted | None = None
    """The paper's numbers, where they are known."""

    def __str__(self) -> str:
        quoted = self.quoted
        paper = "" if quoted is None else f" (paper: {quoted.better:g} against {quoted.worse:g}, N = {quoted.n:,}, {quoted.dataset})"
        return f"{self.metric} of {self.better.name} better than of {self.worse.name}{paper}"


@dataclass(frozen=True)
class Claim:
    """One field per key of the TOML file."""

    name: str
    paper: str
    """With its identifier: "SCott, arXiv 2403.01505"."""
    version: str
    """Of the paper: claims change between versions."""
    locator: str
    """Where it stands: "abstract", "table 2"."""
    statement: str
    """In one sentence."""
    compare: list[Comparison]
    """What must hold, all of it."""
    testable: list[str] = field(default_factory=list)
    """Presets on which the direction can be judged; empty = every preset."""
    magnitude: list[str] = field(default_factory=list)
    """Presets on which the size of the quoted effect can be judged too, at the quoted N: those of the paper's own setting."""

    @property
    def summary(self) -> str:
        return self.statement


def read_claim(path: Path) -> Claim:
    """Parse and check one TOML file. Raises UsageError: unreadable, unknown or missing key, value of a wrong type."""
    path = Path(path)
    table = read_toml(path, "claim")
    if not isinstance(table.get("compare"), list) or not table["compare"]:
        raise UsageError(f"claim {path}: needs at least one [[compare]]")
    claim = _record(Claim, {**table, "compare": [_comparison(entry, f"claim {path}") for entry in table["compare"]]}, f"claim {path}")
    if not is_name(claim.name):
        raise UsageError(f"claim {path}: name {claim.name!r} may have letters, digits, '_', '.' and '-' only")
    return claim


def _comparison(table: Any, where: str) -> Comparison:
    where = f"{where}: [[compare]]"
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table, found {table!r}")
    sides = {side: _record(Arm, table[side], f"{where} {side}") for side in ("better", "worse") if side in table}
    quoted = {"quoted": _record(Quoted, table["quoted"], f"{where} quoted")} if "quoted" in table else {}
    comparison = _record(Comparison, {**table, **sides, **quoted}, where)
    if comparison.effect not in EFFECTS:
        raise UsageError(f"{where}: effect must be one of {', '.join(EFFECTS)}, found {comparison.effect!r}")
    if (comparison.better.steps is None) != (comparison.worse.steps is None):
        raise UsageError(f"{where}: give steps on both sides or on neither")
    if comparison.quoted is not None and comparison.quoted.confidence not in CONFIDENCE:
        raise UsageError(f"{where}: confidence must be one of {', '.join(CONFIDENCE)}, found {comparison.quoted.confidence!r}")
    return comparison


def _record(cls: type, table: Any, where: str) -> Any:
    """An instance of a dataclass from a TOML table."""
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table, found {table!r}")
    known, kinds = {item.name: item for item in fields(cls)}, typing.get_type_hints(cls)
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key '{key}'.{did_you_mean(key, known)}")
        if key != "compare" and not fits(value, str if typing.get_origin(kinds[key]) is Literal else kinds[key]):
            raise UsageError(f"{where}: '{key}' must be {describe(kinds[key])}, found {value!r}")
    missing = [name for name, item in known.items() if name not in table and item.default is MISSING and item.default_factory is MISSING]
    if missing:
        raise UsageError(f"{where}: key '{missing[0]}' is missing; needed: {', '.join(missing)}")
    return cls(**table)
