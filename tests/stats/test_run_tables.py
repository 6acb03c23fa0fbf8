"""What a run leaves: intervals in results.parquet, items.parquet, pairs.parquet, claims.json, with the same bytes every time."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
import tiny_plugin

from scottbench.cli import invoke
from scottbench.errors import ScottbenchError
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Influence, Metric
from scottbench.run.execute import execute

TABLES = ("results.parquet", "items.parquet", "pairs.parquet", "claims.json")


def products(cell, options):
    """(n,) inner products of image and text: what `agreement` is the mean of."""
    return np.sum(cell.generated["clip"].astype(np.float64) * cell.text["clip"], axis=1)


def of_products(cell, options):
    return Influence(products(cell, options) - products(cell, options).mean(), None)


def crash(cell, options):
    raise ZeroDivisionError("of a plug-in")


METRICS = [
    Metric("product", "mean product", lambda cell, options: float(products(cell, options).mean()), True, features="clip",
           influence=of_products, items=products),
    Metric("no_bars", "its influence crashes", lambda cell, options: 1.0, True, influence=crash),
]  # fmt: skip


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    return tiny_plugin.tiny_plugins(tiny_plugin.shared_files(tmp_path_factory), metrics=METRICS)


@pytest.fixture(scope="module")
def run(plugins, tmp_path_factory):
    plan = make_plan(plugins, RunRequest("tiny", metrics=["gap", "product", "no_bars"], device="cpu"))
    return plan, execute(plan, plugins, tmp_path_factory.mktemp("tables") / "run", None, lambda event: None)


def test_every_value_has_an_interval_or_the_manifest_says_why(run):
    rows = pl.read_parquet(run[1] / "results.parquet")
    assert rows["ci_method"].to_list() == ["half-sampling", "influence", None] * 2
    kept = rows.filter(pl.col("ci_method").is_not_null())
    assert (kept["ci_low"] < kept["value"]).all() and (kept["value"] < kept["ci_high"]).all()
    manifest = json.loads((run[1] / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    for cell in manifest["cells"]:
        (why,) = cell["no_interval"].values()
        assert why.startswith("metric 'no_bars' of plug-in 'tiny' failed in influence: ZeroDivisionError: of a plug-in (")


def test_items_are_one_row_per_cell_metric_and_prompt_with_the_values_that_the_mean_is_of(run):
    plan, folder = run
    items, results = pl.read_parquet(folder / "items.parquet"), pl.read_parquet(folder / "results.parquet")
    assert items.height == 2 * 2 * 12
    for (method, metric), rows in items.group_by(["method", "metric"], maintain_order=True):
        assert rows["id"].to_list() == list(plan.items.ids)
        value = results.filter((pl.col("method") == method) & (pl.col("metric") == metric))["value"][0]
        if metric == "product":
            assert rows["value"].mean() == pytest.approx(value, rel=1e-12)
            assert rows["influence"].to_numpy() == pytest.approx(rows["value"].to_numpy() - value, abs=1e-9)
        else:
            assert rows["value"].null_count() == 12 and rows["influence"].null_count() == 0


def test_pairs_are_the_two_methods_in_every_metric_with_intervals(run):
    pairs = pl.read_parquet(run[1] / "pairs.parquet")
    assert pairs.select("metric", "method_a", "method_b", "n", "seeds").rows() == [
        ("gap", "ode", "hop", 12, "0"), ("product", "ode", "hop", 12, "0"),
    ]  # fmt: skip
    results = {(row["method"], row["metric"]): row["value"] for row in pl.read_parquet(run[1] / "results.parquet").to_dicts()}
    for row in pairs.to_dicts():
        assert row["difference"] == results["ode", row["metric"]] - results["hop", row["metric"]]


def test_going_on_with_a_finished_run_gives_the_same_bytes(run, plugins, tmp_path):
    plan, folder = run
    shutil.copytree(folder, tmp_path / "run")
    for name in TABLES:
        (tmp_path / "run" / name).unlink()
    execute(plan, plugins, tmp_path / "run", 5, lambda event: None)
    for name in TABLES:
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes(), name


def test_compare_reads_the_run_and_agrees_with_its_table(run, capsys):
    assert invoke(["compare", str(run[1]), "ode@2", "hop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == pl.read_parquet(run[1] / "pairs.parquet").to_dicts()


def test_a_metric_that_failed_has_no_rows_and_stops_no_other(plugins, tmp_path, tmp_path_factory):
    def refuses(cell, options):
        raise ScottbenchError("of no use")

    more = tiny_plugin.tiny_plugins(tiny_plugin.shared_files(tmp_path_factory), metrics=[Metric("bad", "b", refuses, True), *METRICS])
    plan = make_plan(more, RunRequest("tiny", methods=["hop"], metrics=["bad", "product"], limit=4, device="cpu"))
    with pytest.raises(ScottbenchError, match="of no use"):
        execute(plan, more, tmp_path / "run", None, lambda event: None)
    assert set(pl.read_parquet(tmp_path / "run" / "items.parquet")["metric"]) == {"product"}
    rows = {row["metric"]: row for row in pl.read_parquet(tmp_path / "run" / "results.parquet").to_dicts()}
    assert rows["bad"]["value"] is None and rows["bad"]["ci_low"] is None and rows["product"]["ci_low"] < rows["product"]["value"]
