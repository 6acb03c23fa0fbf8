"""A request, resolved and verified: names, options, guidance, weights, data. Its hash is the identity of the run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scottbench.plan.cells import PlannedCell, PlannedMetric, make_cells, unsealed, unusual_steps
from scottbench.plan.choices import choose
from scottbench.plan.identity import identity
from scottbench.plan.inputs import doubts, open_inputs
from scottbench.plan.published import published_lines
from scottbench.plan.request import RunRequest, recorded
from scottbench.plan.trial import try_out
from scottbench.registry.presets import Preset

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.models.extractors import Source
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Items


@dataclass
class Plan:
    """A verified plan. `record` is its identity, JSON-able; the rest is opened or found on this machine."""

    record: dict[str, Any]
    hash: str
    preset: Preset
    command: str
    device: str
    model: DiffusionModel
    items: Items
    n: int
    chunk: int
    micro_batch: int | None
    """Images per call of the networks that generate, always: a last call that lacks some is filled up. None: as many as --batch-size."""
    cells: list[PlannedCell]
    metrics: list[PlannedMetric]
    sources: dict[str, Source]
    """Extractor role -> where its network is; a role that is the same as another is not in it."""
    roles: dict[str, str]
    """Role -> role whose extractor it uses."""
    model_card: dict | None
    """The preset's measured quality of its model."""
    settings: dict[str, dict]
    """{name: {"value", "origin"}} of everything that was asked for."""
    seconds: float
    """Time that planning took, part of the run's wall time."""
    warnings: list[str] = field(default_factory=list)
    """Lines for the user: these things can be run, and should be known."""


def make_plan(plugins: Plugins, request: RunRequest) -> Plan:
    """Resolve and verify everything a run needs; nothing is written and no socket opened.

    Raises UsageError for names, values and folders, MissingAsset or DamagedAsset (one message for all) for files.
    """
    started = time.perf_counter()
    choices = choose(plugins, request)
    tried = try_out(choices)
    inputs = open_inputs(plugins, choices)
    cells = make_cells(inputs.methods, choices.steps, choices.seeds, inputs.model.schedule)
    named = identity(plugins, choices, inputs, cells)
    published = published_lines(inputs.methods, inputs.model_name, inputs.model.digest)
    return Plan(
        record=named.record,
        hash=named.hash,
        preset=choices.preset,
        command=request.command,
        device=choices.device,
        model=inputs.model,
        items=inputs.items,
        n=inputs.n,
        chunk=named.record["chunk"],
        micro_batch=named.record["micro_batch"],
        cells=cells,
        metrics=named.metrics,
        sources=inputs.sources,
        roles=choices.roles,
        model_card=inputs.model_card,
        settings=recorded(request, choices.preset),
        seconds=time.perf_counter() - started,
        warnings=[*doubts(inputs.methods, inputs.model), *published, *unusual_steps(cells), *unsealed(cells), *tried],
    )
