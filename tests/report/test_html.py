"""What the report says: values, ranking, captions, provenance, and the same bytes every time."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from fake_run import PROMPTS, edit_manifest, edit_results, fake_run
from page import Page
from PIL import Image

from scottbench.errors import IntegrityError, UsageError
from scottbench.report import build
from scottbench.store.sums import sums_of

SIX = [(method, steps) for method in ("scott", "cd") for steps in (1, 2, 4)]


def page_of(folder, *arguments, **keywords) -> Page:
    return Page(build(fake_run(folder / "run", *arguments, **keywords)))


def manifest_of_run(run) -> dict:
    return json.loads((run / "manifest.json").read_text())


# --- results ---------------------------------------------------------------------------------------------------------


def test_the_main_table_shows_every_cell_and_metric_with_its_extractor_and_direction(tmp_path):
    page = page_of(tmp_path)
    table = page.table("Table 1")
    titles = ["FID ↓", "CLIP score ↑", "Coverage ↑", "Precision ↑", "Recall ↑", "Density ↑"]
    assert table.header == ["Method", "Steps", "NFE", *titles, "ms/image ↓", "ms/call"]
    # equal numbers are no tie where nothing was tested
    assert "by no test" in page.table_captions[0] and "no test tells them apart" not in page.text
    assert page.table_captions[0].endswith(" All metrics: pocket features.")
    assert table.body == [
        ["scott", "2", "2", "0.760", "0.570", "0.670", "0.720", "0.500", "1.010", "35.2", "13.10"],
        ["cd", "2", "2", "0.830", "0.570", "0.600", "0.710", "0.440", "1.020", "35.2", "13.10"],
    ]


def test_the_best_of_each_column_is_bold_and_equal_numbers_are_all_bold(tmp_path):
    # CLIP scores 0.5704 and 0.5702 print alike, in a run without tests; times without intervals are not ranked
    assert page_of(tmp_path).table("Table 1").bold == {(0, 3), (0, 4), (1, 4), (0, 5), (0, 6), (0, 7), (1, 8)}


def test_with_one_row_nothing_is_best(tmp_path):
    page = page_of(tmp_path, [("scott", 2)])
    assert page.table("Table 1").bold == set()
    assert "one row, so none is marked best" in page.table_captions[0]


def test_every_caption_of_a_table_or_figure_names_n(tmp_path):
    page = page_of(tmp_path, SIX, n=5000)
    numbered = [caption for caption in page.captions if caption.split(" ")[0] in ("Table", "Figure")]
    assert len(numbered) == len(page.captions) == 10
    assert all("N = 5,000" in caption for caption in numbered)
    assert [caption.split(".")[0] for caption in numbered] == [
        "Figure 1", "Figure 2", "Figure 3", "Table 1", "Figure 4", "Table 2", "Table 3", "Table 4", "Table 5", "Table 6",
    ]  # fmt: skip


def test_the_extractor_that_all_metrics_share_is_said_once_a_table_and_each_where_they_differ(tmp_path):
    run = fake_run(tmp_path / "run")
    page = Page(build(run))
    assert page.table("Table 1").header[3] == "FID ↓"
    assert next(caption for caption in page.captions if caption.startswith("Table 1")).endswith("All metrics: pocket features.")
    metrics = manifest_of_run(run)["metrics"]
    metrics[1]["extractor_label"] = "another network"
    edit_manifest(run, metrics=metrics)
    assert Page(build(run)).table("Table 1").header[3:5] == ["FID ↓ (pocket features)", "CLIP score ↑ (another network)"]


def test_the_answer_stands_before_everything_else_with_its_cost(tmp_path):
    page = page_of(tmp_path, SIX, n=5000)
    assert "scott at 4 steps. scott at 4 steps has the lowest FID, 0.710; next is cd at 4 steps with 0.810." in " ".join(page.text.split())
    assert page.text.index("has the lowest FID") < page.text.index("Table 1.") and "4 network evaluations and 61.4 ms an image" in page.text


def test_the_contents_lead_to_every_section_and_links_inside_the_page_lead_somewhere(tmp_path):
    page = page_of(tmp_path, SIX)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section" and "id" in attributes]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {f"#{section}" for section in sections} <= set(links)
    assert {"#recipe-1", "#recipe-6", "#metric-1"} <= set(links)
    (fid,) = [attributes["href"] for tag, attributes in page.tags if attributes.get("href", "").startswith("https:")]
    assert fid == "https://arxiv.org/abs/1234.56789"


def test_an_address_is_made_of_an_identifier_alone():
    from scottbench.report.links import linked

    assert linked("SCott, arXiv 2403.01505 (AAAI 2025)") == [
        ("SCott, ", ""), ("arXiv 2403.01505", "https://arxiv.org/abs/2403.01505"), (" (AAAI 2025)", "")]  # fmt: skip
    for text in ("arXiv 2403.015056789", "https://example.org/arXiv", 'arXiv 24"><', "marXiv 2403.01505"):
        assert linked(text) == [(text, "")]


@pytest.mark.parametrize("column", ["n", "fingerprint"])
def test_rows_of_another_n_or_fingerprint_are_neither_ranked_nor_drawn_together(tmp_path, column):
    run = fake_run(tmp_path / "run", SIX)
    other = pl.lit(128, pl.Int64) if column == "n" else pl.lit("another extractor")
    edit_results(run, **{column: pl.when(pl.col("method") == "cd").then(other).otherwise(pl.col(column))})
    page = Page(build(run))
    scott, cd = page.table("Table 1"), page.table("Table 2")
    assert {row[0] for row in scott.body} == {"scott"} and {row[0] for row in cd.body} == {"cd"}
    assert (2, 3) in scott.bold and (2, 3) in cd.bold
    assert "not ranked with these" in page.table_captions[0]
    assert f"N = {128 if column == 'n' else 256}" in page.table_captions[1]
    charts = [image["alt"] for image in page.images() if image["alt"].startswith("Chart")]
    assert charts and not any("cd@" in alt for alt in charts)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_metric_that_failed_is_shown_with_its_reason_and_is_never_best(tmp_path, missing):
    run = fake_run(tmp_path / "run")
    cells = manifest_of_run(run)["cells"]
    cells[0]["failures"] = {"coverage": "k = 5 neighbours need at least 6 images; found 4"}
    edit_manifest(run, cells=cells)
    lost = (pl.col("method") == "scott") & (pl.col("metric") == "coverage")
    edit_results(run, value=pl.when(lost).then(pl.lit(missing, pl.Float64)).otherwise(pl.col("value")))
    page = Page(build(run))
    assert page.table("Table 1").body[0][5] == "n/a a"
    assert "a Not available: k = 5 neighbours need at least 6 images; found 4" in page.text
    # the other value has nothing to be better than
    assert not {(0, 5), (1, 5)} & page.table("Table 1").bold


def test_a_cell_that_failed_keeps_its_row_and_says_why(tmp_path):
    run = fake_run(tmp_path / "run", SIX, status="failed")
    cells = manifest_of_run(run)["cells"]
    cells[5] |= {"error": "the sampler raised ValueError", "nfe": None}
    edit_manifest(run, cells=cells)
    lost = (pl.col("method") == "cd") & (pl.col("steps") == 4)
    edit_results(run, value=pl.when(lost).then(None).otherwise(pl.col("value")))
    page = Page(build(run))
    assert page.table("Table 1").body[5][:4] == ["cd", "4", "n/a", "n/a a"]
    assert "a Not available: the sampler raised ValueError" in page.text
    assert "failed: not a finished run" in page.text


# --- figures and samples ---------------------------------------------------------------------------------------------


def test_the_figures_tell_their_numbers_to_who_cannot_see_them(tmp_path):
    page = page_of(tmp_path, SIX)
    calls, time, pair = [image for image in page.images() if image["alt"].startswith("Chart")]
    assert "FID against network evaluations an image. scott at 1 step: 1.070 at 1 NFE; scott at 2 steps: 0.760 at 2 NFE" in calls["alt"]
    assert "FID against ms an image. scott at 1 step: 1.070 at 22.1 ms" in time["alt"]
    assert "FID against CLIP score" in pair["alt"] and "cd@4: 0.810, 0.568" in pair["alt"]
    for image in (calls, time, pair):
        svg = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode()
        assert "<svg" in svg and "<metadata" not in svg and "<script" not in svg


def test_the_grid_shows_the_first_samples_of_the_plan_beside_their_reference(tmp_path):
    page = page_of(tmp_path)
    (grid,) = [table for table in page.tables if table.header[0] == "prompt"]
    assert grid.header == ["prompt", "reference", "scott 2 steps", "cd 2 steps"]
    assert [row[0] for row in grid.body] == list(PROMPTS)
    pictures = [image for image in page.images() if not image["alt"].startswith("Chart")]
    columns = ("reference image", "scott, 2 steps", "cd, 2 steps")
    assert [image["alt"] for image in pictures[:3]] == [f"{PROMPTS[0]}: {column}" for column in columns]
    assert all(image["class"] == "pixelated" for image in pictures)
    for column, place in enumerate(["reference", "scott__s2__seed0", "cd__s2__seed0"]):
        with zipfile.ZipFile(tmp_path / "run" / "images" / place / "00000-00005.zip") as archive:
            for row in range(len(PROMPTS)):
                expected = np.asarray(Image.open(archive.open(f"item-{row}.png")))
                assert (pixels(pictures[3 * row + column]) == expected).all()


def pixels(image: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].removeprefix("data:image/webp;base64,")))))


def test_large_samples_keep_their_size_within_the_budget_of_the_page(tmp_path, monkeypatch):
    run = fake_run(tmp_path / "run", size=512, prompts=PROMPTS[:2])
    pictures = [image for image in Page(build(run)).images() if not image["alt"].startswith("Chart")]
    assert {pixels(image).shape for image in pictures} == {(512, 512, 3)}
    assert not any("class" in image for image in pictures)
    monkeypatch.setattr("scottbench.report.pictures.BUDGET", 20_000)
    pictures = [image for image in Page(build(run)).images() if not image["alt"].startswith("Chart")]
    assert pixels(pictures[0]).shape < (512, 512, 3) and sum(len(image["src"]) for image in pictures) < 1.4 * 20_000


def test_a_picture_opens_in_full_size_without_a_script_and_closes_again(tmp_path):
    page = page_of(tmp_path)
    shots = [attributes["id"] for tag, attributes in page.tags if attributes.get("class") == "shot"]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(shots) == 3 * len(PROMPTS) and all(links.count(f"#{shot}") == 1 for shot in shots)
    assert len([attributes for _, attributes in page.tags if attributes.get("class") == "close"]) == len(shots)


def with_scores(run, metric: str = "clip_score") -> None:
    """Items of a run: the score of item i is i / 10, but the last one is the lowest."""
    rows = [{"method": entry["method"], "steps": entry["steps"], "seed": 0, "metric": metric, "id": f"item-{i}",
             "value": -0.5 if i == 5 else i / 10, "influence": 0.0, "seeds": "0"} for entry in manifest_of_run(run)["cells"]
            for i in range(len(PROMPTS))]  # fmt: skip
    pl.DataFrame(rows).write_parquet(run / "items.parquet")


def test_the_lowest_scores_of_each_row_are_shown_too(tmp_path):
    run = fake_run(tmp_path / "run")
    assert "Failures" not in Page(build(run)).text
    with_scores(run)
    page = Page(build(run))
    low = [image["alt"] for image in page.images() if "CLIP score" in image["alt"] and not image["alt"].startswith("Chart")]
    assert low[:3] == [f"scott, 2 steps: item-{i}, CLIP score {score}" for i, score in ((5, "-0.500"), (0, "0.000"), (1, "0.100"))]
    told = "Failures: the 3 images of each row with the lowest CLIP score of N = 256"
    assert len(low) == 6 and any(told in text for text in page.captions)


def test_counts_of_neighbours_are_no_scores_of_images(tmp_path):
    run = fake_run(tmp_path / "run")
    with_scores(run, "precision")
    frame = pl.read_parquet(run / "items.parquet")
    frame.with_columns(value=(pl.col("value") > 0).cast(pl.Float64)).write_parquet(run / "items.parquet")
    assert "Failures" not in Page(build(run)).text


def test_several_seeds_have_a_row_each_and_fewer_prompts(tmp_path):
    from dataclasses import replace

    from scottbench.report.samples import sample_grid
    from scottbench.store.record import read_record

    run = fake_run(tmp_path / "run")
    record = read_record(run)
    other = [replace(cell, facts={**cell.facts, "seed": 1, "id": "cd__s2__seed0"}) for cell in record.cells]
    grid = sample_grid(replace(record, cells=[*record.cells, *other]), seeds=3)
    assert [(prompt, seed) for (prompt, _), seed in zip(grid.rows, grid.seeds)][:3] == [
        (PROMPTS[0], "seed 0"), (PROMPTS[0], "seed 1"), (PROMPTS[1], "seed 0")]  # fmt: skip
    assert "Seeds 0, 1, a row each." in grid.caption and len(grid.columns) == 3
    first, second = grid.rows[0][1], grid.rows[1][1]
    assert first[0].source == second[0].source and first[1].source != second[1].source == first[2].source


def test_a_folder_of_records_alone_says_that_it_has_no_pictures(tmp_path):
    import shutil

    run = fake_run(tmp_path / "run")
    shutil.rmtree(run / "images")
    page = Page(build(run))
    assert "holds the records of the run without its pictures" in page.text and not [t for t in page.tables if t.header[0] == "prompt"]


@pytest.mark.parametrize("size", [64, 512])
def test_a_page_that_is_made_again_keeps_the_pictures_that_only_it_has(tmp_path, size):
    import shutil

    run = fake_run(tmp_path / "run", size=size, prompts=PROMPTS[:2])
    page = build(run)
    first = page.read_bytes()
    shutil.rmtree(run / "images")
    assert build(run).read_bytes() == first, "as they were, however often"
    edit_manifest(run, limits=["A limit that came later."])
    again = Page(build(run))
    assert "A limit that came later." in again.text and len([one for one in again.images() if "webp" in one["src"]]) == 6
    page.write_bytes(page.read_bytes() + b" ")
    assert not [one for one in Page(build(run)).images() if "webp" in one["src"]], "of a page that was changed none is taken"


@pytest.mark.parametrize("source", ["https://elsewhere.org/a.webp", "data:image/svg+xml;base64,PHN2Zy8+", 'data:image/webp;base64,AA" x'])
def test_nothing_but_pictures_is_taken_over_from_a_page(tmp_path, source):
    import shutil

    run = fake_run(tmp_path / "run", prompts=PROMPTS[:2])
    page = build(run)
    shutil.rmtree(run / "images")
    html = re.sub(r'data:image/webp;base64,[^"]*', source, page.read_text(), count=1).encode()
    page.write_bytes(html)
    (page.parent / "SHA256SUMS").write_bytes(sums_of({page.name: html}))
    pictures = [one["src"] for one in Page(build(run)).images() if not one["alt"].startswith("Chart")]
    assert len(pictures) == 5 and all(one.startswith("data:image/webp;base64,UklGR") for one in pictures)
    assert "elsewhere" not in page.read_text()


@pytest.mark.parametrize("damage", ["absent", "no side-car", "outside"])
def test_a_sample_that_is_not_there_leaves_a_gap_and_no_error(tmp_path, damage):
    run = fake_run(tmp_path / "run")
    archive = run / "images" / "cd__s2__seed0" / "00000-00005.zip"
    if damage == "absent":
        archive.unlink()
    elif damage == "no side-car":
        archive.with_suffix(".json").unlink()
    else:
        cells = manifest_of_run(run)["cells"]
        cells[1]["id"] = "../images/scott__s2__seed0"
        edit_manifest(run, cells=cells)
    (grid,) = [table for table in Page(build(run)).tables if table.header[0] == "prompt"]
    assert [row[3] for row in grid.body] == ["n/a"] * len(PROMPTS)
    assert [row[2] for row in grid.body] == ["close"] * len(PROMPTS)


def test_a_picture_that_is_not_the_one_of_its_side_car_is_never_shown(tmp_path):
    run = fake_run(tmp_path / "run")
    archive = run / "images" / "cd__s2__seed0" / "00000-00005.zip"
    archive.write_bytes((run / "images" / "scott__s2__seed0" / "00000-00005.zip").read_bytes())
    with pytest.raises(IntegrityError, match=r"00000-00005.zip is not what its side-car vouches for") as caught:
        build(run)
    assert "\n" not in str(caught.value) and not (run / "report" / "index.html").exists()


# --- how it was made -------------------------------------------------------------------------------------------------


def test_time_per_stage_and_the_split_of_the_wall_time_are_there(tmp_path):
    page = page_of(tmp_path)
    table = page.table("Table 2")
    assert table.header == ["Method", "Steps", "text", "denoise", "decode", "features", "store", "all stages"]
    assert table.body[0] == ["scott", "2", "1.10", "26.20", "7.90", "3.60", "0.70", "39.50"]
    assert "The whole run took 5 min 06 s, of which 3 min 51 s (75 %) inside the forward passes" in page.text
    assert "(U-Net 2 min 30 s, decoder 1 min 00 s and extractor 21 s)" in page.text and "peak memory 2.10 GB" in page.text


def test_the_wall_time_of_processes_side_by_side_is_not_what_the_forward_passes_are_a_share_of(tmp_path):
    run = fake_run(tmp_path / "run")
    edit_manifest(run, wall_seconds=3660.0, forward_seconds=6840.0, forward_share=0.95)
    text = Page(build(run)).text
    assert "The whole run took 1 h 01 min, its processes together 2 h 00 min, of which 1 h 54 min (95 %) inside the forward" in text
    assert "and 6 min 00 s around them" in text


def test_weights_recipe_students_versions_and_digests_are_there(tmp_path):
    page = page_of(tmp_path)
    assert page.table("Table 3").body[1] == ["FID, times the floor", "1.58", "1", "floor: training images"]
    assert page.table("Table 4").body[0] == ["scott", "2", "1", "2.5", "eta = 0", "999, 749", "7" * 12]
    assert page.table("Table 5").body[0] == ["scott", "5,210", "166,720", "98.4", "1,200,345", "n/a", "", "7" * 12]
    assert page.table("Table 6").body[0] == ["FID (pocket features)", "what fid is", "fid(); scottbench 0.1; n=256"]
    for text in ("scottbench run --methods scott,cd --steps 2", "torch 2.14.1", "A processor, 2 threads", "d" * 40 + " with local changes",
                 "7c1e9a2f" * 8, "a1" * 32, "b2" * 32, "c3" * 32, "e5" * 32, "2026-02-11T09:30:04Z", "The paper of scott"):  # fmt: skip
        assert text in page.text
    assert "The guidance scale s is 2.5 (s = 1 is unguided)" in page.text


def test_the_setup_gives_steps_and_guidance_once_where_methods_share_them_and_by_method_where_not(tmp_path):
    assert "images at 1, 2 and 4 steps with the model" in page_of(tmp_path / "alike", SIX).text

    run = fake_run(tmp_path / "run", [("scott", 1), ("scott", 2), ("cd", 1)])
    cells = manifest_of_run(run)["cells"]
    cells[2]["guidance_scale"] = 4.5
    edit_manifest(run, cells=cells)
    text = Page(build(run)).text
    assert "images at 1 and 2 steps for scott; 1 step for cd with the model" in text
    assert "The guidance scale s is 2.5 for scott; 4.5 for cd (s = 1 is unguided)" in text


def test_limits_are_the_preset_s_and_those_of_every_report(tmp_path):
    text = page_of(tmp_path).text
    for limit in ("Emoji at 64x64 say nothing", "equal fingerprint and equal N", "without intervals", "Times are of this machine"):
        assert limit in text


def test_what_a_run_may_lack_is_left_out(tmp_path):
    run = fake_run(tmp_path / "run", model_card=None, samples={"ids": [], "prompts": []}, label="")
    cells = manifest_of_run(run)["cells"]
    edit_manifest(run, cells=[{**cell, "student": None} for cell in cells])
    page = Page(build(run))
    assert "Teacher quality" not in page.text and "Students" not in page.text and not [t for t in page.tables if t.header[0] == "prompt"]
    assert page.table("Table 1").header[3] == "FID ↓"


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_equal_records_give_equal_bytes_without_torch_or_plug_ins_whatever_the_process(tmp_path):
    import matplotlib

    first = fake_run(tmp_path / "first", SIX)
    with matplotlib.rc_context({"axes.facecolor": "yellow", "font.size": 30, "svg.hashsalt": "other"}):
        expected = build(first).read_bytes()
    assert build(first).read_bytes() == expected
    second = fake_run(tmp_path / "elsewhere" / "second", SIX)
    program = "import sys; from scottbench.report import build; build(sys.argv[1]); print(*sys.modules)"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", program, str(second)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=250)
    assert (second / "report" / "index.html").read_bytes() == expected
    modules = ran.stdout.split()
    assert "torch" not in modules and not [name for name in modules if name.startswith(("scottbench_", "scottbench.registry.loader"))]


def test_the_page_loads_nothing_and_forbids_loading(tmp_path):
    page = page_of(tmp_path)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for key in ("src", "srcset", "action", "background"):
            assert attributes.get(key, "data:").startswith("data:")
        assert not [key for key in attributes if key.startswith("on")]
    links = [(tag, attributes["href"]) for tag, attributes in page.tags if "href" in attributes]
    inside = re.compile(r"#.*|https://arxiv.org/abs/[0-9.]+")
    assert all(href.startswith("data:") if tag == "link" else inside.fullmatch(href) for tag, href in links)
    assert "url(" not in page.html and "@import" not in page.html
    (policy,) = [attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_the_page_can_be_read_by_a_screen_reader(tmp_path):
    page = page_of(tmp_path)
    assert ("html", {"lang": "en"}) in page.tags
    assert all(attributes["alt"].strip() for attributes in page.images())
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")
    scrolled = [(tag, attributes) for tag, attributes in page.tags if attributes.get("class") == "scroll"]
    assert scrolled and all({"tabindex", "role"} <= it.keys() and ("aria-labelledby" in it or "aria-label" in it) for _, it in scrolled)


HOSTILE = '<script>alert("x")</script>"><img src=x onerror=alert(1)>\x1b[31mred\x1b]0;title\x07\u202e{{ 7*7 }} $x_1$ &amp;'


def test_hostile_strings_are_inert(tmp_path):
    run = fake_run(tmp_path / "run", prompts=[HOSTILE, "a prompt"], command=f"scottbench run {HOSTILE}", limits=[HOSTILE])
    manifest = manifest_of_run(run)
    cells, metrics, plan = manifest["cells"], manifest["metrics"], manifest["plan"]
    cells[0] |= {"method": HOSTILE, "options": {HOSTILE: HOSTILE}, "paper": HOSTILE}
    cells[0]["student"]["trainer"] = HOSTILE
    metrics[0] |= {"label": HOSTILE, "extractor_label": HOSTILE, "fingerprint": HOSTILE}
    plan["preset"] = plan["dataset"]["name"] = plan["model"]["name"] = HOSTILE
    environment = {**manifest["environment"], HOSTILE: HOSTILE, "packages": {HOSTILE: HOSTILE}}
    edit_manifest(run, cells=cells, metrics=metrics, plan=plan, environment=environment, created=HOSTILE)
    renamed = pl.when(pl.col("method") == "scott").then(pl.lit(HOSTILE)).otherwise(pl.col("method"))
    for name in ("results.parquet", "timings.parquet"):
        pl.read_parquet(run / name).with_columns(method=renamed).write_parquet(run / name)
    page = Page(build(run))
    assert not {"script"} & {tag for tag, _ in page.tags}
    assert all(image["src"].startswith("data:") for image in page.images())
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    for character in ("\x1b", "\x07", "\u202e"):
        assert character not in page.html
    assert "49" not in page.table("Table 1").body[0][0] and "{{ 7*7 }}" in page.text
    for image in page.images():
        if image["src"].startswith("data:image/svg+xml"):
            ElementTree.fromstring(base64.b64decode(image["src"].partition(",")[2]))


# --- folders that are no run -----------------------------------------------------------------------------------------


def break_run(run, how: str) -> None:
    manifest, results = run / "manifest.json", run / "results.parquet"
    if how == "no manifest":
        manifest.unlink()
    elif how == "no JSON":
        manifest.write_text("{")
    elif how == "not an object":
        manifest.write_text("[]")
    elif how == "other schema":
        edit_manifest(run, schema="scottbench.run/9")
    elif how == "a key missing":
        edit_manifest(run, **{"cells": [{"method": "scott"}]})
    elif how == "no results":
        results.unlink()
    elif how == "results damaged":
        results.write_bytes(results.read_bytes()[:100])
    elif how == "results of another run":
        edit_results(run, steps=pl.col("steps") + 1)
    elif how == "a column missing":
        pl.read_parquet(results).drop("fingerprint").write_parquet(results)
    elif how == "not writable":
        (run / "report").write_text("a file")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no manifest", "is no run folder: it has no manifest.json"),
        ("no JSON", "manifest.json is damaged"),
        ("not an object", "has schema None; this version reads scottbench.run/1"),
        ("other schema", "has schema 'scottbench.run/9'; this version reads scottbench.run/1, scottbench.run/2"),
        ("a key missing", "manifest.json is damaged"),
        ("no results", "results.parquet is missing: the run did not finish"),
        ("results damaged", "results.parquet is damaged"),
        ("results of another run", "results.parquet has a cell that manifest.json lacks"),
        ("a column missing", "lacks column 'fingerprint'"),
        ("not writable", "cannot write"),
    ],
)
def test_a_folder_that_is_no_finished_run_is_refused_in_one_line(tmp_path, how, message):
    run = fake_run(tmp_path / "run")
    break_run(run, how)
    with pytest.raises((UsageError, IntegrityError), match=message) as caught:
        build(run)
    assert ("damaged" in message or "lacks" in message) == isinstance(caught.value, IntegrityError)
    assert "\n" not in str(caught.value)
    assert not (run / "report" / "index.html").exists()
