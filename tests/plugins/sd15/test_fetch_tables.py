"""The tables that `scottbench fetch` goes by say what the errors about missing files say: one place for each size, digest and address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import scottbench_sd15.coco as coco
from scottbench_extractors import dinov2, inception
from scottbench_metrics import clip_iqa, lpips
from scottbench_scorers import aesthetic, hpsv2, image_reward, pick_score

from scottbench.plan.needs import known_assets, needs_of
from scottbench.registry.loader import load_plugins
from scottbench.store.fetch.places import Places, address_of


@pytest.fixture(scope="module")
def plugins():
    return load_plugins()


@pytest.fixture(scope="module")
def known(plugins):
    return known_assets(plugins)


def test_run_and_training_of_the_papers_setting_need_these(plugins):
    run, train = (needs_of(plugins, ["sd15-coco2017-5k"], purpose) for purpose in ("run", "train"))
    names = ["sd15", "coco2017-captions", "coco2017-val", "inception-2015", "open-clip-vit-g-14"]
    assert [asset.name for asset in run.assets] == names
    assert [asset.name for asset in train.assets] == [*names[:3], "coco2017-train", *names[3:]]
    assert sum(len(asset.files) for asset in run.assets) == 16
    assert any("students cd, scott" in note for note in run.notes)


def test_the_archives_of_coco_are_those_of_the_error(known):
    for name in ("coco2017-captions", "coco2017-val", "coco2017-train"):
        (file,) = known[name].files
        count, size = coco.ARCHIVES[file.name.removesuffix(".zip")]
        assert (file.count, file.bytes) == (count, size)
        place = file.url.split("/")[3]
        assert file.url in coco.archive_hint(Path("/x"), place, file.name.removesuffix(".zip"))
        assert known[name].variable == coco.VARIABLE and known[name].to == "coco2017"


def test_what_a_preset_pins_of_its_clip_is_what_is_fetched(plugins):
    preset = plugins.find("preset", "sd15-coco2017-5k").noun
    spec = preset.extractors["clip"]
    asset = next(asset for asset in needs_of(plugins, ["sd15-coco2017-5k"], "run").assets if asset.name == "open-clip-vit-g-14")
    assert (asset.files[0].name, asset.revision, asset.files[0].sha256) == (spec["file"], spec["revision"], spec["sha256"])


@pytest.mark.parametrize("name, line", [
    ("dinov2-large", dinov2.FETCH), ("clip-vit-large-patch14", clip_iqa.FETCH), ("image-reward", image_reward.FETCH),
    ("bert-vocabulary", image_reward.WORDS_FETCH), ("pick-score", pick_score.FETCH), ("hpsv2", hpsv2.FETCH),
    ("aesthetic-head", aesthetic.HEAD_FETCH), ("clip-l14-openai", aesthetic.CLIP_FETCH),
])  # fmt: skip
def test_the_line_of_the_error_names_the_same_files(known, name, line):
    asset = known[name]
    download, _, then = line.partition(", then: ")
    if asset.hub:
        match = re.fullmatch(r"hf download (\S+) (.+) --local-dir \{folder\}", download)
        assert match is not None and (match[1], match[2].split()) == (asset.hub, [file.name for file in asset.files])
    else:
        assert download.endswith(address_of(asset, asset.files[0], {})) and f"{{folder}}/{asset.files[0].name}" in download
    assert then == asset.then


def test_inception_and_alexnet_are_those_of_the_errors(known, tmp_path, monkeypatch):
    asset = known["inception-2015"]
    assert (asset.files[0].bytes, asset.files[0].sha256) == (inception.INCEPTION.bytes, inception.INCEPTION.sha256)
    assert inception.INCEPTION.fetch.endswith(asset.files[0].url)
    asset = known["alexnet"]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    import torch

    places = Places()
    assert places.target(asset, asset.files[0]) == Path(torch.hub.get_dir()) / "checkpoints" / lpips.ALEXNET
    assert lpips.ALEXNET.endswith(f"-{asset.files[0].sha256}.pth")


def test_folders_are_those_in_which_the_extractors_look(known):
    folders = {"dinov2-large": dinov2.FOLDER, "clip-vit-large-patch14": clip_iqa.FOLDER, "image-reward": image_reward.FOLDER,
               "bert-vocabulary": image_reward.FOLDER, "pick-score": pick_score.FOLDER, "hpsv2": hpsv2.FOLDER,
               "aesthetic-head": aesthetic.FOLDER, "clip-l14-openai": aesthetic.FOLDER}  # fmt: skip
    assert {name: known[name].to for name in folders} == folders
    made = {"image-reward": image_reward.FILE, "hpsv2": hpsv2.FILE, "aesthetic-head": aesthetic.HEAD}
    assert {name: known[name].files[0].made for name in made} == made


def test_names_of_extractors_and_metrics_lead_to_their_files(plugins, known):
    def names(word):
        return [asset.name for asset in needs_of(plugins, [word], "run").assets]

    assert (
        names("dinov2") == ["dinov2-large"]
        and names("lpips") == ["alexnet"]
        and names("image_reward") == ["image-reward", "bert-vocabulary"]
    )
    assert names("clip_l14_336") == ["clip-l14-336"] and names("coco2017-5k") == ["coco2017-captions", "coco2017-val"]
    assert names("pocket") == []


def test_a_folder_of_the_users_own_is_not_fetched_over(known, monkeypatch, tmp_path):
    monkeypatch.setenv("SCOTTBENCH_SD15", str(tmp_path))
    monkeypatch.setenv("SCOTTBENCH_COCO2017", str(tmp_path / "coco"))
    assert Places().instead(known["sd15"]) and not Places(tmp_path).instead(known["sd15"])
    assert Places().folder(known["coco2017-val"]) == tmp_path / "coco"
    assert Places(tmp_path / "d").folder(known["coco2017-val"]) == tmp_path / "d" / "coco2017"
