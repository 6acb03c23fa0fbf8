"""plan.lock.json, typed: what a run is made of, to the last digest. The plan's hash is taken of a `PlanRecord`.

The JSON Schema of version 3 is made from these types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from scottbench.store.files import canonical
from scottbench.store.types import Amount, Digest, Natural, Positive, rule
from scottbench.text import one_line

PLAN_SCHEMA: Literal["scottbench.plan/3"] = "scottbench.plan/3"
OLDER = ("scottbench.plan/1", "scottbench.plan/2")
"""Plans that earlier versions wrote: their runs are read, not gone on with."""


def plan_digest(plan: dict[str, Any]) -> str:
    """Return the sha256 hex of a plan's record, its identity. Raises ValueError for numbers that no plan has: infinite ones, NaN."""
    return hashlib.sha256(canonical(plan)).hexdigest()


def older_identity(plan: Mapping[str, Any]) -> str:
    """Say that a plan's identity is of an older version, which covers less, or of an unknown one; "" for one of this version."""
    schema = plan.get("schema")
    if schema == PLAN_SCHEMA:
        return ""
    if schema in OLDER:
        return f"identity of an older version ({schema}): it covers the code of the samplers at most, and no student.json"
    return f"identity of another version (schema {one_line(repr(schema))[:60]})"


class ModelIdentity(TypedDict):
    """The model that is teacher and gives text encoder and decoder to every student."""

    name: str
    digest: Digest
    unsafe: Annotated[list[str], rule(description="weights read from pickled files, on request")]


class ReferenceIdentity(TypedDict):
    """Real images that are a set of their own, not one for each item."""

    name: str
    digest: Digest
    n: Positive


class DatasetIdentity(TypedDict):
    """The first n items of a split."""

    name: str
    split: str
    digest: Digest
    n: Positive
    reference: NotRequired[Annotated[ReferenceIdentity | None, rule(description=(
        "absent: one real image for each item; null: no real images; else a set of its own"))]]  # fmt: skip


class CellIdentity(TypedDict):
    """One method at one number of steps and one seed."""

    id: str
    method: str
    version: str
    steps: Annotated[Natural, rule(description="0: pictures that were made elsewhere")]
    seed: Natural
    guidance_scale: float
    options: dict[str, Any]
    timesteps: Annotated[list[Amount], rule(description="empty of pictures that were made elsewhere")]
    weights_digest: Digest
    student_digest: Annotated[Digest | None, rule(description="of student.json, which names the weights; null: it samples the teacher")]


class ExtractorIdentity(TypedDict):
    """The network behind the features of a role."""

    kind: str
    label: str
    model: NotRequired[str | None]
    pretrained: NotRequired[str | None]
    digest: Digest
    resize: str
    prefix: NotRequired[str]
    precision: NotRequired[Annotated[Literal["tf32", "bfloat16"], rule(description="absent: float32; its digest covers this too")]]
    gives: NotRequired[Annotated[Literal["score"], rule(description="absent of features; scores are of generated images only")]]


class MetricIdentity(TypedDict):
    """A metric with its options, and all that its values depend on in one line."""

    name: str
    options: dict[str, Any]
    fingerprint: str
    teacher: NotRequired[Annotated[list[Digest], rule(description="files of the teacher's features that the preset brings; absent: none")]]


class PlanRecord(TypedDict):
    """plan of a run, version 3: code of images, features, values and intervals; student.json"""

    schema: Literal["scottbench.plan/3"]
    preset: str
    model: Annotated[ModelIdentity | None, rule(description="null: no method was sampled")]
    dataset: DatasetIdentity
    seeds: Annotated[list[Natural], rule(minItems=1, uniqueItems=True)]
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "float16", "bfloat16"]
    compile: NotRequired[Annotated[Literal["blocks", "graphs"], rule(description="absent: U-Nets are not compiled")]]
    tf32: NotRequired[Annotated[Literal["on"], rule(description="absent: float32 is float32")]]
    chunk: Positive
    micro_batch: Positive | None
    code: Annotated[dict[str, dict[str, str]], rule(description=(
        "part of the run -> file -> head of the digest of its code; comments, docstrings and layout do not count"))]  # fmt: skip
    cells: Annotated[list[CellIdentity], rule(minItems=1)]
    extractors: dict[str, ExtractorIdentity]
    metrics: list[MetricIdentity]


class Setting(TypedDict):
    """One thing that was asked for, and where: a flag, a variable, a file, a default."""

    value: Any
    origin: str


class LockRecord(TypedDict):
    """plan.lock.json, version 3"""

    schema: Literal["scottbench.plan/3"]
    plan_hash: Digest
    plan: PlanRecord
    settings: dict[str, Setting]
