"""Two runs are the same run where these are: the record that a plan is hashed over, with digests of code and fingerprints of metrics.

The hash covers everything that can change a number of the results and nothing else: no batch size, path, time or command.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.plan import device
from scottbench.plan.cells import PlannedCell, PlannedMetric
from scottbench.plan.choices import Choices
from scottbench.plan.inputs import Inputs
from scottbench.store import folder
from scottbench.store.files import canonical

if TYPE_CHECKING:
    from scottbench.models.extractors import Source


@dataclass(frozen=True)
class Identity:
    """The record of a plan, its hash, and the metrics with the fingerprints that stand in it."""

    record: dict[str, Any]
    """JSON-able."""
    hash: str
    """sha256 hex of the record."""
    metrics: list[PlannedMetric]


def identity(choices: Choices, inputs: Inputs, cells: Sequence[PlannedCell]) -> Identity:
    """Write down everything that can change a number, and hash it."""
    preset, model, items = choices.preset, inputs.model, inputs.items
    metrics = fingerprints(choices, inputs)
    record = {
        "schema": folder.PLAN_SCHEMA,
        "preset": preset.name,
        "model": {"name": inputs.model_name, "digest": model.digest, "unsafe": model.pickled},
        "dataset": {"name": preset.dataset, "split": "evaluation", "digest": items.digest, "n": inputs.n},
        "seeds": choices.seeds,
        "device": choices.device.partition(":")[0],
        "dtype": choices.dtype,
        "chunk": folder.CHUNK,
        "micro_batch": device.choose_micro_batch(choices.device, model.latent_shape),
        "cells": [cell_record(cell) for cell in cells],
        "extractors": {role: source_record(inputs.sources[target]) for role, target in choices.roles.items()},
        "metrics": [metric_record(metric) for metric in metrics],
    }
    return Identity(record, hashlib.sha256(canonical(record)).hexdigest(), metrics)


def cell_record(cell: PlannedCell) -> dict[str, Any]:
    """Write down what a cell adds to the identity of the run."""
    method = cell.method
    return {
        "id": cell.id,
        "method": method.label,
        "version": method.noun.version,
        "code": code_digest(method.noun.sample),
        "steps": cell.steps,
        "seed": cell.seed,
        "guidance_scale": method.guidance,
        "options": dataclasses.asdict(method.options),
        "timesteps": cell.timesteps,
        "weights_digest": method.weights_digest,
    }


def source_record(source: Source) -> dict[str, Any]:
    """Write down which network makes the features, with which rules."""
    return {
        "kind": source.kind, "label": source.label, "model": source.model, "pretrained": source.pretrained, "digest": source.digest,
        "resize": source.resize, "prefix": source.prefix,
    }  # fmt: skip


def metric_record(metric: PlannedMetric) -> dict[str, Any]:
    """Write down which metric is computed, with which options, of what."""
    return {"name": metric.label, "options": dataclasses.asdict(metric.options), "fingerprint": metric.fingerprint}


def fingerprints(choices: Choices, inputs: Inputs) -> list[PlannedMetric]:
    """Give each metric its fingerprint: name, version, options, extractor (model, weights, resize rule, prefix), N, reference set; that
    of a metric over several seeds has also their number."""
    n, reference = inputs.n, reference_digest(inputs.items.digest, inputs.n)
    planned = []
    for choice in choices.metrics:
        metric = choice.metric
        options = ",".join(f"{key}={value}" for key, value in sorted(dataclasses.asdict(choice.options).items()))
        parts = [f"{metric.name}({options})", f"{choice.distribution} {choice.version}"]
        parts += inputs.sources[choices.roles[metric.features]].papers if metric.features else []
        parts += [f"n={n}", f"ref={n}:{reference[:8]}"]
        parts += [f"seeds={len(choices.seeds)}"] if metric.scope == "seeds" else []
        planned.append(PlannedMetric(str(choice.label), metric, choice.options, "; ".join(parts)))
    return planned


def reference_digest(items_digest: str, n: int) -> str:
    """Return the sha256 hex that names the reference set: the first n items of the evaluation split with that digest."""
    return hashlib.sha256(f"{items_digest}/{n}".encode()).hexdigest()


def code_digest(function: Callable[..., Any]) -> str | None:
    """Return the head of the sha256 of the source file that defines a function of a plug-in; None where there is no source.

    A version that somebody forgot to raise must not let the images of two codes stand in one run.
    """
    while True:
        if hasattr(function, "resolve"):
            function = function.resolve()
        elif isinstance(function, functools.partial):
            function = function.func
        else:
            break
    try:
        path = inspect.getsourcefile(inspect.unwrap(function))
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except (TypeError, OSError):
        return None
