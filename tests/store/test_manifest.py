"""The manifest and the plan record: their schemas are made of their types, and what a run writes is what the types say."""

from __future__ import annotations

import dataclasses
import json
import types
from pathlib import Path
from typing import Annotated, get_type_hints

import pytest

from scottbench.models.extractors import Source
from scottbench.plan.identity import source_record
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.store import tables
from scottbench.store.files import read_json
from scottbench.store.manifest import CellEntry, Environment, Manifest, MetricEntry, SeedsEntry
from scottbench.store.plan_record import ExtractorIdentity, LockRecord, PlanRecord
from scottbench.store.schemas import HERE, known, violations
from scottbench.store.schemas.of_types import documents, schema_of
from scottbench.store.types import Optional, rule

OLD = Path(__file__).parent / "run-schema-1"


@pytest.mark.parametrize("name", ["run-3.json", "plan-3.json", "recorded-1.json"])
def test_the_shipped_schema_is_the_one_of_the_types(name):
    """After a change of a type: python -m scottbench.store.schemas.of_types."""
    assert (HERE / name).read_text() == json.dumps(documents()[name], indent=1) + "\n"


def test_the_schemas_of_earlier_versions_are_still_there():
    plans = {f"scottbench.plan/{version}" for version in (1, 2, 3)}
    assert {"scottbench.run/1", "scottbench.run/2", "scottbench.run/3", "scottbench.env/1", "scottbench.recorded/1", *plans} == set(known())
    assert [violations(read_json(OLD / name)) for name in ("manifest.json", "plan.lock.json")] == [[], []]


def test_a_type_says_what_its_json_is():
    @dataclasses.dataclass
    class Inner:
        name: str
        since: Annotated[int | None, Optional, rule(description="new")] = None

    assert schema_of(list[Inner] | None) == {"anyOf": [{"type": "array", "items": {
        "type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "since": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "new"}},
    }}, {"type": "null"}]}  # fmt: skip
    with pytest.raises(TypeError, match="no JSON Schema"):
        schema_of(set)


def test_what_a_run_writes_has_the_fields_of_the_types_in_their_order(undisturbed):
    manifest, lock = read_json(undisturbed / "manifest.json"), read_json(undisturbed / "plan.lock.json")
    fields = [one.name for one in dataclasses.fields(Manifest)]
    assert list(manifest) == [name for name in fields if name != "scored"]
    for key, kind in (("cells", CellEntry), ("metrics", MetricEntry)):
        assert list(manifest[key][0]) == [one.name for one in dataclasses.fields(kind)]
    assert list(manifest["environment"]) == list(get_type_hints(Environment))
    assert list(lock) == list(get_type_hints(LockRecord))
    # "compile" and "tf32" stand only in the plan of a run that asks for them
    assert list(lock["plan"]) == [name for name in get_type_hints(PlanRecord) if name not in ("compile", "tf32")]
    for key in ("model", "dataset", "cells", "extractors", "metrics"):
        hint = schema_of(get_type_hints(PlanRecord, include_extras=True)[key])
        hint = hint["anyOf"][0] if "anyOf" in hint else hint  # the model, which a run of pictures alone has not
        inner = hint.get("items", hint.get("additionalProperties", hint))["properties"]
        entry = lock["plan"][key]
        entry = entry[0] if isinstance(entry, list) else entry["image"] if key == "extractors" else entry
        # of the dataset "reference" stands only where it is not one image for each item; of an extractor "precision" where it is not
        # float32, "gives" where it gives scores; of a metric "teacher" where the preset brings that one's features
        assert list(entry) == [name for name in inner if name not in ("reference", "precision", "gives", "teacher")], key


def test_a_plan_with_all_that_may_be_asked_for_has_the_fields_of_the_type_in_their_order(plugins):
    plan = make_plan(plugins, RunRequest("tiny", device="cpu", compile="blocks", tf32="on"))
    assert list(plan.record) == list(get_type_hints(PlanRecord))
    scorer = Source("tiny", "tiny", "0" * 64, Path(), precision="tf32", noun=types.SimpleNamespace(gives="score"))
    assert list(source_record(scorer)) == list(get_type_hints(ExtractorIdentity))


@pytest.fixture
def manifest(undisturbed) -> Manifest:
    """The manifest of a finished run, typed, without what failed in it."""
    record = read_json(undisturbed / "manifest.json")
    cells = [CellEntry(**entry) for entry in record["cells"]]
    both = SeedsEntry("ode__s2__seeds", "ode", 2, [0, 1], [cell.id for cell in cells], 4, 12)
    return Manifest(**{**record, "cells": cells, "over_seeds": [both], "metrics": [MetricEntry(**entry) for entry in record["metrics"]]})


def test_a_typed_manifest_comes_back_as_it_was_read(manifest, undisturbed):
    manifest.over_seeds = []
    assert json.dumps(manifest.as_json()) == json.dumps(read_json(undisturbed / "manifest.json"))


def test_failures_are_told_by_cell_then_by_metric(manifest):
    first, second = (cell.id for cell in manifest.cells)
    manifest.no_value("ode__s2__seeds", "gap", "no reason")
    manifest.no_value(first, "gap", "too few")
    manifest.no_spread(first, "agreement", "one image")
    manifest.failed(second, "its sampler")
    assert manifest.failures() == [f"{second}: its sampler", f"{first} gap: too few", "ode__s2__seeds gap: no reason"]
    assert violations(manifest.as_json()) == [] and manifest.as_json()["cells"][0]["no_interval"] == {"agreement": "one image"}
    manifest.failed(second, None)
    assert second not in "".join(manifest.failures())


def test_new_metrics_of_an_old_run_name_the_run_in_the_place_of_the_shard(manifest):
    manifest.scored = "a" * 64
    assert list(manifest.as_json())[-2:] == ["scored", "check"] and "shard" not in manifest.as_json()
    assert violations(manifest.as_json()) == []


@pytest.mark.parametrize("name", ["results", "pairs", "items", "timings"])
def test_the_tables_have_the_columns_of_their_schema(undisturbed, name):
    import polars as pl

    wanted = tables.polars_schema(getattr(tables, f"{name.upper()}_SCHEMA"))
    found = pl.read_parquet(undisturbed / f"{name}.parquet").schema
    assert list(found.items()) == list(wanted.items())


@pytest.mark.parametrize("columns, schema", [
    (tables.RESULT_COLUMNS, tables.RESULTS_SCHEMA), (tables.ITEM_COLUMNS, tables.ITEMS_SCHEMA), (tables.PAIR_COLUMNS, tables.PAIRS_SCHEMA),
    (tables.TIMING_COLUMNS, tables.TIMINGS_SCHEMA),
])  # fmt: skip
def test_readers_need_no_column_that_writers_do_not_write(columns, schema):
    assert columns <= schema.keys()


@pytest.mark.parametrize("name, schema", [("results", tables.RESULTS_SCHEMA), ("timings", tables.TIMINGS_SCHEMA)])
def test_a_column_keeps_the_type_that_earlier_versions_gave_it(name, schema):
    import polars as pl

    old = pl.read_parquet(OLD / f"{name}.parquet").schema
    assert old.items() <= tables.polars_schema(schema).items()
