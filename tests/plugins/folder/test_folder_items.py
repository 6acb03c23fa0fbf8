"""A folder of pictures as a dataset: found by flag, preset or name, cut into splits by lists, every fault named when it is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scottbench_folder import register_datasets
from scottbench_folder.items import open_folder
from scottbench_folder.options import FolderOptions
from tiny_plugin import PRESET, registered, tiny_plugins

from scottbench.errors import DamagedAsset, UsageError
from scottbench.plan.choices import DataAsked
from scottbench.plan.data import choose_data
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest

SIDE = 64
IDS = [f"p{k}" for k in range(6)]


def put(folder: Path, size: tuple[int, int] = (SIDE, SIDE), texts: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(IDS):
        pixels = np.random.default_rng(k).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        if texts:
            (folder / f"{name}.txt").write_text(f"a thing {k}")
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return put(tmp_path / "flowers")


def options(folder: Path, **more) -> FolderOptions:
    return FolderOptions(folder, **more)


def test_a_folder_without_lists_is_all_for_evaluation(folder):
    items = open_folder("evaluation", options(folder))
    assert items.ids == IDS and items.prompts[2] == "a thing 2" and len(items) == 6
    assert items.images([1, 3]).shape == (2, SIDE, SIDE, 3)
    with pytest.raises(UsageError, match="has no training split: list its pictures in train.txt"):
        open_folder("train", options(folder))


@pytest.mark.parametrize(
    ("lists", "evaluation", "train"),
    [
        ({"train.txt": "p1\np4.png\n"}, ["p0", "p2", "p3", "p5"], ["p1", "p4"]),
        ({"evaluation.txt": "p5\n\np0\n"}, ["p5", "p0"], ["p1", "p2", "p3", "p4"]),
        ({"evaluation.txt": "\ufeffp5\n", "train.txt": "p0\n"}, ["p5"], ["p0"]),
    ],
)
def test_lists_make_splits(folder, lists, evaluation, train):
    for name, text in lists.items():
        (folder / name).write_text(text)
    assert open_folder("evaluation", options(folder)).ids == evaluation
    assert open_folder("train", options(folder)).ids == train


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"evaluation.txt": "p5\np9\n"}, "evaluation.txt: 1 of its 2 pictures are not there, or have no caption: p9"),
        ({"evaluation.txt": "p5\np5.png\n"}, "names a picture twice"),
        ({"evaluation.txt": "p5\n", "train.txt": "p5\np1"}, "'p5' is in the list of the other split too"),
        ({"train.txt": "\n".join(IDS)}, "the evaluation split is empty"),
    ],
)
def test_a_wrong_list_is_one_line(folder, lists, words):
    for name, text in lists.items():
        (folder / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        open_folder("evaluation", options(folder))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_digest_covers_ids_captions_pixels_order_and_size(folder, tmp_path):
    base = open_folder("evaluation", options(folder)).digest
    assert open_folder("evaluation", options(put(tmp_path / "elsewhere"))).digest == base
    assert open_folder("evaluation", options(folder, side=32)).digest != base
    (folder / "evaluation.txt").write_text("\n".join(reversed(IDS)))
    assert open_folder("evaluation", options(folder)).digest != base
    (folder / "evaluation.txt").unlink()
    (folder / "p3.txt").write_text("another")
    assert open_folder("evaluation", options(folder)).digest != base
    (folder / "p3.txt").write_text("a thing 3")
    assert open_folder("evaluation", options(folder)).digest == base
    Image.new("RGB", (SIDE, SIDE)).save(folder / "p3.png")
    assert open_folder("evaluation", options(folder)).digest != base


def test_sizes_that_differ_are_named_and_brought_to_a_square_where_that_is_asked_for(folder):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the centred square
    Image.fromarray(wide).save(folder / "p1.png")
    with pytest.raises(UsageError, match=r"2 sizes: 64 x 64 \(5\), 30 x 10 \(1\). Say to which square they are brought: .*@side=512"):
        open_folder("evaluation", options(folder))
    images = open_folder("evaluation", options(folder, side=16)).images([0, 1])
    assert images.shape == (2, 16, 16, 3) and (images[1] == 200).all()
    with pytest.raises(ValueError, match="side must be 8 to 2048"):
        options(folder, side=4)


def test_a_broken_picture_or_no_captions_are_named(folder, tmp_path):
    with pytest.raises(UsageError, match="has no captions: give captions.csv"):
        open_folder("evaluation", options(put(tmp_path / "bare", texts=False)))
    (folder / "p2.png").write_bytes(b"x")
    with pytest.raises(DamagedAsset, match="p2.png cannot be decoded"):
        open_folder("evaluation", options(folder))
    with pytest.raises(UsageError, match="no split 'test'. Splits: evaluation, train"):
        open_folder("test", options(folder))


# --- named on the command line, or in a preset ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plugins(files):
    found = tiny_plugins(files)
    found.nouns["dataset"]["folder"] = registered("dataset", register_datasets()[0])
    return found


def chosen(plugins, dataset, prompts=None):
    return choose_data(plugins, plugins.nouns["preset"]["tiny"].noun, DataAsked(dataset, prompts))


def test_a_dataset_is_named_by_name_by_folder_and_with_options(plugins, folder):
    assert (chosen(plugins, None).name, chosen(plugins, None).own) == ("dots", True)
    found = chosen(plugins, str(folder))
    assert (found.name, found.options, found.own) == ("flowers", FolderOptions(folder), False)
    assert chosen(plugins, f"{folder}@side=32").options == FolderOptions(folder, side=32)
    assert chosen(plugins, f"folder@path={folder}").options == FolderOptions(folder)
    assert chosen(plugins, str(folder), "c.csv").options == FolderOptions(folder, Path("c.csv"))


@pytest.mark.parametrize(
    ("dataset", "prompts", "words"),
    [
        ("dot", None, "unknown dataset 'dot'. Did you mean 'dots'?"),
        ("./nowhere", None, "no folder ./nowhere"),
        ("folder", None, "is of a folder that you name"),
        ("dots", "c.csv", "dataset 'dots' has its own prompts"),
        ("dots@side=3", None, "dataset 'dots' has no option 'side'"),
        (".@sidee=3", None, "dataset 'folder' has no option 'sidee'. Did you mean 'side'?"),
        (".@side=3", None, "side must be 8 to 2048 pixels"),
    ],
)
def test_data_that_cannot_be_meant_are_one_line(plugins, dataset, prompts, words):
    with pytest.raises(UsageError) as caught:
        chosen(plugins, dataset, prompts)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_on_a_folder_is_the_same_by_flag_and_by_preset(files, plugins, folder):
    by_flag = make_plan(plugins, RunRequest("tiny", methods=["ode"], dataset=str(folder), device="cpu"))
    text = PRESET.replace('dataset = "dots"\n', "") + f'[dataset]\nkind = "folder"\npath = "{folder}"\n'
    other = tiny_plugins(files, preset=text)
    with pytest.raises(UsageError, match="unknown dataset 'folder'"):
        make_plan(other, RunRequest("tiny", methods=["ode"], device="cpu"))
    other.nouns["dataset"]["folder"] = plugins.nouns["dataset"]["folder"]
    by_preset = make_plan(other, RunRequest("tiny", methods=["ode"], device="cpu"))
    assert by_flag.hash == by_preset.hash and by_flag.record["dataset"] == {
        "name": "flowers", "split": "evaluation", "digest": open_folder("evaluation", options(folder)).digest, "n": 6}  # fmt: skip
    assert (by_flag.own_data, by_preset.own_data) == (False, True)
    assert any("scottbench_folder/items.py" in name for name in by_flag.record["code"]["images"])


def test_a_preset_that_names_an_option_wrongly_says_so_when_it_is_used(files, plugins, folder):
    text = PRESET.replace('dataset = "dots"\n', "") + f'[dataset]\nkind = "folder"\npath = "{folder}"\nsides = 3\n'
    other = tiny_plugins(files, preset=text)
    other.nouns["dataset"]["folder"] = plugins.nouns["dataset"]["folder"]
    with pytest.raises(UsageError, match="has no option 'sides'. Did you mean 'side'"):
        make_plan(other, RunRequest("tiny", methods=["ode"], device="cpu"))
