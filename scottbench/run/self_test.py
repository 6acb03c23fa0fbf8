"""A few images made twice and in other company: are they the same bytes, as a run promises?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench.models.importing import importing
from scottbench.run.finding import Finding

if TYPE_CHECKING:
    import numpy as np

    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.plan.cells import PlannedCell
    from scottbench.registry.loader import Plugins
    from scottbench.run.own_prompts import Session

IMAGES, OTHER = 6, 4
"""Images of the test, and the batch size by which they are made again."""
TOLERANCE = 32
"""Largest difference in grey levels that level `tolerance`, of a GPU, allows."""


def determinism(plugins: Plugins, preset: str) -> Finding:
    """Sample the preset's first method three times at two steps: twice alike, and once with another batch size and another order.

    Raises ScottbenchError where the preset cannot be opened.
    """
    with importing():
        from scottbench.plan.request import RunRequest
        from scottbench.run.own_prompts import open_session, opened

        methods = plugins.find("preset", preset).noun.methods[:1]
    session = open_session(plugins, RunRequest(preset=preset, methods=methods, steps=[2]), [f"picture {i}" for i in range(IMAGES)])
    cell, model = next(opened(session))
    first, again = (images(session, cell, model, range(IMAGES), IMAGES) for _ in range(2))
    other = images(session, cell, model, range(IMAGES - 1, -1, -1), OTHER)[::-1]
    return judged(first, again, other, exact=session.model.device == "cpu")


def images(session: Session, cell: PlannedCell, model: DiffusionModel, order: range, size: int) -> np.ndarray:
    """Return (n,H,W,3) uint8 images of a cell for the prompts in an order, `size` of them in work at once."""
    import numpy as np

    from scottbench.models.sampling import Sampler, embed_prompts
    from scottbench.plan.device import choose_micro_batch

    method = cell.method
    fixed = choose_micro_batch(str(model.device), model.latent_shape)
    sampler = Sampler(model, method.noun, method.label, method.options, session.uncond(), method.guidance, cell.steps, cell.seed)
    parts = []
    for start in range(0, len(order), size):
        group = [session.prompts[i] for i in order[start : start + size]]
        parts.append(sampler.images(embed_prompts(model, group, fixed, size), group, fixed, size))
    return np.concatenate(parts)


def judged(first: np.ndarray, again: np.ndarray, other: np.ndarray, exact: bool) -> Finding:
    """Compare (n,H,W,3) uint8 images: made once, made again, made in other company. exact: bytes must be equal, as on a CPU."""
    import numpy as np

    apart = [int(np.abs(first.astype(int) - one.astype(int)).max()) for one in (again, other)]
    if max(apart) == 0:
        return Finding("determinism", "ok", f"{len(first)} images made twice and with another batch size are the same bytes.")
    where = "made twice" if apart[0] else "made with another batch size"
    words = f"{len(first)} images {where} differ by up to {max(apart)} grey levels"
    if not exact and max(apart) <= TOLERANCE:
        return Finding("determinism", "ok", f"{words}: within what a GPU's run (level tolerance) allows.")
    return Finding("determinism", "problem", f"{words}: numbers of this machine cannot be made again.",
                   "Unset variables that change arithmetic (MKL_*, ONEDNN_*, ATEN_*), try OMP_NUM_THREADS=1, and then another version of "
                   "torch. If it stays, the machine's memory may be faulty.")  # fmt: skip
