"""Best marks and tests agree: bold is what no row of its column beats by the run's own tests; one comparison has one p; times."""

from __future__ import annotations

import dataclasses
import json

import polars as pl
import pytest
from made_run import influence, made_run

from scottbench.cli import invoke
from scottbench.report.best import best_rows, best_time, dearer
from scottbench.report.export import Choice, export
from scottbench.report.results import leading_tables
from scottbench.store.record import CellRecord, read_record
from scottbench.text import bracket, fixed


def run_of(folder, **values):
    """A run of methods at 2 steps, by FID: lower is better, differences of 1 are far beyond their error, of 0.01 within it."""
    return made_run(folder, {(name, 2, 0): {"fid": (value, influence(own, 5.0))} for own, (name, value) in enumerate(values.items(), 1)})


@pytest.fixture
def tied(tmp_path):
    return run_of(tmp_path / "run", a=50.0, b=50.01, c=53.0)


def marks(run):
    (table,) = leading_tables(read_record(run))
    x = [column.metric for column in table.columns].index("fid")
    return table, [(row[x].bold, row[x].tie) for row in table.rows]


def test_rows_that_no_test_tells_apart_are_bold_and_marked_as_equal(tied):
    table, found = marks(tied)
    assert found == [(True, True), (True, True), (False, False)]
    told = "bold: not beaten by any other row of the column (paired test, Holm over 3 tests, 5 %)"
    assert table.notes[0][0] == "=" and told in table.caption


def test_a_row_that_beats_all_is_bold_alone(tmp_path):
    assert marks(run_of(tmp_path / "run", a=51.0, b=50.0, c=53.0))[1] == [(False, False), (True, False), (False, False)]


def test_a_run_that_tested_neighbours_alone_marks_no_row_that_met_no_better_one(tied):
    pairs = pl.read_parquet(tied / "pairs.parquet")
    pairs.filter(~((pl.col("method_a") == "a") & (pl.col("method_b") == "b"))).write_parquet(tied / "pairs.parquet")
    table, found = marks(tied)
    assert [bold for bold, _ in found] == [True, False, False] and "any row that it was tested against" in table.caption


def test_a_column_without_a_test_has_no_mark(tied):
    record = read_record(tied)
    other = pl.read_parquet(tied / "pairs.parquet").with_columns(metric=pl.lit("coverage"))
    other.write_parquet(tied / "pairs.parquet")
    again = read_record(tied)
    assert best_rows(record, record.metrics[0], record.cells) == {0, 1}
    assert best_rows(again, again.metrics[0], again.cells) == set()


