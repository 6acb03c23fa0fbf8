"""LaTeX tables: what they are made of, and that pdflatex sets them in one column and two with nothing over an edge.

The compiling test is required where SCOTTBENCH_REQUIRE_LATEX=1 (CI); elsewhere skipped, with the reason, where there is no pdflatex.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_run import fake_run

from scottbench.cli import invoke
from scottbench.report.export import Choice, export
from scottbench.report.latex import Look, escaped, latex
from scottbench.report.tables import Column, Entry, Table

PDFLATEX = shutil.which("pdflatex")
REQUIRED = os.environ.get("SCOTTBENCH_REQUIRE_LATEX") == "1"
PUBLISHED = Path(__file__).resolve().parents[2] / "reports" / "pocket-main"
HOSTILE = "\\input{/etc/passwd} a_b & 50% $x^2$ <b>|~# \"quoted\" -1.5 \N{GRINNING FACE} Łódź é " + "w" * 70


def table_of(text: str) -> Table:
    columns = [Column(text), *(Column(text, text, True, metric=name) for name in "ab")]
    row = [Entry(text), Entry("-0.5", True, ends=("-0.7", "-0.3")), Entry("12,345", mark="a")]
    return Table(text, columns, [row] * 30, [("a", text)])


def words_of(text: str) -> Table:
    return Table(text, [Column(text, wrap=True), Column("words", wrap=True)], [[Entry(text), Entry(text, small=(text,))]] * 30)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> list[str]:
    """Tables of hostile words, and every table of two runs in two looks."""
    place = tmp_path_factory.mktemp("latex")
    run = fake_run(place / "run", [(method, steps) for method in ("scott", "cd") for steps in (1, 2, 4)])
    # in half a page's width one row of all these words is longer than a page
    found = [latex(table_of(HOSTILE), Look(), "a"), latex(table_of(HOSTILE[-90:]), Look("compact"), "b"), latex(words_of(HOSTILE))]
    for folder in (PUBLISHED, run):
        for look in (Look(), Look("compact", "pm")):
            found += [path.read_text() for path in export(folder, Choice(("latex",), (), look), place / "tex", records=False)]
    return found


@pytest.mark.skipif(PDFLATEX is None and not REQUIRED, reason="no pdflatex on PATH; set SCOTTBENCH_REQUIRE_LATEX=1 to make this an error")
@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_every_table_compiles_in_an_article_with_nothing_over_an_edge(texts, tmp_path, columns):
    assert PDFLATEX is not None, "SCOTTBENCH_REQUIRE_LATEX=1, but no pdflatex is on PATH: apt-get install texlive-latex-recommended"
    (tmp_path / "all.tex").write_text("\n".join([
        rf"\documentclass[{columns}]{{article}}", r"\usepackage{booktabs,tabularx}", r"\extrafloats{200}", r"\begin{document}",
        "\n\\clearpage\n".join(texts), r"\end{document}"]))  # fmt: skip
    command = [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert done.returncode == 0, [line for line in log.splitlines() if line.startswith(("!", "l."))]
    # LaTeX breaks lines of its log at 79 signs, so words are looked for from a line's start
    assert [line for line in log.splitlines() if line.startswith("Overfull") or "Float too large" in line] == []


def test_nothing_in_a_name_is_a_command_and_braces_balance():
    for style in ("full", "compact"):
        bare = re.sub(r"\\[\\{}$&#%_]", "", latex(table_of(HOSTILE), Look(style)))
        assert bare.count("{") == bare.count("}") and r"\input" not in bare and "%" not in bare and bare.count("$") % 2 == 0
    assert escaped("a\nb\x1b[2J") == "a b"
    assert escaped('say "this" and "that"') == "say ``this'' and ``that''"
    assert escaped("from -1.5 to \N{MINUS SIGN}1, scott-2") == "from $-$1.5 to $-$1, scott-2"
    assert escaped("é Ł \N{GRINNING FACE}") == r"\'{e} \L{} [U+1F600]"


@pytest.mark.parametrize(("interval", "cell"), [
    ("sub", r"$18.9_{\,17.4}^{\,20.4}$"), ("pm", r"$18.9 \pm 1.5$"), ("none", "$18.9$"),
])  # fmt: skip
def test_an_interval_stands_beside_its_value_as_asked(interval, cell):
    row = [Entry("scott"), Entry("18.9", small=("[17.4, 20.4]",), ends=("17.4", "20.4"))]
    text = latex(Table("c", [Column("Method"), Column("FID", number=True, metric="fid")], [row]), Look("full", interval))
    assert rf"scott & {cell} \\" in text and r"\label{tab:results}" in text and r"\toprule" in text


def test_best_values_are_bold_and_ties_are_marked():
    row = [Entry("x"), Entry("-1.5", True, tie=True, mark="=", ends=("-2.0", "-1.0")), Entry("1,234", True)]
    text = latex(Table("c", [Column("M"), *(Column(n, number=True, metric=n) for n in "ab")], [row], [("=", "equal")]))
    assert r"$\mathbf{-1.5}_{\,-2.0}^{\,-1.0}$\textsuperscript{=}" in text and r"$\mathbf{1{,}234}$" in text


def test_columns_are_chosen_and_ordered_and_an_unknown_one_is_one_line(tmp_path, capsys):
    run = fake_run(tmp_path / "run")
    line = ["export", str(run), "--to", "latex,csv,markdown", "--columns", "clip_score,fid", "--style", "compact"]
    assert invoke(line) == 0
    text = (run / "exports" / "results.tex").read_text()
    assert text.startswith(r"\begin{table}") and r"Method & Steps & NFE & \shortstack[r]{CLIP score" in text and "Coverage" not in text
    assert text.index("CLIP score") < text.index("FID $") and "ms/image" not in text
    assert (run / "exports" / "results.csv").read_text().count("\n") == 5 and "Recall" not in (run / "exports" / "results.md").read_text()
    capsys.readouterr()
    for flag, word, hint in (("--columns", "clip", "'clip_score'"), ("--style", "compakt", "'compact'"), ("--interval", "sup", "'sub'")):
        assert invoke(["export", str(run), flag, word]) == 2
        err = capsys.readouterr().err
        assert hint in err and err.count("\n") == 1


def test_a_long_table_is_several_floats_with_labels_of_their_own():
    rows = [[Entry(f"row {y}"), Entry("1.0")] for y in range(120)]
    text = latex(Table("A caption. More.", [Column("M"), Column("x", number=True, metric="x")], rows), label="pairs")
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels[:2] == ["tab:pairs", "tab:pairs-2"] and text.count(r"\begin{table*}") == len(labels) > 2
    assert "A caption (continued)" in text and sum(f"row {y} " in text for y in range(120)) == 120
