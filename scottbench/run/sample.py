"""prompts -> text embeddings -> z_T -> [predict -> update] x n -> latents -> uint8 images -> features, chunk by chunk.

No step looks back, and every chunk is stored before the next is begun. A chunk that the run folder already holds is read, not
made again, so a killed run goes on where it stopped.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from scottbench.errors import ScottbenchError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.noise import ItemNoise
from scottbench.plan.plan import PlannedCell
from scottbench.run.chunks import micro_batches
from scottbench.run.session import Work
from scottbench.store.timings import COLD


def reference_features(work: Work) -> None:
    """Features of the reference images, and the images themselves of the first chunk, which the report shows."""
    done = 0
    for span in work.mine:
        ids, images = work.ids(span), None
        if span.start == 0 and work.folder.get_images(("images", "reference"), span, ids) is None:
            images = work.plan.items.images(span)
            with work.storing():
                work.folder.put_images(("images", "reference"), span, ids, images)
        for role, extractor in work.extractors.items():
            if work.folder.get_features(("features", "reference", role), span, ids) is None:
                images = work.plan.items.images(span) if images is None else images
                features = extractor.features(images)
                with work.storing():
                    work.folder.put_features(("features", "reference", role), span, ids, features)
        done += len(span)
        if images is not None:
            work.note("chunk", part="reference", first=span.start)
        work.progress("reference", done)


def embed_prompts(work: Work) -> None:
    """Features of the prompts, for every extractor with a text tower."""
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


def sample_cell(work: Work, planned: PlannedCell, model: DiffusionModel) -> None:
    """Images and features of one cell: the chunks of this process that the folder lacks."""
    if work.uncond is None:
        work.uncond = work.plan.model.encode_prompts([""])
    done, cold = 0, True
    for span in work.mine:
        ids, seconds, before = work.ids(span), {}, work.stored.get("store", 0.0)
        images = work.folder.get_images(("images", planned.id), span, ids)
        if images is None:
            images, facts = make_images(work, planned, model, span)
            facts, cold = {**facts, COLD: True} if cold else facts, False
            with work.storing(), work.clock.stage(seconds, "store"):
                work.folder.put_images(("images", planned.id), span, ids, images, facts)
        put_features(work, planned, span, images, seconds)
        done += len(span)
        if work.stored.get("store", 0.0) > before:
            work.note("chunk", part=planned.id, first=span.start)
        work.progress("cell", done, planned.id)


def put_features(work: Work, planned: PlannedCell, span: range, images: np.ndarray, seconds: dict[str, float]) -> None:
    """Features of a chunk's images that the folder lacks. seconds: spent on the chunk and not yet on record."""
    for role, extractor in work.extractors.items():
        place = ("features", planned.id, role)
        if work.folder.get_features(place, span, work.ids(span)) is None:
            with work.clock.stage(seconds, "features"):
                made = extractor.features(images)
            with work.storing():
                work.folder.put_features(place, span, work.ids(span), made, {"seconds": seconds})
            seconds = {}


def extract_features(work: Work, planned: PlannedCell) -> None:
    """Features of a cell whose images are all stored."""
    for span in work.mine:
        put_features(work, planned, span, work.folder.get_images(("images", planned.id), span, work.ids(span)), {})


def make_images(work: Work, planned: PlannedCell, model: DiffusionModel, span: range) -> tuple[np.ndarray, dict]:
    """(len(span), H, W, 3) uint8 and the chunk's facts: counted NFE, seconds by stage."""
    text, text_seconds = work.text(span)
    seconds, parts, rows = {"text": text_seconds}, [], 0
    model.evaluations = 0
    fixed = work.plan.micro_batch
    # -b: how many images are denoised before the first of them is decoded, in whole micro-batches
    at_once = work.batch_size if fixed is None else -(-work.batch_size // fixed) * fixed
    for start in range(0, len(span), at_once):
        latents = []
        with work.clock.stage(seconds, "denoise"):
            for group, count in micro_batches(min(at_once, len(span) - start), fixed, at_once):
                places = [start + i for i in group]
                latents.append((sample(work, planned, model, text[places], [work.ids(span)[i] for i in places]), count))
                rows += len(group)
        with work.clock.stage(seconds, "decode"):
            parts += [model.decode(batch)[:count] for batch, count in latents]
    nfe, rest = divmod(model.evaluations, rows)
    if rest or not nfe:
        raise ScottbenchError(
            f"method '{planned.method.label}' evaluated its network {model.evaluations} times for {rows} images: NFE must be the same "
            "whole number for every image.")
    return np.concatenate(parts), {"nfe": nfe, "seconds": seconds}


def remake(work: Work, planned: PlannedCell, model: DiffusionModel, span: range, position: int) -> np.ndarray:
    """(H, W, 3) uint8: the image at `position` of a chunk, made again in the same company as in the run."""
    if work.uncond is None:
        work.uncond = work.plan.model.encode_prompts([""])
    text, ids, fixed = work.text(span)[0], work.ids(span), work.plan.micro_batch
    groups = micro_batches(len(span), fixed, 1)
    group = next(group for group, count in groups if position in group[:count])
    return model.decode(sample(work, planned, model, text[group], [ids[i] for i in group]))[group.index(position)]


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
