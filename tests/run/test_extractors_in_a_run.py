"""A scorer, metadata and the teacher's images in a run: what metrics get, what is stored, what is kept for later runs."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import scottbench_metrics
import tiny
import torch
from scottbench_scorers.mean import MeanScore
from tiny_plugin import Dots, tiny_plugins

from scottbench.errors import DamagedAsset, MissingAsset, ScottbenchError, UsageError
from scottbench.models.extractors import OpenExtractor, Source
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Extractor, Metric
from scottbench.report.categories import category_tables
from scottbench.run.brought import bring
from scottbench.run.execute import execute
from scottbench.run.teacher import read_kept, write_kept
from scottbench.store.assets import file_digest
from scottbench.store.reader import Records
from scottbench.store.record import read_record
from scottbench.store.verify import verify

SEEN = []


class Sorted(Dots):
    """Dots with two columns, of which one says nothing."""

    metadata = {"category": ["even", "odd"] * 6 + ["beyond the run"], "file": ["same"] * 12}


def find(spec, path):
    return Source("stars", spec.get("label", "stars"), "5" * 64, path("stars"))


def open_stars(source, device):
    """Red minus blue of an image, and the length of its prompt."""
    def score(batch, tokens):
        return batch[:, 0].mean((1, 2)) - batch[:, 2].mean((1, 2)) + tokens[:, 0]

    def lengths(texts):
        return torch.tensor([[len(text)] for text in texts])

    return OpenExtractor(source, tiny.SIDE, lambda batch: 1 / 0, None, lengths, device, pair_tower=score)


STARS = Extractor("stars", "a score", find, open_stars, reads="images+prompts", gives="score")


def probe(cell, options):
    if cell.n == 12:  # not half of one
        SEEN.append(cell)
    return 1.0


METRICS = [
    Metric("stars", "mean stars", MeanScore("stars").value, True, features="stars", items=MeanScore("stars").items,
           influence=MeanScore("stars").influence),
    Metric("probe", "looks", probe, True, features=("image", "stars", "clip")),
    next(metric for metric in scottbench_metrics.register_metrics() if metric.name == "fid_t"),
]  # fmt: skip
FID_T = "fid_t@steps=2,teacher=ode"


@pytest.fixture(scope="module")
def plugins(files):
    return tiny_plugins(files, metrics=METRICS, items=Sorted, extractors=[STARS])


def plan_of(plugins, *metrics, methods=("hop",), **more):
    return make_plan(plugins, RunRequest("tiny", device="cpu", command="test", methods=list(methods), metrics=list(metrics), **more))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def in_cache(cache, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(cache))


@pytest.fixture(scope="module")
def run(plugins, cache, tmp_path_factory):
    """One finished run of the teacher and its student; read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOTTBENCH_CACHE", str(cache))
        with pytest.raises(MissingAsset, match=r"fid_t.* compares with the teacher's images \(ode at 2 steps, guidance 3, seed 0\).* no "
                                               r"features of 12 .*scottbench run -p tiny -m ode -s 2 --seeds 0 -n 12 -k fid_t"):
            plan_of(plugins, FID_T)
        plan = plan_of(plugins, "stars", "probe", FID_T, methods=("ode", "hop"))
        return execute(plan, plugins, tmp_path_factory.mktemp("run") / "run", None, lambda event: None)


def row(run, metric, method="hop"):
    found = pl.read_parquet(run / "results.parquet").filter(pl.col("metric") == metric, pl.col("method") == method)
    return found.to_dicts()[0]


def test_a_score_sees_each_image_with_its_prompt_and_its_mean_has_an_interval(run):
    cell = SEEN[-1]
    images = cell.images(range(12)).astype(np.float64)
    scores = images[..., 0].mean((1, 2)) - images[..., 2].mean((1, 2)) + [len(prompt) for prompt in Dots.prompts]
    assert np.allclose(cell.generated["stars"][:, 0], scores, atol=1e-3)
    found = row(run, "stars")
    assert found["value"] == pytest.approx(scores.mean(), abs=1e-3) and found["ci_low"] < found["value"] < found["ci_high"]
    items = pl.read_parquet(run / "items.parquet").filter(pl.col("metric") == "stars", pl.col("method") == "hop")
    assert np.allclose(items["value"], scores, atol=1e-3)
    assert not (run / "features" / "reference" / "stars").exists()  # a score is of generated images
    assert not verify(run).wrong
    assert Records(run).manifest["plan"]["extractors"]["stars"]["gives"] == "score"