def test_compare_gives_the_p_of_the_run_s_table_either_way_round(tied, capsys):
    recorded = {(row["method_a"], row["method_b"]): row for row in pl.read_parquet(tied / "pairs.parquet").to_dicts()}
    for a, b in (("a", "c"), ("c", "a"), ("b", "a")):
        assert invoke(["compare", str(tied), a, b, "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["pairs"]
        there = recorded.get((a, b), recorded.get((b, a)))
        assert (found["p"], found["p_holm"], found["images_to_decide"]) == (there["p"], there["p_holm"], there["images_to_decide"])
    assert invoke(["compare", str(tied), "a", "c"]) == 0 and "Holm: over 3 tests, all of the run" in capsys.readouterr().out


def test_compare_and_claims_take_the_head_of_a_plan_s_hash(tied, tmp_path, monkeypatch, capsys):
    home = tmp_path / "runs"
    home.mkdir()
    tied.rename(home / "one")
    (home / "one" / "plan.lock.json").write_text(json.dumps({"plan_hash": "7c1e9a2f" * 8}))
    monkeypatch.chdir(tmp_path)
    assert invoke(["compare", "7c1e", "a", "c"]) == 0 and invoke(["claims", "7c1e9a"]) == 0
    assert invoke(["claims", "7c1f"]) == 2 and "no run '7c1f'" in capsys.readouterr().err


def test_a_table_for_a_spreadsheet_has_the_marks_too(tied, tmp_path):
    export(tied, Choice(("csv",)), tmp_path, records=False)
    assert pl.read_csv(tmp_path / "results.csv")["best"].to_list() == ["tied", "tied", None]


def test_a_number_that_rounds_to_zero_has_no_sign():
    assert bracket(-0.04, 4.0, 1) == "[0.0, 4.0]" and fixed(-0.0001, 3) == "0.000" and fixed(-0.06, 1) == "-0.1"


# --- times -------------------------------------------------------------------------------------------------------------


def timed(name, seconds, ends, load=0.5, rounds=4, nfe=2, denoise=0.01):
    return CellRecord({"method": name, "steps": 2, "seed": 0, "n": 64, "nfe": nfe}, seconds={"denoise": denoise},
                      sampling=(seconds, ends), load=load, rounds=rounds)  # fmt: skip


def test_a_time_is_best_where_its_interval_lies_below_all_others():
    fast, slow = timed("a", 0.02, (0.019, 0.021)), timed("b", 0.03, (0.028, 0.032))
    assert best_time([slow, fast]) == {1}
    assert best_time([timed("b", 0.022, (0.0205, 0.023)), fast]) == set()  # they overlap
    assert best_time([slow, timed("a", 0.02, None)]) == set()
    assert best_time([slow, timed("a", 0.02, (0.019, 0.021), load=2.0)]) == set()  # the machine was busy
    assert best_time([slow, timed("a", 0.02, (0.019, 0.021), rounds=1)]) == set()  # one after the other


def test_unequal_cost_of_equal_calls_is_told():
    cells = [timed("a", 0.02, (0.019, 0.021), denoise=0.01), timed("b", 0.05, (0.045, 0.055), denoise=0.03)]
    assert list(dearer(cells)) == [1] and "takes 3.0 times as long as one of a at 2 steps" in dearer(cells)[1]
    assert dearer([cells[0], timed("b", 0.05, (0.045, 0.055), nfe=6, denoise=0.03)]) == {}
    assert dearer([cells[0], timed("b", 0.0205, (0.019, 0.022), denoise=0.03)]) == {}  # the whole times do not differ


# --- claims that cannot be tested --------------------------------------------------------------------------------------


def test_what_is_not_testable_comes_with_the_commands_that_would_test_it(tmp_path):
    from scottbench.registry.claims import Arm, Claim, Comparison
    from scottbench.stats.measured import read_measured
    from scottbench.stats.untested import to_test

    measured = read_measured(run_of(tmp_path / "run", a=50.0, c=53.0))
    words = ("x", "p", "v", "l", "s")
    plain = Claim(*words, [Comparison("fid", Arm("a", 2), Arm("b", 4))])
    assert to_test(plain, measured) == ["scottbench run -m a,b -s 2,4 -p pocket -k fid -n 400"]
    elsewhere = Claim(*words, [Comparison("fid", Arm("a"), Arm("b"))], testable=["sd15"])
    assert to_test(elsewhere, measured) == ["scottbench run -m a,b -p sd15 -k fid"]
    ablation = Claim(*words, [Comparison("fid", Arm("a", 2, {"h": 3}), Arm("a", 2, {"h": 1}))])
    lines = to_test(ablation, measured)
    assert lines[0].startswith("scottbench train a -p pocket -O h=3") and lines[0].endswith("-o students/a-h-3")
    assert "--student a=students/a-h-3" in lines[1] and lines[-1] == "scottbench claims RUN RUN (all runs together)"
    # a student that is there under a label of its own is not trained again, and says how long the others are to be trained
    labelled = [dataclasses.replace(one, method="a@student=three", student={"options": {"h": 3}, "steps": 150}) for one in measured[:1]]
    lines = to_test(ablation, labelled)
    assert [line.split(" -o ")[0] for line in lines if " train " in line] == ["scottbench train a -p pocket -O h=1 --max-steps 150"]
