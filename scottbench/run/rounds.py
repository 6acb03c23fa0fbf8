"""The order of a run's chunks: round after round, in each a few chunks of every cell, so that whatever slows the machine for a while (other
work, heat) slows all cells alike, and their times compare.

All weights stay open for that. Where they are too large, cell after cell is made, and the times say so. Chunks, their content and their
places are the same in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.run.session import Work

ROUNDS = 8
"""Rounds that are enough for an interval, where a round costs something: on a GPU the pipeline runs dry at each of its cells."""
AT_LEAST = 4
"""Chunks of a cell in a round there."""
ON_CPU = 4 * 2**30
"""Bytes that the weights of all students may take of a machine's memory, beside the teacher's."""
ON_GPU = 0.2
"""Part of a GPU's memory that they may take: most of it is for batches."""


def rounds(work: Work) -> list[list[range]]:
    """Share this process's chunks out over rounds; one round with all of them is cell after cell."""
    chunks = work.mine
    if len(chunks) < 2 or work.plan.teacher is None or not _all_fit(work, work.plan.model):
        return [chunks]
    size = 1 if work.conveyor.ahead == 0 else max(AT_LEAST, -(-len(chunks) // ROUNDS))
    return [chunks[start : start + size] for start in range(0, len(chunks), size)]


def _all_fit(work: Work, teacher: DiffusionModel) -> bool:
    """Tell whether the weights of all students have room together."""
    students = {cell.method.student for cell in work.plan.cells} - {None}
    needed = len(students) * sum(weight.numel() * weight.element_size() for weight in teacher.unet.parameters())
    if not work.plan.device.startswith("cuda"):
        return needed <= ON_CPU
    import torch

    return needed <= ON_GPU * torch.cuda.mem_get_info(work.plan.device)[1]
