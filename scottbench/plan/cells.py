"""Cells of a plan: method x steps x seed, each with its time steps, weights and code."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scottbench.plan import steps as step_counts
from scottbench.registry.nouns import Method
from scottbench.store.differences import code_digest
from scottbench.store.folder import check_name


@dataclass(frozen=True)
class PlannedMethod:
    """A method with its options, guidance and weights."""

    label: str
    """The name, with its inline options where there are any: what tables call it."""
    noun: Method
    options: Any
    guidance: float
    student: Path | None
    facts: dict | None
    """student.json."""
    weights_digest: str
    steps: tuple[int, ...] = ()
    """Its own numbers of sampling steps; (): the run's."""


@dataclass(frozen=True)
class PlannedCell:
    id: str
    method: PlannedMethod
    steps: int
    seed: int
    timesteps: list[float]


def make_cells(methods: list[PlannedMethod], steps: list[int], seeds: list[int], schedule: Any) -> list[PlannedCell]:
    """Method by method, step count by step count, seed by seed. Raises UsageError: a step count that a method has no time steps for."""
    cells = []
    for method in methods:
        safe = method.label.replace("@", "-").replace(",", "-")
        for count in dict.fromkeys(method.steps if method.steps else steps):
            times = step_counts.checked_timesteps(method.noun, method.options, schedule, count)
            for seed in dict.fromkeys(seeds):
                cells.append(PlannedCell(check_name(f"{safe}__s{count}__seed{seed}", "method"), method, count, seed, times))
    return cells


def by_seeds(cells: list[PlannedCell]) -> list[list[PlannedCell]]:
    """The cells of each method and number of steps: one per seed, in plan order."""
    return [list(group) for _, group in itertools.groupby(cells, key=lambda cell: (cell.method.label, cell.steps))]


def over_seeds_id(cells: list[PlannedCell]) -> str:
    """What records call several seeds of a method at a number of steps."""
    return f"{cells[0].id.rpartition('__')[0]}__seeds"


def cell_record(cell: PlannedCell) -> dict:
    """What a cell adds to the identity of the run."""
    method = cell.method
    return {
        "id": cell.id,
        "method": method.label,
        "version": method.noun.version,
        "code": code_digest(method.noun.sample),
        "steps": cell.steps,
        "seed": cell.seed,
        "guidance_scale": method.guidance,
        "options": dataclasses.asdict(method.options),
        "timesteps": cell.timesteps,
        "weights_digest": method.weights_digest,
    }
