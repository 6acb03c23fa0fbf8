"""Time steps that a method declares: one number a step, or a tuple where a step asks its network several times."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

Times = Sequence[tuple[float, ...]]
"""One tuple a step: the time steps of its calls of the network, in order."""


def stepwise(found: Iterable[Any]) -> list[tuple[float, ...]]:
    """Turn what a method's `timesteps` gives into one tuple a step. Raises TypeError or ValueError for what holds something else than
    numbers."""
    return [tuple(map(float, step)) if isinstance(step, (tuple, list)) else (float(step),) for step in found]


def falls(times: Times, length: int) -> bool:
    """Return True if there are steps, each begins below the one before, and all their calls lie inside 0..length, the schedule's: T itself,
    pure noise, included."""
    inside = all(0 <= t <= length for step in times for t in step)
    return bool(times) and all(times) and inside and all(a[0] > b[0] for a, b in zip(times, times[1:]))


def repeats(times: Times) -> bool:
    """Return True if two steps begin at the same time: a method's way to say that it cannot do so many."""
    return any(a[:1] == b[:1] for a, b in zip(times, times[1:]))


def in_order(times: Times) -> list[float]:
    """List the time steps of all calls, in order."""
    return list(itertools.chain.from_iterable(times))


def in_succession(seen: Iterable[float]) -> list[float]:
    """Leave out what equals the one before it: a sampler may ask twice at one time step, as where one step ends and the next begins."""
    return [t for t, _ in itertools.groupby(seen)]
