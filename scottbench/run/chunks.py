"""What of a plan a run folder already holds, chunk by chunk; every stored byte is checked against its digest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scottbench.errors import UsageError
from scottbench.plan.plan import Plan
from scottbench.store.folder import RunFolder, spans
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan


@dataclass
class Inventory:
    """A chunk is whole when its images and all its features are."""

    chunks: int = 0
    whole: int = 0
    damaged: list[str] = field(default_factory=list)
    """ "<cell>/<first item>" of chunks of which a file is torn, flipped or without its side-car; they are made again."""
    missing: list[str] = field(default_factory=list)
    """Likewise, of all that are not whole."""

    def __str__(self) -> str:
        torn = f", {len(self.damaged)} damaged chunk(s) discarded" if self.damaged else ""
        return f"{self.whole} of {self.chunks} chunks present{torn}, {self.chunks - self.whole} to do"


def inventory(folder: RunFolder, plan: Plan) -> Inventory:
    """Read and check every chunk that the plan asks for. A folder that is not there yet holds none."""
    found = Inventory()
    for owner in ("reference", *(cell.id for cell in plan.cells)):
        places = [("features", owner, role) for role in plan.sources]
        if owner != "reference":
            places.insert(0, ("images", owner))
        for span in spans(plan.n, plan.chunk):
            ids = list(plan.items.ids[span.start : span.stop])
            states = [folder.state(place, span, ids) for place in places]
            found.chunks += 1
            found.whole += set(states) == {"whole"}
            name = f"{owner}/{span.start:05d}"
            if "damaged" in states:
                found.damaged.append(name)
            if set(states) != {"whole"}:
                found.missing.append(name)
    return found


@dataclass(frozen=True)
class Share:
    """Every `count`-th chunk, from number `index` on; the default is all of them."""

    index: int = 0
    count: int = 1

    def of(self, chunks: Sequence[range]) -> list[range]:
        return list(chunks[self.index :: self.count])

    def divided(self, rank: int, processes: int) -> Share:
        """The part of process `rank` of `processes` that work on this share together."""
        return Share(self.index + self.count * rank, self.count * processes)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


def parse_share(text: str) -> Share:
    """ "1/3" -> the first of three. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard must have the form I/K with 1 <= I <= K, found '{one_line(text)}'")
    return Share(int(match[1]) - 1, int(match[2]))


def all_spans(plan: Plan) -> list[range]:
    """The chunks of a plan, in the order of the items."""
    return spans(plan.n, plan.chunk)


def micro_batches(n: int, fixed: int | None, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Positions 0..n-1 in groups for one network call each, with the number of positions in a group that count.

    fixed: the plan's micro-batch, to which the last group is filled up with its last position; None: groups of batch_size, unfilled.
    An item stands at the same place of a call of the same shape whatever the batch size, worker or number of items.
    """
    size = batch_size if fixed is None else fixed
    for start in range(0, n, size):
        group = list(range(start, min(start + size, n)))
        yield group + [group[-1]] * (0 if fixed is None else fixed - len(group)), len(group)
