"""Timings are taken one beside the other in one process: what else the machine does then slows both."""

import time
from collections.abc import Callable

import pytest


@pytest.fixture
def side_by_side() -> Callable:
    """(repeats, **functions) -> {name: least seconds}. The functions take turns, after one round that does not count."""

    def measure(repeats: int, **functions: Callable[[], object]) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for turn in range(repeats + 1):
            for name, function in functions.items():
                started = time.perf_counter()
                function()
                if turn:
                    seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - started)
        return seconds

    return measure
