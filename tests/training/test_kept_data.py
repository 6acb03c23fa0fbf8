"""Caches that stand on their own, digests that are made once, and the check that reads all of it again."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_stream_training import Encoder

from scottbench.errors import DamagedAsset, IntegrityError, MissingAsset, ScottbenchWarning, UsageError
from scottbench.plan.data import DataChoice
from scottbench.registry.nouns import Dataset
from scottbench.store.assets import listing_digest, remembered_digest
from scottbench.text import progress
from scottbench.training.data import Encoding, open_data
from scottbench.training.kept import open_or_recall, remember
from scottbench.training.verify import verify_training


@dataclass(frozen=True)
class Options:
    path: Path


class Pictures:
    """100 items, or the error that stands in their place."""

    def __init__(self):
        self.error = None

    def open(self, split, options):
        if self.error is not None:
            raise self.error
        images = lambda index: np.stack([np.full((16, 16, 3), i, np.uint8) for i in index])  # noqa: E731
        return SimpleNamespace(ids=[f"i{n}" for n in range(100)], prompts=["x"] * 100, digest="f" * 64, images=images)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def choice_of(pictures, path="a"):
    dataset = Dataset("mine", "", pictures.open, options=Options)
    return DataChoice("mine", dataset, Options(Path(path)), False)


def quiet(*event):
    pass


@pytest.mark.parametrize("kind", ["both", "latents"])
def test_an_encoded_split_does_without_its_pictures(kind):
    pictures = Pictures()
    choice, model = choice_of(pictures), Encoder()
    before = open_data(model, choice.open("train"), 8, 0, quiet, Encoding(kind))
    remember(choice, choice.open("train"))
    pictures.error = MissingAsset("missing a/train2017")
    with pytest.warns(ScottbenchWarning, match="missing a/train2017 The split that was encoded of dataset 'mine' is used"):
        items = open_or_recall(choice)
    encoded = model.pictures
    again = open_data(model, items, 8, 0, quiet, Encoding(kind))
    assert model.pictures == encoded and torch.equal(again.train, before.train)
    one, other = (data.batch(torch.tensor([5, 99]), "cpu") for data in (before, again))
    assert torch.equal(one["latents"], other["latents"]) and torch.equal(one["text"].hidden, other["text"].hidden)
    with pytest.raises(MissingAsset, match="pictures are needed for what is not encoded yet"):
        open_data(model, items, 8, 0, quiet, Encoding("latents" if kind == "both" else "both"))


def test_only_the_same_data_are_recalled_and_damaged_ones_never(cache):
    pictures = Pictures()
    remember(choice_of(pictures), pictures.open("train", None))
    pictures.error = DamagedAsset("a picture is damaged")
    with pytest.raises(DamagedAsset):
        open_or_recall(choice_of(pictures))
    pictures.error = UsageError("nothing here")
    with pytest.raises(UsageError, match="nothing here"):
        open_or_recall(choice_of(pictures, "elsewhere"))
    (kept,) = (cache / "captions").iterdir()
    for text in ("no json", {"digest": 3, "ids": ["a"], "prompts": ["x"]}, {"digest": "f", "ids": [], "prompts": []}):
        kept.write_text(json.dumps(text))
        with pytest.raises(UsageError, match="nothing here"):
            open_or_recall(choice_of(pictures))


def test_a_digest_is_made_once_for_a_listing(tmp_path, cache):
    file = tmp_path / "a.jpg"
    file.write_bytes(b"one")
    made = []

    def digest():
        return remembered_digest(listing_digest([("a", file)]), lambda: made.append(1) or f"{len(made):064x}")

    assert digest() == digest() == f"{1:064x}" and len(made) == 1
    os.utime(file, (7, 7))
    assert digest() == f"{2:064x}", "another time"
    file.write_bytes(b"other")
    os.utime(file, (7, 7))
    assert digest() == f"{3:064x}", "another size"
    for path in (cache / "digests").iterdir():
        path.write_text("x")
    assert digest() == f"{4:064x}", "what is kept is no digest"


def test_verify_reads_the_data_of_a_student_again(tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"preset": "p", "dataset_digest": "f" * 64}))
    pictures = Pictures()
    dataset = Dataset("mine", "", lambda split: pictures.open(split, None))
    preset = SimpleNamespace(name="p", dataset="mine", data={}, data_folder=tmp_path)
    found = {"preset": SimpleNamespace(noun=preset), "dataset": SimpleNamespace(noun=dataset)}
    plugins = SimpleNamespace(find=lambda kind, name: found[kind], nouns={"dataset": {"mine": found["dataset"]}})
    assert verify_training(plugins, folder, None, None) == ["training data 'mine', 100 items: every picture read again"]
    (folder / "training.json").write_text(json.dumps({"preset": "p", "dataset_digest": "e" * 64}))
    with pytest.raises(IntegrityError, match="are others now: dataset 'mine' has the digest ffffffffffff, the training noted eeeeeeeeeeee"):
        verify_training(plugins, folder, None, None)


def test_encoding_tells_the_time_that_is_left(monkeypatch, capsys):
    now = iter(range(0, 10**6, 40))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    shown = progress.Progress(False)
    for done in (64, 128, 192, 6400):
        shown.train_event("encode", done, 6400)
    lines = capsys.readouterr().err.splitlines()
    assert any("128/6400  about " in line and " left" in line for line in lines) and "left" not in lines[-1]
