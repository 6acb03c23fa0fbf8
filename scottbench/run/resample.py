"""Images of a run made again and compared with the stored ones."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from scottbench.errors import UsageError
from scottbench.store.verify import Findings

if TYPE_CHECKING:
    from pathlib import Path

    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.plan.plan import Plan
    from scottbench.run.session import Work


MEAN, LARGEST = 1.0, 32
"""What level tolerance allows between two makings of an image: mean and largest difference, in grey levels of 255."""


def resample(work: Work, plan: Plan, count: int, exact: bool) -> Findings:
    """Make `count` random images of the run again and compare them with the stored ones: byte for byte if `exact`, else within MEAN and
    LARGEST. Raises UsageError where the run has fewer images."""
    import numpy as np

    from scottbench.run.sample import resample_item
    from scottbench.run.worker import open_weights

    found = Findings()
    students: dict[Path, DiffusionModel] = {}
    everything = [(cell, number) for cell in plan.cells for number in range(plan.n)]
    if count > len(everything):
        raise UsageError(f"--resample {count}: the run has {len(everything)} images.")
    chosen = sorted(random.sample(range(len(everything)), count))
    for cell, number in (everything[place] for place in chosen):
        span = next(span for span in work.chunks if number in span)
        name = f"{cell.id}/{plan.items.ids[number]}"
        stored = work.folder.get_images(("images", cell.id), span, work.ids(span))
        if stored is None:
            found.wrong.append(f"{name}: its chunk is missing or damaged")
            continue
        made = resample_item(work, cell, open_weights(work, cell, students), span, number - span.start)
        difference = np.abs(made.astype(int) - stored[number - span.start].astype(int))
        mean, largest = float(difference.mean()), int(difference.max())
        if largest if exact else (mean > MEAN or largest > LARGEST):
            found.wrong.append(f"{name}: made again, it differs by {mean:.3f} grey levels on average, {largest} at most")
        else:
            found.checked.append(f"{name}: {'the same bytes' if largest == 0 else f'within {mean:.3f} grey levels'}")
    return found
