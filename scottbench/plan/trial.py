"""A short trial of what others' plug-ins bring, before anything is computed: a wrong function must not cost hours of sampling first.

Functions given by name are imported, and metrics that do not come with scottbench (its own tests try those) see a small made cell.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scottbench.errors import ScottbenchError, UsageError
from scottbench.registry.guard import PluginFailed, cause_of, resolve_all
from scottbench.registry.nouns import CellFeatures, read_only
from scottbench.text import in_one_line, one_line

if TYPE_CHECKING:
    import numpy as np

    from scottbench.plan.choices import Choices, MetricChoice

OWN = "scottbench"
"""The distribution whose metrics need no trial."""
N, WIDTH, SIDE = 32, 64, 64
"""Images, features of each and pixels a side of the made cell."""
MISTAKES = (TypeError, NameError, AttributeError, ImportError, SyntaxError, SystemExit)
"""What a function raises on data of any size, so that it would fail in the run too. Other errors may be about the made cell."""


def try_out(choices: Choices) -> list[str]:
    """Import what was asked for and try its metrics. Return a warning for each metric that fails on the made cell, and may be right on
    another.

    Raises UsageError, which names plug-in, file and line, where a function cannot be imported or is wrong on any data.
    """
    try:
        for noun in [*(choice.method for choice in choices.methods), *(choice.metric for choice in choices.metrics)]:
            resolve_all(noun)
    except PluginFailed as error:
        raise UsageError(str(error)) from None
    lines = [_try(choice, len(choices.seeds)) for choice in choices.metrics if choice.distribution.lower() != OWN]
    return [line for line in lines if line is not None]


def _try(choice: MetricChoice, seeds: int) -> str | None:
    """A warning about a metric, or None. Raises UsageError for one that cannot be right."""
    metric, who = choice.metric, f"metric '{choice.label}'"
    made: Any = [made_cell(seed, *metric.roles) for seed in range(max(2, seeds))]
    given = read_only(made if metric.scope == "seeds" else made[0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a made cell is too small for comfort
            value = metric.compute(given, choice.options)
            items = None if metric.items is None else metric.items(given, choice.options)
    except Exception as error:  # a plug-in may raise anything
        if isinstance(error, ScottbenchError) and not isinstance(error, PluginFailed):
            return None  # it says what it needs, and a made cell need not have it
        cause = cause_of(error)
        if isinstance(cause, MISTAKES):
            raise UsageError(in_one_line(error)) from None
        return f"tried on {N} made images, {in_one_line(error)}"
    try:
        float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{who}: compute must return a number, found {one_line(repr(value))[:80]} on {N} made images.") from None
    shape = None if items is None else getattr(items, "shape", (len(items),) if hasattr(items, "__len__") else None)
    if items is not None and shape != (N,):
        return f"{who}: items must give one number an image, ({N},), and gives {shape} on {N} made images. It will have no interval."
    return None


def made_cell(seed: int, *needed: str) -> CellFeatures:
    """Make a cell of N images: features (N,WIDTH) float32 of roles "image", "clip" and those needed, images (n,SIDE,SIDE,3) uint8, ids and
    prompts."""
    import numpy as np

    generator, roles = np.random.default_rng(seed), sorted({"image", "clip", *needed})

    def draw(shift: float) -> dict[str, np.ndarray]:
        return {name: (generator.normal(size=(N, WIDTH)) + shift).astype(np.float32) for name in roles}

    def images(indices: Sequence[int]) -> np.ndarray:
        ramp = np.linspace(0, 200, SIDE, dtype=np.float32)[None, :, None, None]
        shade = np.asarray(indices, np.float32)[:, None, None, None] % 50
        return (np.zeros((1, SIDE, SIDE, 3), np.float32) + ramp + shade + seed % 5).astype(np.uint8)

    ids, prompts = tuple(f"item-{i}" for i in range(N)), tuple(f"a thing of kind {i % 5}" for i in range(N))
    return CellFeatures(N, draw(0.3), draw(0.0), draw(0.2), images=images, reference_images=images, ids=ids, prompts=prompts)
