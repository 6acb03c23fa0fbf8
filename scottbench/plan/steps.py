"""Numbers of sampling steps: which a method can do, and which it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.registry.nouns import Method

if TYPE_CHECKING:
    from scottbench.plan.cells import PlannedCell


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
    return in_words([n for n in counts if are_timesteps(timesteps(method, options, schedule, n), schedule)])


def in_words(counts: Sequence[int]) -> str:
    """Rising numbers of steps: "1 to 50", "1, 2, 4"."""
    if len(counts) > 2 and list(counts) == list(range(counts[0], counts[-1] + 1)):
        return f"{counts[0]} to {counts[-1]}"
    return ", ".join(map(str, counts)) if counts else "no"


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
    counts = "1 step" if list(made_for) == [1] else f"{in_words(made_for)} steps"
    return [f"{who} was made for {counts}, not for {steps}."]
