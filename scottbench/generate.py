"""prompts -> text embeddings -> z_T -> [predict -> update] x n -> latents -> uint8 images -> features, chunk by chunk.

No step looks back, and every chunk is stored before the next is begun. A chunk that the run folder already holds is read, not
made again, so a killed run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from scottbench.clock import Clock
from scottbench.errors import ScottbenchError
from scottbench.features import Extractor
from scottbench.model import DiffusionModel
from scottbench.noise import ItemNoise
from scottbench.plan import CHUNK, Plan, PlannedCell
from scottbench.store import RunFolder, spans

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
    earlier: dict = field(default_factory=dict)
    """Manifest of the attempt before; {} for the first."""
    texts: dict[int, tuple[Tensor, float]] = field(default_factory=dict)
    uncond: Tensor | None = None

    @property
    def chunks(self) -> list[range]:
        return spans(self.plan.n, CHUNK)

    def ids(self, span: range) -> list[str]:
        return list(self.plan.items.ids[span.start : span.stop])

    def prompts(self, span: range) -> list[str]:
        return list(self.plan.items.prompts[span.start : span.stop])

    def progress(self, stage: str, done: int, cell: str | None = None) -> None:
        self.tell({"stage": stage, "cell": cell, "done": done, "total": self.plan.n})

    def text(self, span: range) -> tuple[Tensor, float]:
        """(len(span), L, D) embeddings of a chunk's prompts, and the seconds it took to make them."""
        if span.start in self.texts:
            return self.texts[span.start]
        seconds: dict[str, float] = {}
        with self.clock.stage(seconds, "text"):
            embeddings = self.plan.model.encode_prompts(self.prompts(span))
        if embeddings[0].nbytes * self.plan.n <= TEXT_CACHE_BYTES:
            self.texts[span.start] = (embeddings, seconds["text"])
        return embeddings, seconds["text"]


def reference(work: Work) -> None:
    """Features of the reference images, and the images themselves of the first chunk, which the report shows."""
    for span in work.chunks:
        ids, images = work.ids(span), None
        if span.start == 0 and work.folder.get_images(("images", "reference"), span, ids) is None:
            images = work.plan.items.images(span)
            work.folder.put_images(("images", "reference"), span, ids, images)
        for role, extractor in work.extractors.items():
            if work.folder.get_features(("features", "reference", role), span, ids) is None:
                images = work.plan.items.images(span) if images is None else images
                work.folder.put_features(("features", "reference", role), span, ids, extractor.features(images))
        work.progress("reference", span.stop)


def prompts(work: Work) -> None:
    """Features of the prompts, for every extractor with a text tower."""
    for role, extractor in work.extractors.items():
        if extractor.text_tower is None:
            continue
        for span in work.chunks:
            place = ("features", "text", role)
            if work.folder.get_features(place, span, work.ids(span)) is None:
                work.folder.put_features(place, span, work.ids(span), extractor.text_features(work.prompts(span)))
        work.progress("text", work.plan.n)


def cell(work: Work, planned: PlannedCell, model: DiffusionModel) -> None:
    """Images and features of one cell."""
    if work.uncond is None:
        work.uncond = work.plan.model.encode_prompts([""])
    for span in work.chunks:
        ids, seconds = work.ids(span), {}
        images = work.folder.get_images(("images", planned.id), span, ids)
        if images is None:
            images, facts = make_images(work, planned, model, span)
            with work.clock.stage(seconds, "store"):
                work.folder.put_images(("images", planned.id), span, ids, images, facts)
        for role, extractor in work.extractors.items():
            place = ("features", planned.id, role)
            if work.folder.get_features(place, span, ids) is None:
                with work.clock.stage(seconds, "features"):
                    features = extractor.features(images)
                work.folder.put_features(place, span, ids, features, {"seconds": seconds})
                seconds = {}
        work.progress("cell", span.stop, planned.id)


def make_images(work: Work, planned: PlannedCell, model: DiffusionModel, span: range) -> tuple[np.ndarray, dict]:
    """(len(span), H, W, 3) uint8 and the chunk's facts: counted NFE, seconds by stage."""
    text, text_seconds = work.text(span)
    seconds = {"text": text_seconds}
    model.evaluations = 0
    parts = []
    for start in range(0, len(span), work.batch_size):
        part = slice(start, start + work.batch_size)
        with work.clock.stage(seconds, "denoise"):
            latents = sample(work, planned, model, text[part], work.ids(span)[part])
        with work.clock.stage(seconds, "decode"):
            parts.append(model.decode(latents))
    nfe, rest = divmod(model.evaluations, len(span))
    if rest or not nfe:
        raise ScottbenchError(
            f"method '{planned.method.label}' evaluated its network {model.evaluations} times for {len(span)} images: NFE must be the same "
            "whole number for every image.")
    return np.concatenate(parts), {"nfe": nfe, "seconds": seconds}


@torch.inference_mode()
def sample(work: Work, planned: PlannedCell, model: DiffusionModel, text: Tensor, ids: list[str]) -> Tensor:
    """Clean latents (N,C,h,w) of a micro-batch."""
    method = planned.method
    noise = ItemNoise(planned.seed, ids, model.latent_shape, model.device)
    latents = method.noun.sample(model.sampling(text, work.uncond, method.guidance, noise, planned.steps, method.options))
    if tuple(latents.shape) != (len(ids), *model.latent_shape):
        wanted = (len(ids), *model.latent_shape)
        raise ScottbenchError(f"method '{method.label}' returned latents of shape {tuple(latents.shape)}, not {wanted}.")
    if not torch.isfinite(latents).all():
        raise ScottbenchError(f"method '{method.label}' returned latents that are NaN or infinite at {planned.steps} steps.")
    return latents
