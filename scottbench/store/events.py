"""The append-only log of a run folder, events.ndjson: one JSON object a line, so that times add up over kills and resumptions.

Every line has "time" (UTC), "attempt" (from 1), "worker" (0 = the main process), "event" and "wall", the seconds since that process
began; lines that follow work also have "forward" (seconds inside networks by part) and "store" (seconds spent writing), both since
that process began. A killed process leaves its last line as its account. A torn last line is no line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from scottbench.store.files import timestamp, whole_lines, writing

NAME = "events.ndjson"


class Events:
    """Writer of one process. reading: {"wall": seconds, ...} so far, taken at every line."""

    def __init__(self, folder: Path, attempt: int, worker: int, reading: Callable[[], dict]):
        self.path, self.attempt, self.worker, self.reading = Path(folder) / NAME, attempt, worker, reading

    def log_event(self, event: str, **facts: object) -> None:
        """Append one line, whole or not at all as far as other writers see: one write to a file opened for appending."""
        line = {"time": timestamp(), "attempt": self.attempt, "worker": self.worker, "event": event, **facts, **self.reading()}
        data = (json.dumps(line) + "\n").encode()
        with writing(self.path):
            stream = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                size = os.fstat(stream).st_size
                if size and os.pread(stream, 1, size - 1) != b"\n":
                    data = b"\n" + data  # a killed writer's torn line must not swallow this one
                os.write(stream, data)
            finally:
                os.close(stream)


def read_events(folder: Path) -> list[dict]:
    """Return all lines that are whole; [] where there is no log."""
    return [event for event in whole_lines(Path(folder) / NAME) if isinstance(event.get("attempt"), int)]


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
