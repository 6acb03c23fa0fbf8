"""A request, resolved and verified: names, options, guidance, weights, data. Its hash is the identity of the run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scottbench.plan.cells import PlannedCell, PlannedMetric, make_cells, unsealed, unusual_steps
from scottbench.plan.choices import choose
from scottbench.plan.identity import identity
from scottbench.plan.inputs import doubts, open_inputs
from scottbench.plan.pictures import Reference
from scottbench.plan.published import published_lines
from scottbench.plan.request import RunRequest, recorded
from scottbench.plan.teachers import default_metrics, require_teachers
from scottbench.plan.trial import try_out
from scottbench.registry.presets import Preset
from scottbench.store.folder import spans

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
    teacher: DiffusionModel | None
    """The model that is sampled; None where all rows are pictures made elsewhere."""
    items: Items
    n: int
    reference: Reference | None
    """The real images; None where pictures are measured by their prompts alone."""
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
    recorded: dict | None
    """Rows of a published run that the preset brings, as the manifest's `Recorded`."""
    settings: dict[str, dict]
    """{name: {"value", "origin"}} of everything that was asked for."""
    seconds: float
    """Time that planning took, part of the run's wall time."""
    warnings: list[str] = field(default_factory=list)
    """Lines for the user: these things can be run, and should be known."""
    own_data: bool = True
    """The data are the preset's own."""
    broken: list[str] = field(default_factory=list)
    """Lines about pictures that could not be read and were left out; they are among the warnings too."""

    @property
    def model(self) -> DiffusionModel:
        """Return the model that is sampled, of a plan that samples one."""
        assert self.teacher is not None, "a plan of pictures alone has no model"
        return self.teacher

    @property
    def compiled(self) -> str:
        """Say how U-Nets are compiled: "off", "blocks" or "graphs"."""
        return str(self.record.get("compile", "off"))

    @property
    def exact(self) -> bool:
        """True where the same plan gives the same bytes on one type of machine: on a CPU, with nothing compiled."""
        return self.micro_batch is not None and self.compiled == "off"

    @property
    def data_name(self) -> str:
        """Return the name of the data."""
        return str(self.record["dataset"]["name"])

    def ids_of(self, owner: str) -> Sequence[str]:
        """Return the ids of what the chunks of an owner hold, in order: "reference", "text" or a cell."""
        if owner == "reference" and self.reference is not None:
            return self.reference.items.ids[: self.reference.n]
        return self.items.ids[: self.n]

    def spans_of(self, owner: str) -> list[range]:
        """Return the chunks of an owner, in the order of its ids; none of reference images that are not there."""
        if owner == "reference":
            return [] if self.reference is None else spans(self.reference.n, self.chunk)
        return spans(self.n, self.chunk)


def make_plan(plugins: Plugins, request: RunRequest) -> Plan:
    """Resolve and verify everything a run needs; nothing is written and no socket opened.

    Raises UsageError for names, values and folders, MissingAsset or DamagedAsset (one message for all) for files.
    """
    started = time.perf_counter()
    choices = choose(plugins, request)
    tried = try_out(choices)
    inputs = open_inputs(plugins, choices)
    schedule = None if inputs.model is None else inputs.model.schedule
    cells = make_cells(inputs.methods, choices.steps, choices.seeds, schedule)
    choices, inputs, left_out = default_metrics(plugins, choices, inputs, cells)
    named = identity(plugins, choices, inputs, cells)
    require_teachers(named.metrics, cells, inputs.sources, choices.roles, choices.preset, inputs.n)
    published = [] if inputs.model is None else published_lines(inputs.methods, inputs.model_name, inputs.model.digest)
    return Plan(
        record=named.record,
        hash=named.hash,
        preset=choices.preset,
        command=request.command,
        device=choices.device,
        teacher=inputs.model,
        items=inputs.items,
        n=inputs.n,
        reference=inputs.reference,
        chunk=named.record["chunk"],
        micro_batch=named.record["micro_batch"],
        cells=cells,
        metrics=named.metrics,
        sources=inputs.sources,
        roles=choices.roles,
        model_card=inputs.model_card,
        recorded=inputs.recorded,
        settings=recorded(request, choices.preset),
        seconds=time.perf_counter() - started,
        warnings=[*inputs.remarks, *doubts(inputs.methods, inputs.model), *published, *unusual_steps(cells), *unsealed(cells), *tried,
                  *left_out],
        own_data=choices.dataset.own if not request.scoring else inputs.data_name == choices.preset.dataset,
        broken=inputs.broken,
    )
