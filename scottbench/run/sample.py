"""prompts -> text embeddings -> z_T -> [predict -> update] x n -> latents -> uint8 images -> features, chunk by chunk.

No step looks back, and every chunk is stored before the next is begun. A chunk that the run folder already holds is read, not
made again, so a killed run goes on where it stopped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scottbench.errors import Incomplete, ScottbenchError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.sampling import Sampler, micro_batches
from scottbench.plan.plan import PlannedCell
from scottbench.run.clock import machine_load
from scottbench.run.sentinels import LOOKS, looks
from scottbench.run.session import Work
from scottbench.store.timings import COLD, LOAD


def reference_features(work: Work) -> None:
    """Store features of the reference images, and the images themselves of the first chunk, which the report shows."""
    done = 0
    for span in work.mine_of("reference"):
        ids, images = work.ids(span, "reference"), None
        items = work.real_items
        if span.start == 0 and work.folder.get_images(("images", "reference"), span, ids) is None:
            images = items.images(span)
            with work.storing():
                work.folder.put_images(("images", "reference"), span, ids, images)
        for role, extractor in work.extractors.items():
            if not extractor.source.gives_score and work.folder.get_features(("features", "reference", role), span, ids) is None:
                images = items.images(span) if images is None else images
                features = extractor.features(images)
                with work.storing():
                    work.folder.put_features(("features", "reference", role), span, ids, features)
        done += len(span)
        if images is not None:
            work.log_event("chunk", part="reference", first=span.start)
        work.progress("reference", done)


def embed_prompts(work: Work) -> None:
    """Store features of the prompts, for every extractor with a text tower."""
    for role, extractor in work.extractors.items():
        if extractor.text_tower is None:
            continue
        for span in work.mine:
            place = ("features", "text", role)
            if work.folder.get_features(place, span, work.ids(span)) is None:
                features = extractor.text_features(work.prompts(span))
                with work.storing():
                    work.folder.put_features(place, span, work.ids(span), features)
        work.progress("text", sum(map(len, work.mine)))


def take_pictures(work: Work, planned: PlannedCell) -> None:
    """Store the pictures of a row that was made elsewhere, and their features: the chunks of this process that the folder lacks.

    Raises DamagedAsset for a picture that changed since the plan was made.
    """
    pictures, done = planned.method.pictures, 0
    assert pictures is not None, planned.id
    for span in work.mine:
        ids, before = work.ids(span), work.stored.get("store", 0.0)
        images = work.folder.get_images(("images", planned.id), span, ids)
        if images is None:
            images = pictures.images(span)
            with work.storing():
                work.folder.put_images(("images", planned.id), span, ids, images, {LOOKS: looks(images)})
        put_features(work, planned, span, images, {})
        done += len(span)
        if work.stored.get("store", 0.0) > before:
            work.log_event("chunk", part=planned.id, first=span.start)
        work.progress("cell", done, planned.id)


def sample_cell(work: Work, planned: PlannedCell, model: DiffusionModel) -> None:
    """Make images and features of one cell: the chunks of this process that the folder lacks."""
    done, cold = 0, True
    for span in work.mine:
        ids, before = work.ids(span), work.stored.get("store", 0.0)
        seconds: dict[str, float] = {}
        images = work.folder.get_images(("images", planned.id), span, ids)
        if images is None:
            images, facts = make_images(work, planned, model, span)
            facts, cold = {**facts, COLD: True} if cold else facts, False
            with work.storing(), work.clock.stage(seconds, "store"):
                work.folder.put_images(("images", planned.id), span, ids, images, facts)
        put_features(work, planned, span, images, seconds)
        done += len(span)
        if work.stored.get("store", 0.0) > before:
            work.log_event("chunk", part=planned.id, first=span.start)
        work.progress("cell", done, planned.id)


def put_features(work: Work, planned: PlannedCell, span: range, images: np.ndarray, seconds: dict[str, float]) -> None:
    """Store the features that the folder lacks of a chunk's images, (n,H,W,3) uint8. seconds: spent on the chunk and not yet on
    record."""
    for role, extractor in work.extractors.items():
        place = ("features", planned.id, role)
        if work.folder.get_features(place, span, work.ids(span)) is None:
            with work.clock.stage(seconds, "features"):
                made = extractor.features(images, work.prompts(span))
            with work.storing():
                work.folder.put_features(place, span, work.ids(span), made, {"seconds": seconds})
            seconds = {}


def extract_features(work: Work, planned: PlannedCell) -> None:
    """Store the features of a cell whose images are all there. Raises Incomplete where a chunk of them is not."""
    for span in work.mine:
        images = work.folder.get_images(("images", planned.id), span, work.ids(span))
        if images is None:
            raise Incomplete(f"{work.folder.root} lacks a chunk of images. Finish it first: scottbench resume {work.folder.root}")
        put_features(work, planned, span, images, {})


def make_images(work: Work, planned: PlannedCell, model: DiffusionModel, span: range) -> tuple[np.ndarray, dict[str, Any]]:
    """Sample a chunk: (n, H, W, 3) uint8, and its facts: counted NFE, seconds by stage, kinds.

    Raises ScottbenchError where images of one chunk need unequal NFE.
    """
    text, text_seconds = work.text(span)
    sampler, ids = sampler_of(work, planned, model), work.ids(span)
    seconds: dict[str, float] = {"text": text_seconds}
    parts: list[np.ndarray] = []
    kinds: list[str] = []
    rows = model.evaluations = 0
    fixed = work.plan.micro_batch
    # -b: how many images are denoised before the first of them is decoded, in whole micro-batches
    at_once = work.batch_size if fixed is None else -(-work.batch_size // fixed) * fixed
    for start in range(0, len(span), at_once):
        latents = []
        with work.clock.stage(seconds, "denoise"):
            for group, count in micro_batches(min(at_once, len(span) - start), fixed, at_once):
                places = [start + i for i in group]
                latents.append((sampler.latents(text[places], [ids[i] for i in places]), count))
                rows += len(group)
        with work.clock.stage(seconds, "decode"):
            for batch, count in latents:
                images, finite = model.decode_checked(batch)
                parts.append(images[:count])
                kinds += looks(images[:count], finite[:count])
    nfe, rest = divmod(model.evaluations, rows)
    if rest or not nfe:
        raise ScottbenchError(
            f"method '{planned.method.label}' evaluated its network {model.evaluations} times for {rows} images: NFE must be the same "
            "whole number for every image.")
    return np.concatenate(parts), {"nfe": nfe, "seconds": seconds, LOOKS: kinds, LOAD: machine_load()}


def resample_item(work: Work, planned: PlannedCell, model: DiffusionModel, span: range, position: int) -> np.ndarray:
    """Make the image at `position` of a chunk again, (H, W, 3) uint8, in the same company as in the run."""
    text, ids = work.text(span)[0], work.ids(span)
    groups = micro_batches(len(span), work.plan.micro_batch, 1)
    group = next(group for group, count in groups if position in group[:count])
    latents = sampler_of(work, planned, model).latents(text[group], [ids[i] for i in group])
    return model.decode(latents)[group.index(position)]


def sampler_of(work: Work, planned: PlannedCell, model: DiffusionModel) -> Sampler:
    """Return what samples a cell from an opened model."""
    method = planned.method
    return Sampler(model, method.noun, method.label, method.options, work.empty_prompt(), method.guidance, planned.steps, planned.seed)
