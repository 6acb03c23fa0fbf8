"""Metrics of several seeds together, end to end: their values, what they rest on, what is refused, the same bytes every time."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny_plugin
from page import Page
from scottbench_metrics import register_metrics

from scottbench.cli import invoke
from scottbench.cli.results import print_results
from scottbench.errors import IntegrityError, Mismatch, ScottbenchError
from scottbench.metrics import ms_ssim_diversity, pairwise_distance
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.claims import read_claim
from scottbench.registry.nouns import Method, Metric
from scottbench.run.execute import execute
from scottbench.stats.measured import comparable, find_cell, on_shared_seeds, read_measured
from scottbench.stats.paired import run_pairs
from scottbench.stats.verdicts import judge
from scottbench.store.files import with_check
from scottbench.store.folder import RunFolder, spans
from scottbench.store.schemas import violations

CHUNK, SEEDS = 5, [0, 3, 1]
TABLES = ("results.parquet", "items.parquet", "pairs.parquet", "claims.json")
quiet = lambda event: None  # noqa: E731


def brightness(cells, options):
    """Mean difference of the first two seeds' grey levels, the first items counting most; reads images in an order of its own, and has no
    influence."""
    order = list(range(cells[0].n))[::-1]
    a, b = (cell.images(order).astype(float).mean(axis=(1, 2, 3)) for cell in cells[:2])
    return float(np.average(a - b, weights=1 + np.arange(len(order))))


OVER_SEEDS = [metric for metric in register_metrics() if metric.name in ("diversity", "ms_ssim")]
OVER_SEEDS.append(Metric("brightness", "grey levels", brightness, True, features="", scope="seeds"))
NAMES = ["gap", "diversity", "ms_ssim", "brightness"]


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scottbench.store.folder.CHUNK", CHUNK)
        yield


@pytest.fixture(scope="module")
def plugins(files):
    return tiny_plugin.tiny_plugins(files, metrics=OVER_SEEDS)


@pytest.fixture(scope="module")
def run(plugins, tmp_path_factory):
    """(plan, folder) of a finished run at three seeds, in three chunks a cell; read only."""
    plan = make_plan(plugins, RunRequest("tiny", metrics=NAMES, seeds=SEEDS, device="cpu"))
    return plan, execute(plan, plugins, tmp_path_factory.mktemp("seeds") / "run", None, quiet)


def features(folder: Path, method: str) -> np.ndarray:
    """(seeds, 12, d) as they are stored."""
    parts = [sorted((folder / "features" / f"{method}__s2__seed{seed}" / "image").glob("*.npy")) for seed in SEEDS]
    return np.stack([np.concatenate([np.load(path) for path in paths]) for paths in parts])


def pictures(folder: Path, method: str) -> np.ndarray:
    """(seeds, 12, 64, 64, 3) as they are stored."""
    store, ids = RunFolder(folder), tiny_plugin.Dots.ids
    found = [
        [store.get_images(("images", f"{method}__s2__seed{seed}"), span, ids[span.start : span.stop]) for span in spans(12, CHUNK)]
        for seed in SEEDS
    ]
    return np.stack([np.concatenate(chunks) for chunks in found])


def value(folder: Path, method: str, metric: str) -> dict:
    (row,) = pl.read_parquet(folder / "results.parquet").filter(method=method, metric=metric).to_dicts()
    return row


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ode", "hop"])
def test_a_value_is_that_of_the_stored_features_and_images_of_all_seeds(run, method):
    wanted = pairwise_distance(features(run[1], method))
    assert wanted.seeds == 3 and value(run[1], method, "diversity")["value"] == pytest.approx(wanted.value, rel=1e-12)
    images = pictures(run[1], method)
    assert value(run[1], method, "ms_ssim")["value"] == pytest.approx(ms_ssim_diversity(images).value, rel=1e-6)
    means = images.astype(float).mean(axis=(2, 3, 4))
    wanted = np.average(means[0] - means[1], weights=np.arange(12, 0, -1))
    assert value(run[1], method, "brightness")["value"] == pytest.approx(wanted, rel=1e-9)


def test_one_row_per_method_and_steps_names_its_seeds_and_has_no_seed_of_its_own(run):
    rows = pl.read_parquet(run[1] / "results.parquet")
    found = rows.filter(method="hop").select("metric", "seed", "seeds", "nfe", "n").rows()
    assert found == [("gap", seed, str(seed), 2, 12) for seed in SEEDS] + [(name, None, "0,3,1", 2, 12) for name in NAMES]
    assert rows["ci_method"].to_list() == 2 * (["half-sampling"] * 4 + ["influence"] * 2 + ["half-sampling"])
    assert (rows["ci_low"] < rows["value"]).all() and (rows["value"] < rows["ci_high"]).all()
    prints = dict(zip(rows["metric"], rows["fingerprint"]))
    assert prints["diversity"].endswith("; seeds=3") and "seeds" not in prints["gap"]


def test_a_metric_of_single_cells_is_averaged_and_its_interval_rests_on_the_mean_influences(run):
    items = pl.read_parquet(run[1] / "items.parquet").filter(method="hop", metric="gap")
    influence = items["influence"].to_numpy().reshape(len(SEEDS), 12).mean(0)
    assert items["seed"].to_list() == [seed for seed in SEEDS for _ in range(12)]  # the mean has no items of its own
    rows = pl.read_parquet(run[1] / "results.parquet").filter(method="hop", metric="gap")
    single, (mean,) = rows.filter(pl.col("seed").is_not_null()), rows.filter(pl.col("seed").is_null()).to_dicts()
    assert mean["value"] == pytest.approx(single["value"].mean(), rel=1e-12)
    error = np.sqrt((influence**2).sum() / (12 * 11))
    assert mean["ci_high"] - mean["ci_low"] == pytest.approx(2 * 2.200985 * error, rel=1e-5)  # t of 11 degrees of freedom
    (pair,) = pl.read_parquet(run[1] / "pairs.parquet").filter(metric="gap").to_dicts()
    other = pl.read_parquet(run[1] / "results.parquet").filter(pl.col("seed").is_null() & (pl.col("method") == "ode"))["value"][0]
    assert (pair["value_a"], pair["value_b"]) == (pytest.approx(other), pytest.approx(mean["value"]))


def test_items_are_per_prompt_and_the_manifest_obeys_its_schema(run):
    items = pl.read_parquet(run[1] / "items.parquet").filter(method="ode", metric="diversity")
    assert items["id"].to_list() == list(tiny_plugin.Dots.ids)
    assert items["seed"].null_count() == 12 and set(items["seeds"]) == {"0,3,1"}
    wanted = pairwise_distance(features(run[1], "ode")).items
    assert items["value"].to_numpy() == pytest.approx(wanted, rel=1e-12)
    assert items["influence"].to_numpy() == pytest.approx(wanted - wanted.mean(), abs=1e-12)
    manifest = json.loads((run[1] / "manifest.json").read_text())
    assert violations(manifest) == [] and [entry["id"] for entry in manifest["over_seeds"]] == ["ode__s2__seeds", "hop__s2__seeds"]
    assert {metric["name"]: metric["scope"] for metric in manifest["metrics"]} == {"gap": "cell", **dict.fromkeys(NAMES[1:], "seeds")}
    assert violations({**manifest, "over_seeds": [{"id": "x"}]})


# --- comparisons ------------------------------------------------------------------------------------------------------


def test_pairs_are_paired_by_prompt(run):
    pairs = {row["metric"]: row for row in pl.read_parquet(run[1] / "pairs.parquet").to_dicts()}
    assert list(pairs) == NAMES and {row["seeds"] for row in pairs.values()} == {"0,3,1"}
    items = [pairwise_distance(features(run[1], method)).items for method in ("ode", "hop")]
    assert pairs["diversity"]["difference"] == pytest.approx((items[0] - items[1]).mean(), rel=1e-9)
    error = (items[0] - items[1]).std(ddof=1) / np.sqrt(12)
    width = pairs["diversity"]["ci_high"] - pairs["diversity"]["ci_low"]
    assert width == pytest.approx(2 * 2.200985 * error, rel=1e-5)  # t of 11 degrees of freedom


def test_compare_takes_them_by_the_cell_and_by_their_own_id(run, capsys):
    assert invoke(["compare", str(run[1]), "ode@2", "hop@2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == pl.read_parquet(run[1] / "pairs.parquet").to_dicts()
    assert invoke(["compare", str(run[1]), "ode__s2__seeds", "hop__s2__seeds", "--json"]) == 0
    assert [row["metric"] for row in json.loads(capsys.readouterr().out)["pairs"]] == NAMES[1:]
    assert {one.metric for one in find_cell(read_measured(run[1]), "ode__s2__seed3")} == {"gap"}


def test_another_number_of_seeds_is_never_compared_and_other_seeds_are(run):
    one = next(one for one in read_measured(run[1]) if one.metric == "diversity")
    fewer = replace(one, seeds=(0, 3), fingerprint=one.fingerprint.replace("seeds=3", "seeds=2"))
    with pytest.raises(Mismatch, match="(?s)different fingerprints.*seeds=3.*seeds=2"):
        comparable(*on_shared_seeds([one], [fewer]))
    others = replace(one, seeds=(1, 4, 5))
    assert on_shared_seeds([one], [others]) == (one, others)
    assert [pair.test.difference for pair in run_pairs([one, replace(others, method="hop")])] == [0.0]


CLAIM = """
name = "x"
paper = "A paper, arXiv 1234.56789"
version = "v1"
locator = "abstract"
statement = "one is more diverse"
[[compare]]
metric = "diversity"
better = { method = "hop", steps = 2 }
worse = { method = "ode", steps = 2 }
"""


def test_a_claim_about_them_is_judged_by_their_pair(run, tmp_path):
    (tmp_path / "claim.toml").write_text(CLAIM)
    (found,) = judge([read_claim(tmp_path / "claim.toml")], read_measured(run[1]))
    pair = pl.read_parquet(run[1] / "pairs.parquet").filter(metric="diversity").to_dicts()[0]  # ode - hop
    open_ = pair["ci_low"] <= 0 <= pair["ci_high"]
    assert found["verdict"] == ("inconclusive" if open_ else "direction holds" if pair["ci_high"] < 0 else "contradicted")
    assert "Diversity (tiny features) of hop@2 against ode@2" in found["evidence"][0]["text"]


# --- refusals and failures --------------------------------------------------------------------------------------------


def test_one_seed_is_refused_with_what_to_do(plugins, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.chdir(tmp_path)
    assert invoke(["run", "-p", "tiny", "-k", "gap,diversity", "--seeds", "4"]) == 2
    wanted = "metric 'diversity' compares several seeds of a method, and this run has one, 4. Run with --seeds 4,5, or leave it out"
    assert capsys.readouterr().err == f"error: {wanted} of --metrics.\n" and not list(tmp_path.iterdir())


def test_a_seed_that_failed_takes_the_value_with_it_and_nothing_else(files, tmp_path):
    calls = []

    def sample(run):
        calls.append(run)
        if len(calls) == 2:
            raise ScottbenchError("out of luck")
        return tiny_plugin.sample_ode(run)

    plugins = tiny_plugin.tiny_plugins(files, methods=[Method("frail", "", sample, tiny_plugin.timesteps)], metrics=OVER_SEEDS)
    request = RunRequest("tiny", methods=["frail", "ode"], metrics=["gap", "diversity"], seeds=[0, 1], limit=4, device="cpu")
    with pytest.raises(ScottbenchError, match="3 part") as caught:
        execute(make_plan(plugins, request), plugins, tmp_path / "run", None, quiet)
    reason = "frail__s2__seed1 failed: out of luck"
    assert "frail__s2__seed1: out of luck" in str(caught.value) and f"frail__s2__seeds diversity: {reason}" in str(caught.value)
    rows = pl.read_parquet(tmp_path / "run" / "results.parquet")
    found = {(row["method"], row["metric"], row["seeds"]): row["value"] is not None for row in rows.to_dicts()}
    assert found == {
        ("frail", "gap", "0"): True, ("frail", "gap", "1"): False, ("frail", "gap", "0,1"): False, ("frail", "diversity", "0,1"): False,
        ("ode", "gap", "0"): True, ("ode", "gap", "1"): True, ("ode", "gap", "0,1"): True, ("ode", "diversity", "0,1"): True,
    }  # fmt: skip
    assert "diversity" not in set(pl.read_parquet(tmp_path / "run" / "pairs.parquet")["metric"])
    page = Page(tmp_path / "run" / "report" / "index.html")
    assert page.table("Table 2").body[0][-1] == "n/a a" and f"a Not available: {reason}" in page.text


def test_a_metric_that_fails_has_its_reason_whole(plugins, files, tmp_path):
    def lacks(cells, options):
        raise ScottbenchError("it cannot be used:\n  missing the package x  fetch: pip install x")

    more = tiny_plugin.tiny_plugins(files, metrics=[Metric("lacks", "", lacks, True, scope="seeds", features="")])
    plan = make_plan(more, RunRequest("tiny", methods=["ode"], metrics=["lacks"], seeds=[0, 1], limit=2, device="cpu"))
    with pytest.raises(ScottbenchError, match="ode__s2__seeds lacks: it cannot be used: missing the package x fetch: pip install x"):
        execute(plan, more, tmp_path / "run", None, quiet)


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_batch_size_and_going_on_change_no_byte(run, plugins, tmp_path, monkeypatch):
    monkeypatch.setattr("scottbench.report.build", lambda root: root)  # not what is tested here
    plan, folder = run
    whole = execute(plan, plugins, tmp_path / "other", 1, quiet)
    part = tmp_path / "run"
    shutil.copytree(folder, part)
    shutil.rmtree(part / "images" / "hop__s2__seed3")
    shutil.rmtree(part / "features" / "ode__s2__seed1")
    for name in TABLES:
        (part / name).unlink()
    execute(plan, plugins, part, 2, quiet)
    for name in TABLES:
        assert (whole / name).read_bytes() == (part / name).read_bytes() == (folder / name).read_bytes(), name


# --- score ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scored(run, plugins, tmp_path, monkeypatch):
    """A run of the first metric alone, which others are to be scored on."""
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    plan = make_plan(plugins, RunRequest("tiny", metrics=["gap"], seeds=SEEDS, device="cpu"))
    made, own = RunFolder(run[1]), RunFolder.open(tmp_path / "run", plan.hash, plan.record, plan.settings)
    for place in (("images", cell.id) for cell in plan.cells):
        for span, ids in made.stored(place).items():
            own.put_chunk(place, span, *made.chunk(place, span, ids))
    return own.root


def test_score_measures_them_on_a_finished_run(run, scored, capsys):
    assert invoke(["score", str(scored), "-k", "diversity,ms_ssim", "--json", "-q"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    own = pl.read_parquet(run[1] / "results.parquet").filter(pl.col("metric").is_in(["diversity", "ms_ssim"])).to_dicts()
    assert rows == own and len(rows) == 4


def test_score_of_images_alone_prints_one_table_without_features(scored, capsys):
    assert invoke(["score", str(scored), "-k", "ms_ssim", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "over seeds 0,3,1 together: N = 12 prompts" and lines[1].split() == ["method", "steps", "NFE", "MS-SSIM", "↓"]
    assert "ms/image" not in "".join(lines)


def test_score_refuses_a_run_of_one_seed(plugins, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    plan = make_plan(plugins, RunRequest("tiny", metrics=["gap"], device="cpu"))
    RunFolder.open(tmp_path / "run", plan.hash, plan.record, plan.settings)
    assert invoke(["score", str(tmp_path / "run"), "-k", "diversity", "-q"]) == 2
    assert "this run has one, 0. Run with --seeds 0,1" in capsys.readouterr().err


# --- what a reader sees -----------------------------------------------------------------------------------------------


def test_the_report_has_a_table_of_its_own_for_them(run):
    page = Page(run[1] / "report" / "index.html")
    mean, over, main = page.table("Table 1"), page.table("Table 2"), page.table("Table 3")
    captions = page.table_captions
    assert mean.header == ["Method", "Steps", "Seeds", "NFE", "gap ↓ (tiny features)"] and len(mean.body) == 2
    assert all("[" in row[4] for row in mean.body) and "means over seeds, N = 12 prompts per row and seed" in captions[0]
    assert main.header == ["Method", "Steps", "Seed", "NFE", "gap ↓ (tiny features)", "ms/image ↓", "ms/call"] and len(main.body) == 6
    assert over.header == ["Method", "Steps", "Seeds", "NFE", "Diversity ↑ (tiny features)", "MS-SSIM ↓", "brightness ↑"]
    assert [row[:4] for row in over.body] == [[method, "2", "0, 3, 1", nfe] for method, nfe in (("ode", "4"), ("hop", "2"))]
    assert all("[" in entry for row in over.body for entry in row[4:]) and {y for y, x in over.bold if x == 4} <= {0, 1}
    assert "N = 12 prompts per row" in captions[1] and "Diversity, MS-SSIM: from the influence of each prompt" in captions[1]
    assert {name.replace(" ↑", "").replace(" ↓", "") for name in page.table("Table 4").header[1:]} == {
        "gap (tiny features)", "Diversity (tiny features)", "MS-SSIM", "brightness"}  # fmt: skip
    assert "All metrics" not in page.text  # two are of images alone


def test_a_report_of_nothing_else_is_about_them(run, plugins, tmp_path):
    from scottbench.report import build
    from scottbench.store.record import read_record

    shutil.copytree(run[1], tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["metrics"] = [metric for metric in manifest["metrics"] if metric["name"] == "diversity"]
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(with_check(manifest)))
    page = Page(build(tmp_path / "run"))
    text = page.text[: page.text.index("Figure 1.")]
    value = next(row[4] for row in page.table("Table 1").body if row[0] == "hop")
    assert f"hop at 2 steps has Diversity {value}" in text and "[" in value and "gap" not in text
    assert "N = 12 prompts, 3 seeds; all numbers are on tiny features" in text
    figures = [text for text in page.captions if text.startswith("Figure") and "Samples" not in text]
    assert len(figures) == 3 and all(" Diversity" in text and text.endswith("N = 12 prompts a row.") for text in figures)
    assert "N = 12 prompts per row, one image of each at every seed" in page.table_captions[0]
    assert [cell.seeds for cell in read_record(tmp_path / "run").over_seeds] == [tuple(SEEDS)] * 2


def test_the_terminal_shows_them_below_the_cells(run, capsys):
    print_results(run[1])
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("over seeds 0,3,1 together: N = 12 prompts")
    assert lines[0] == "mean over seeds 0,3,1: metrics on tiny features, N = 12 prompts a seed"
    assert [line.split()[:3] for line in lines[2:start]] == [["ode", "2", "4"], ["hop", "2", "2"]]
    assert "Diversity, tiny features ↑" in lines[start + 1] and "seed" not in lines[start + 1].split()
    assert [line.split()[:3] for line in lines[start + 2 : start + 4]] == [["ode", "2", "4"], ["hop", "2", "2"]]
    assert sum(line.startswith("ode@2 - hop@2") for line in lines) == 4


WHOLE = {"id": "a", "method": "ode", "steps": 2, "seeds": [0, 1], "cells": [], "n": 2}


CHANGES = [{"method": []}, {"seeds": ["x"]}, {"n": "x"}]


@pytest.mark.parametrize("damage", [7, ["x"], [{"method": "ode"}], *([{**WHOLE, **change}] for change in CHANGES)])
def test_damaged_records_of_them_are_refused_in_one_line(run, tmp_path, damage):
    shutil.copytree(run[1], tmp_path / "run", ignore=shutil.ignore_patterns("images", "features"))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({**manifest, "over_seeds": damage}))
    with pytest.raises(IntegrityError, match="manifest.json is damaged") as caught:
        read_measured(tmp_path / "run")
    assert "\n" not in str(caught.value)
