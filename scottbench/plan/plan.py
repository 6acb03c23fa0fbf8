"""What was asked, resolved and verified: names, options, guidance, weights, data. Its hash is the identity of the run.

The hash covers everything that can change a number of the results and nothing else: no batch size, path, time or command.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.plan import choices, device, inputs
from scottbench.plan.cells import PlannedCell, PlannedMethod, PlannedMetric, make_cells, unusual_steps
from scottbench.plan.identity import cell_record, fingerprints, metric_record, source_record
from scottbench.plan.request import RunRequest, recorded
from scottbench.registry.presets import Preset
from scottbench.store.assets import gather, offline
from scottbench.store.environment import flush_denormals
from scottbench.store.files import canonical
from scottbench.store.folder import CHUNK, PLAN_SCHEMA

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.models.extractors import Source
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Items


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
    choices.check_numbers(request)
    methods = choices.find_methods(plugins, preset, request)
    inputs.check_students(plugins, request, methods)
    metrics = choices.find_metrics(plugins, preset, request)
    choices.check_seeds(metrics, request.seeds)
    roles = choices.roles(preset, metrics)
    place = device.choose_device(request.device, preset)
    flush_denormals()
    with offline():
        (model_name, model), items, sources, folders, card = _ready(plugins, preset, request, place, methods, roles)
        planned = _verify_students(methods, folders, model.digest)
    n = inputs.count(items, request.limit, preset.dataset)
    cells = make_cells(planned, request.steps or preset.steps, request.seeds, model.schedule)
    metrics = fingerprints(metrics, roles, sources, n, items.digest, len(set(request.seeds)))
    micro_batch = device.choose_micro_batch(place, model.latent_shape)
    record = {
        "schema": PLAN_SCHEMA,
        "preset": preset.name,
        "model": {"name": model_name, "digest": model.digest, "unsafe": model.pickled},
        "dataset": {"name": preset.dataset, "split": "evaluation", "digest": items.digest, "n": n},
        "seeds": list(dict.fromkeys(request.seeds)),
        "device": place.partition(":")[0],
        "dtype": device.choose_dtype(preset, place),
        "chunk": CHUNK,
        "micro_batch": micro_batch,
        "cells": [cell_record(cell) for cell in cells],
        "extractors": {role: source_record(sources[target]) for role, target in roles.items()},
        "metrics": [metric_record(metric) for metric in metrics],
    }
    digest = hashlib.sha256(canonical(record)).hexdigest()
    return Plan(
        record, digest, preset, request.command, place, model, items, n, CHUNK, micro_batch, cells, metrics, sources, roles, card,
        recorded(request, preset), seconds=time.perf_counter() - started, warnings=unusual_steps(cells))


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


def _verify_students(methods: list[choices.Asked], folders: dict[str, Path], teacher: str) -> list[PlannedMethod]:
    from scottbench.models.student import check_student

    trainers = {asked.student: asked.noun.trainer for asked in methods if asked.student is not None}
    facts = gather({name: lambda n=name, t=trainer: check_student(folders[n], t, teacher) for name, trainer in trainers.items()})
    planned = []
    for asked in methods:
        found, folder, digest = None, None, teacher
        if asked.student is not None:
            found, folder = facts[asked.student], folders[asked.student]
            digest = found["weights_digest"]
            choices.check_guidance(asked.label, asked.guidance, found)
        planned.append(PlannedMethod(asked.label, asked.noun, asked.options, asked.guidance, folder, found, digest, asked.steps))
    return planned


