"""Time by stage, and the share of it inside the networks' forward passes.

On a GPU work is queued. A stage there is the time between two marks that the device passes (CUDA events), so that no reading makes the
program wait; the marks are read when their chunk is stored, or when a total is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch


class Clock:
    """Wall time since it was made, and seconds inside forward passes by part ("unet", "decoder", ...). Any thread may use it."""

    def __init__(self, device: str):
        self.device, self.queued = device, device.startswith("cuda")
        self.synchronise = functools.partial(torch.cuda.synchronize, device) if self.queued else lambda: None
        self.lock = threading.Lock()
        self.marks: list[tuple[dict[str, float], str, Any, Any]] = []
        """Stages on the device that nobody has read yet: where their seconds go, name, first and last mark."""
        self.forward: dict[str, float] = {}
        self.started = self.now()

    def now(self) -> float:
        """Seconds on a monotonic clock, with the device idle."""
        self.synchronise()
        return time.perf_counter()

    @property
    def wall(self) -> float:
        """Seconds since the clock was made; on a GPU what is queued may still be to do."""
        return time.perf_counter() - self.started

    @contextlib.contextmanager
    def stage(self, seconds: dict[str, float], name: str, host: bool = False) -> Iterator[None]:
        """Add the block's duration to seconds[name]. host: the block works on this machine and waits for the device by itself; on a GPU
        other blocks are added later, by `settle`."""
        if self.queued and not host:
            with self._marked(seconds, name):
                yield
            return
        start = time.perf_counter()
        yield
        self._add(seconds, name, time.perf_counter() - start)

    @contextlib.contextmanager
    def _marked(self, seconds: dict[str, float], name: str) -> Iterator[None]:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record(torch.cuda.current_stream(self.device))
        yield
        last.record(torch.cuda.current_stream(self.device))
        with self.lock:
            self.marks.append((seconds, name, first, last))

    def settle(self, wanted: dict[str, float] | None = None) -> None:
        """Add up the stages that the device has passed, and wait for those whose seconds go to `wanted`."""
        with self.lock:
            marks, self.marks = self.marks, []
        for mark in marks:
            seconds, name, first, last = mark
            if seconds is wanted:
                last.synchronize()
            if last.query():
                self._add(seconds, name, first.elapsed_time(last) / 1000)
            else:
                with self.lock:
                    self.marks.append(mark)

    def _add(self, seconds: dict[str, float], name: str, spent: float) -> None:
        with self.lock:
            seconds[name] = seconds.get(name, 0.0) + spent

    def forward_so_far(self) -> dict[str, float]:
        """Return a copy of the seconds inside forward passes by part, as far as the device has passed them."""
        self.settle()
        with self.lock:
            return dict(self.forward)

    @contextlib.contextmanager
    def watching(self, owner: Any, attribute: str, part: str) -> Iterator[None]:
        """Within the block, charge every call of owner.attribute to `part`. An instance attribute covers the function, and is
        taken away again."""
        function: Callable = getattr(owner, attribute)
        covered = attribute in vars(owner)

        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.stage(self.forward, part):
                return function(*args, **kwargs)

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            if covered:
                setattr(owner, attribute, function)
            else:
                delattr(owner, attribute)


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
