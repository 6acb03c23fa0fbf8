"""The order in which a training reads a data set that lies in shards: a function of numbers, so that a resumed training goes on at the same
item and no process has to ask another.

An epoch permutes the shards. Their items, one shard behind the other, are cut into equal lanes, one for each micro-batch of a step: a lane
reads its own shards from first to last, and shuffles what it reads within windows of `window` items, as a shuffle buffer of that size does.
The end of a lane is kept as spares, which take the place of items that turn out to be broken.

A training that goes on with another number of lanes (of processes times micro-batches) cuts what is left of its epoch anew. The rest of a
window that a lane stood in is left out of that epoch, and no item comes twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

Span = tuple[int, int]
"""Places [first, end) of an epoch."""


@dataclass(frozen=True)
class Shards:
    """A data set in shards, of which some items are held out."""

    sizes: np.ndarray
    """(S,) int64: items of each shard; the items of all are numbered one behind the other."""
    held_out: np.ndarray
    """(h,) int64, ascending: items that no epoch has."""
    seed: int = 0

    @cached_property
    def counts(self) -> np.ndarray:
        """Count the items of each shard that epochs have: (S,) int64."""
        of = np.searchsorted(np.cumsum(self.sizes), self.held_out, side="right")
        return self.sizes - np.bincount(of, minlength=len(self.sizes))

    def __len__(self) -> int:
        return int(self.sizes.sum()) - len(self.held_out)


@lru_cache(maxsize=4)
def starts_of(seed: int, epoch: int, counts: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Permute the shards of an epoch: (shard at each rank, place at which it begins, number of its first item), (S,) int64 each.
    counts: the bytes of (S,) int64."""
    sizes = np.frombuffer(counts, np.int64)
    ranked = np.random.default_rng([seed, epoch]).permutation(len(sizes))
    return ranked, np.cumsum(sizes[ranked]) - sizes[ranked], np.cumsum(sizes) - sizes


def items_at(shards: Shards, epoch: int, places: np.ndarray) -> np.ndarray:
    """Return the items, (n,) int64, that stand at places of an epoch, (n,) int64."""
    ranked, begins, firsts = starts_of(shards.seed, epoch, shards.counts.tobytes())
    rank = np.searchsorted(begins, places, side="right") - 1  # of shards that begin at one place the last: the others are empty
    kept = firsts[ranked[rank]] + places - begins[rank]
    return kept + np.searchsorted(shards.held_out - np.arange(len(shards.held_out)), kept, side="right")


