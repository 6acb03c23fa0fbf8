"""Rows of a published run beside a run's own: the teacher's, where N, prompts and extractor are equal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import fake_run

from scottbench.registry.loader import load_plugins
from scottbench.report.results import leading_tables
from scottbench.store.record import read_record
from scottbench.store.schemas import violations

ROOT = Path(__file__).parents[2]


MODEL = "5" * 64
"""Digest of the weights that the published run sampled."""


def document(n: int = 6, fid: str = "fid(); scottbench 0.9; code 1234abcd; n=6", model: str = MODEL, **row) -> dict:
    values = {"fid": {"value": 9.03635, "low": 8.06, "high": 10.01, "fingerprint": fid},
              "coverage": {"value": 0.9, "low": None, "high": None, "fingerprint": "coverage(k=3); n=6"}}  # fmt: skip
    rows = [{"method": "ddim", "steps": 50, "nfe": 100, "n": n, "values": values, **row}]
    return {"schema": "scottbench.recorded/1", "source": "reports/main", "version": "0.9", "model": model, "rows": rows}


@pytest.fixture
def shown(tmp_path):
    """(document) -> the leading table of a made run that brings it."""
    record = read_record(fake_run(tmp_path / "run", n=6))
    plan = {**record.manifest["plan"], "model": {**record.manifest["plan"]["model"], "digest": MODEL}}

    def table(recorded: dict | None):
        (found,) = leading_tables(replace(record, manifest={**record.manifest, "plan": plan, "recorded": recorded}))
        return found

    return table


def test_a_recorded_row_stands_below_with_its_source_and_is_ranked_with_nothing(shown):
    assert violations(document()) == []
    alone, table = shown(None), shown(document())
    assert [[entry.text for entry in row] for row in table.rows[:-1]] == [[entry.text for entry in row] for row in alone.rows]
    assert [[entry.bold for entry in row] for row in table.rows[:-1]] == [[entry.bold for entry in row] for row in alone.rows]
    row = dict(zip([column.text for column in table.columns], table.rows[-1], strict=True))
    assert [row[name].text for name in ("Method", "Steps", "NFE", "ms/image ↓")] == ["ddim", "50", "100", "-"]
    assert float(row["FID ↓"].text) == pytest.approx(9.04, abs=0.05) and not any(entry.bold for entry in table.rows[-1])
    assert row["Method"].short == "ddim (recorded)"  # a terminal shows no footnotes
    ((_, why),) = [note for note in table.notes if note[0] == row["Method"].mark]
    assert why.startswith("Recorded in reports/main (scottbench 0.9), not measured in this run")


@pytest.mark.parametrize(
    "other",
    [document(n=7), document(fid="fid(); scottbench 0.9; code 1234abcd; n=7"), document(fid="fid(size=3); n=6"),
     document(method="scott", steps=2), document(model="6" * 64), {key: value for key, value in document().items() if key != "model"}],
    ids=["another N", "another reference", "another metric", "measured here", "another model", "nobody says of which model"],
)  # fmt: skip
def test_what_does_not_compare_or_is_measured_here_is_not_shown(shown, other):
    assert len(shown(other).rows) == len(shown(None).rows)


def test_the_shipped_rows_are_the_teacher_s_of_the_published_report():
    preset = load_plugins().find("preset", "pocket").noun
    recorded = json.loads(preset.path(preset.recorded).read_text())
    assert violations(recorded) == []
    report = read_record(ROOT / recorded["source"])
    cells = {(cell.method, cell.steps): cell for cell in report.cells if cell.facts["student"] is None}
    assert {(row["method"], row["steps"]) for row in recorded["rows"]} == set(cells) and ("ddim", 25) in cells
    for row in recorded["rows"]:
        cell = cells[row["method"], row["steps"]]
        assert (row["n"], row["nfe"]) == (cell.n, cell.facts["nfe"])
        assert {name: value["value"] for name, value in row["values"].items()} == cell.values
