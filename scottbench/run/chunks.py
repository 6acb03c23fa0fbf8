"""What of a plan a run folder already holds, chunk by chunk; every stored byte is checked against its digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scottbench.store.folder import RunFolder, spans

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
