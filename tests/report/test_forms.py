"""A table on a terminal and in a pipe: what is stressed, left out, folded and never obeyed."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from scottbench.report.forms import terminal
from scottbench.report.pairs import pairs_list
from scottbench.report.tables import Column, Entry, Table
from scottbench.store.record import MetricRecord
from scottbench.text import printable

FID = MetricRecord("fid", "FID", "", False, 3, "fid()", "pocket features", "")
ROWS = [
    [Entry("scott"), Entry("1,000", short="1000"), Entry("0, 1"), Entry("70.0", True, small=("[68.0, 72.0]",))],
    [Entry("[bold]cd[/bold]\x1b[31m"), Entry("n/a", short="-"), Entry("0, 1"), Entry("71.5", mark="a")],
]
BEST = ["*70.0", "[68.0,", "72.0]"]
COLUMNS = [Column("Method", short="method"), Column("NFE", number=True), Column("Seeds", short=""), Column("CLIP score ↑", number=True)]


@pytest.fixture
def table() -> Table:
    return Table("A caption.", COLUMNS, ROWS, [("a", "No interval.")], title="few words")


def test_a_pipe_gets_one_plain_line_a_row_with_the_interval_beside_its_value(table, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert terminal(table, screen=False).splitlines() == [
        "method            NFE        CLIP score ↑",
        "scott            1000  *70.0 [68.0, 72.0]",
        "[bold]cd[/bold]     -                71.5",
    ]


def test_a_window_gets_a_rule_below_the_headings_and_narrow_columns_where_asked(table, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    wide, narrow = (printable(terminal(table, True, narrow=asked)).splitlines() for asked in (False, True))
    assert [line.split() for line in (wide[0], wide[2])] == [["method", "NFE", "CLIP", "score", "↑"], ["scott", "1000", *BEST]]
    assert [line.split() for line in narrow[:3]] == [["CLIP"], ["score"], ["method", "NFE", "↑"]]
    assert [line.split() for line in narrow[4:6]] == [["scott", "1000", BEST[0]], BEST[1:]]
    assert set(wide[1]) == set(narrow[3]) == {"─"} and len(wide) == 4 and len(narrow) == 7


def test_text_of_a_column_that_may_wrap_is_all_there_in_a_narrow_window(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    words = [f"word{i}" for i in range(20)]
    columns, row = [Column("name"), Column("summary", wrap=True)], [Entry("x"), Entry(" ".join(words))]
    lines = printable(terminal(Table("", columns, [row]), screen=True)).splitlines()
    assert " ".join(lines).split()[3:] == ["x", *words] and max(map(len, lines)) <= 40
    (_, line) = terminal(Table("", columns, [row]), screen=False).splitlines()
    assert line.split() == ["x", *words]


def test_a_list_of_pairs_says_what_the_table_of_pairs_says_one_metric_a_row():
    row = {"metric": "fid", "method_a": "scott", "steps_a": 2, "method_b": "cd", "steps_b": 2, "n": 400, "difference": -1.5,
           "ci_low": -1.7, "ci_high": -1.3, "p": 0.0041, "p_holm": 0.0123, "verdict": "scott@2 better"}  # fmt: skip
    found = pairs_list([row, {**row, "p": 0.00005, "p_holm": 0.0001, "verdict": "inconclusive: about 26,000 images would decide"}], [FID])
    assert found.title == "paired differences over shared prompts and seeds (95 % intervals; p: of each test alone; Holm: over 2 tests)"
    header, first, second = terminal(found, screen=False).splitlines()
    assert header.split() == ["A", "-", "B", "metric", "difference", "p", "Holm", "verdict"]
    assert re.split("  +", first) == ["scott@2 - cd@2", "FID", "-1.50 [-1.70, -1.30]", "0.004", "0.012", "scott@2 better"]
    assert re.split("  +", second)[3:] == ["< 0.001", "< 0.001", "inconclusive: about 26,000 images would decide"]


def test_a_narrow_terminal_cuts_no_number_name_or_word(monkeypatch):
    """Columns that may fold do, down to their longest word; lines that are still too wide are left to the terminal."""
    columns = [Column("A - B", wrap=True), Column("difference", number=True), Column("verdict", wrap=True)]
    verdict = "inconclusive: about 26,000 images would decide"
    row = [Entry("scott@2 - cd@2"), Entry("-0.0066", small=("[-0.0090, -0.0042]",)), Entry(verdict)]
    whole = " ".join([row[0].text, row[1].text, *row[1].small, row[2].text]).split()
    for width in (120, 80, 60, 20):
        monkeypatch.setenv("COLUMNS", str(width))
        text = terminal(Table("", columns, [row]), screen=True)
        assert not Counter(whole) - Counter(printable(text).split()) and "…" not in text
        assert width == 20 or max(map(len, printable(text).splitlines())) <= width
