"""The report opened in headless Chromium: no console errors, every picture loads, nothing runs over the edge of a screen.

Required where SCOTTBENCH_REQUIRE_BROWSER=1 (CI); elsewhere skipped, with the reason, where there is no Chromium.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_run import fake_run

from scottbench.report import build
from scottbench.report.tables import Column, Entry, Table

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
REQUIRED = os.environ.get("SCOTTBENCH_REQUIRE_BROWSER") == "1"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000",
)  # fmt: skip
WIDTHS = (320, 400, 800, 1200, 1440)

pytestmark = [
    pytest.mark.skipif(
        BROWSER is None and not REQUIRED, reason="no Chromium on PATH; set SCOTTBENCH_REQUIRE_BROWSER=1 to make this an error"
    ),
    pytest.mark.timeout(600),
]


def visit(page: Path, *flags: str) -> tuple[str, list[str]]:
    """(DOM after loading, console messages) of a file opened in a fresh profile."""
    assert BROWSER is not None, "SCOTTBENCH_REQUIRE_BROWSER=1, but no Chromium is on PATH: apt-get install chromium"
    profile = page.parent / "profile"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    shutil.rmtree(profile, ignore_errors=True)
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    cells = [(method, steps) for method in ("scott", "cd") for steps in (1, 2, 4)]
    long = "a prompt with_one_very_long_word_that_no_narrow_column_can_hold_" + "x" * 80
    return build(fake_run(tmp_path_factory.mktemp("report") / "run", cells, prompts=["twemoji emoji of red apple", long]))


def test_it_opens_without_console_messages(report):
    dom, console = visit(report, "--dump-dom")
    assert console == []
    assert "<title>scottbench: pocket, plan 7c1e9a2f</title>" in dom
    assert dom.count("<table") == 7 and dom.count("<img") == 3 + 2 * 7


def test_the_policy_is_in_force_so_the_test_above_would_see_a_load(report, tmp_path):
    spoiled = tmp_path / "index.html"
    spoiled.write_text(report.read_text().replace("</main>", '<img src="https://example.org/x.png"><script>1</script></main>'))
    _, console = visit(spoiled, "--dump-dom")
    assert any("Content Security Policy" in line for line in console)


PROBE = """<script>addEventListener("load", () => {
  const width = document.documentElement.clientWidth;
  const outside = [...document.querySelectorAll("body *")].filter(e => !e.parentElement.closest(".scroll"));
  const over = outside.filter(e => e.getBoundingClientRect().right > width + 0.5).map(e => e.tagName + "." + e.className);
  const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
  parent.postMessage({asked: SIZE, width, scroll: document.documentElement.scrollWidth, over, broken, images: document.images.length}, "*");
})</script>"""


def test_nothing_runs_over_the_edge_from_phone_to_desk_and_every_picture_loads(report, tmp_path):
    """Measured by a script in copies of the page, without its policy, in frames as wide as the screens."""
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text())
    frames = ""
    for width in WIDTHS:
        (tmp_path / f"{width}.html").write_text(bare + PROBE.replace("SIZE", str(width)))
        frames += f'<iframe src="{width}.html" style="width:{width}px;height:600px;border:0"></iframe>'
    collect = 'const all = []; addEventListener("message", e => { all.push(e.data); document.title = JSON.stringify(all); })'
    (tmp_path / "frames.html").write_text(f"<!DOCTYPE html><script>{collect}</script>{frames}")
    dom, _ = visit(tmp_path / "frames.html", "--dump-dom", "--window-size=1500,1000")
    found = json.loads(re.search(r"<title>(.*)</title>", dom)[1])
    assert sorted(frame["asked"] for frame in found) == list(WIDTHS)
    for frame in found:
        assert (frame["over"], frame["broken"], frame["images"]) == ([], 0, 17), frame
        assert frame["scroll"] <= frame["width"]


def test_it_paints_dark_text_on_white(report, tmp_path):
    import numpy as np
    from PIL import Image

    picture = tmp_path / "page.png"
    visit(report, f"--screenshot={picture}", "--window-size=1000,800", "--hide-scrollbars")
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (800, 1000)
    assert (pixels[:, :15] == 255).all(), "margin"
    assert 0.01 < (pixels < 100).mean() < 0.2, "share of ink"


DARK = "--blink-settings=preferredColorScheme=0"


def test_a_dark_screen_has_a_dark_page_and_light_words(report, tmp_path):
    import numpy as np
    from PIL import Image

    picture = tmp_path / "page.png"
    visit(report, f"--screenshot={picture}", "--window-size=1000,800", "--hide-scrollbars", DARK)
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert (pixels[:, :15] < 40).all(), "margin"
    assert 0.01 < (pixels > 150).mean() < 0.25, "share of light"


STATE = """<script>addEventListener("load", () => {
  const box = e => e.getBoundingClientRect();
  const shot = document.getElementById("shot-1-1"), image = shot.querySelector("img");
  const before = box(image).width;
  location.hash = "shot-1-1";
  setTimeout(() => {
    const opened = box(image).width, close = getComputedStyle(shot.querySelector(".close")).display;
    location.hash = "samples";
    setTimeout(() => {
      const reached = [...document.querySelectorAll("a,summary,.scroll")].filter(e => e.tabIndex < 0).length;
      const [answer, facts] = [".answer", ".facts"].map(name => box(document.querySelector(name)).bottom + scrollY);
      document.title = JSON.stringify({before, opened, close, closed: box(image).width, reached, answer, facts});
    }, 50);
  }, 50);
})</script>"""


@pytest.fixture(scope="module")
def bare(report) -> str:
    """The page without its policy, so that a script of a test can run in it."""
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text())


@pytest.mark.parametrize("width", [1440, 500])
def test_a_picture_opens_and_closes_by_links_and_the_answer_is_on_the_first_screen(bare, tmp_path, width):
    (tmp_path / "state.html").write_text(bare + STATE)
    dom, _ = visit(tmp_path / "state.html", "--dump-dom", f"--window-size={width},900")
    found = json.loads(re.search(r"<title>(.*)</title>", dom)[1])
    assert found["before"] == found["closed"] == 96 and found["opened"] > 400 and found["close"] != "none"
    assert found["reached"] == 0, "something that no key reaches"
    assert found["answer"] < 500 and found["facts"] < 900


def test_paper_has_every_table_whole_with_its_head_again_on_each_sheet_and_wide_ones_across(tmp_path):
    """Sixty rows take several sheets: each has the head, none is lost; sheets are of A4, the widest table's across."""
    cells = [("scott", steps) for steps in (1, 2, 4)]
    page = build(fake_run(tmp_path / "run", cells, prompts=[f"prompt {i}" for i in range(3)]))
    row = re.search(r"<tbody>\s*(<tr.*?</tr>)", page.read_text(), re.S)[1]
    longer = page.read_text().replace(row, "".join(row.replace(">scott<", f">row{i}<") for i in range(60)), 1)
    (tmp_path / "long.html").write_text(longer)
    visit(tmp_path / "long.html", f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    data = (tmp_path / "page.pdf").read_bytes()
    boxes = [tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", data)]
    upright, across = (sum(1 for box in boxes if (box[2] > box[3]) == wide) for wide in (False, True))
    assert upright >= 2 and across >= 2, boxes
    assert all(sorted(round(side) for side in box[2:]) == [595, 842] for box in boxes)


@pytest.mark.parametrize("columns, lines", [(8, ("p < 0.001, Holm < 0.001", "about 7,000 images")), (8, ("1.0",)), (6, ())])
def test_a_table_whose_numbers_are_too_wide_for_an_upright_sheet_is_printed_across_and_none_is_cut(report, tmp_path, columns, lines):
    """As the paired differences of seven metrics are: the rule says what the browser lays out on 182 mm."""
    table = Table("c", [Column("A - B"), *[Column("FID", number=True)] * (columns - 1)], [[Entry("+0.0010", small=lines)] * columns])
    head = re.search(r"<style>.*?</style>", report.read_text(), re.S)[0].replace("@media print", "@media all")
    cells = "".join(f'<td class="number">{one.text}{"".join(f"<small>{line}</small>" for line in one.small)}</td>' for one in table.rows[0])
    body = f'<div style="width:182mm"><div class="scroll"><table><tbody><tr>{cells}</tr></tbody></table></div></div>'
    measure = '<script>const t = document.querySelector("table"); document.title = t.scrollWidth > t.parentNode.clientWidth</script>'
    (tmp_path / "t.html").write_text(f"<!doctype html><title></title>{head}{body}{measure}")
    dom, _ = visit(tmp_path / "t.html", "--dump-dom", "--window-size=1440,900")
    assert table.across == (re.search(r"<title>(\w+)</title>", dom)[1] == "true") == (len(lines) == 2)
