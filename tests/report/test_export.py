"""Tables as LaTeX, Markdown and CSV: the numbers of the page, hostile names inert."""

from __future__ import annotations

import csv
import json
import re

import polars as pl
import pytest
from fake_run import edit_manifest, fake_run

from scottbench.cli import invoke
from scottbench.report import build
from scottbench.report.export import KINDS, Choice, export
from scottbench.report.figures import charts
from scottbench.report.forms import markdown
from scottbench.report.tables import Column, Entry, Table

HOSTILE = r"a_b & 50% \input{/etc/passwd} $x^2$ <b>|~#"


@pytest.fixture
def run(tmp_path):
    return fake_run(tmp_path / "run")


def test_every_kind_is_written_with_the_numbers_of_the_page(run, tmp_path, capsys):
    assert invoke(["export", str(run)]) == 0
    names = {"results.tex", "timings.tex", "results.md", "timings.md", "results.csv", "timings.csv"}
    assert {path.rsplit("/", 1)[1] for path in capsys.readouterr().out.split()} == names == {p.name for p in (run / "exports").iterdir()}
    text = (run / "exports" / "results.tex").read_text()
    assert re.search(r"scott & \$2\$ & \$2\$ & \$\\mathbf\{0.760\}\$ & .*0.570", text) and text.count(r"\\" + "\n") == 6
    assert "| scott | 2 | 2 | **0.760** |" in (run / "exports" / "results.md").read_text()
    rows = list(csv.DictReader((run / "exports" / "results.csv").open()))
    assert [float(row["value"]) for row in rows] == pl.read_parquet(run / "results.parquet")["value"].to_list()


def test_a_folder_for_publication_holds_the_records_and_no_images(run, tmp_path):
    build(run)
    out = tmp_path / "published"
    assert invoke(["export", str(run), "--to", "csv", "-o", str(out)]) == 0
    assert json.loads((out / "manifest.json").read_text()) == json.loads((run / "manifest.json").read_text())
    assert (out / "report" / "index.html").read_bytes() == (run / "report" / "index.html").read_bytes()
    assert not (out / "images").exists() and not (out / "results.tex").exists()


def test_markdown_has_no_markup_but_its_own():
    text = markdown(Table("c", [Column("A"), Column("B")], [[Entry(HOSTILE), Entry("[x](y)", small=("*z*",))]]))
    assert len(text.splitlines()) == 5 and "<b>" not in text and r"\|" in text and r"\[x\](y)" in text and r"<br>\*z\*" in text


@pytest.mark.parametrize("name", ["=1+1", "@SUM(A1)", "+x", "-x", "\t=1"])
def test_no_field_of_a_csv_is_a_formula(run, name):
    rows = pl.read_parquet(run / "results.parquet").with_columns(unit=pl.lit(name))
    rows.write_parquet(run / "results.parquet")
    export(run, Choice(("csv",)), run / "exports", records=False)
    (found,) = {row["unit"] for row in csv.DictReader((run / "exports" / "results.csv").open())}
    assert found == f"'{name.strip()}"


def test_bad_input_is_one_line(run, tmp_path, capsys):
    for arguments, code, words in [
        (["export", str(run), "--to", "latx"], 2, "Did you mean 'latex'?"),
        (["export", str(tmp_path)], 2, "neither a run folder nor"),
        (["export", str(run), "-o", str(run / "manifest.json")], 2, "cannot write"),
    ]:
        assert invoke(arguments) == code
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
    edit_manifest(run, schema="other/1")
    assert invoke(["export", str(run)]) == 2 and set(KINDS) == {"latex", "markdown", "csv"}


def test_figures_are_made_where_they_are_asked_for(run, capsys, monkeypatch):
    monkeypatch.setattr("scottbench.report.paper.charts", lambda record: charts(record)[:1])
    assert invoke(["export", str(run), "--to", "figures"]) == 0
    names = {path.name for path in (run / "exports" / "figures").iterdir()}
    assert {"cost-nfe-single.pdf", "cost-nfe-double.png"} <= names
    assert not list((run / "exports").glob("*.tex"))
    capsys.readouterr()
