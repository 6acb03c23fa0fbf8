"""The training image nearest to each sample: found by the features of the run, written beside it, and looked up once a dataset."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_plugin import Dots

from scottbench.errors import Incomplete
from scottbench.models.extractors import open_extractor
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.run.chunks import bind
from scottbench.run.nearest import closest, nearest
from scottbench.store.folder import RunFolder
from scottbench.store.nearest import read_nearest
from scottbench.store.sums import check_sums

SPAN = range(12)


def test_the_nearest_row_and_its_distance():
    train = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]], np.float32)
    places, distances = closest(np.array([[3.0, 4.0], [9.0, 0.0], [0.0, -2.0]], np.float32), train)
    assert places.tolist() == [1, 2, 0] and distances.tolist() == [0.0, 1.0, 2.0]


@pytest.fixture(scope="module")
def plan(plugins):
    return make_plan(plugins, RunRequest("tiny", device="cpu", command="scottbench run -p tiny"))


def put(plan, root, owners) -> RunFolder:
    """A run folder with features: the reference's own, and those of cell k of the pictures k + 1 places further on."""
    folder = RunFolder(root)
    bind(folder, plan)
    features = open_extractor(plan.sources["image"]).features(Dots().images(SPAN))
    for shift, owner in enumerate(owners):
        folder.put_features(("features", owner, "image"), SPAN, list(Dots.ids), np.roll(features, -shift, axis=0))
    return folder


def test_each_sample_has_its_nearest_training_image_and_features_of_the_split_are_computed_once(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))
    cells = [cell.id for cell in plan.cells]
    root = tmp_path / "run"
    root.mkdir()
    put(plan, root, ["reference", *cells])
    first: list[tuple[int, int]] = []
    again: list[tuple[int, int]] = []
    nearest(plan, Dots(), root, lambda done, total: first.append((done, total)))
    before = (root / "nearest" / "nearest.json").read_bytes()
    nearest(plan, Dots(), root, lambda done, total: again.append((done, total)))
    assert first == [(12, 12)] and again == [] and (root / "nearest" / "nearest.json").read_bytes() == before
    assert check_sums(root / "nearest")
    found = read_nearest(root)
    shown = len(found.ids)
    assert set(found.cells) == {"reference", *cells} and found.n == 12 and found.ids == list(Dots.ids[:shown])
    for shift, owner in enumerate(["reference", *cells]):
        assert [one.id for one in found.cells[owner]] == [Dots.ids[(k + shift) % 12] for k in range(shown)]
        assert all(one.distance < 1e-4 for one in found.cells[owner])
    assert set(found.pictures) == {one.id for entries in found.cells.values() for one in entries}
    assert json.loads(before)["cells"][cells[0]][0]["prompt"] == Dots.prompts[1]


def test_a_run_without_its_features_is_not_finished(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    put(plan, tmp_path / "run", ["reference"])
    with pytest.raises(Incomplete, match="lacks features of .* scottbench resume"):
        nearest(plan, Dots(), tmp_path / "run", lambda done, total: None)
    assert not (tmp_path / "run" / "nearest").exists()
