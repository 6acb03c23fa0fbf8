"""Tables of a preset about others' work: students whose weights were published, and numbers that papers print."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Literal

from scottbench.errors import UsageError
from scottbench.registry.fields import make
from scottbench.text import is_name


@dataclass(frozen=True)
class Adopted:
    """A student of published weights: [adopted.NAME], which methods sample by @student=NAME."""

    hub: str
    """OWNER/NAME of the repository."""
    files: list[str]
    """Its files that are needed; one alone is what is adopted, of several it is the repository."""
    flags: str
    """Flags of `scottbench adopt`: "--as lcm --made-for 1,2,4"."""
    folder: str
    """Folder of the student."""
    licence: str = "not known: see its page"

    def line(self, name: str) -> str:
        """Return the line that makes the student of what was fetched, but for --out."""
        source = f"{self.hub}/{self.files[0]}" if len(self.files) == 1 else self.hub
        return f"scottbench adopt {shlex.quote(source)} {self.flags} --name {name}"


@dataclass(frozen=True)
class Quoted:
    """A number of a paper: [[quoted]]. The report shows it beside the run's own and ranks it with nothing."""

    method: str
    """The method as the paper calls it."""
    steps: int
    """Number of sampling steps; 0: not stated."""
    metric: str
    """Name of the metric."""
    value: float
    n: int
    """Number of images."""
    dataset: str
    """The data set that the paper measured on."""
    source: str
    """The table or page where the number stands."""
    confidence: Literal["A", "B", "C"]
    """A: stated in the paper's abstract or a model card; B: from one secondary summary; C: summaries disagree or the setting is unclear."""
    row: str = ""
    """Method of this preset, as the run's rows call it, whose value stands beside it; "": none does."""
    remark: str = ""
    """A sentence more."""


def read_adopted(table: dict[str, Any], where: str) -> dict[str, Adopted]:
    """Check the tables [adopted.NAME]. Raises UsageError."""
    found = {}
    for name, entry in table.items():
        found[name] = one = make(Adopted, entry, f"{where}: [adopted.{name}]")
        words = one.flags.split()
        if not is_name(name) or one.hub.count("/") != 1 or not one.files or "--as" not in words:
            raise UsageError(f"{where}: [adopted.{name}] needs a plain name, hub = \"OWNER/NAME\", at least one file, and flags with --as")
    return found


def read_quoted(rows: list[Any], where: str) -> list[Quoted]:
    """Check the entries [[quoted]]. Raises UsageError."""
    return [make(Quoted, row, f"{where}: [[quoted]] {number}") for number, row in enumerate(rows, start=1)]