@dataclass(frozen=True)
class Course:
    """The rest of an epoch, cut into lanes; the whole of it where `spans` is all."""

    epoch: int
    since: int
    """The step that begins it."""
    spans: tuple[Span, ...]
    lanes: int
    rows: int
    """Items of a lane in one step."""
    spare: float
    """Share of each lane that is kept as spares."""
    window: int
    seed: int

    @property
    def edges(self) -> list[int]:
        """List where each lane begins and the last one ends, counted over the spans alone."""
        total = sum(end - first for first, end in self.spans)
        return [lane * total // self.lanes for lane in range(self.lanes + 1)]

    @property
    def steps(self) -> int:
        """Count its steps: those for which every lane has items beside its spares."""
        shortest = min(end - first for first, end in zip(self.edges, self.edges[1:]))
        return max(0, shortest - math.ceil(self.spare * shortest)) // self.rows

    def part(self, lane: int, step: int) -> np.ndarray:
        """Return the places, (rows,) int64, of a lane in the step `step` of the course."""
        used, wanted = self.steps * self.rows, np.arange(step * self.rows, (step + 1) * self.rows)
        window = wanted // self.window
        found = np.empty(len(wanted), np.int64)
        for one in np.unique(window):
            first = int(one) * self.window
            order = shuffled(self.seed, self.epoch, self.since, lane, int(one), min(self.window, used - first))
            found[window == one] = first + order[wanted[window == one] - first]
        return self.places(self.edges[lane] + found)

    def spares(self, lane: int) -> int:
        """Count the spares of a lane."""
        return self.edges[lane + 1] - self.edges[lane] - self.steps * self.rows

    def spare_at(self, lane: int, number: int) -> int:
        """Return the place of a spare of a lane."""
        return int(self.places(np.array([self.edges[lane] + self.steps * self.rows + number]))[0])

    def places(self, along: np.ndarray) -> np.ndarray:
        """Turn numbers that are counted over the spans alone, (n,) int64, into places of the epoch."""
        lengths = np.array([end - first for first, end in self.spans], np.int64)
        begins = np.cumsum(lengths) - lengths
        at = np.searchsorted(begins, along, side="right") - 1
        return np.array([first for first, _ in self.spans], np.int64)[at] + along - begins[at]

    def left(self, step: int, used: Sequence[int]) -> tuple[Span, ...]:
        """Return the spans that no lane has read before its step `step`, all of it but the rest of windows that lanes stand in. used:
        spares that each lane has used."""
        done = step * self.rows
        begun = math.ceil(done / self.window) * self.window
        spans: list[Span] = []
        for lane, first in enumerate(self.edges[:-1]):
            end = first + self.steps * self.rows
            spans += self.cut(first + min(begun, end - first), end)
            spans += self.cut(end + used[lane], self.edges[lane + 1])
        return tuple(spans)

    def cut(self, first: int, end: int) -> list[Span]:
        """Return the spans of places between two numbers that are counted over the spans alone."""
        found, at = [], 0
        for begin, stop in self.spans:
            low, high = max(first, at), min(end, at + stop - begin)
            if low < high:
                found.append((begin + low - at, begin + high - at))
            at += stop - begin
        return found


@lru_cache(maxsize=64)
def shuffled(seed: int, epoch: int, since: int, lane: int, window: int, size: int) -> np.ndarray:
    """Return the order, (size,) int64, in which a lane reads a window of an epoch that it began at the step `since`."""
    return np.random.default_rng([seed, epoch, since, lane, window]).permutation(size)


class Order:
    """Items of every step of a training, and the spares that it has used. window: items that are shuffled among each other. spare: share of
    each epoch that is kept for items in place of broken ones."""

    def __init__(self, shards: Shards, lanes: int, rows: int, window: int, spare: float):
        self.shards, self.window, self.spare = shards, window, spare
        self.course = self.whole(0, 0, lanes, rows)
        """The course that the training began or was resumed with."""
        self.used: dict[int, list[int]] = {}
        """Epoch -> spares that each lane has used in it."""

    def whole(self, epoch: int, since: int, lanes: int, rows: int) -> Course:
        """Return the course of a whole epoch."""
        return Course(epoch, since, ((0, len(self.shards)),), lanes, rows, self.spare, self.window, self.shards.seed)

    def at(self, step: int) -> tuple[Course, int]:
        """Return the course that a step of the training is of, and its number in it."""
        first, passed = self.course, step - self.course.since
        if passed < first.steps:
            return first, passed
        later = self.whole(first.epoch + 1, 0, first.lanes, first.rows)
        more, number = divmod(passed - first.steps, later.steps)
        return self.whole(first.epoch + 1 + more, 0, first.lanes, first.rows), number

    def part(self, step: int, lane: int) -> np.ndarray:
        """Return the items, (rows,) int64, of a lane in a step of the training."""
        course, number = self.at(step)
        return items_at(self.shards, course.epoch, course.part(lane, number))

    def spare_item(self, step: int, lane: int, number: int) -> int | None:
        """Return the spare `number` of a lane in the epoch of a step; None where it has no more."""
        course, _ = self.at(step)
        if number >= course.spares(lane):
            return None
        return int(items_at(self.shards, course.epoch, np.array([course.spare_at(lane, number)]))[0])

    def spent(self, step: int, lane: int) -> int:
        """Count the spares that a lane has used in the epoch of a step."""
        course, _ = self.at(step)
        return self.used.get(course.epoch, [0] * course.lanes)[lane]

    def note(self, step: int, lane: int, spent: int) -> None:
        """Note the spares that a lane has used, with those of a step that was trained; epochs before are forgotten."""
        course, _ = self.at(step)
        self.used = {epoch: counts for epoch, counts in self.used.items() if epoch == course.epoch}
        self.used.setdefault(course.epoch, [0] * course.lanes)[lane] = spent

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def state(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint after so many steps needs to go on: JSON values. Spares are those that this process has noted."""
        first, (now, _) = self.course, self.at(step)
        return {
            "epoch": first.epoch, "since": first.since, "spans": [list(span) for span in first.spans], "lanes": first.lanes,
            "rows": first.rows, "items": len(self.shards), "used": self.used.get(now.epoch, [0] * first.lanes)}  # fmt: skip

    def resume(self, state: Mapping[str, Any], step: int) -> bool:
        """Go on where a checkpoint after so many steps was; tell whether lanes are others now, so that the order is too. Raises ValueError
        for a state that cannot be."""
        lanes, rows = self.course.lanes, self.course.rows
        spans = checked(state, len(self.shards), step)
        before = state["lanes"], state["rows"]
        self.course = Course(state["epoch"], state["since"], spans, *before, self.spare, self.window, self.shards.seed)
        if self.whole(0, 0, *before).steps < 1:
            raise ValueError("its lanes have no step")
        now, number = self.at(step)
        used = list(state["used"])
        if any(count > now.spares(lane) for lane, count in enumerate(used)):
            raise ValueError("more spares are used than there are")
        self.used = {now.epoch: used}
        if before == (lanes, rows):
            return False
        left = now.left(number, used)
        self.course = Course(now.epoch, step, left or ((0, 0),), lanes, rows, self.spare, self.window, self.shards.seed)
        self.used = {}
        return True


def checked(state: Mapping[str, Any], items: int, step: int) -> tuple[Span, ...]:
    """Check the state of a checkpoint, which may come from anywhere, for a data set of so many items, and return its spans. Raises
    ValueError."""
    numbers = {name: state[name] for name in ("epoch", "since", "lanes", "rows", "items") if is_count(state.get(name))}
    spans, used = state.get("spans"), state.get("used")
    if len(numbers) < 5 or not isinstance(spans, list):
        raise ValueError(f"the place in the stream cannot be {str(dict(state))[:80]}")
    if numbers["items"] != items or numbers["since"] > step or not 1 <= numbers["lanes"] <= 2**16 or numbers["rows"] < 1:
        raise ValueError(f"the place in the stream is of another stream ({numbers})")
    edges = [edge for span in spans if isinstance(span, list) and len(span) == 2 for edge in span]
    in_order = all(type(edge) is int for edge in edges) and edges == sorted(edges) and len(edges) == 2 * len(spans) > 0
    if not in_order or edges[0] < 0 or edges[-1] > items:
        # lanes of a course that was cut anew have their spans in this order too
        raise ValueError("the spans of the stream that are left cannot be")
    if not isinstance(used, list) or len(used) != numbers["lanes"] or any(type(count) is not int or count < 0 for count in used):
        raise ValueError("the spares of the stream that are used cannot be")
    return tuple((first, end) for first, end in spans)


def is_count(value: object) -> bool:
    """Tell whether a value of a record is a whole number that can count something."""
    return type(value) is int and 0 <= value <= 2**53
