"""What makes two runs the same run: digests of code, and the records that a plan is hashed over."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.plan.cells import PlannedCell, PlannedMetric

if TYPE_CHECKING:
    from scottbench.models.extractors import Source


if TYPE_CHECKING:
    from scottbench.models.extractors import Source


def metric_record(metric: PlannedMetric) -> dict:
    return {"name": metric.label, "options": dataclasses.asdict(metric.options), "fingerprint": metric.fingerprint}


def source_record(source: Source) -> dict:
    return {
        "kind": source.kind, "label": source.label, "model": source.model, "pretrained": source.pretrained, "digest": source.digest,
        "resize": source.resize, "prefix": source.prefix,
    }  # fmt: skip


def fingerprints(
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


def code_digest(function: Callable) -> str | None:
    """Head of the sha256 of the source file that defines a function of a plug-in; None where there is no source.

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


def cell_record(cell: PlannedCell) -> dict:
    """What a cell adds to the identity of the run."""
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
