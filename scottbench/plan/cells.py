"""Cells of a plan: method x steps x seed, each with its time steps, weights and code."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.models.student import is_sealed
from scottbench.registry.label import Label
from scottbench.registry.nouns import Method, Metric
from scottbench.registry.times import falls, in_order, repeats, stepwise
from scottbench.store.files import check_name
from scottbench.text import count, counts_in_words, one_line

if TYPE_CHECKING:
    from scottbench.diffusion import Schedule
    from scottbench.models.pictures import PictureSet


@dataclass(frozen=True)
class PlannedMethod:
    """A method with its options, guidance and weights."""

    label: str
    """The name, with its inline options where there are any: so tables call it."""
    noun: Method
    options: Any
    """An instance of the method's Options."""
    guidance: float
    student: Path | None
    """Folder of its student; None: it samples the teacher."""
    facts: dict | None
    """student.json, checked against weights and teacher; None without a student."""
    weights_digest: str
    steps: tuple[int, ...] = ()
    """Its own numbers of sampling steps; (): the run's."""
    pictures: PictureSet | None = None
    """The pictures of a row that was made elsewhere, one for each item; None of a method that is sampled."""


@dataclass(frozen=True)
class PlannedCell:
    """A method at a number of steps with a seed: one image for every item."""

    id: str
    method: PlannedMethod
    steps: int
    seed: int
    timesteps: list[float]
    """The time steps of all calls of the network, in order: one a step, or more."""


@dataclass(frozen=True)
class TeacherImages:
    """The cell of a teacher that a metric compares with."""

    method: str
    steps: int
    seed: int
    guidance: float
    digest: str
    """sha256 hex over all that its images and the code of their features depend on, the number of items aside."""
    what: str
    """sha256 hex over what its images are: as `digest`, without the code, the machine and the batch that make them."""

    def __str__(self) -> str:
        return f"teacher {self.method}@{self.steps} guidance {self.guidance:g} seed {self.seed} {self.what[:8]}"

    def cell_in(self, cells: Sequence[PlannedCell]) -> PlannedCell | None:
        """Return the cell of a run that makes these images, or None."""
        for cell in cells:
            made = (cell.method.label, cell.steps, cell.seed, cell.method.guidance)
            if cell.method.student is None and made == (self.method, self.steps, self.seed, self.guidance):
                return cell
        return None


@dataclass(frozen=True)
class PlannedMetric:
    """A metric with its options and fingerprint."""

    label: str
    """The name, with its inline options where there are any: so tables call it."""
    noun: Metric
    options: Any
    """An instance of the metric's Options."""
    fingerprint: str
    """All that the value depends on beside the images, in words."""
    teacher: TeacherImages | None = None
    """The teacher's images that it compares with; None for most."""


def make_cells(
    methods: Sequence[PlannedMethod], steps: Sequence[int], seeds: Sequence[int], schedule: Schedule | None
) -> list[PlannedCell]:
    """Make the cells, method by method, step count by step count, seed by seed; of pictures made elsewhere one, of 0 steps.

    schedule: the model's; None where no method is sampled.

    Raises UsageError: a step count that a method has no time steps for.
    """
    cells = []
    for method in methods:
        name = Label.parse(method.label).file_name
        if method.pictures is not None or schedule is None:
            cells.append(PlannedCell(check_name(f"{name}__images", "row"), method, 0, seeds[0], []))
            continue
        for number in dict.fromkeys(method.steps if method.steps else steps):
            times = checked_timesteps(method.noun, method.options, schedule, number)
            for seed in dict.fromkeys(seeds):
                cells.append(PlannedCell(check_name(f"{name}__s{number}__seed{seed}", "method"), method, number, seed, times))
    return cells


def by_seeds(cells: Sequence[PlannedCell]) -> list[list[PlannedCell]]:
    """Group the cells by method and number of steps: one per seed, in plan order."""
    return [list(group) for _, group in itertools.groupby(cells, key=lambda cell: (cell.method.label, cell.steps))]


