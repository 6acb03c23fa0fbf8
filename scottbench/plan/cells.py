"""Cells of a plan: method x steps x seed, each with its time steps, weights and code."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scottbench.errors import UsageError
from scottbench.registry.nouns import Method, Metric
from scottbench.store.files import check_name
from scottbench.text import counts_in_words


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
            times = checked_timesteps(method.noun, method.options, schedule, count)
            for seed in dict.fromkeys(seeds):
                cells.append(PlannedCell(check_name(f"{safe}__s{count}__seed{seed}", "method"), method, count, seed, times))
    return cells


def by_seeds(cells: list[PlannedCell]) -> list[list[PlannedCell]]:
    """The cells of each method and number of steps: one per seed, in plan order."""
    return [list(group) for _, group in itertools.groupby(cells, key=lambda cell: (cell.method.label, cell.steps))]


def over_seeds_id(cells: list[PlannedCell]) -> str:
    """What records call several seeds of a method at a number of steps."""
    return f"{cells[0].id.rpartition('__')[0]}__seeds"


@dataclass(frozen=True)
class PlannedMetric:
    label: str
    noun: Metric
    options: Any
    fingerprint: str


def timesteps(method: Method, options: Any, schedule: Any, steps: int) -> list[float]:
    """A method's time steps as plain numbers, whole ones as int."""
    return [int(t) if t == int(t) else float(t) for t in method.timesteps(schedule, steps, options)]


def are_timesteps(times: list[float], schedule: Any) -> bool:
    """Whether a method's time steps are some, all different from their neighbours and inside the schedule (T itself, pure noise,
    included)."""
    return bool(times) and all(0 <= t <= len(schedule) for t in times) and all(a != b for a, b in zip(times, times[1:]))


def checked_timesteps(method: Method, options: Any, schedule: Any, steps: int, flag: str = "--steps") -> list[float]:
    """The method's time steps. A step count that it cannot spread over the schedule is the user's error, not a crash."""
    times = timesteps(method, options, schedule, steps) if steps <= len(schedule) else []
    if not are_timesteps(times, schedule):
        allowed = allowed_steps(method, options, schedule)
        raise UsageError(f"{flag} {steps}: method '{method.name}' cannot do that. It can do {allowed} steps.")
    return times


def allowed_steps(method: Method, options: Any, schedule: Any) -> str:
    """The numbers of steps that a method can do, in words."""
    counts = range(1, len(schedule) + 1)
    return counts_in_words([n for n in counts if are_timesteps(timesteps(method, options, schedule, n), schedule)])


def unusual_steps(cells: list[PlannedCell]) -> list[str]:
    """A line for every cell whose number of steps its method can do, but its student, or else the method, was not made for."""
    lines = []
    for cell in cells:
        student = {} if cell.method.facts is None else cell.method.facts
        made_for = student.get("made_for", cell.method.noun.made_for)
        whose = "the student of method" if "made_for" in student else "method"
        lines += unusual(f"{whose} '{cell.method.label}'", made_for, cell.steps)
    return lines


def unusual(who: str, made_for: Sequence[int], steps: int) -> list[str]:
    """A line if `steps` is none of the numbers that something was made for; no numbers mean any."""
    if len(made_for) == 0 or steps in made_for:
        return []
    counts = "1 step" if list(made_for) == [1] else f"{counts_in_words(made_for)} steps"
    return [f"{who} was made for {counts}, not for {steps}."]
