"""The report of a run with intervals, pairs and claims: what is printed, what a run without them shows, the same bytes every time."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest
from fake_run import edit_manifest, fake_run
from made_run import N, influence, made_run, two_methods
from page import Page

from scottbench.cli import invoke
from scottbench.cli.results import print_results
from scottbench.errors import IntegrityError
from scottbench.registry.claims import read_claim
from scottbench.registry.loader import load_plugins
from scottbench.report import build
from scottbench.stats.measured import read_measured
from scottbench.stats.verdicts import judge
from scottbench.text import bracket, decimals, p_text, signed


def judged(run):
    """claims.json beside the other records, as a run writes it."""
    claims = [found.noun for found in load_plugins().nouns["claim"].values()]
    (run / "claims.json").write_text(json.dumps({"schema": "scottbench.claims/1", "claims": judge(claims, read_measured(run))}))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return judged(two_methods(tmp_path_factory.mktemp("made") / "run"))


@pytest.fixture(scope="module")
def page(run):
    return Page(build(run))


def caption(page: Page, name: str) -> str:
    return next(text for text in page.captions if text.startswith(name))


def test_decimals_are_those_that_the_narrowest_interval_bears():
    assert decimals([1.4, 2.0], 3) == 1 and decimals([14.0], 3) == 0 and decimals([0.0021], 3) == 3 and decimals([0.0021], 5) == 4
    assert decimals([], 3) == 3 and decimals([0.0], 3) == 3
    assert bracket(76.94, 79.66, 1) == "[76.9, 79.7]"
    assert [signed(value, 1) for value in (1.24, -0.26, -0.04)] == ["+1.2", "-0.3", "0.0"]
    assert [p_text(p) for p in (0.0004, 0.0123, 1.0)] == ["p < 0.001", "p = 0.012", "p = 1.00"]


def test_values_stand_with_their_intervals_in_the_main_table(page):
    table = page.table("Table 1")
    assert table.body[0][:4] == ["scott", "2", "2", "70.0 [68.0, 72.0]"]
    assert table.body[1][3] == "71.5 [69.5, 73.5]"
    assert "In brackets: 95 % intervals of the value at this N" in caption(page, "Table 1.")
    assert "(FID, CLIP score: from the influence of each prompt)" in caption(page, "Table 1.")


def test_paired_differences_follow_with_holm_and_images_to_decide(page):
    table = page.table("Table 2")
    assert table.header == ["A - B", "FID ↓", "CLIP score ↑"] and caption(page, "Table 2.").endswith(" All metrics: pocket features.")
    ((names, fid, clip),) = table.body
    assert names == "scott@2 - cd@2" and fid.startswith("-1.50 [") and fid.endswith("] p < 0.001, Holm < 0.001 scott@2 better")
    assert " inconclusive about " in clip and clip.endswith(" images")
    assert "Holm: corrected over all 2 tests of the run's rows" in caption(page, "Table 2.")
    assert "N = 400" in caption(page, "Table 2.") and "Brackets: 95 % intervals, uncorrected." in caption(page, "Table 2.")


def test_claims_are_there_with_source_evidence_and_verdict(page):
    table = page.table("Table 3")
    rows = {row[0].split()[0]: row for row in table.body}
    known = len(load_plugins().nouns["claim"])
    assert len(rows) == known
    assert all(each in caption(page, "Table 3") for each in ("1 direction holds", f"{known - 1} not testable here"))
    assert "arXiv 2403.01505 , v4 (AAAI 2025)" in rows["beats-cd"][0]  # the identifier is a link of its own
    assert "https://arxiv.org/abs/2403.01505" in {attributes.get("href") for tag, attributes in page.tags if tag == "a"}
    assert "Quoted: fid 21.9 against 30.4" in rows["beats-cd"][1]
    assert rows["beats-cd"][2].startswith("direction holds") and "FID (pocket features) of scott@2 against cd@2" in rows["beats-cd"][2]
    assert "No fid with an interval of instaflow@1 in this run." in rows["headline-instaflow"][2]


def test_figures_have_bars_and_limits_say_what_intervals_cover(page):
    figures = [text for text in page.captions if text.startswith("Figure")]
    assert [text.split(".")[1].split(" against")[0].split(":")[0].strip() for text in figures] == ["FID", "FID", "FID", "CLIP score", "FID"]
    assert all("95 % intervals" in text and "N = 400 images a row." in text for text in figures)
    differences = [text for text in figures if "scott minus each row, paired" in text]
    assert len(differences) == 2 and all("Filled: decided after Holm's correction; hollow: not." in text for text in differences)
    assert "They do not cover training" in page.text and "without intervals" not in page.text


def test_the_answer_has_no_more_decimals_than_the_tables(page):
    value, difference = page.table("Table 1").body[0][3], page.table("Table 2").body[0][1]
    assert value == "70.0 [68.0, 72.0]" and difference.startswith("-1.50 [-2.06, -0.94] ")
    assert f"scott at 2 steps has FID {value}: 1.50 [0.94, 2.06] lower than cd at 2 steps." in page.text
    assert "all numbers are on pocket features" in page.text[: page.text.index("Figure 1.")]


def test_equal_records_give_equal_bytes(run):
    before = build(run).read_bytes()
    assert build(run).read_bytes() == before


def test_a_run_of_an_earlier_version_is_shown_as_before(tmp_path):
    page = Page(build(fake_run(tmp_path / "old")))
    assert page.table("Table 1").body[0][3] == "0.760" and "In brackets" not in caption(page, "Table 1.")
    assert "without intervals: a small difference may be noise" in page.text
    assert "Paired" not in page.text and not any("Bars" in text or "95 % intervals" in text for text in page.captions)


def test_a_value_without_an_interval_has_a_footnote_that_says_why(tmp_path):
    run = two_methods(tmp_path / "run")
    rows = pl.read_parquet(run / "results.parquet")
    gone = (pl.col("metric") == "fid") & (pl.col("method") == "cd")
    ends = {name: pl.when(gone).then(None).otherwise(pl.col(name)) for name in ("ci_low", "ci_high", "ci_method")}
    rows.with_columns(**ends).write_parquet(run / "results.parquet")
    entries = json.loads((run / "manifest.json").read_text())["cells"]
    entries[1]["no_interval"] = {"fid": "3 images cannot be halved"}
    edit_manifest(run, cells=entries)
    page = Page(build(run))
    assert page.table("Table 1").body[1][3] == "71.5 a"
    assert "No interval: 3 images cannot be halved" in page.text


def test_a_pair_is_a_row_and_a_long_table_says_where_the_others_are(tmp_path):
    values = {
        (method, steps, 0): {"fid": (50.0 + own, influence(1)), "coverage": (0.5, influence(2, 0.1)), "recall": (0.5, influence(3, 0.1))}
        for own, (method, steps) in enumerate((method, steps) for method in "abcdef" for steps in (1, 2, 4))
    }
    run = made_run(tmp_path / "run", values)
    pairs = pl.read_parquet(run / "pairs.parquet")
    assert pairs.height == 3 * (18 * 17 // 2)
    page = Page(build(run))
    body = page.table("Table 2").body
    assert len(body) == 48 and {len(row) for row in body} == {4}
    assert "The other 105 pairs are in pairs.parquet." in caption(page, "Table 2.")


def test_hostile_names_in_claims_and_pairs_are_inert(tmp_path):
    run = two_methods(tmp_path / "run")
    pairs = pl.read_parquet(run / "pairs.parquet")
    pairs.with_columns(verdict=pl.lit("<script>alert(1)</script>")).write_parquet(run / "pairs.parquet")
    claim = {"name": "<b>x", "statement": "\x1b[2J<img src=x>", "verdict": "contradicted", "evidence": [], "quoted": [], "reason": ""}
    (run / "claims.json").write_text(json.dumps({"claims": [claim]}))
    html = build(run).read_text()
    assert "<script>" not in html and "<img src=x>" not in html and "\x1b" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize(("name", "data"), [("claims.json", b"{"), ("claims.json", b"[]"), ("pairs.parquet", b"PAR1")])
def test_damaged_records_are_named_in_one_line(tmp_path, name, data):
    run = judged(two_methods(tmp_path / "run"))
    (run / name).write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        build(run)
    assert name in str(caught.value) and "\n" not in str(caught.value)


# --- terminal ---------------------------------------------------------------------------------------------------------


def test_the_terminal_shows_intervals_pairs_and_claims(run, capsys):
    build(run)
    print_results(run)
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("scott"))
    assert "*70.0 [68.0, 72.0]" in row
    assert any("paired differences over shared prompts and seeds" in line and "Holm: over 2 tests" in line for line in lines)
    assert any(line.startswith("scott@2 - cd@2") and "scott@2 better" in line for line in lines)
    (claims,) = (line for line in lines if line.startswith("claims  "))
    untested = len(load_plugins().nouns["claim"]) - 1
    assert "1 direction holds" in claims and f"{untested} not testable here" in claims and claims.endswith(f"(scottbench claims {run})")


def test_several_seeds_have_a_column_and_one_averaged_difference(tmp_path, capsys):
    values = {(method, 2, seed): {"fid": (70.0 + own + seed, influence(2 * own + seed, 20.0))}
              for own, method in enumerate(("scott", "cd")) for seed in (0, 1)}  # fmt: skip
    print_results(made_run(tmp_path / "run", values))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["method", "steps", "seed", "NFE"]
    assert [line.split()[:4] for line in lines[2:6]] == [[method, "2", seed, "2"] for method in ("scott", "cd") for seed in "01"]
    assert sum("@2 - " in line for line in lines) == 1


def test_the_terminal_shows_an_earlier_run_as_before(tmp_path, capsys):
    print_results(fake_run(tmp_path / "old"))
    out = capsys.readouterr().out
    assert "*0.760" in out and "[" not in out and "paired" not in out


def test_many_pairs_are_cut_to_the_first_metric_and_counted(tmp_path, capsys):
    values = {
        (method, 2, 0): {"fid": (50.0 + own, influence(own)), **{name: (0.5, influence(own, 0.1)) for name in ("coverage", "recall")}}
        for own, method in enumerate("abcde")
    }
    print_results(made_run(tmp_path / "run", values))
    out = capsys.readouterr().out
    assert sum("@2 - " in line for line in out.splitlines()) == 10 and "20 more in pairs.parquet" in out


def test_influences_have_mean_zero_in_what_tests_are_made_of():
    assert abs(influence(1).mean()) < 1e-12 and influence(1).shape == (N,) and np.corrcoef(influence(1), influence(2))[0, 1] > 0.9


def test_claims_are_listed_with_their_statement_and_shown_with_what_they_compare(capsys):
    found = load_plugins().nouns["claim"]["beats-cd"]
    assert read_claim(found.file).summary == found.noun.statement
    assert invoke(["list", "claims"]) == 0 and re.search(rf"beats-cd +{re.escape(found.noun.statement)}", capsys.readouterr().out)
    assert invoke(["show", "claim", "beats-cd"]) == 0
    assert "fid of scott@2 better than of cd@2 (paper: 21.9 against 30.4, N = 5,000, MSCOCO-2017)" in capsys.readouterr().out
    assert invoke(["show", "claim", "beat-cd"]) == 2
    assert "Did you mean 'beats-cd'?" in capsys.readouterr().err
