"""The training image nearest to each sample: found by features, written beside the run, shown in its report, refused where changed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_plugin import Dots

from scottbench.errors import IntegrityError
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.report import build
from scottbench.report.memory import memory
from scottbench.run.execute import execute
from scottbench.run.nearest import closest, nearest
from scottbench.store.nearest import read_nearest
from scottbench.store.record import read_record
from scottbench.store.sums import sums_of


def test_the_nearest_row_and_its_distance():
    train = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]], np.float32)
    places, distances = closest(np.array([[3.0, 4.0], [9.0, 0.0], [0.0, -2.0]], np.float32), train)
    assert places.tolist() == [1, 2, 0] and distances.tolist() == [0.0, 1.0, 2.0]


@pytest.fixture(scope="module")
def looked_up(plugins, tmp_path_factory):
    """(folder of a finished run, calls of the progress, calls of a second time); its training split is its evaluation split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOTTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        plan = make_plan(plugins, RunRequest("tiny", device="cpu", command="scottbench run -p tiny"))
        root = execute(plan, plugins, tmp_path_factory.mktemp("run") / "run", None, lambda event: None)
        calls: list[list[tuple[int, int]]] = [[], []]
        for made in calls:
            nearest(plan, Dots(), root, lambda done, total, made=made: made.append((done, total)))
    return root, *calls


def test_a_real_image_that_is_in_the_training_split_is_its_own_nearest(looked_up):
    root, _, _ = looked_up
    found = read_nearest(root)
    assert [one.id for one in found.cells["reference"]] == found.ids == list(Dots.ids[: len(found.ids)])
    assert all(one.distance < 1e-4 for one in found.cells["reference"])
    assert set(found.cells) == {"reference", "ode__s2__seed0", "hop__s2__seed0"} and found.n == 12
    features = [np.load(root / f"features/{owner}/image/00000-00011.npy") for owner in ("hop__s2__seed0", "reference")]
    first = np.linalg.norm(features[1].astype(float) - features[0][0], axis=1)
    assert found.cells["hop__s2__seed0"][0].id == Dots.ids[first.argmin()]
    assert found.cells["hop__s2__seed0"][0].distance == pytest.approx(first.min(), rel=1e-4)


def test_training_features_are_computed_once(looked_up):
    _, first, second = looked_up
    assert first[-1] == (12, 12) and second == []


def test_the_report_shows_samples_beside_their_nearest_and_says_how_near_real_images_are(looked_up):
    root, _, _ = looked_up
    shown = memory(read_record(root))
    assert [row[0] for row in shown.rows] == ["ode", "hop"] and "among N = 12 images of the training split of dots" in shown.caption
    distances = [float(near.label) for _, near in shown.rows[0][2]]
    assert distances == sorted(distances) and all(sample.source and near.source for sample, near in shown.rows[0][2])
    assert "Nearest training image" in build(root).read_text()


@pytest.mark.parametrize("how", ["changed", "other schema", "fewer entries", "a distance of text"])
def test_a_record_that_is_not_what_was_written_is_refused_in_one_line(looked_up, tmp_path, how):
    root, _, _ = looked_up
    record = json.loads((root / "nearest" / "nearest.json").read_text())
    if how == "other schema":
        record["schema"] = "x"
    elif how == "fewer entries":
        record["cells"]["reference"].pop()
    elif how == "a distance of text":
        record["cells"]["reference"][0]["distance"] = "near"
    else:
        record["n"] = 13
    (tmp_path / "nearest").mkdir()
    files = {"nearest.json": json.dumps(record).encode(), "images.zip": (root / "nearest" / "images.zip").read_bytes()}
    for name, data in files.items():
        (tmp_path / "nearest" / name).write_bytes(data)
    told = files if how != "changed" else {**files, "nearest.json": b"{}"}
    (tmp_path / "nearest" / "SHA256SUMS").write_bytes(sums_of(told))
    with pytest.raises(IntegrityError) as caught:
        read_nearest(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
