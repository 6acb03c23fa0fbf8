"""plan.lock.json, typed: what a run is made of, to the last digest. The plan's hash is taken of a `PlanRecord`.

The JSON Schema of version 2 is made from these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from scottbench.store.types import Amount, Digest, Natural, Positive, rule

PLAN_SCHEMA: Literal["scottbench.plan/2"] = "scottbench.plan/2"


class ModelIdentity(TypedDict):
    """The model that is teacher and gives text encoder and decoder to every student."""

    name: str
    digest: Digest
    unsafe: Annotated[list[str], rule(description="weights read from pickled files, on request")]


class DatasetIdentity(TypedDict):
    """The first n items of a split."""

    name: str
    split: str
    digest: Digest
    n: Positive


class CellIdentity(TypedDict):
    """One method at one number of steps and one seed."""

    id: str
    method: str
    version: str
    code: Annotated[str | None, rule(description="head of the sha256 of the file that defines its sampler")]
    steps: Positive
    seed: Natural
    guidance_scale: float
    options: dict[str, Any]
    timesteps: Annotated[list[Amount], rule(minItems=1)]
    weights_digest: Digest


class ExtractorIdentity(TypedDict):
    """The network behind the features of a role."""

    kind: str
    label: str
    model: NotRequired[str | None]
    pretrained: NotRequired[str | None]
    digest: Digest
    resize: str
    prefix: NotRequired[str]


class MetricIdentity(TypedDict):
    """A metric with its options, and all that its values depend on in one line."""

    name: str
    options: dict[str, Any]
    fingerprint: str


class PlanRecord(TypedDict):
    """plan of a run, version 2: several seeds, micro-batch, code of methods"""

    schema: Literal["scottbench.plan/2"]
    preset: str
    model: ModelIdentity
    dataset: DatasetIdentity
    seeds: Annotated[list[Natural], rule(minItems=1, uniqueItems=True)]
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "float16", "bfloat16"]
    chunk: Positive
    micro_batch: Positive | None
    cells: Annotated[list[CellIdentity], rule(minItems=1)]
    extractors: dict[str, ExtractorIdentity]
    metrics: list[MetricIdentity]


class Setting(TypedDict):
    """One thing that was asked for, and where: a flag, a variable, a file, a default."""

    value: Any
    origin: str


class LockRecord(TypedDict):
    """plan.lock.json, version 2"""

    schema: Literal["scottbench.plan/2"]
    plan_hash: Digest
    plan: PlanRecord
    settings: dict[str, Setting]
