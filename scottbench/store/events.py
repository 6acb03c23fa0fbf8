"""The append-only log of a run folder, events.ndjson: one JSON object a line, so that times add up over kills and resumptions.

Every line has "time" (UTC), "attempt" (from 1), "worker" (0 = the main process), "event" and "wall", the seconds since that process
began; lines that follow work also have "forward" (seconds inside networks by part) and "store" (seconds spent writing), both since
that process began. A killed process leaves its last line as its account. A torn last line is no line.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

from scottbench.store.files import append_line, plainly, read_plain, timestamp, whole_lines, writing
from scottbench.store.manifest import Log

NAME = "events.ndjson"
LARGEST = 2**28
"""Bytes of a log that are read at most."""
MOST = 10**6
"""Attempts and workers that a log may count."""


class Events:
    """Writer of one process. reading: {"wall": seconds, ...} so far, taken at every line."""

    def __init__(self, folder: Path, attempt: int, worker: int, reading: Callable[[], dict]):
        self.path, self.attempt, self.worker, self.reading = Path(folder) / NAME, attempt, worker, reading

    def log_event(self, event: str, **facts: object) -> None:
        """Append one line as `append_line`. Raises UsageError or Incomplete where it cannot be written."""
        line = {"time": timestamp(), "attempt": self.attempt, "worker": self.worker, "event": event, **facts, **self.reading()}
        with plainly(self.path), writing(self.path):
            append_line(self.path, line)


def read_events(folder: Path) -> list[dict]:
    """Return all lines that are whole and of the kinds that `Events` writes; [] where there is no log."""
    return [event for event in whole_lines(Path(folder) / NAME, Path(folder), LARGEST) if _is_ours(event)]


def _is_ours(event: dict) -> bool:
    """Whether the fields that are added up have the kinds that they must have."""
    forward = event.get("forward", {})
    numbers = [event.get("wall", 0.0), event.get("store", 0.0), *(forward.values() if isinstance(forward, dict) else [None])]
    counts = [event.get("attempt"), event.get("worker", 0) + 1 if type(event.get("worker", 0)) is int else None]
    return all(type(one) is int and 1 <= one <= MOST for one in counts) and all(
        type(one) in (int, float) and 0 <= one < math.inf for one in numbers)


def read_log(folder: Path) -> bytes | None:
    """Read the bytes of the log; None where there is none that is a plain file."""
    try:
        return read_plain(Path(folder) / NAME, LARGEST, Path(folder))
    except (OSError, ValueError):
        return None


def log_digest(data: bytes) -> Log:
    """Return the length and the sha256 of a log's bytes."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def begins_as(data: bytes | None, log: Log) -> bool:
    """Tell whether a log is the one that a manifest noted; later lines may follow. data: of `read_log`."""
    return data is not None and log_digest(data[: log["bytes"]]) == log


def attempts(events: list[dict]) -> int:
    """Return the number of the last attempt; 0 before the first."""
    return max((event["attempt"] for event in events), default=0)


def spent(events: list[dict]) -> dict:
    """Add up {"wall", "processes", "store", "forward": {part: seconds}} over all attempts: of each process its last reading. Workers of
    one attempt run side by side: "wall" counts their time once, "processes" each."""
    last: dict[tuple[int, int], dict] = {}
    for event in events:
        last.setdefault((event["attempt"], event.get("worker", 0)), {}).update(event)
    total: dict = {"wall": 0.0, "processes": 0.0, "store": 0.0, "forward": {}}
    for attempt in {attempt for attempt, _ in last}:
        total["wall"] += max(event.get("wall", 0.0) for (number, _), event in last.items() if number == attempt)
    for event in last.values():
        total["processes"] += event.get("wall", 0.0)
        total["store"] += event.get("store", 0.0)
        for part, seconds in event.get("forward", {}).items():
            total["forward"][part] = total["forward"].get(part, 0.0) + seconds
    return total
