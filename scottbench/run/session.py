"""One plan in execution: its folder, clock, opened networks and the chunks that this process makes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from scottbench.models.extractors import OpenExtractor
from scottbench.models.queued import Images
from scottbench.models.sampling import embed_prompts
from scottbench.plan.plan import Plan
from scottbench.registry.condition import TextCondition
from scottbench.run.chunks import Shard, all_spans, bind
from scottbench.run.clock import Clock
from scottbench.run.conveyor import Conveyor
from scottbench.run.reference_cache import ReferenceCache
from scottbench.store.folder import RunFolder

if TYPE_CHECKING:
    from scottbench.registry.nouns import Items

TEXT_CACHE_BYTES = 512 * 2**20
"""Text embeddings are kept for all cells while they are smaller than this; larger ones are made again for every cell."""


@dataclass
class Made:
    """A chunk of images that was sampled, or is being sampled on the device, and what is known of it."""

    batches: list[Images]
    text_seconds: Mapping[str, float]
    """"text": seconds that the chunk's embeddings took; {} where there are none."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the side-car, beside seconds and looks."""
    spent: dict[str, float] = field(default_factory=dict)
    """Seconds by stage, as far as the clock has settled them."""

    def wait(self) -> tuple[np.ndarray, np.ndarray]:
        """Wait for the device; give the images (n,H,W,3) uint8 and, of each, (n,) bool: its pixels were finite. Raises ScottbenchError
        for latents that were not."""
        parts = [batch.wait() for batch in self.batches]
        return np.concatenate([images for images, _ in parts]), np.concatenate([finite for _, finite in parts])

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, that of the text first."""
        return {**self.text_seconds, **self.spent}


@dataclass
class Work:
    """One plan in execution."""

    plan: Plan
    folder: RunFolder
    clock: Clock
    extractors: dict[str, OpenExtractor]
    """Role -> opened extractor, one per network."""
    batch_size: int
    on_progress: Callable[[dict], None]
    """Called with {"stage": "reference" | "text" | "cell" | "metrics", "cell": id or None, "done": items, "total": items}."""
    log_event: Callable[..., None]
    """Writes a line of the event log."""
    shard: Shard = field(default_factory=Shard)
    """The chunks that this process makes."""
    earlier: dict = field(default_factory=dict)
    """"created" and "attempts" of the run so far, and "wall", "store", "forward" (seconds) of all attempts before this one."""
    texts: dict[int, tuple[TextCondition, Mapping[str, float]]] = field(default_factory=dict)
    uncond: TextCondition | None = None
    stored: dict[str, float] = field(default_factory=dict)
    """"store": seconds spent on encoding, hashing, writing and syncing chunks."""
    warm: set[str] = field(default_factory=set)
    """Cells that this process has made a chunk of: their networks, kernels and caches are warm."""
    conveyor: Conveyor = field(default_factory=Conveyor)
    """Stores chunks, beside the networks where it has threads."""

    def __post_init__(self) -> None:
        bind(self.folder, self.plan)

    @functools.cached_property
    def reference_cache(self) -> ReferenceCache:
        """Return the features of the reference set that earlier runs made."""
        return ReferenceCache(self.plan, {role: extractor.source for role, extractor in self.extractors.items()})

    @property
    def chunks(self) -> list[range]:
        """All chunks, in the order of the items."""
        return all_spans(self.plan)

    @property
    def mine(self) -> list[range]:
        """The chunks of this process, in the order in which it makes them."""
        return self.shard.of(self.chunks)

    def mine_of(self, owner: str) -> list[range]:
        """Return the chunks of an owner ("reference", "text", a cell) that this process makes."""
        return self.shard.of(self.plan.spans_of(owner))

    @property
    def real_items(self) -> Items:
        """Return the reference images, of a plan that has some."""
        assert self.plan.reference is not None, "a plan without reference images"
        return self.plan.reference.items

    def ids(self, span: range, owner: str = "") -> list[str]:
        """Return the ids of a chunk of an owner; "": of the items."""
        return list(self.plan.ids_of(owner)[span.start : span.stop])

    def prompts(self, span: range) -> list[str]:
        """Return the prompts of a chunk."""
        return list(self.plan.items.prompts[span.start : span.stop])

    def progress(self, stage: str, done: int, cell: str | None = None) -> None:
        """Report how many items of a stage are done."""
        total = self.plan.n if stage == "metrics" else sum(map(len, self.mine_of(stage)))
        self.on_progress({"stage": stage, "cell": cell, "done": done, "total": total})

    def storing(self) -> AbstractContextManager[None]:
        """Charge the block to "store"."""
        return self.clock.stage(self.stored, "store", host=True)

    def empty_prompt(self) -> TextCondition:
        """Return the (1, L, D) condition of the unconditional pass, made once."""
        if self.uncond is None:
            self.uncond = self.plan.model.empty_prompt()
        return self.uncond

    def text(self, span: range) -> tuple[TextCondition, Mapping[str, float]]:
        """Return the (n, L, D) embeddings of a chunk's prompts, and {"text": seconds that they took}, filled when the clock settles."""
        if span.start in self.texts:
            return self.texts[span.start]
        seconds: dict[str, float] = {}
        with self.clock.stage(seconds, "text"):
            embeddings = embed_prompts(self.plan.model, self.prompts(span), self.plan.micro_batch, len(span))
        if embeddings[:1].nbytes * self.plan.n <= TEXT_CACHE_BYTES:
            self.texts[span.start] = (embeddings, seconds)
        return embeddings, seconds
