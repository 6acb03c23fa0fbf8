"""Several runs on one page: equal fingerprints in one table, others apart with the reason; sorted tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import polars as pl
import pytest
from fake_run import edit_manifest, edit_results, fake_run
from page import Page

from scottbench.cli import invoke
from scottbench.report.together import document, page, read_folder
from scottbench.store.sums import check_sums


@pytest.fixture
def home(tmp_path):
    """A folder of three runs: two alike in what they measure, one of another N; and one that is damaged."""
    fake_run(tmp_path / "runs" / "first")
    fake_run(tmp_path / "runs" / "second", [("scott", 4), ("cd", 4)], plan_hash="5" * 64)
    fake_run(tmp_path / "runs" / "third", [("scott", 1)], n=64)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "manifest.json").write_text("{")
    return tmp_path / "runs"


def test_rows_of_equal_fingerprints_stand_together_and_others_apart_with_the_reason(home):
    found = document(read_folder(home))
    assert [(group["n"], len(group["rows"]), group["why_apart"]) for group in found["groups"]] == [
        (256, 4, None), (64, 1, "n=64 against n=256")]  # fmt: skip
    assert {(row["run"], row["method"], row["steps"]) for row in found["groups"][0]["rows"]} == {
        ("first", "scott", 2), ("first", "cd", 2), ("second", "scott", 4), ("second", "cd", 4)}  # fmt: skip
    ((name, reason),) = [tuple(one.values()) for one in found["left_out"]]
    assert name == "broken" and "damaged" in reason


def test_another_fingerprint_of_one_metric_is_enough_to_stand_apart(home):
    edit_results(home / "second", fingerprint=pl.col("fingerprint").str.replace("0.1", "0.2", literal=True))
    groups = document(read_folder(home))["groups"]
    assert [len(group["rows"]) for group in groups] == [2, 2, 1]
    assert groups[1]["why_apart"] == "scottbench 0.2 against scottbench 0.1"


def test_each_column_has_a_table_sorted_by_it_that_its_heading_leads_to(home):
    shown = page(read_folder(home), "a title")
    (home / "page.html").write_text(shown)
    read = Page(home / "page.html")
    ids = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    links = {attributes["href"][1:] for tag, attributes in read.tags if tag == "a"}
    assert links <= ids and {f"board-1-{place}" for place in (1, 2, 3, 4, 5, 6, "time")} <= links
    tables = {caption.split(". ")[1].split(",")[0]: table for caption, table in zip(read.captions, read.tables[1:8])}
    order = [row[0] for row in tables["Sorted by FID"].body]
    assert order == ["scott second", "scott first", "cd second", "cd first"]  # 0.71, 0.76, 0.81, 0.83
    assert tables["Sorted by CLIP score"].body[0][0] == "scott second"
    sorts = [attributes["aria-sort"] for tag, attributes in read.tags if tag == "th" and "aria-sort" in attributes]
    assert sorts[:2] == ["ascending", "descending"]
    assert not read.tables[1].bold, "no test stands behind a mark"
    assert "<script" not in shown and "broken" in read.text


def test_a_leaderboard_is_made_by_one_command_with_json_csv_and_digests(home, capsys):
    assert invoke(["leaderboard", str(home)]) == 0
    names = [line.rsplit("/", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert names == ["index.html", "leaderboard.csv", "leaderboard.json"] and check_sums(home / "leaderboard")
    first = (home / "leaderboard" / "index.html").read_bytes()
    assert invoke(["leaderboard", str(home), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((home / "leaderboard" / "leaderboard.json").read_text())
    assert printed["schema"] == "scottbench.leaderboard/1"
    rows = list(csv.DictReader(io.StringIO((home / "leaderboard" / "leaderboard.csv").read_text())))
    first_rows = [(row["group"], row["run"], row["method"], row["fid"]) for row in rows[:2]]
    assert first_rows == [("1", "first", "scott", "0.76"), ("1", "first", "cd", "0.83")]
    assert invoke(["leaderboard", str(home)]) == 0 and (home / "leaderboard" / "index.html").read_bytes() == first


def test_a_folder_without_a_run_is_a_mistake_that_says_what_to_give(home, capsys, tmp_path):
    assert invoke(["leaderboard", str(tmp_path)]) == 2
    assert "holds no run that can be read" in capsys.readouterr().err


def test_a_report_of_several_runs_is_one_page_beside_the_first_and_one_run_s_stays_in_its_folder(home, capsys):
    assert invoke(["report", str(home / "first"), str(home / "third")]) == 0
    path = capsys.readouterr().out.strip()
    assert path.startswith(str(home / "together-"))
    text = Page(Path(path)).text
    assert "Never ranked with the first table's rows: n=64 against n=256." in text
    assert invoke(["report", str(home / "first"), str(home / "second"), "-o", str(home / "here")]) == 0
    assert (home / "here" / "index.html").is_file() and Path(path).is_file()
    assert invoke(["report", str(home / "first"), "-o", "x"]) == 2 and "page of several runs" in capsys.readouterr().err


def test_names_of_runs_and_methods_are_inert(home):
    plan = json.loads((home / "third" / "manifest.json").read_text())["plan"]
    edit_manifest(home / "third", plan={**plan, "preset": "<b onclick=x>"})
    shown = page(read_folder(home), "<script>")
    assert "<script>" not in shown and "<b onclick" not in shown
