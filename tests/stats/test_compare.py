"""scottbench compare and scottbench claims: names of cells, gates, exit codes, JSON, and what must not be compared."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from made_run import influence, made_run, two_methods

from scottbench.cli import invoke
from scottbench.registry.loader import load_plugins
from scottbench.stats.measured import read_measured


@pytest.fixture
def cli(capsys):
    def call(*arguments) -> tuple[int, str, str]:
        code = invoke([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def run(tmp_path):
    return two_methods(tmp_path / "run")


@pytest.mark.parametrize("names", [("scott@2", "cd@2"), ("scott:2", "cd:2"), ("scott", "cd"), ("scott__s2__seed0", "cd__s2__seed0")])
def test_cells_are_named_in_four_ways(cli, run, names):
    code, out, err = cli("compare", run, *names)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "A = scott@2, B = cd@2, N = 400 shared prompts, seeds 0; Holm: over 2 tests"
    assert [line.split()[:4] for line in lines[2:]] == [["scott@2", "-", "cd@2", "FID"], ["scott@2", "-", "cd@2", "CLIP"]]
    assert "scott@2 better" in lines[2] and "inconclusive: about" in lines[3]


def test_the_pairs_of_a_run_are_those_that_compare_gives(cli, run):
    code, out, _ = cli("compare", run, "scott@2", "cd@2", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["pairs"] == pl.read_parquet(run / "pairs.parquet").to_dicts()
    assert set(document["fingerprints"]) == {"fid", "clip_score"} and document["gate"] is True


def test_the_gate_asks_for_better_in_one_metric_and_worse_in_none(cli, run):
    assert cli("compare", run, "scott@2", "cd@2", "--gate")[0] == 0
    code, out, err = cli("compare", run, "cd@2", "scott@2", "--gate")
    assert code == 6 and "cd@2 - scott@2" in out
    assert err == "error: gate not met: cd@2 is worse in fid (Holm, 5 %).\n"


def test_undecided_is_no_pass(cli, tmp_path):
    same = {(method, 2, 0): {"fid": (70.0, influence(own, 20.0))} for own, method in enumerate(("scott", "cd"))}
    assert cli("compare", made_run(tmp_path / "run", same), "scott", "cd", "--gate")[2] == (
        "error: gate not met: scott@2 is better in no metric (Holm, 5 %).\n"
    )


def test_cells_of_two_runs_are_paired_by_their_prompts(cli, tmp_path, run):
    other = made_run(tmp_path / "other", {("scott", 2, 0): {"fid": (75.0, influence(3, 20.0))}})
    code, out, _ = cli("compare", run, "scott@2", "scott@2", "--with", other)
    assert code == 0 and "scott@2 - scott@2" in out and "FID" in out and "CLIP" not in out


def test_another_n_or_fingerprint_or_other_prompts_are_exit_code_5(cli, tmp_path, run):
    small = made_run(tmp_path / "small", {("cd", 2, 0): {"fid": (75.0, influence(3)[:100])}}, n=100)
    code, out, err = cli("compare", run, "scott@2", "cd@2", "--with", small)
    assert (code, out) == (5, "") and "N = 400" in err and "N = 100" in err and "--limit" in err
    other = made_run(tmp_path / "other", {("cd", 2, 0): {"fid": (75.0, influence(3))}})
    rows = pl.read_parquet(other / "results.parquet")
    rows.with_columns(fingerprint=pl.lit("fid(); another extractor; n=400")).write_parquet(other / "results.parquet")
    code, _, err = cli("compare", run, "scott@2", "cd@2", "--with", other)
    assert code == 5 and "different fingerprints" in err and "another extractor" in err
    rows.write_parquet(other / "results.parquet")
    items = pl.read_parquet(other / "items.parquet")
    items.with_columns(id=pl.col("id") + "x").write_parquet(other / "items.parquet")
    code, _, err = cli("compare", run, "scott@2", "cd@2", "--with", other)
    assert code == 5 and "different prompts" in err


def test_one_metric_of_another_fingerprint_is_left_out_and_named_but_no_gate_passes_over_it(cli, tmp_path, run):
    other = made_run(tmp_path / "other", {("cd", 2, 0): {"fid": (75.0, influence(3)), "clip_score": (0.5, influence(4))}})
    rows = pl.read_parquet(other / "results.parquet")
    of_fid = pl.col("metric") == "fid"
    fingerprint = pl.when(of_fid).then(pl.lit("fid(); another extractor; n=400")).otherwise(pl.col("fingerprint"))
    rows.with_columns(fingerprint=fingerprint).write_parquet(other / "results.parquet")
    line = ("compare", run, "scott@2", "cd@2", "--with", other)
    code, out, err = cli(*line)
    assert code == 0 and "CLIP score" in out and "FID" not in out
    assert err.startswith("left out: fid of scott@2 and of cd@2 have different fingerprints") and "another extractor" in err
    document = json.loads(cli(*line, "--json")[1])
    assert [pair["metric"] for pair in document["pairs"]] == ["clip_score"] and list(document["left_out"]) == ["fid"]
    code, out, err = cli(*line, "--gate")
    assert (code, out) == (5, "") and "different fingerprints" in err


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("scot@2", "cd@2"), "no cell 'scot@2' with intervals in this run. Did you mean 'scott@2'? Cells: scott@2, cd@2"),
        (("scott@3", "cd@2"), "no cell 'scott@3'"),
        (("scott@2", "scott"), "A and B are the same cell"),
        (("scott@2", "\x1b[2Jcd"), "no cell 'cd'"),
    ],
)
def test_unknown_cells_are_named_with_what_there_is(cli, run, names, words):
    code, out, err = cli("compare", run, *names)
    assert (code, out) == (2, "") and words in err and "\x1b" not in err and err.count("\n") == 1


def test_a_method_with_several_numbers_of_steps_must_be_named_with_one(cli, tmp_path):
    values = {("scott", steps, 0): {"fid": (70.0 - steps, influence(steps))} for steps in (1, 2)}
    code, _, err = cli("compare", made_run(tmp_path / "run", values), "scott", "scott@1")
    assert code == 2 and "'scott' was run at 1, 2 steps. Name one: scott@1, scott@2" in err


def test_cells_without_a_common_metric_cannot_be_compared(cli, tmp_path):
    run = made_run(tmp_path / "run", {
        ("scott", 2, 0): {"fid": (70.0, influence(1)), "coverage": None},
        ("cd", 2, 0): {"fid": None, "coverage": (0.5, influence(2, 0.1))},
    })  # fmt: skip
    code, _, err = cli("compare", run, "scott", "cd")
    assert code == 2 and "share no metric with intervals" in err


def test_a_run_of_an_earlier_version_is_told_how_to_get_intervals(cli, run):
    (run / "items.parquet").unlink()
    for command in (["compare", run, "scott", "cd"], ["claims", run]):
        code, out, err = cli(*command)
        assert (code, out) == (2, "") and "items.parquet" in err and f"scottbench resume {run}" in err and err.count("\n") == 1


def edit_items(run, change):
    change(pl.read_parquet(run / "items.parquet")).write_parquet(run / "items.parquet")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "items.parquet").write_bytes(b"PAR1"), "items.parquet is damaged"),
        (lambda run: edit_items(run, lambda items: items.drop("influence")), "lacks column 'influence'"),
        (lambda run: edit_items(run, lambda items: items.head(50)), "50 items of fid"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(cli, run, damage, words):
    damage(run)
    code, out, err = cli("compare", run, "scott", "cd")
    assert (code, out) == (5, "") and words in err and err.count("\n") == 1
    (run / "manifest.json").unlink()
    code, out, err = cli("compare", run, "scott", "cd")
    assert (code, out) == (2, "") and "neither a run folder nor the head of a plan's hash" in err and err.count("\n") == 1


def test_a_metric_that_is_nan_or_without_an_interval_is_left_out(run):
    rows = pl.read_parquet(run / "results.parquet")
    gone = (pl.col("metric") == "fid") & (pl.col("method") == "cd")
    rows.with_columns(value=pl.when(gone).then(float("nan")).otherwise(pl.col("value"))).write_parquet(run / "results.parquet")
    assert [(one.cell, one.metric) for one in read_measured(run)] == [("scott@2", "fid"), ("scott@2", "clip_score"), ("cd@2", "clip_score")]


# --- claims -----------------------------------------------------------------------------------------------------------


def test_claims_are_printed_with_verdict_evidence_and_source(cli, run):
    code, out, err = cli("claims", run)
    assert (code, err) == (0, "")
    blocks = {block.split("  ")[1].split(":")[0]: block for block in out.split("\n\n") if "  " in block}
    assert blocks["beats-cd"].startswith("DIRECTION HOLDS") and "FID (pocket features) of scott@2 against cd@2" in blocks["beats-cd"]
    assert "arXiv 2403.01505, v4" in blocks["beats-cd"] and "confidence C" in blocks["beats-cd"]
    assert blocks["headline-instaflow"].startswith("NOT TESTABLE HERE") and "instaflow@1" in blocks["headline-instaflow"]
    assert "    test   scottbench run -m scott,instaflow -s 1,2 -p pocket -k fid" in blocks["headline-instaflow"]
    assert "    test   " not in blocks["beats-cd"]
    counts, covers = out.splitlines()[-2:]
    assert sorted(counts.split(", ")) == ["1 direction holds", f"{len(blocks) - 1} not testable here"]
    assert covers.startswith("Intervals: 95 %")


def test_json_has_every_claim(cli, run):
    document = json.loads(cli("claims", run, "--json")[1])
    verdicts = {claim["name"]: claim["verdict"] for claim in document["claims"]}
    assert set(verdicts) == set(load_plugins().nouns["claim"]) and verdicts["beats-cd"] == "direction holds" and document["gate"] is True


def test_claims_that_are_named_are_judged_alone(cli, run):
    code, out, _ = cli("claims", run, "--claim", "beats-cd", "--json")
    assert code == 0 and [claim["name"] for claim in json.loads(out)["claims"]] == ["beats-cd"]
    both = ("--claim", "headline-instaflow", "--claim", "beats-cd", "--claim", "beats-cd")
    assert cli("claims", run, *both)[1].splitlines()[-2] == "1 not testable here, 1 direction holds"
    assert cli("claims", run, "--claim", "headline-instaflow", "--gate")[0] == 6
    assert cli("claims", run, "--claim", "beats-cd", "--gate")[0] == 0
    code, out, err = cli("claims", run, "--claim", "beat-cd")
    assert (code, out) == (2, "") and "unknown claim 'beat-cd'. Did you mean 'beats-cd'?" in err and err.count("\n") == 1


def test_the_gate_asks_that_every_claim_that_can_be_tested_holds(cli, tmp_path, run):
    assert cli("claims", run, "--gate")[0] == 0
    values = {("scott", 2, 0): {"fid": (75.0, influence(1, 20.0))}, ("cd", 2, 0): {"fid": (70.0, influence(2, 20.0))}}
    code, out, err = cli("claims", made_run(tmp_path / "against", values), "--gate")
    assert code == 6 and "CONTRADICTED" in out and err == "error: gate not met: beats-cd does not hold.\n"
    alone = made_run(tmp_path / "alone", {("scott", 2, 0): {"fid": (75.0, influence(1, 20.0))}})
    assert cli("claims", alone, "--gate")[::2] == (6, "error: gate not met: no claim can be tested here.\n")


def test_reading_gives_back_what_was_written(run):
    found = {(one.cell, one.metric): one for one in read_measured(run)}
    one = found["scott@2", "fid"]
    assert np.array_equal(one.influence, influence(1, 20.0)) and (one.value, one.n, one.df, one.seeds) == (70.0, 400, 399, (0,))
    assert (one.preset, one.id, one.higher_is_better) == ("pocket", "scott__s2__seed0", False)
