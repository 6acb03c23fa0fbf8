"""What was asked, resolved and verified: names, options, guidance, weights, data. Its hash is the identity of the run.

The hash covers everything that can change a number of the results and nothing else: no batch size, path, time or command.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.plan import choices as resolve
from scottbench.plan import inputs
from scottbench.plan import steps as step_counts
from scottbench.plan.cells import PlannedCell, PlannedMethod, cell_record, make_cells
from scottbench.plan.request import recorded
from scottbench.registry.nouns import Metric
from scottbench.registry.presets import Preset
from scottbench.store.assets import gather, offline
from scottbench.store.environment import flush_denormals
from scottbench.store.folder import PLAN_SCHEMA, canonical

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.models.extractors import Source
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Items

CHUNK = 64
"""Items per chunk: the unit of storing, resuming and sharing out."""


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for, as text was parsed; names are looked up by `make_plan`."""

    preset: str
    methods: list[str] = field(default_factory=list)
    """Each a name, or name@key=value,...; [] for the preset's."""
    steps: list[int] = field(default_factory=list)
    """Of the methods that have none of their own (name@steps=N); [] for the preset's."""
    metrics: list[str] | None = None
    limit: int | None = None
    """Only the first `limit` items of the evaluation split; the reference set is the same items."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Each a cell of every method and step count."""
    guidance: float | None = None
    options: dict[str, str] = field(default_factory=dict)
    """For every method of the run that has an option of that name."""
    device: str = "auto"
    students: dict[str, str] = field(default_factory=dict)
    """Trainer, or the S of a method's @student=S, -> student folder, in place of the preset's."""
    model: str | None = None
    """Name of a model, or path of a diffusers pipeline folder, in place of the preset's."""
    allow_unsafe_checkpoint: bool = False
    """Read pickled weights (.bin) of a `model` folder that has no safetensors; the run and its report say so."""
    command: str = ""
    origins: dict[str, str] = field(default_factory=dict)
    """Field -> where its value comes from ("flag", "SCOTTBENCH_STEPS", "file bench.toml"), for those that were given."""


@dataclass(frozen=True)
class PlannedMetric:
    label: str
    noun: Metric
    options: Any
    fingerprint: str


@dataclass
class Plan:
    """A verified plan. `record` is the identity, JSON-able; the rest is opened or found on this machine."""

    record: dict
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
    """{name: {"value", "origin"}} of what was asked for."""
    seconds: float
    """Time that planning took, part of the run's wall time."""
    warnings: list[str] = field(default_factory=list)
    """What can be run and should be known."""


def make_plan(plugins: Plugins, request: RunRequest) -> Plan:
    """Resolve and verify everything a run needs; nothing is written and no socket opened.

    Raises UsageError for names, values and folders, MissingAsset or DamagedAsset (one message for all) for files.
    """
    started = time.perf_counter()
    preset = plugins.find("preset", request.preset).noun
    resolve.check_numbers(request)
    methods = resolve.find_methods(plugins, preset, request)
    inputs.check_students(plugins, request, methods)
    metrics = resolve.find_metrics(plugins, preset, request)
    resolve.check_seeds(metrics, request.seeds)
    roles = resolve.roles(preset, metrics)
    device = resolve.device(request.device, preset)
    flush_denormals()
    with offline():
        (model_name, model), items, sources, folders, card = _ready(plugins, preset, request, device, methods, roles)
        planned = _verify_students(methods, folders, model.digest)
    n = inputs.count(items, request.limit, preset.dataset)
    cells = make_cells(planned, request.steps or preset.steps, request.seeds, model.schedule)
    metrics = _fingerprints(metrics, roles, sources, n, items.digest, len(set(request.seeds)))
    micro_batch = resolve.micro_batch(device, model.latent_shape)
    record = {
        "schema": PLAN_SCHEMA,
        "preset": preset.name,
        "model": {"name": model_name, "digest": model.digest, "unsafe": model.pickled},
        "dataset": {"name": preset.dataset, "split": "evaluation", "digest": items.digest, "n": n},
        "seeds": list(dict.fromkeys(request.seeds)),
        "device": device.partition(":")[0],
        "dtype": resolve.dtype(preset, device),
        "chunk": CHUNK,
        "micro_batch": micro_batch,
        "cells": [cell_record(cell) for cell in cells],
        "extractors": {role: _source_record(sources[target]) for role, target in roles.items()},
        "metrics": [_metric_record(metric) for metric in metrics],
    }
    digest = hashlib.sha256(canonical(record)).hexdigest()
    return Plan(
        record, digest, preset, request.command, device, model, items, n, CHUNK, micro_batch, cells, metrics, sources, roles, card,
        recorded(request, preset), seconds=time.perf_counter() - started, warnings=step_counts.unusual_steps(cells))


