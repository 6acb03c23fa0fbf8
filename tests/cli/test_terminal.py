"""What a terminal shows: one bar in words with the time left; tables that cut nothing on a real pty of 80, 100 and 120 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from scottbench.text import printable
from scottbench.text.progress import Overall, Progress

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "reports" / "pocket-main"
WIDTHS = (80, 100, 120)
COMMANDS = {
    "compare": ["compare", str(PUBLISHED), "scott@2", "ufogen@4"],
    "claims": ["claims", str(PUBLISHED)],
    "list": ["list", "metrics"],
    "kinds": ["list"],
    "show": ["show", "method", "scott"],
    "plugin": ["show", "plugin", "scott"],
    "config": ["config", "show", "-m", "scott,cd,instaflow", "-c", "a-folder-with-a-name/of-a-config-file.toml"],
    "runs": ["runs"],
    "fetch": ["fetch", "scott-paper-mjhq", "--dry-run"],
}
PROGRAM = """
import fcntl, json, os, shutil, struct, sys, termios
from pathlib import Path
from scottbench.cli import invoke
from scottbench.cli.results import print_results
from scottbench.cli.cost import show_cells
widths, commands, published = json.loads(sys.argv[1])
free = shutil.disk_usage(".")  # read once: others write to the disk too, and what is compared is words
shutil.disk_usage = lambda place: free
for width in widths:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    for name, line in [*commands.items(), ("results", None), ("plan", None)]:
        print(f"<<{name} {width}>>", flush=True)
        if name == "plan":
            show_cells([["instaflow@guidance=1.5__s2__seed0", "1.5", "5,000", "2", "123.4"]])
        elif line is None:
            print_results(Path(published))
        else:
            assert invoke(line) == 0, line
        sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def screens(tmp_path_factory) -> dict[tuple[str, int], str]:
    """(command, width) -> what it shows on a pty of that width; one process for all, for starting one costs most."""
    import json

    home = tmp_path_factory.mktemp("home")
    config = home / "a-folder-with-a-name" / "of-a-config-file.toml"
    config.parent.mkdir()
    config.write_text('limit = 64\n')
    run = home / "runs" / "20260211T093004Z-pocket-7c1e9a2f"
    run.mkdir(parents=True)
    for name in ("manifest.json", "plan.lock.json"):
        (run / name).write_bytes((PUBLISHED / name).read_bytes())
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    command = [sys.executable, "-c", PROGRAM, json.dumps([WIDTHS, COMMANDS, str(PUBLISHED)])]
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")} | {"TERM": "xterm"}
    variables |= {"HF_HOME": str(home / "hub"), "XDG_CACHE_HOME": str(home / "cache")}  # no file of ours is there yet
    process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, cwd=home, env=variables, close_fds=True)
    os.close(other)
    found = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        found += part
    assert process.wait() == 0, found.decode()[-2000:]
    parts = re.split(r"<<(\w+) (\d+)>>\r?\n", found.decode())
    return {(name, int(width)): printable(text).replace("\r", "") for name, width, text in zip(parts[1::3], parts[2::3], parts[3::3])}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [*COMMANDS, "results", "plan"])
def test_no_line_is_wider_than_the_window_and_nothing_is_cut(screens, name, width):
    text = screens[name, width]
    wide = [line.split() for line in text.splitlines() if len(line) > width]
    assert [words for words in wide if len(words) > 2 or "/" not in words[-1]] == [], "but for a path, alone or with its name"
    # a table's cut fields end in "…"; claims and summaries quote none
    assert "…" not in text


@pytest.mark.parametrize("name", ["claims", "compare", "list", "show", "plugin", "kinds", "fetch"])
def test_a_narrow_window_shows_all_words_of_a_wide_one(screens, name):
    wide, narrow = ({word for word in screens[name, width].split() if set(word) != {"─"}} for width in (120, 80))
    assert wide == narrow


def test_results_at_80_columns_name_what_they_go_without(screens):
    narrow, wide = screens["results", 80], screens["results", 120]
    told = " ".join(narrow.split())
    assert "(without Coverage ↑, Precision ↑, Recall ↑, Density ↑, ms/image ↓, ms/call: a wider window has room" in told
    for number in ("18.60", "[17.18, 20.01]", "0.704", "[69.17, 77.84]"):
        assert number in narrow and number in wide
    assert "240,000" in narrow and "= likewise" not in narrow.split("\n\n")[0]


def test_a_table_of_facts_that_has_no_room_is_a_list_and_points_to_no_report(screens):
    """Of a fetch the licence and whether it is there decide; a run's report has neither."""
    text = screens["fetch", 80]
    assert "size 95.6 MB · licence Apache-2.0 · sha256 known" in text and text.count("there no") == text.count("size ") > 5
    assert "scottbench export RUN" not in text + screens["runs", 80] + screens["runs", 100]
    assert "(without created: a wider window has room, and a pipe gets all)" in " ".join(screens["runs", 100].split())


# --- one bar -----------------------------------------------------------------------------------------------------------


def test_time_left_is_by_the_share_of_the_work_and_the_speed_so_far():
    overall = Overall({"a": ("scott, 2 steps", 300.0), "b": ("ddim, 50 steps", 700.0)})
    overall.note("a", 0.0, 100.0)
    overall.note("a", 0.1, 101.0)
    assert overall.left is None  # a second tells nothing
    overall.note("a", 1.0, 130.0)
    assert overall.fraction == pytest.approx(0.3) and overall.left == pytest.approx(70.0)
    overall.note("b", 0.5, 165.0)
    assert overall.left == pytest.approx(35.0)
    overall.note("b", 0.4, 170.0)  # never back
    assert overall.fraction == pytest.approx(0.65)


def test_a_run_is_told_in_words_with_the_part_of_all_that_is_done(capsys):
    with Progress(False) as shown:
        shown.expect({"scott__s2__seed0": ("scott, 2 steps", 1.0), "metrics scott__s2__seed0": ("metrics of scott, 2 steps", 1.0)})
        shown.run_event({"stage": "cell", "cell": "scott__s2__seed0", "done": 32, "total": 64})
        shown.run_event({"stage": "cell", "cell": "scott__s2__seed0", "done": 64, "total": 64})
        shown.run_event({"stage": "metrics", "cell": "scott__s2__seed0", "done": 64, "total": 64})
    lines = capsys.readouterr().err.splitlines()
    assert [line.rsplit("  ", 1)[0] for line in lines] == [
        "scott, 2 steps  64/64  50 % of the run", "metrics of scott, 2 steps  64/64  100 % of the run",
    ]  # fmt: skip


def test_a_warning_that_is_true_of_many_cells_is_told_once():
    from scottbench.cli import told_once
    from scottbench.errors import ScottbenchWarning

    line = told_once(lambda message, category, *place: f"{place[0]}: {message}")
    assert [line("rank limited", ScottbenchWarning, "f.py", 1) for _ in range(2)] == ["warning: rank limited\n", ""]
    assert [line("old", UserWarning, "f.py", 1) for _ in range(2)] == ["f.py: old"] * 2
