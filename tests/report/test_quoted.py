"""Numbers of papers in the report: beside the run's own, with their source, and ranked with nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_run import fake_run

from scottbench.report.quoted import quoted_tables
from scottbench.report.results import leading_tables
from scottbench.store.record import read_record

ROW = {"method": "SCott", "steps": 2, "metric": "fid", "value": 21.9, "n": 5000, "dataset": "MSCOCO-2017", "source": "abstract of v4",
       "confidence": "A", "row": "scott", "remark": "v1: 22.1."}  # fmt: skip


@pytest.fixture
def record(tmp_path):
    return read_record(fake_run(tmp_path / "run", n=6))


def shown(record, *rows):
    (table,) = quoted_tables(replace(record, manifest={**record.manifest, "quoted": list(rows)}))
    return table, [dict(zip([column.text for column in table.columns], row, strict=True)) for row in table.rows]


def test_a_number_stands_beside_the_run_s_own_with_n_and_source_of_both(record):
    table, (row,) = shown(record, ROW)
    assert [row[name].text for name in ("Method", "Steps", "Metric", "Paper", "N")] == ["SCott", "2", "FID ↓", "21.9", "5,000"]
    own = next(cell for cell in record.cells if (cell.method, cell.steps) == ("scott", 2))
    assert float(row["This run"].text) == pytest.approx(own.values["fid"], abs=0.01) and "N = 6" in row["This run"].small
    assert row["Source"].text == "abstract of v4; confidence A" and row["Source"].small == ("v1: 22.1.",)
    assert not any(entry.bold for entry in table.rows[0]) and "ranked with nothing" in table.caption


@pytest.mark.parametrize("other", [{"row": ""}, {"steps": 4}, {"metric": "kid"}, {"row": "ufogen"}], ids=lambda other: str(other))
def test_where_the_run_has_no_such_row_there_is_a_dash(record, other):
    _, (row,) = shown(record, ROW | other)
    assert row["This run"].text == "-" and row["Paper"].text == "21.9"


def test_the_steps_that_a_paper_does_not_state_are_a_question_mark_and_results_stay_as_they_are(record):
    quoting = replace(record, manifest={**record.manifest, "quoted": [ROW | {"steps": 0}]})
    (table,) = quoted_tables(quoting)
    assert table.rows[0][1].text == "?"
    assert leading_tables(quoting) == leading_tables(record) and quoted_tables(record) == []


def test_the_page_has_the_table(tmp_path):
    from scottbench.report import build

    root = fake_run(tmp_path / "run", n=6, quoted=[ROW | {"source": "<b>table 2</b>"}])
    build(root)
    page = (root / "report" / "index.html").read_text(encoding="utf-8")
    assert "Numbers that papers print" in page and "&lt;b&gt;table 2&lt;/b&gt;; confidence A" in page