def test_a_metric_sees_ids_prompts_columns_and_images_and_can_write_none_of_them(run):
    cell = SEEN[-1]
    assert cell.ids == Dots.ids and cell.prompts == tuple(Dots.prompts)
    assert dict(cell.metadata) == {"category": ("even", "odd") * 6, "file": ("same",) * 12}
    assert set(cell.generated) == {"image", "stars", "clip"} and set(cell.reference) == {"image", "clip"} == set(cell.text)
    assert np.array_equal(cell.reference_images([3, 1]), Dots().images([3, 1]))
    for array in (cell.images([0]), cell.reference_images([0]), cell.generated["stars"], cell.text["clip"], cell.reference["image"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(TypeError):
        cell.metadata["category"] = ()


def test_a_metric_of_several_extractors_has_all_their_digests_in_its_fingerprint(run):
    fingerprint = row(run, "probe")["fingerprint"]
    assert "tiny features" in fingerprint and "stars 55555555" in fingerprint
    record = {metric.name: metric for metric in read_record(run).metrics}
    assert record["probe"].extractor == "tiny features + stars"


def test_means_by_category_stand_in_the_record_and_in_the_report(run):
    table = pl.read_parquet(run / "categories.parquet")
    assert table["column"].unique().to_list() == ["category"] and table["metric"].unique().to_list() == ["stars"]
    items = pl.read_parquet(run / "items.parquet").filter(pl.col("metric") == "stars", pl.col("method") == "hop")["value"].to_numpy()
    odd = table.filter(pl.col("category") == "odd", pl.col("method") == "hop").to_dicts()[0]
    error = items[1::2].std(ddof=1) / np.sqrt(6) * 2.5705818366  # t, 5 degrees of freedom
    assert odd["n"] == 6 and odd["value"] == pytest.approx(items[1::2].mean())
    assert (odd["ci_low"], odd["ci_high"]) == pytest.approx((odd["value"] - error, odd["value"] + error))
    (shown,) = category_tables(read_record(run))
    assert [column.text for column in shown.columns] == ["Method", "Steps", "Metric", "even", "odd"] and len(shown.rows) == 2
    assert shown.rows[1][4].text == f"{odd['value']:.3f}"
    assert "Means over the items of each category" in (run / "report" / "index.html").read_text()
    (run / "categories.parquet").read_bytes()
    assert "categories.parquet" in Records(run).files


def test_fid_t_is_the_distance_to_the_teachers_images_and_they_are_kept_for_other_runs(run, plugins, cache, tmp_path):
    from scottbench.metrics import frechet_distance

    rows = [np.asarray(SEEN_cell.generated["image"], np.float64) for SEEN_cell in SEEN[-2:]]
    found = row(run, FID_T)
    assert found["value"] == pytest.approx(frechet_distance(rows[0], rows[1]).value, rel=1e-6) and found["value"] > 0
    assert row(run, FID_T, "ode")["value"] == 0.0
    assert "; teacher ode@2 guidance 3 seed 0 " in found["fingerprint"]
    (kept,) = (cache / "teachers").iterdir()
    assert np.array_equal(read_kept(kept, 5), SEEN[-2].generated["image"][:5])
    alone = execute(plan_of(plugins, FID_T), plugins, tmp_path / "alone", None, lambda event: None)
    again = row(alone, FID_T)
    assert [again[key] for key in ("value", "ci_low", "ci_high", "fingerprint")] == [
        found[key] for key in ("value", "ci_low", "ci_high", "fingerprint")]  # fmt: skip
    shorter = plan_of(plugins, FID_T, limit=7)
    assert shorter.n == 7
    with pytest.raises(MissingAsset):  # another seed is other images
        plan_of(plugins, f"{FID_T},seed=1")
    with pytest.raises(UsageError, match="method 'hop' samples a student"):
        plan_of(plugins, "fid_t@teacher=hop,steps=2")


def test_a_preset_brings_the_teachers_features_and_they_stand_before_those_of_the_cache(run, plugins, cache, files, tmp_path, monkeypatch):
    """Named by what the images are: another code and cache, the same features; other weights or too few items are others'."""
    from scottbench.plan.teachers import brought_file

    own = plan_of(plugins, FID_T)
    (kept,) = (cache / "teachers").iterdir()
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "empty"))
    text = f'teachers = "{tmp_path}"\n' + (files / "preset.toml").read_text()
    bringing = tiny_plugins(files, preset=text, metrics=METRICS, items=Sorted, extractors=[STARS])
    with pytest.raises(MissingAsset, match="has no features of 12"):
        plan_of(bringing, FID_T)
    with pytest.MonkeyPatch.context() as patch:  # where the file stands does not depend on the code
        patch.setattr("scottbench.plan.teachers.code.part_code", lambda *given: {"other": "code"})
        plan = plan_of(plugins, "stars", FID_T, methods=("ode",))
        images = plan.metrics[-1].teacher
        place = brought_file(images, plan.sources["image"], dataclasses.replace(plan.preset, teachers=str(tmp_path)))
    rows = read_kept(kept, 12)
    with monkeypatch.context() as patch:
        patch.setenv("SCOTTBENCH_CACHE", str(cache))
        with pytest.raises(UsageError, match="preset 'tiny' names no folder for them"):
            bring(own)
        with pytest.raises(UsageError, match="no metric of the plan compares"):
            bring(plan_of(bringing, "stars"))
        assert bring(plan_of(bringing, FID_T)) == [place]
    assert np.array_equal(read_kept(place, 12), rows.astype(np.float16).astype(np.float32))
    found = plan_of(bringing, FID_T)
    assert "teacher" not in own.record["metrics"][0] and found.record["metrics"][0]["teacher"] == [file_digest(place)]
    assert found.hash != own.hash and found.metrics[0].fingerprint == own.metrics[0].fingerprint
    brought = row(execute(found, bringing, tmp_path / "brought", None, lambda event: None), FID_T)
    assert brought["value"] == pytest.approx(row(run, FID_T)["value"], rel=2e-2) and brought["value"] > 0
    assert "teacher" not in plan_of(bringing, FID_T, methods=("ode", "hop")).record["metrics"][0]  # it makes its own
    write_kept(place, rows[:11], np.float16)
    with pytest.raises(MissingAsset, match="has no features of 12"):
        plan_of(bringing, FID_T)


