"""prompts -> text embeddings -> z_T -> [predict -> update] x n -> latents -> uint8 images -> features, chunk by chunk.

No step looks back. Chunks are stored in their order: on a CPU each before the next is begun, on a GPU while the next is sampled
(`scottbench.run.conveyor`). A chunk that the run folder already holds is read, not made again, so a killed run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from scottbench.errors import Incomplete, ScottbenchError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.queued import Images, decode
from scottbench.models.sampling import Sampler, micro_batches
from scottbench.plan.plan import PlannedCell
from scottbench.run.chunks import roles_of
from scottbench.run.clock import machine_load
from scottbench.run.sentinels import LOOKS, look
from scottbench.run.session import Made, Work
from scottbench.store.timings import COLD, LOAD, ROUND


def reference_features(work: Work) -> None:
    """Store features of the reference images, and the images themselves of the first chunk, which the report shows."""
    done = 0
    with work.conveyor.drained():
        for span in work.mine_of("reference"):
            ids, items = work.ids(span, "reference"), work.real_items
            shown = span.start == 0 and work.folder.get_images(("images", "reference"), span, ids) is None
            lacking = [role for role in roles_of(work.plan, "reference")
                       if work.folder.get_features(("features", "reference", role), span, ids) is None]  # fmt: skip
            lacking = [role for role in lacking if not _from_cache(work, role, span, ids)]
            done += len(span)
            if not shown and not lacking:
                work.progress("reference", done)
                continue
            images = items.images(span)
            work.conveyor.put(partial(_keep_reference, work, span, images, shown, lacking, done))


def _from_cache(work: Work, role: str, span: range, ids: Sequence[str]) -> bool:
    """Take a chunk of features of the reference from those of an earlier run; false where there are none."""
    features = work.reference_cache.get(role, span, ids)
    if features is not None:
        with work.storing():
            work.folder.put_features(("features", "reference", role), span, ids, features)
    return features is not None


def _keep_reference(work: Work, span: range, images: np.ndarray, shown: bool, lacking: Sequence[str], done: int) -> None:
    """Store what the folder lacks of a chunk of reference images, (n,H,W,3) uint8. done: items of the stage with these."""
    ids = work.ids(span, "reference")
    if shown:
        with work.storing():
            work.folder.put_images(("images", "reference"), span, ids, images, each=work.conveyor.each)
    for role in lacking:
        features = work.extractors[role].features(images)
        with work.storing():
            work.folder.put_features(("features", "reference", role), span, ids, features)
            work.reference_cache.put(role, span, ids, features)
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


def take_pictures(work: Work, planned: PlannedCell, spans: Sequence[range]) -> None:
    """Store the pictures of a row that was made elsewhere, and their features: those of some chunks that the folder lacks.

    Raises DamagedAsset for a picture that changed since the plan was made.
    """
    pictures = planned.method.pictures
    assert pictures is not None, planned.id
    with work.conveyor.drained():
        for span in spans:
            images = work.folder.get_images(("images", planned.id), span, work.ids(span))
            made = None if images is not None else Made([Images.known(pictures.images(span))], {})
            work.conveyor.put(partial(keep_chunk, work, planned, span, images, made))


def sample_cell(work: Work, planned: PlannedCell, model: DiffusionModel, spans: Sequence[range], number: int = 0) -> None:
    """Make images and features of one cell: those of some chunks that the folder lacks. number: of the round that they are made in."""
    with work.conveyor.drained():
        for span in spans:
            images, made = work.folder.get_images(("images", planned.id), span, work.ids(span)), None
            if images is None:
                made = make_images(work, planned, model, span)
                made.facts |= {ROUND: number} if planned.id in work.warm else {ROUND: number, COLD: True}
                work.warm.add(planned.id)
            work.conveyor.put(partial(keep_chunk, work, planned, span, images, made))


def keep_chunk(work: Work, planned: PlannedCell, span: range, images: np.ndarray | None, made: Made | None) -> None:
    """Store a chunk that was made, and the features that the folder lacks of it. images: (n,H,W,3) uint8, where the folder has the
    chunk."""
    before = work.stored.get("store", 0.0)
    seconds: dict[str, float] = {}
    if made is not None:
        images, finite = made.wait()
        # of pictures made elsewhere nothing is known but how they look
        kinds = list(work.conveyor.each(look, images, finite))
        work.clock.settle(made.spent)
        facts = {**made.facts, LOOKS: kinds} | ({"seconds": made.seconds} if made.seconds else {})
        with work.storing(), work.clock.stage(seconds, "store", host=True):
            work.folder.put_images(("images", planned.id), span, work.ids(span), images, facts, each=work.conveyor.each)
    assert images is not None, planned.id
    put_features(work, planned, span, images, seconds)
    if work.stored.get("store", 0.0) > before:
        work.log_event("chunk", part=planned.id, first=span.start)
    # the chunks of a cell are made in their order
    work.progress("cell", sum(len(other) for other in work.mine if other.start <= span.start), planned.id)


def put_features(work: Work, planned: PlannedCell, span: range, images: np.ndarray, seconds: dict[str, float]) -> None:
    """Store the features that the folder lacks of a chunk's images, (n,H,W,3) uint8. seconds: spent on the chunk and not yet on
    record."""
    for role, extractor in work.extractors.items():
        place = ("features", planned.id, role)
        if work.folder.get_features(place, span, work.ids(span)) is None:
            with work.clock.stage(seconds, "features", host=True):
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


def make_images(work: Work, planned: PlannedCell, model: DiffusionModel, span: range) -> Made:
    """Sample a chunk of images, with its facts: counted NFE, seconds by stage. On a GPU the images may still be to come.

    Raises ScottbenchError where images of one chunk need unequal NFE, or a method returns what are no latents.
    """
    text, text_seconds = work.text(span)
    sampler, ids = sampler_of(work, planned, model), work.ids(span)
    made = Made([], text_seconds)
    rows = model.evaluations = 0
    fixed = work.plan.micro_batch
    # -b: how many images are denoised before the first of them is decoded, in whole micro-batches
    at_once = work.batch_size if fixed is None else -(-work.batch_size // fixed) * fixed
    for start in range(0, len(span), at_once):
        latents = []
        with work.clock.stage(made.spent, "denoise"):
            for group, count in micro_batches(min(at_once, len(span) - start), fixed, at_once):
                places = [start + i for i in group]
                # a slice where no place is filled up: a list would be sent to the device
                chosen = text[start + group[0] : start + group[-1] + 1] if count == len(group) else text[places]
                latents.append((sampler.queued(chosen, [ids[i] for i in places]), count))
                rows += len(group)
        with work.clock.stage(made.spent, "decode"):
            made.batches += [decode(sampler, batch, count) for batch, count in latents]
    nfe, rest = divmod(model.evaluations, rows)
    if rest or not nfe:
        raise ScottbenchError(
            f"method '{planned.method.label}' evaluated its network {model.evaluations} times for {rows} images: NFE must be the same "
            "whole number for every image.")
    made.facts = {"nfe": nfe, LOAD: machine_load()}
    return made


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