def _ready(plugins: Plugins, preset: Preset, request: RunRequest, device: str, methods: list, roles: dict[str, str]) -> tuple:
    """(name, model), items, extractor sources, student folders, model card: one message names all that is missing."""
    dataset = plugins.find("dataset", preset.dataset).noun
    checks = {
        "model": lambda: inputs.open_model(plugins, preset, request, device),
        "items": lambda: dataset.open("evaluation"),
        "students": lambda: inputs.find_students(preset, request, methods),
        "card": lambda: inputs.model_card(preset),
    }
    targets = list(dict.fromkeys(roles.values()))
    for role in targets:
        checks[f"extractor {role}"] = lambda role=role: inputs.find_source(preset, role)
    ready = gather(checks)
    return ready["model"], ready["items"], {role: ready[f"extractor {role}"] for role in targets}, ready["students"], ready["card"]


def _verify_students(methods: list[resolve.Asked], folders: dict[str, Path], teacher: str) -> list[PlannedMethod]:
    from scottbench.models.student import check_student

    trainers = {asked.student: asked.noun.trainer for asked in methods if asked.student is not None}
    facts = gather({name: lambda n=name, t=trainer: check_student(folders[n], t, teacher) for name, trainer in trainers.items()})
    planned = []
    for asked in methods:
        found, folder, digest = None, None, teacher
        if asked.student is not None:
            found, folder = facts[asked.student], folders[asked.student]
            digest = found["weights_digest"]
            resolve.check_guidance(asked.label, asked.guidance, found)
        planned.append(PlannedMethod(asked.label, asked.noun, asked.options, asked.guidance, folder, found, digest, asked.steps))
    return planned


def _metric_record(metric: PlannedMetric) -> dict:
    return {"name": metric.label, "options": dataclasses.asdict(metric.options), "fingerprint": metric.fingerprint}


def _source_record(source: Source) -> dict:
    return {
        "kind": source.kind, "label": source.label, "model": source.model, "pretrained": source.pretrained, "digest": source.digest,
        "resize": source.resize, "prefix": source.prefix,
    }  # fmt: skip


def _fingerprints(
    metrics: list, roles: dict[str, str], sources: dict[str, Source], n: int, items_digest: str, seeds: int
) -> list[PlannedMetric]:
    """Each metric with its fingerprint: name, version, options, extractor (model, weights, resize rule, prefix), N, reference set; of a
    metric over several seeds also their number."""
    reference = reference_digest(items_digest, n)
    planned = []
    for label, registered, options in metrics:
        source = sources[roles[registered.noun.features]] if registered.noun.features else None
        chosen = ",".join(f"{key}={value}" for key, value in sorted(dataclasses.asdict(options).items()))
        parts = [f"{registered.noun.name}({chosen})", f"{registered.distribution} {registered.version}"]
        parts += [*([] if source is None else source.papers), f"n={n}", f"ref={n}:{reference[:8]}"]
        parts += [f"seeds={seeds}"] if registered.noun.scope == "seeds" else []
        planned.append(PlannedMetric(label, registered.noun, options, "; ".join(parts)))
    return planned


def reference_digest(items_digest: str, n: int) -> str:
    """sha256 hex naming the reference set: the first n items of the evaluation split with that digest."""
    return hashlib.sha256(f"{items_digest}/{n}".encode()).hexdigest()
