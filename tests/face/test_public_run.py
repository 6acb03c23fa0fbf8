"""`benchmark`, `open_run` and `Run`: what the command line makes, as frames, images and one piece of HTML."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import tiny_plugin
from click.testing import CliRunner

import scottbench
from scottbench.errors import IntegrityError, MissingAsset, ScottbenchWarning, UsageError
from scottbench.store.files import with_check

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "reports" / "pocket-main"
FRAMES = ("results", "pairs", "items", "timings")


def test_a_run_has_the_tables_of_its_folder(small):
    run, _ = small
    for name in FRAMES:
        assert getattr(run, name).equals(pl.read_parquet(run.folder / f"{name}.parquet"))
    assert run.report == run.folder / "report" / "index.html"
    assert run.claims == json.loads((run.folder / "claims.json").read_text())["claims"]
    cells = run.results.filter(pl.col("seed").is_not_null()).select("method", "steps", "seed").unique()
    assert set(cells.rows()) == {(method, steps, seed) for method in ("ode", "hop") for steps in (1, 2) for seed in (0, 3)}


def test_the_run_is_the_one_that_the_command_line_makes(tiny, tmp_path):
    """Same plan, same bytes of results; the lock says that the values came from a call."""
    from scottbench.cli import invoke

    run = scottbench.benchmark("hop", 2, "tiny", limit=6, out=tmp_path / "a", progress=False)
    with CliRunner().isolation():
        assert invoke(["run", "-p", "tiny", "-m", "hop", "-s", "2", "-n", "6", "-o", "b", "-q"]) == 0
    locks = [json.loads((tmp_path / name / "plan.lock.json").read_text()) for name in "ab"]
    assert locks[0]["plan_hash"] == locks[1]["plan_hash"]
    assert (tmp_path / "a" / "results.parquet").read_bytes() == (tmp_path / "b" / "results.parquet").read_bytes()
    assert locks[0]["settings"]["steps"] == {"value": [2], "origin": "call"}
    command = json.loads((run.folder / "manifest.json").read_text())["command"]
    assert command == "scottbench.benchmark(methods=['hop'], steps=[2], preset='tiny', limit=6)"


def test_a_new_run_goes_below_runs_and_is_found_by_the_head_of_its_hash(tiny, tmp_path):
    run = scottbench.benchmark("ode", 1, "tiny", limit=5, progress=False)
    assert run.folder.parent == tmp_path / "runs"
    plan_hash = json.loads((run.folder / "manifest.json").read_text())["plan_hash"]
    for name in (plan_hash[:8], run.folder.name, run.folder, str(run.folder)):
        assert scottbench.open_run(name).results.equals(run.results)
    with pytest.raises(UsageError, match=r"no run '0000': neither a run folder nor the head.*scottbench runs list"):
        scottbench.open_run("0000")


def test_all_arguments_reach_the_plan(tiny, tmp_path, small):
    student = scottbench.Student(tiny.find("preset", "tiny").noun.path("student"))
    assert student.trainer == "hop" and student.facts["updates"] == 0
    run = scottbench.benchmark(
        ["hop@guidance=1.5"], [1], "tiny", 5, tmp_path / "run", metrics="gap", seeds=7, students={"hop": student}, device="cpu",
        batch_size=2, progress=False)  # fmt: skip
    assert run.results.select("metric", "seed", "guidance_scale", "n").rows() == [("gap", 7, 1.5, 5)]
    settings = json.loads((run.folder / "plan.lock.json").read_text())["settings"]
    assert settings["students"]["value"] == {"hop": str(student.folder)}


def test_progress_is_the_command_line_s_and_can_be_left_out(tiny, tmp_path, capfd):
    scottbench.benchmark("ode", 1, "tiny", 5, tmp_path / "a")
    shown = capfd.readouterr()
    assert re.search(r"^ode__s1__seed0  5/5  \d+ s$", shown.err, re.MULTILINE) and shown.out == ""
    scottbench.benchmark("ode", 1, "tiny", 5, tmp_path / "b", progress=False)
    shown = capfd.readouterr()
    assert "ode__s1" not in shown.err and shown.out == ""


@pytest.mark.parametrize("arguments, message", [
    ({"methods": "hopp"}, "unknown method 'hopp'. Did you mean 'hop'"),
    ({"methods": 3}, r"methods must be names, such as methods=\['a', 'b'\], found 3"),
    ({"methods": []}, "methods must be names"),
    ({"steps": "two"}, "steps must be whole numbers, such as steps=2 or steps=.*found 'two'"),
    ({"steps": [True]}, "steps must be whole numbers"),
    ({"steps": 0}, "must be a whole number of at least 1"),
    ({"steps": 1.5}, "steps must be whole numbers"),
    ({"limit": "many"}, "limit must be whole numbers"),
    ({"limit": 0}, "at least 1 item"),
    ({"limit": 13}, "has 12 items; allowed: 1 to 12"),
    ({"seeds": -1}, "--seeds must be whole numbers of at least 0"),
    ({"seeds": [1, 1]}, "names a seed twice"),
    ({"seed": 1}, r"benchmark\(\) has no argument 'seed'. Did you mean 'seeds'\? Arguments: methods, steps, preset"),
    ({"guidance": "high"}, "guidance must be a number, found 'high'"),
    ({"guidance": -1.0}, "guidance scale must be a number of at least 0"),
    ({"options": ["eta"]}, "options must be a dict"),
    ({"students": {"hop": "nowhere"}}, "no student at nowhere"),
    ({"batch_size": 0}, "must be auto or a whole number of at least 1"),
    ({"preset": None}, "preset must be a name, found None"),
    ({"preset": "tinny"}, "unknown preset 'tinny'. Did you mean 'tiny'"),
])  # fmt: skip
def test_a_mistake_gives_one_clear_message(tiny, arguments, message):
    with pytest.raises((UsageError, MissingAsset), match=message):
        scottbench.benchmark(**{"methods": "hop", "steps": 1, "preset": "tiny", "limit": 4, "progress": False} | arguments)
    assert not Path("runs").exists()


def test_a_run_in_which_a_metric_failed_is_returned_with_a_warning(tiny, tmp_path, files, monkeypatch):
    from scottbench.registry import loader

    def fails(cell, options):
        raise UsageError("it never works")

    plugins = tiny_plugin.tiny_plugins(files, metrics=[replace(tiny_plugin.METRICS[0], name="never", compute=fails)])
    monkeypatch.setattr(loader, "load_plugins", lambda: plugins)
    with pytest.warns(ScottbenchWarning, match=r"part\(s\) of the run failed[\s\S]*it never works"):
        run = scottbench.benchmark("ode", 1, "tiny", 5, tmp_path / "run", metrics=["gap", "never"], progress=False)
    values = dict(run.results.select("metric", "value").rows())
    assert values["gap"] > 0 and values.get("never") is None
    assert "failed: not a finished run" in run._repr_html_()


def test_an_image_is_the_stored_one(small):
    from scottbench.store.folder import RunFolder

    run, _ = small
    ids = list(tiny_plugin.Dots.ids)
    for seed in (0, 3):
        stored = RunFolder(run.folder).get_images(("images", f"hop__s2__seed{seed}"), range(12), ids)
        assert (stored[4] == run.image("hop", 2, "dot-04", seed=seed)).all()
    assert run.image("hop", 2, 4).tobytes() == run.image("hop", 2, "dot-04", seed=0).tobytes()
    assert run.image("hop", 2, 4).tobytes() != run.image("hop", 2, 4, seed=3).tobytes()
    assert run.image("ode", 1, 0).size == (64, 64)


@pytest.mark.parametrize("asked, message", [
    (("hopp", 2, 0), "no method 'hopp' in this run. Did you mean 'hop'. Methods: ode, hop"),
    (("hop", 4, 0), "no images of 'hop' at 4 steps in this run. Steps: 1, 2"),
    (("hop", 2, "dot-99"), "no image 'dot-99' of hop at 2 steps. Did you mean .*There are 12: 'dot-00' to 'dot-11', or by place 0 to 11"),
    (("hop", 2, 12), "There are 12"),
    (("hop", 2, -1), "There are 12"),
    (("hop", 2, 0, 1), "no images of seed 1 in this run. Seeds: 0, 3"),
])  # fmt: skip
def test_an_image_that_is_not_there_says_what_is(small, asked, message):
    with pytest.raises(UsageError, match=message):
        small[0].image(*asked)


def test_a_damaged_image_is_not_shown(tiny, tmp_path):
    run = scottbench.benchmark("ode", 1, "tiny", 5, tmp_path / "run", progress=False)
    path = next((run.folder / "images" / "ode__s1__seed0").glob("*.zip"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="images 0 to 4 of ode at 1 step are damaged. Make them again: scottbench resume"):
        run.image("ode", 1, 0)


def test_samples_are_the_reference_and_each_cell_of_the_first_seed(small):
    """A row an item: the pictures stand where they should, pixel for pixel, each twice as large."""
    import numpy as np

    run, _ = small
    drawn = np.asarray(run.samples(2))
    columns = [list(tiny_plugin.Dots().images([0, 1]))]
    columns += [[np.asarray(run.image(method, steps, row)) for row in range(2)] for method in ("ode", "hop") for steps in (1, 2)]
    assert run.samples(2).size == (150 + 5 * 136 + 8, 40 + 2 * 136)
    for x, column in enumerate(columns):
        for y, image in enumerate(column):
            left, top = 158 + x * 136, 40 + y * 136
            assert np.array_equal(drawn[top : top + 128 : 2, left : left + 128 : 2], image), (x, y)
    assert run.samples().height == 40 + 4 * 136, "all that the report shows"


@pytest.mark.parametrize("n", [0, 5, "2"])
def test_samples_of_another_number_are_refused(small, n):
    with pytest.raises(UsageError, match="this run shows 4 sample items; give a number from 1 to that"):
        small[0].samples(n)


def test_a_notebook_shows_the_main_table_and_a_row_of_samples(small):
    """All values of the report's first table are in it, five pictures, and nothing that loads."""
    from scottbench.report.results import results_tables
    from scottbench.store.record import read_record

    run, _ = small
    html, table = run._repr_html_(), results_tables(read_record(run.folder))[0]
    assert all(entry.text in html for row in table.rows for entry in row)
    assert html.count("<img ") == 5 == html.count('src="data:image/webp;base64,')
    assert not re.search(r"<script|<link|https?:|url\(|\son\w+=", html)


