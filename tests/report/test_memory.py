"""The nearest training images on the page, and a record of them that is not what was written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_run import fake_run

from scottbench.cli import invoke
from scottbench.errors import IntegrityError
from scottbench.report.memory import ITEMS, memory
from scottbench.store.contents import pack_images
from scottbench.store.nearest import read_nearest
from scottbench.store.record import read_record
from scottbench.store.sums import sums_of


def put_nearest(root, edit=lambda record: None, told=None) -> None:
    """Write nearest/ of a made run: sample k of scott is at distance 6 - k, of cd at 9, real ones at 2."""
    entry = lambda k, distance: {"id": f"train-{k}", "prompt": f"a training caption {k}", "distance": distance}  # noqa: E731
    cells = {"scott__s2__seed0": [entry(k, 6.0 - k) for k in range(6)], "cd__s2__seed0": [entry(0, 9) for _ in range(6)],
             "reference": [entry(1, 2.0) for _ in range(6)]}  # fmt: skip
    record = {"schema": "scottbench.nearest/1", "dataset": "emoji5k", "n": 8853, "extractor": "pocket features",
              "ids": [f"item-{k}" for k in range(6)], "cells": cells}  # fmt: skip
    edit(record)
    images = pack_images([f"train-{k}" for k in range(6)], np.full((6, 8, 8, 3), 90, np.uint8))
    files = {"nearest.json": json.dumps(record).encode(), "images.zip": images}
    (root / "nearest").mkdir()
    for name, data in files.items():
        (root / "nearest" / name).write_bytes(data)
    (root / "nearest" / "SHA256SUMS").write_bytes(sums_of(files if told is None else {**files, **told}))


def test_samples_stand_beside_their_nearest_training_image_the_nearest_first(tmp_path):
    run = fake_run(tmp_path / "run")
    assert memory(read_record(run)) is None
    put_nearest(run)
    shown = memory(read_record(run))
    assert [(method, detail) for method, detail, _ in shown.rows] == [("scott", "2 steps, median 3.5"), ("cd", "2 steps, median 9")]
    pairs = shown.rows[0][2]
    assert len(pairs) == ITEMS and [near.label for _, near in pairs] == ["1", "2", "3", "4"]
    assert pairs[0][0].alt == "sample item-5" and pairs[0][1].alt == "nearest training image train-5: a training caption 5"
    assert all(sample.source and near.source for sample, near in pairs)
    assert "It is 2 for the real images" in shown.caption and "N = 8,853 images of the training split of emoji5k" in shown.caption


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda record: None, {"nearest.json": b"{}"}),
        (lambda record: record.update(schema="x"), None),
        (lambda record: record["cells"]["reference"].pop(), None),
        (lambda record: record["cells"]["reference"][0].update(distance="near"), None),
        (lambda record: record["cells"]["reference"][0].update(distance=-1), None),
        (lambda record: record["cells"]["reference"][0].update(id="../../etc/passwd"), None),
        (lambda record: record.update(cells=[]), None),
    ],
    ids=["changed", "other schema", "fewer entries", "a distance of text", "a distance below 0", "another picture", "no cells"],
)
def test_a_record_that_is_not_what_was_written_is_refused_in_one_line(tmp_path, edit, told):
    put_nearest(tmp_path, edit, told)
    with pytest.raises(IntegrityError) as caught:
        read_nearest(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_looking_up_is_for_one_run_alone(tmp_path, capsys):
    run = str(fake_run(tmp_path / "run"))
    for arguments in ([run, run], [run, "-k", "kid"], [str(tmp_path)]):
        assert invoke(["score", *arguments, "--nearest"]) == 2
        assert "--nearest is for one run alone" in capsys.readouterr().err
