"""Images and features of a run made again and compared with the stored ones."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

from scottbench.errors import UsageError
from scottbench.run.chunks import roles_of
from scottbench.store.verify import Findings

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.plan.cells import PlannedCell
    from scottbench.plan.plan import Plan
    from scottbench.run.session import Work


MEAN, LARGEST = 1.0, 32
"""What level tolerance allows between two makings of an image: mean and largest difference, in grey levels of 255."""
APART = 0.02
"""What it allows between two makings of a row of features: the length of their difference, as a part of the row's."""


def resample(work: Work, plan: Plan, count: int, exact: bool) -> Findings:
    """Make `count` random images of the run again and compare them with the stored ones: byte for byte if `exact`, else within MEAN and
    LARGEST. So are the features of the chunks that hold them, within APART, of their prompts and reference images too.

    Raises UsageError where the run has fewer images.
    """
    import numpy as np

    from scottbench.run.worker import open_extractors

    found = Findings()
    students: dict[Path, DiffusionModel] = {}
    everything = [(cell, number) for cell in plan.cells for number in range(plan.n)]
    if count > len(everything):
        raise UsageError(f"--resample {count}: the run has {len(everything)} images.")
    chosen = [everything[place] for place in sorted(random.sample(range(len(everything)), count))]
    for cell, number in chosen:
        span = span_of(work, number)
        name = f"{cell.id}/{plan.items.ids[number]}"
        stored = work.folder.get_images(("images", cell.id), span, work.ids(span))
        if stored is None:
            found.wrong.append(f"{name}: its chunk is missing or damaged")
            continue
        made = _image(work, cell, number, span, students)
        difference = np.abs(made.astype(int) - stored[number - span.start].astype(int))
        mean, largest = float(difference.mean()), int(difference.max())
        if largest if exact else (mean > MEAN or largest > LARGEST):
            found.wrong.append(f"{name}: made again, it differs by {mean:.3f} grey levels on average, {largest} at most")
        else:
            found.checked.append(f"{name}: {'the same bytes' if largest == 0 else f'within {mean:.3f} grey levels'}")
    owners = dict.fromkeys((owner, span_of(work, number)) for cell, number in chosen for owner in (cell.id, "text"))
    if plan.reference is not None:
        owners |= dict.fromkeys(("reference", span_of(work, min(number, plan.reference.n - 1), "reference")) for _, number in chosen)
    with contextlib.ExitStack() as watched:
        open_extractors(work, watched)
        for owner, span in owners:
            for role in work.extractors:
                _again(found, work, owner, role, span, exact)
    return found


def _image(work: Work, cell: PlannedCell, number: int, span: range, students: dict[Path, DiffusionModel]) -> np.ndarray:
    """An image of a cell made again; of pictures made elsewhere, read again. span: the chunk that holds item `number`."""
    from scottbench.run.sample import resample_item
    from scottbench.run.worker import open_weights

    if cell.method.pictures is not None:
        found: np.ndarray = cell.method.pictures.images([number])[0]
        return found
    return resample_item(work, cell, open_weights(work, cell, students), span, number - span.start)


def span_of(work: Work, number: int, owner: str = "") -> range:
    """Return the chunk that holds an item of the plan, or of an owner of its own items."""
    return next(span for span in work.plan.spans_of(owner) if number in span)


def _again(found: Findings, work: Work, owner: str, role: str, span: range, exact: bool) -> None:
    """Make the features of a chunk again, from the stored images, the reference images or the prompts, and compare."""
    import numpy as np

    if role not in roles_of(work.plan, owner):
        return
    extractor, ids, name = work.extractors[role], work.ids(span, owner), f"features/{owner}/{role}/{span.start:05d}"
    if owner == "text":
        if extractor.text_tower is None:
            return
        made = extractor.text_features(work.prompts(span))
    else:
        images = work.real_items.images(span) if owner == "reference" else work.folder.get_images(("images", owner), span, ids)
        if images is None:
            return  # told already
        made = extractor.features(images, work.prompts(span))
    stored = work.folder.get_features(("features", owner, role), span, ids)
    if stored is None or stored.shape != made.shape:
        found.wrong.append(f"{name}: missing, damaged or of another shape")
        return
    apart = float((np.linalg.norm(made - stored, axis=1) / np.maximum(np.linalg.norm(stored, axis=1), 1e-12)).max())
    if not np.array_equal(made, stored) if exact else not apart <= APART:
        found.wrong.append(f"{name}: made again, its rows differ by up to {100 * apart:.3g} %")
    else:
        found.checked.append(f"{name}: {'the same bytes' if apart == 0 else f'within {100 * apart:.3g} %'}")
