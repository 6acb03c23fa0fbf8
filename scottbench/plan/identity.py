"""Two runs are the same run where these are: the record that a plan is hashed over, with digests of code (`scottbench.plan.code`) and
fingerprints of metrics.

The hash covers everything that can change a number of the results and nothing else: no batch size, path, time or command.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scottbench.models.student import student_digest
from scottbench.plan import code, device
from scottbench.plan.cells import PlannedCell, PlannedMetric
from scottbench.plan.choices import Choices
from scottbench.plan.inputs import Inputs
from scottbench.plan.pictures import Reference
from scottbench.plan.teachers import brought_digests, teacher_images
from scottbench.registry.nouns import Metric
from scottbench.store import folder
from scottbench.store.plan_record import PLAN_SCHEMA, plan_digest

if TYPE_CHECKING:
    from scottbench.models.extractors import Source
    from scottbench.registry.loader import Plugins, Registered


@dataclass(frozen=True)
class Identity:
    """The record of a plan, its hash, and the metrics with the fingerprints that stand in it."""

    record: dict[str, Any]
    """JSON-able."""
    hash: str
    """sha256 hex of the record."""
    metrics: list[PlannedMetric]


def identity(plugins: Plugins, choices: Choices, inputs: Inputs, cells: Sequence[PlannedCell]) -> Identity:
    """Write down everything that can change a number, and hash it."""
    preset, model, items = choices.preset, inputs.model, inputs.items
    metrics = fingerprints(plugins, choices, inputs)
    used = registered(plugins, choices, inputs.model_name)
    record = {
        "schema": PLAN_SCHEMA,
        "preset": preset.name,
        "model": None if model is None else {"name": inputs.model_name, "digest": model.digest, "unsafe": model.pickled},
        "dataset": {
            "name": inputs.data_name, "split": "evaluation", "digest": items.digest, "n": inputs.n, **reference_record(inputs.reference)},
        "seeds": choices.seeds,
        "device": choices.device.partition(":")[0],
        "dtype": choices.dtype,
        **({} if choices.request.compile == "off" else {"compile": choices.request.compile}),
        **({"tf32": "on"} if choices.request.tf32 == "on" else {}),
        "chunk": folder.CHUNK,
        "micro_batch": device.choose_micro_batch(choices.device, (1, 1, 1) if model is None else model.latent_shape),
        "code": {part: code.part_code(part, plugins, used) for part in code.IN_PLAN},
        "cells": [cell_record(cell) for cell in cells],
        "extractors": {role: source_record(inputs.sources[target]) for role, target in choices.roles.items()},
        "metrics": [metric_record(metric, brought_digests(metric, cells, choices, inputs)) for metric in metrics],
    }
    return Identity(record, plan_digest(record), metrics)


def registered(plugins: Plugins, choices: Choices, model: str) -> list[Registered]:
    """List the nouns that a plan uses, with the plug-ins that they come from; a model that is a folder is none."""
    used = [plugins.of("method", choice.method) for choice in choices.methods]
    used += [plugins.of("metric", choice.metric) for choice in choices.metrics]
    used += [plugins.of("extractor", choice.extractor) for choice in choices.extractors.values()]
    has_data = not choices.request.scoring or choices.request.reference is not None
    used += [plugins.of("dataset", choices.dataset.dataset)] if has_data else []
    used += [plugins.of("dataset", choices.reference.dataset)] if choices.reference is not None else []
    used += [found] if (found := plugins.named("model", model)) is not None else []
    return list({id(one): one for one in used}.values())


def on_stored_images(record: dict[str, Any], locked: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a plan that makes no images but measures those of a run: their code is what the run's plan, `locked`, says."""
    return {**record, "code": {**record["code"], "images": locked["code"]["images"]}}


def cell_record(cell: PlannedCell) -> dict[str, Any]:
    """Write down what a cell adds to the identity of the run."""
    method = cell.method
    return {
        "id": cell.id,
        "method": method.label,
        "version": method.noun.version,
        "steps": cell.steps,
        "seed": cell.seed,
        "guidance_scale": method.guidance,
        "options": dataclasses.asdict(method.options),
        "timesteps": cell.timesteps,
        "weights_digest": method.weights_digest,
        "student_digest": None if method.facts is None else student_digest(method.facts),
    }


def source_record(source: Source) -> dict[str, Any]:
    """Write down which network makes the features, with which rules."""
    return {
        "kind": source.kind, "label": source.label, "model": source.model, "pretrained": source.pretrained, "digest": source.digest,
        "resize": source.resize, "prefix": source.prefix,
        **({} if source.precision == "float32" else {"precision": source.precision}), **({"gives": "score"} if source.gives_score else {}),
    }  # fmt: skip


def metric_record(metric: PlannedMetric, brought: Sequence[str] = ()) -> dict[str, Any]:
    """Write down which metric is computed, with which options, of what. brought: of `brought_digests`."""
    record = {"name": metric.label, "options": dataclasses.asdict(metric.options), "fingerprint": metric.fingerprint}
    return record | ({"teacher": list(brought)} if brought else {})


def fingerprints(plugins: Plugins, choices: Choices, inputs: Inputs) -> list[PlannedMetric]:
    """Give each metric its fingerprint: name, version, code, options, extractor (model, weights, resize rule, prefix), N, reference set;
    that of a metric over several seeds has also their number."""
    n, real = inputs.n, inputs.reference
    planned = []
    for choice in choices.metrics:
        metric = choice.metric
        options = ",".join(f"{key}={value}" for key, value in sorted(dataclasses.asdict(choice.options).items()))
        parts = [f"{metric.name}({options})", f"{choice.distribution} {choice.version}", f"code {metric_code(plugins, choices, metric)}"]
        parts += [part for role in metric.roles for part in inputs.sources[choices.roles[role]].papers]
        parts += [f"n={n}", "ref=none" if real is None else f"ref={real.n}:{reference_digest(real.items.digest, real.n)[:8]}"]
        parts += [f"seeds={len(choices.seeds)}"] if metric.scope == "seeds" else []
        images = teacher_images(plugins, choices, inputs, choice)
        parts += [] if images is None else [str(images)]
        planned.append(PlannedMetric(str(choice.label), metric, choice.options, "; ".join(parts), images))
    return planned


def reference_record(reference: Reference | None) -> dict[str, Any]:
    """Write down reference images that are not one for each prompt: none at all, or a set of their own. {} where they are the items'."""
    if reference is not None and not reference.own:
        return {}
    return {"reference": None if reference is None else {
        "name": reference.name, "digest": reference_digest(reference.items.digest, reference.n), "n": reference.n}}  # fmt: skip


def reference_digest(items_digest: str, n: int) -> str:
    """Return the sha256 hex that names the reference set: the first n items of the evaluation split with that digest."""
    return hashlib.sha256(f"{items_digest}/{n}".encode()).hexdigest()


def metric_code(plugins: Plugins, choices: Choices, metric: Metric) -> str:
    """Return the head of the digest, 8 digits of hex, of all code that makes a metric's value from images or features."""
    found = code.part_code("values", plugins, [plugins.of("metric", metric)])
    networks = [choices.extractors[choices.roles[role]].extractor for role in metric.roles]
    if networks:
        found |= code.part_code("features", plugins, [plugins.of("extractor", network) for network in networks])
    return code.short_digest(found)[:8]
