"""A claim: a TOML file of a plug-in that states what a paper says, so that a run can be held against it (stats/verdicts.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scottbench.errors import UsageError
from scottbench.registry.fields import make
from scottbench.registry.presets import read_toml
from scottbench.text import is_name


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
        """Return how the side is called in a sentence: "scott[skip=20]@2"."""
        options = ",".join(f"{key}={value}" for key, value in self.student.items())
        return f"{self.method}{f'[{options}]' if options else ''}{'' if self.steps is None else f'@{self.steps}'}"


@dataclass(frozen=True)
class Quoted:
    """The paper's own numbers, shown beside ours and ranked with nothing."""

    better: float
    """Value of the better side, in the paper's unit."""
    worse: float
    """Value of the other side."""
    dataset: str
    """The data set that the paper measured on."""
    n: int
    """Number of images."""
    source: str
    """The table or page where the numbers stand."""
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
    """The side that the claim says loses."""
    effect: Literal["difference", "ratio"] = "difference"
    """The estimated quantity, better - worse or better / worse, with the interval that decides."""
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
    """The paper with its identifier: "SCott, arXiv 2403.01505"."""
    version: str
    """Version of the paper: claims change between versions."""
    locator: str
    """The place in the paper: "abstract", "table 2"."""
    statement: str
    """The claim in one sentence."""
    compare: list[Comparison]
    """All that must hold."""
    testable: list[str] = field(default_factory=list)
    """Presets on which the direction can be judged; empty = every preset."""
    magnitude: list[str] = field(default_factory=list)
    """Presets on which the size of the quoted effect can be judged too, at the quoted N: those of the paper's own setting."""

    @property
    def summary(self) -> str:
        """Return the statement, as the other kinds call theirs."""
        return self.statement


def read_claim(path: Path) -> Claim:
    """Parse and check one TOML file. Raises UsageError: unreadable, unknown or missing key, value of a wrong type."""
    path = Path(path)
    table, where = read_toml(path, "claim"), f"claim {path}"
    if not isinstance(table.get("compare"), list) or not table["compare"]:
        raise UsageError(f"{where}: needs at least one [[compare]]")
    claim = make(Claim, table, where)
    if not is_name(claim.name):
        raise UsageError(f"{where}: name {claim.name!r} may have letters, digits, '_', '.' and '-' only")
    if any((comparison.better.steps is None) != (comparison.worse.steps is None) for comparison in claim.compare):
        raise UsageError(f"{where}: [[compare]]: give steps on both sides or on neither")
    return claim
