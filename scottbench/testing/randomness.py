"""The global random generators, which no plug-in may touch."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from scottbench.testing.finding import NotConforming, Subject


def unmoved(subject: Subject, call: Callable[[], Any], at: str, instead: str) -> Any:
    """Return what `call` does, which must leave the global generators as they stand. Raises NotConforming, with the line."""
    before = random_state()
    found = call()
    if random_state() != before:
        line = subject.code.line_that_changes(call, random_state)
        raise NotConforming(
            f"{subject.who}: it draws from, or seeds, a global random generator.",
            f"{instead} A generator of its own needs a fixed seed.",
            line or at,
        )
    return found


def random_state() -> tuple[Any, ...]:
    """Return the states of the global generators of torch, numpy and Python, to be compared."""
    _, key, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), np.asarray(key).tobytes(), rest, random.getstate()
