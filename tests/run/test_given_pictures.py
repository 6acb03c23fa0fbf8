"""Rows of pictures that were made elsewhere: scored alone, with and without a reference, and beside methods of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_plugin
from PIL import Image
from scottbench_folder import register_datasets
from tiny_plugin import Dots, tiny_plugins

from scottbench.errors import DamagedAsset, IntegrityError, UsageError
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Metric
from scottbench.run.execute import execute
from scottbench.run.notebook import open_run
from scottbench.stats.measured import read_measured
from scottbench.store.record import read_record
from scottbench.store.verify import verify

quiet = lambda event: None  # noqa: E731


def pixels_of(cell, options):
    return float(cell.images(range(cell.n)).mean())


METRICS = [
    Metric("words", "as agreement", tiny_plugin.agreement, True, features="clip", reference=False,
           items=lambda cell, options: (cell.generated["clip"].astype(float) * cell.text["clip"]).sum(1)),
    Metric("pixels", "mean of all pixels", pixels_of, True, features="", reference=False),
]  # fmt: skip


@pytest.fixture(scope="module")
def plugins(files):
    found = tiny_plugins(files, metrics=METRICS)
    found.nouns["dataset"]["folder"] = tiny_plugin.registered("dataset", register_datasets()[0])
    return found


def put(folder: Path, pictures: dict[str, np.ndarray], suffix: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.{suffix}")
    return folder


def captions(path: Path, ids=Dots.ids, prompts=Dots.prompts) -> str:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("id", "caption"), *zip(ids, prompts)])
    return str(path)


def dots(ids=Dots.ids, shift: int = 0) -> dict[str, np.ndarray]:
    return {one: Dots().images([Dots.ids.index(one) + shift])[0] for one in ids}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """a/ and b/: a picture of each of the 12 items, c.csv: their captions; read only."""
    root = tmp_path_factory.mktemp("pictures")
    put(root / "a", dots())
    put(root / "b", dots(shift=100))
    captions(root / "c.csv")
    return root


def scored(plugins, place, **changes):
    rows = {"a": str(place / "a")}
    request = {"pictures": rows, "scoring": True, "prompts": str(place / "c.csv"), "device": "cpu", "metrics": ["words"], **changes}
    return make_plan(plugins, RunRequest("tiny", **request))


@pytest.fixture(scope="module")
def two(plugins, place, tmp_path_factory):
    """A finished run of two rows without a reference; read only."""
    made = scored(plugins, place, pictures={"a": str(place / "a"), "b": str(place / "b")}, metrics=["words", "pixels"])
    return execute(made, plugins, tmp_path_factory.mktemp("two") / "run", None, quiet)


def test_pictures_without_a_reference_get_a_run_folder_that_every_reader_reads(two, place):
    assert not verify(two).wrong
    record = read_record(two)
    assert [(cell.method, cell.steps, cell.facts["nfe"], cell.facts["error"]) for cell in record.cells] == [
        ("a", 0, None, None), ("b", 0, None, None)]  # fmt: skip
    assert record.plan["model"] is None and record.plan["dataset"]["reference"] is None and record.manifest["reference"]["n"] == 0
    assert not (two / "features" / "reference").exists() and not (two / "claims.json").exists()
    assert record.cells[0].facts["options"] == {"place": "a", "formats": "PNG 12", "sizes": "64 x 64", "lossy": False}
    assert record.cells[0].values["pixels"] == pytest.approx(np.stack(list(dots().values())).mean())
    assert {(row["method_a"], row["method_b"], row["metric"]) for row in record.pairs} >= {("a", "b", "words")}
    assert [one.cell for one in read_measured(two)][:1] == ["a"]
    page = (two / "report" / "index.html").read_text()
    assert "Pictures that were made elsewhere are read from files (a: PNG 12, 64 x 64; b: PNG 12, 64 x 64)" in page
    assert "There are no reference images" in page and "0 step" not in page and "a@0" not in page
    assert set(open_run(two).results["method"]) == {"a", "b"}


def test_the_same_files_are_the_same_plan_and_others_are_not(plugins, place, tmp_path):
    base = scored(plugins, place)
    put(tmp_path / "moved", dots())
    assert scored(plugins, place, pictures={"a": str(tmp_path / "moved")}).record["cells"][0]["weights_digest"] == (
        base.record["cells"][0]["weights_digest"])
    put(tmp_path / "moved", {"dot-03": np.zeros((64, 64, 3), np.uint8)})
    assert scored(plugins, place, pictures={"a": str(tmp_path / "moved")}).hash != base.hash
    assert scored(plugins, place, prompts=captions(tmp_path / "c.csv", prompts=["x", *Dots.prompts[1:]])).hash != base.hash


def test_a_metric_that_needs_a_reference_is_refused_in_one_line_and_left_out_where_nobody_named_it(plugins, place):
    with pytest.raises(UsageError, match="metric 'gap' compares with reference images, and there are none. Give some with --reference"):
        scored(plugins, place, metrics=["gap"])
    with pytest.raises(UsageError, match="no metrics to compute"):
        scored(plugins, place, metrics=None)  # of the preset's none can do without


def test_with_a_dataset_as_reference_numbers_compare_with_those_of_a_run_of_it(plugins, place, tmp_path):
    made = scored(plugins, place, reference="dots", prompts=None, metrics=["gap", "words"])
    assert made.metrics[0].fingerprint == make_plan(plugins, RunRequest("tiny", device="cpu")).metrics[0].fingerprint
    folder = execute(made, plugins, tmp_path / "run", None, quiet)
    assert read_record(folder).cells[0].values["gap"] == 0  # the pictures are the reference itself
    assert not verify(folder).wrong


def test_some_pictures_of_a_dataset_are_compared_with_the_same_of_its_reference(plugins, place, tmp_path):
    some = ("dot-07", "dot-02")
    made = scored(plugins, place, pictures={"a": str(put(tmp_path / "a", dots(some)))}, reference="dots", metrics=["gap"])
    assert list(made.items.ids) == ["dot-02", "dot-07"]  # in the dataset's order
    assert np.array_equal(made.items.images([1])[0], dots()["dot-07"])
    assert any("10 captions without a picture left out (dot-00, dot-01, dot-03, ...)" in line for line in made.warnings)


@pytest.fixture(scope="module")
def own(plugins, place, tmp_path_factory):
    """A finished run with 70 reference images of other ids than its 12 pictures; read only."""
    root = tmp_path_factory.mktemp("own")
    real = put(root / "real", {f"real {k}": Dots().images([k])[0] for k in range(70)})
    made = scored(plugins, place, reference=str(real), metrics=["gap", "words"])
    return made, execute(made, plugins, root / "run", None, quiet)


def test_a_reference_of_other_ids_is_a_set_of_its_own(own, plugins):
    made, folder = own
    assert made.reference.n == 70 and "ref=70:" in made.metrics[0].fingerprint and made.record["dataset"]["reference"]["n"] == 70
    assert any("no id is one of the reference real: its 70 images are taken as a set of their own" in line for line in made.warnings)
    assert len(list((folder / "features" / "reference" / "image").glob("*.npy"))) == 2  # chunks of 64
    assert not verify(folder).wrong
    record = read_record(folder)
    assert record.cells[0].values["gap"] > 0 and record.cells[0].intervals["gap"].method == "half-sampling"
    page = (folder / "report" / "index.html").read_text()
    assert "The reference is 70 real images, a set of their own (real)." in page
    damaged = next((folder / "features" / "reference" / "image").glob("00064*.json"))
    kept = damaged.read_bytes()
    damaged.write_text(json.dumps({**json.loads(kept), "ids": ["x"] * 6}))
    assert any("features/reference/image" in line for line in verify(folder).wrong)
    damaged.write_bytes(kept)


def test_a_row_stands_beside_methods_and_is_tested_against_each_of_them(plugins, place, tmp_path):
    rows = {"real": str(place / "a")}
    request = RunRequest("tiny", methods=["ode"], steps=[1, 2], pictures=rows, metrics=["gap", "words"], device="cpu", limit=5)
    folder = execute(make_plan(plugins, request), plugins, tmp_path / "run", None, quiet)
    assert not verify(folder).wrong
    record = read_record(folder)
    assert [(cell.facts["id"], cell.steps) for cell in record.cells] == [("ode__s1__seed0", 1), ("ode__s2__seed0", 2), ("real__images", 0)]
    assert record.cells[2].values["gap"] == 0 < record.cells[0].values["gap"]
    tested = {(row["method_a"], row["steps_a"], row["method_b"], row["steps_b"]) for row in record.pairs}
    assert tested == {("ode", 1, "ode", 2), ("ode", 1, "real", 0), ("ode", 2, "real", 0)}
    page = (folder / "report" / "index.html").read_text()
    assert "Each method draws N = 5 images at 1 and 2 steps" in page and "The guidance scale s is 3 (s = 1" in page


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ({"ode": "a"}, UsageError, "a row of pictures is called 'ode', as a method of this run is"),
        ({"x y": "a"}, UsageError, "'x y' cannot be the name of a row"),
        ({"x": "some"}, UsageError, r"some lacks pictures of 2 of the run's 12 items \(dot-00, dot-01\)"),
        ({"x": "broken"}, DamagedAsset, r"row 'x': .*broken/dot-04.png cannot be decoded"),
    ],
)
def test_a_row_that_cannot_stand_beside_methods_is_refused_before_anything_is_made(plugins, place, tmp_path, rows, error, words):
    put(tmp_path / "a", dots())
    put(tmp_path / "some", dots(Dots.ids[2:]))
    put(tmp_path / "broken", dots())
    (tmp_path / "broken" / "dot-04.png").write_bytes(b"x")
    pictures = {name: str(tmp_path / folder) for name, folder in rows.items()}
    with pytest.raises(error, match=words):
        make_plan(plugins, RunRequest("tiny", methods=["ode"], pictures=pictures, device="cpu"))


def test_rows_share_the_ids_that_all_have_and_what_is_left_out_is_named(plugins, place, tmp_path):
    put(tmp_path / "b", dots(Dots.ids[3:]))
    (tmp_path / "b" / "dot-05.png").write_bytes(b"x")
    made = scored(plugins, place, pictures={"a": str(place / "a"), "b": str(tmp_path / "b")})
    assert list(made.items.ids) == [one for one in Dots.ids[3:] if one != "dot-05"]
    assert [pictures.ids for pictures in (cell.method.pictures for cell in made.cells)] == [tuple(made.items.ids)] * 2
    (line,) = made.broken
    assert "b: 1 picture left out: dot-05.png cannot be decoded" in line and line in made.warnings
    assert any("'a' has 4 pictures that another row lacks; left out" in line for line in made.warnings)
    with pytest.raises(UsageError, match="no picture of one id in common"):
        put(tmp_path / "c", {"dot-01": dots()["dot-01"]})
        scored(plugins, place, pictures={"b": str(tmp_path / "b"), "c": str(tmp_path / "c")})


def test_mixed_sizes_and_lossy_files_are_warned_of_and_a_metric_of_pixels_says_why_it_has_no_value(plugins, place, tmp_path):
    from scottbench.errors import ScottbenchError

    put(tmp_path / "a", dots(), "jpg")
    put(tmp_path / "a", {"dot-01": np.full((20, 30, 3), 9, np.uint8)}, "jpg")
    long = captions(tmp_path / "c.csv", prompts=["word " * 2000, *Dots.prompts[1:]])
    made = scored(plugins, place, pictures={"a": str(tmp_path / "a")}, prompts=long, metrics=["words", "pixels"])
    assert [line.partition(" ")[0] for line in made.warnings] == ["12", "pictures", "1"]
    assert "12 pictures of 'a' in JPEG, a lossy format" in made.warnings[0] and "'a' have 2 sizes" in made.warnings[1]
    assert "(the first: 'dot-00', 9,999 characters)" in made.warnings[2]
    with pytest.raises(ScottbenchError, match="pixels: its pictures have several sizes"):
        execute(made, plugins, tmp_path / "run", None, quiet)
    record = read_record(tmp_path / "run")
    assert "words" in record.cells[0].values and record.cells[0].facts["options"]["lossy"] is True
    assert not verify(tmp_path / "run").wrong


def test_a_run_of_pictures_is_gone_on_with_and_other_files_are_refused(plugins, place, tmp_path):
    put(tmp_path / "a", dots())
    rows = {"a": str(tmp_path / "a")}
    made = scored(plugins, place, pictures=rows)
    execute(made, plugins, tmp_path / "run", None, quiet)
    before = (tmp_path / "run" / "results.parquet").read_bytes()
    next((tmp_path / "run" / "images" / "a__images").glob("*.zip")).unlink()
    execute(scored(plugins, place, pictures=rows), plugins, tmp_path / "run", None, quiet)
    assert (tmp_path / "run" / "results.parquet").read_bytes() == before and not verify(tmp_path / "run").wrong
    put(tmp_path / "a", {"dot-00": np.zeros((64, 64, 3), np.uint8)})
    with pytest.raises(IntegrityError, match="a__images.weights_digest"):
        execute(scored(plugins, place, pictures=rows), plugins, tmp_path / "run", None, quiet)