def test_what_comes_from_outside_is_escaped_in_it(small, tmp_path):
    import shutil

    folder = shutil.copytree(small[0].folder, tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["samples"]["prompts"][0] = '<img src=x onerror="alert(1)">\x1b[31m\u202e'
    manifest["metrics"][0]["label"] = "<script>alert(2)</script>"
    (folder / "manifest.json").write_text(json.dumps(with_check(manifest)))
    html = scottbench.open_run(folder)._repr_html_()
    assert "<script" not in html and "<img src=x" not in html and "&lt;script&gt;" in html
    assert "\x1b" not in html and "\u202e" not in html


def test_a_published_folder_has_tables_and_the_pictures_of_its_page_but_no_images(tmp_path):
    import shutil

    run = scottbench.open_run(PUBLISHED)
    assert all(len(getattr(run, name)) for name in FRAMES)
    assert {claim["name"]: claim["verdict"] for claim in run.claims}["beats-cd"] == "contradicted"
    assert run.report.is_file()
    html = run._repr_html_()
    assert "18.60" in html and html.count('src="data:image/webp;base64,') == html.count("<img") > 5
    first, both = run.samples(1), run.samples(2)
    assert first.width == both.width and len(first.getcolors(2**24)) > 100 and first.height < both.height
    again = "holds no images.*To have them, make the run again: scottbench run -m scott"
    with pytest.raises(UsageError, match=again):
        run.image("scott", 2, 0)
    alone = scottbench.open_run(shutil.copytree(PUBLISHED, tmp_path / "alone", ignore=shutil.ignore_patterns("report")))
    assert "<img" not in alone._repr_html_()
    with pytest.raises(UsageError, match=again):
        alone.samples()


def test_a_table_or_report_that_is_missing_says_how_to_make_it(small, tmp_path):
    import shutil

    folder = shutil.copytree(small[0].folder, tmp_path / "run")
    (folder / "items.parquet").unlink()
    (folder / "report" / "index.html").unlink()
    run = scottbench.open_run(folder)
    with pytest.raises(IntegrityError, match=r"items.parquet cannot be read \(No such file or directory\).*scottbench resume"):
        run.items  # noqa: B018
    with pytest.raises(UsageError, match="has no report. Build it: scottbench report"):
        run.report  # noqa: B018
    (folder / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"manifest.json"):
        scottbench.open_run(folder)


def test_images_are_shown_by_notebooks(small):
    """PIL's own PNG is what a notebook takes."""
    image = small[0].samples(1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert image._repr_png_().startswith(b"\x89PNG") and buffer.getvalue()
