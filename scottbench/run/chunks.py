"""What of a plan a run folder already holds, chunk by chunk; every stored byte is checked against its digest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scottbench.errors import UsageError
from scottbench.store.folder import RunFolder, spans
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan


@dataclass
class Inventory:
    """How much of a plan a run folder holds. A chunk is whole when its images and all its features are."""

    chunks: int = 0
    whole: int = 0
    damaged: list[str] = field(default_factory=list)
    """ "<cell>/<first item>" of chunks of which a file is torn, flipped or without its side-car; they are made again."""
    missing: list[str] = field(default_factory=list)
    """The same of all chunks that are not whole, damaged or not there."""

    def __str__(self) -> str:
        torn = f", {len(self.damaged)} damaged chunk(s) discarded" if self.damaged else ""
        return f"{self.whole} of {self.chunks} chunks present{torn}, {self.chunks - self.whole} to do"


def bind(folder: RunFolder, plan: Plan) -> None:
    """Bind the features of a run folder to the networks of a plan, by the roles that they are stored under."""
    folder.bind({role: source.digest for role, source in plan.sources.items()})


def inventory(folder: RunFolder, plan: Plan) -> Inventory:
    """Read and check every chunk that the plan asks for. A folder that is not there yet holds none."""
    found = Inventory()
    bind(folder, plan)
    for owner in ("reference", *(cell.id for cell in plan.cells)):
        places: list[tuple[str, ...]] = [("features", owner, role) for role in roles_of(plan, owner)]
        if owner != "reference":
            places.insert(0, ("images", owner))
        for span in plan.spans_of(owner):
            ids = list(plan.ids_of(owner)[span.start : span.stop])
            states = [folder.state(place, span, ids) for place in places]
            found.chunks += 1
            found.whole += set(states) == {"whole"}
            name = f"{owner}/{span.start:05d}"
            if "damaged" in states:
                found.damaged.append(name)
            if set(states) != {"whole"}:
                found.missing.append(name)
    return found


def roles_of(plan: Plan, owner: str) -> list[str]:
    """List the roles under which the features of an owner lie: a cell's id, or "reference", which no extractor of scores sees, and no other
    of which no metric compares with reference images."""
    asked = {plan.roles[role] for metric in plan.metrics if metric.noun.reference for role in metric.noun.roles}
    return [role for role, source in plan.sources.items() if owner != "reference" or (role in asked and not source.gives_score)]


@dataclass(frozen=True)
class Shard:
    """Every `count`-th chunk, from number `index` on; the default is all of them."""

    index: int = 0
    count: int = 1

    def of(self, chunks: Sequence[range]) -> list[range]:
        """Pick this shard's chunks."""
        return list(chunks[self.index :: self.count])

    def divided(self, rank: int, processes: int) -> Shard:
        """Return the part of process `rank` of `processes` that work on this shard together."""
        return Shard(self.index + self.count * rank, self.count * processes)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Read "1/3", the first of three. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard must have the form I/K with 1 <= I <= K, found '{one_line(text)}'")
    return Shard(int(match[1]) - 1, int(match[2]))


def all_spans(plan: Plan) -> list[range]:
    """Return the chunks of a plan, in the order of the items."""
    return spans(plan.n, plan.chunk)