def test_a_default_metric_whose_teachers_images_are_not_at_hand_is_left_out_with_a_line(run, plugins, cache, files, tmp_path, monkeypatch):
    """What ran before decides nothing: the cache has them, and they count only where the run makes them or the preset brings them."""
    text = (files / "preset.toml").read_text()
    listed = next(line for line in text.splitlines() if line.startswith("metrics = "))
    text = f'teachers = "{tmp_path}"\n' + text.replace(listed, f'metrics = ["stars", "{FID_T}"]')
    bringing = tiny_plugins(files, preset=text, metrics=METRICS, items=Sorted, extractors=[STARS])

    def default(**given):
        return make_plan(bringing, RunRequest("tiny", device="cpu", command="test", **{"methods": ["hop"], "steps": [2], **given}))

    def names(plan):
        return [str(metric.label) for metric in plan.metrics]

    bare = default()
    assert names(bare) == ["stars"] and "image" not in bare.sources
    (line,) = [line for line in bare.warnings if line.startswith(FID_T)]
    assert "is left out: preset 'tiny' brings no teacher's images of this model and these prompts" in line
    assert names(default(methods=["hop", "ode"])) == ["stars", FID_T]
    assert names(plan_of(bringing, "stars", FID_T)) == ["stars", FID_T]  # named: the cache serves
    bring(plan_of(bringing, FID_T))
    whole = default()
    assert names(whole) == ["stars", FID_T] and not [line for line in whole.warnings if line.startswith(FID_T)]


def test_a_damaged_file_of_the_cache_is_named(run, plugins, cache, tmp_path):
    (kept,) = (cache / "teachers").iterdir()
    data = kept.read_bytes()
    try:
        kept.write_bytes(data[:-4] + bytes(4))
        with pytest.raises(DamagedAsset, match="are not those that were written. Delete "):
            read_kept(kept, 12)
        with pytest.raises(ScottbenchError, match=r"hop__s2__seed0 fid_t.*not those that were written"):
            execute(plan_of(plugins, FID_T), plugins, tmp_path / "damaged", None, lambda event: None)
    finally:
        kept.write_bytes(data)


@pytest.mark.parametrize("wrong, line", [
    ({"kind": "nothing"}, "unknown extractor 'nothing'"), ({"folder": "x"}, "names no 'kind'"),
    ({"kind": "stars", "resize": "open_clip"}, "resize rule 'open_clip' of an extractor of kind 'stars' is unknown; known: clean, "),
    ({"kind": "inception", "prefix": "a"}, "kind 'inception' reads no prompts")])  # fmt: skip
def test_a_preset_that_names_an_extractor_wrongly_is_told_so(files, wrong, line):
    text = (files / "preset.toml").read_text().partition("[extractors.image]")[0] + "[extractors.image]\n"
    text += "".join(f'{key} = "{value}"\n' for key, value in wrong.items())
    broken = tiny_plugins(files, preset=text.replace('["gap", "agreement"]', '["gap"]'), extractors=[STARS])
    with pytest.raises(UsageError, match=line):
        make_plan(broken, RunRequest("tiny", device="cpu", command="test"))
