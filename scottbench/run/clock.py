"""Time by stage, and the share of it inside the networks' forward passes.

On a GPU work is queued: every reading waits until the device has finished, or a stage would be charged for another's work.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch


class Clock:
    """Wall time since it was made, and seconds inside forward passes by part ("unet", "decoder", ...)."""

    def __init__(self, device: str):
        self.synchronise = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
        self.forward: dict[str, float] = {}
        self.started = self.now()

    def now(self) -> float:
        """Seconds on a monotonic clock, with the device idle."""
        self.synchronise()
        return time.perf_counter()

    @property
    def wall(self) -> float:
        """Seconds since the clock was made."""
        return self.now() - self.started

    @contextlib.contextmanager
    def stage(self, seconds: dict[str, float], name: str) -> Iterator[None]:
        """Add the block's duration to seconds[name]."""
        start = self.now()
        yield
        seconds[name] = seconds.get(name, 0.0) + self.now() - start

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


def machine_load() -> float | None:
    """Return how many tasks wanted a processor over the last minute, per processor; ours are among them. None where no system tells."""
    try:
        return round(os.getloadavg()[0] / max(1, os.cpu_count() or 1), 2)
    except OSError:
        return None


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
