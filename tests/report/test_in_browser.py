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

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
REQUIRED = os.environ.get("SCOTTBENCH_REQUIRE_BROWSER") == "1"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000",
)  # fmt: skip
WIDTHS = (320, 400, 800, 1200)

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
    assert dom.count("<table") == 7 and dom.count("<img") == 2 + 2 * 7


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
    dom, _ = visit(tmp_path / "frames.html", "--dump-dom", "--window-size=1300,1000")
    found = json.loads(re.search(r"<title>(.*)</title>", dom)[1])
    assert sorted(frame["asked"] for frame in found) == list(WIDTHS)
    for frame in found:
        assert (frame["over"], frame["broken"], frame["images"]) == ([], 0, 16), frame
        assert frame["scroll"] <= frame["width"]


def test_it_paints_dark_text_on_white(report, tmp_path):
    import numpy as np
    from PIL import Image

    picture = tmp_path / "page.png"
    visit(report, f"--screenshot={picture}", "--window-size=1000,800", "--hide-scrollbars")
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (800, 1000)
    assert (pixels[:, :20] == 255).all(), "margin"
    assert 0.01 < (pixels < 100).mean() < 0.2, "share of ink"
