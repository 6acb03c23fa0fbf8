"""One plan in execution: its folder, clock, opened networks and the chunks that this process makes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scottbench.models.extractors import Extractor
from scottbench.plan.plan import Plan
from scottbench.run.chunks import Share, all_spans, micro_batches
from scottbench.run.clock import Clock
from scottbench.store.folder import RunFolder

TEXT_CACHE_BYTES = 512 * 2**20
"""Text embeddings are kept for all cells while they are smaller than this; larger ones are made again for every cell."""


@dataclass
class Work:
    """One plan in execution."""

    plan: Plan
    folder: RunFolder
    clock: Clock
    extractors: dict[str, Extractor]
    """Role -> opened extractor, one per network."""
    batch_size: int
    tell: Callable[[dict], None]
    """Called with {"stage": "reference" | "text" | "cell" | "metrics", "cell": id or None, "done": items, "total": items}."""
    note: Callable[..., None]
    """Writes a line of the event log."""
    share: Share = field(default_factory=Share)
    """The chunks that this process makes."""
    earlier: dict = field(default_factory=dict)
    """"created" and "attempts" of the run so far, and "wall", "store", "forward" (seconds) of all attempts before this one."""
    texts: dict[int, tuple[Tensor, float]] = field(default_factory=dict)
    uncond: Tensor | None = None
    stored: dict[str, float] = field(default_factory=dict)
    """"store": seconds spent on encoding, hashing, writing and syncing chunks."""

    @property
    def chunks(self) -> list[range]:
        """All chunks, in the order of the items."""
        return all_spans(self.plan)

    @property
    def mine(self) -> list[range]:
        """The chunks of this process, in the order in which it makes them."""
        return self.share.of(self.chunks)

    def ids(self, span: range) -> list[str]:
        return list(self.plan.items.ids[span.start : span.stop])

    def prompts(self, span: range) -> list[str]:
        return list(self.plan.items.prompts[span.start : span.stop])

    def progress(self, stage: str, done: int, cell: str | None = None) -> None:
        total = self.plan.n if stage == "metrics" else sum(map(len, self.mine))
        self.tell({"stage": stage, "cell": cell, "done": done, "total": total})

    def storing(self) -> AbstractContextManager:
        """Charge the block to "store"."""
        return self.clock.stage(self.stored, "store")

    def text(self, span: range) -> tuple[Tensor, float]:
        """(len(span), L, D) embeddings of a chunk's prompts, and the seconds it took to make them."""
        if span.start in self.texts:
            return self.texts[span.start]
        seconds: dict[str, float] = {}
        prompts, parts = self.prompts(span), []
        with self.clock.stage(seconds, "text"):
            for group, count in micro_batches(len(span), self.plan.micro_batch, len(span)):
                parts.append(self.plan.model.encode_prompts([prompts[i] for i in group])[:count])
        embeddings = torch.cat(parts)
        if embeddings[0].nbytes * self.plan.n <= TEXT_CACHE_BYTES:
            self.texts[span.start] = (embeddings, seconds["text"])
        return embeddings, seconds["text"]