def over_seeds_id(cells: Sequence[PlannedCell]) -> str:
    """Return the id of several seeds of a method at a number of steps."""
    return f"{cells[0].id.rpartition('__')[0]}__seeds"


def timesteps(method: Method, options: Any, schedule: Schedule, steps: int) -> list[tuple[float, ...]]:
    """Return a method's time steps as plain numbers, whole ones as int, one tuple a step; [] for a number of steps that it cannot do.

    Raises UsageError where it gives something else than numbers: that is a mistake of its author.
    """
    found = method.timesteps(schedule, steps, options)
    try:
        times = stepwise(found)
    except (TypeError, ValueError):
        times = [(math.nan,)]
    if not all(math.isfinite(t) for t in in_order(times)):
        raise _of_its_author(method, steps, one_line(repr(found)), "finite numbers")
    return [tuple(int(t) if t == int(t) else t for t in step) for step in times]


def checked_timesteps(method: Method, options: Any, schedule: Schedule, steps: int, flag: str = "--steps") -> list[float]:
    """Return the time steps of all calls of a method's network, in order.

    Raises UsageError: a number of steps (`flag`) that it cannot spread over the schedule; or time steps that rise, lie outside the
    schedule or are another number than asked for, which is its author's mistake.
    """
    times = timesteps(method, options, schedule, steps) if steps <= len(schedule) else []
    if not times or repeats(times):
        allowed = allowed_steps(method, options, schedule)
        raise UsageError(f"{flag} {steps}: method '{method.name}' cannot do that. It can do {allowed} steps.")
    if len(times) != steps or not falls(times, len(schedule)):
        rule = f"{count(steps, 'time step')} that fall, from noise to data, inside 0..{len(schedule)}"
        shown = [step[0] if len(step) == 1 else step for step in times[:8]]
        raise _of_its_author(method, steps, f"{shown}{' ...' if len(times) > 8 else ''}", rule)
    return in_order(times)


def _of_its_author(method: Method, steps: int, found: str, rule: str) -> UsageError:
    return UsageError(f"method '{method.name}' cannot be run: for {count(steps, 'step')} its timesteps function gives {found[:120]}, "
                      f"and it must give {rule}. Its author can mend it; leave the method out.")


def allowed_steps(method: Method, options: Any, schedule: Schedule) -> str:
    """Say in words which numbers of steps a method can do."""
    counts = range(1, len(schedule) + 1)
    return counts_in_words([n for n in counts if falls(timesteps(method, options, schedule, n), len(schedule))])


def unsealed(cells: Sequence[PlannedCell]) -> list[str]:
    """Warn, in one line or none, of students of an older version, whose student.json nothing vouches for."""
    methods = {cell.method.label: cell.method.facts for cell in cells}
    names = [label for label, facts in methods.items() if facts is not None and not is_sealed(facts)]
    if not names:
        return []
    return [f"unsealed (older version): nothing vouches for what student.json says of the student of {', '.join(names)}."]


def unusual_steps(cells: Sequence[PlannedCell]) -> list[str]:
    """Warn, a line a cell, of numbers of steps that the method can do, but its student, or else the method, was not made for."""
    lines = []
    for cell in cells:
        if cell.method.pictures is not None:
            continue
        student = {} if cell.method.facts is None else cell.method.facts
        made_for = student.get("made_for", cell.method.noun.made_for)
        whose = "the student of method" if "made_for" in student else "method"
        lines += unusual(f"{whose} '{cell.method.label}'", made_for, cell.steps)
    return lines


def unusual(who: str, made_for: Sequence[int], steps: int) -> list[str]:
    """Warn, in one line or none, if `steps` is none of the numbers that something was made for; no numbers mean any."""
    if len(made_for) == 0 or steps in made_for:
        return []
    counts = "1 step" if list(made_for) == [1] else f"{counts_in_words(made_for)} steps"
    return [f"{who} was made for {counts}, not for {steps}."]
