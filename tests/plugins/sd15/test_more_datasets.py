"""COCO 2014's 30,000 prompts and its pictures, MJHQ, PartiPrompts, DrawBench: small files of the true forms, and broken ones."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
import scottbench_sd15
import scottbench_sd15.coco2014 as coco2014
import scottbench_sd15.mjhq as mjhq
from PIL import Image
from scottbench_sd15.options import ListOptions, ReferenceOptions
from scottbench_sd15.texts import open_drawbench, open_parti

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.plan.needs import needs_of
from scottbench.registry.loader import load_plugins


def jpeg(shade: int, size=(40, 24)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def one_line(error) -> str:
    text = str(error.value)
    assert text.count("\n") <= (1 if "cannot be used" in text else 0), text
    return text


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """val2014 with 8 pictures of 5 captions each, one blank."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2014").mkdir()
    images = [{"id": 10 + k, "file_name": f"COCO_val2014_{10 + k:012d}.jpg"} for k in range(8)]
    annotations = [{"id": 100 + 7 * j % 40, "image_id": 10 + j // 5, "caption": f"a thing\n number {j} "} for j in range(40)]
    annotations[3]["caption"] = " "
    for k, image in enumerate(images):
        (root / "val2014" / image["file_name"]).write_bytes(jpeg(20 * k))
    (root / coco2014.CAPTIONS).write_text(json.dumps({"images": images, "annotations": annotations}))
    monkeypatch.setenv(coco2014.VARIABLE, str(root))
    monkeypatch.setattr(coco2014, "PROMPTS", 20)
    return root, {f"{one['id']:012d}": " ".join(one["caption"].split()) for one in annotations}


def test_prompts_of_coco2014_are_drawn_from_all_captions_by_the_written_rule(coco):
    _, captions = coco
    items = coco2014.open_coco2014_30k("evaluation", ListOptions())
    order = sorted((one for one in captions if captions[one]),
                   key=lambda one: hashlib.sha256(f"coco2014-30k/0/{int(one)}".encode()).hexdigest())  # fmt: skip
    assert items.ids == order[:20] and items.prompts == [captions[one] for one in order[:20]]
    other = coco2014.open_coco2014_30k("evaluation", ListOptions(seed=1))
    assert set(other.ids) != set(items.ids) and other.digest != items.digest
    assert coco2014.draw(list(range(10)), 0, 4) == coco2014.draw(list(range(9, -1, -1)), 0, 4)


def test_the_reference_is_all_pictures_of_val2014(coco):
    items = coco2014.open_coco2014_val("evaluation", ReferenceOptions(side=16))
    assert len(items) == 8 and items.images([0, 7]).shape == (2, 16, 16, 3) and items.ids[0] == "000000000010"
    with pytest.raises(UsageError, match="has no split 'train'"):
        coco2014.open_coco2014_val("train", ReferenceOptions())
    with pytest.raises(UsageError, match="side must be 8 to 4096"):
        coco2014.open_coco2014_val("evaluation", ReferenceOptions(side=0))


def test_a_list_of_ones_own_takes_the_place_of_the_rule(coco, tmp_path):
    (tmp_path / "mine.txt").write_text("a cat\n\n a  dog \n", encoding="utf-8")
    items = coco2014.open_coco2014_30k("evaluation", ListOptions(tmp_path / "mine.txt"))
    assert (items.ids, items.prompts) == (["00000", "00002"], ["a cat", "a dog"])
    (tmp_path / "mine.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedAsset, match="no UTF-8 text") as error:
        coco2014.open_coco2014_30k("evaluation", ListOptions(tmp_path / "mine.txt"))
    one_line(error)


def test_captions_that_are_missing_or_broken_are_one_line(coco):
    root, _ = coco
    document = json.loads((root / coco2014.CAPTIONS).read_text())
    for broken, words in (
        ({**document, "annotations": document["annotations"][:9]}, "of which 20 are to be drawn"),
        ({"images": []}, "no key 'annotations'"),
        ({"annotations": [{"id": 1, "caption": 7}]}, "has no text"),
        ({"annotations": [{"id": 1}]}, "has no 'caption'"),
    ):
        (root / coco2014.CAPTIONS).write_text(json.dumps(broken))
        with pytest.raises(DamagedAsset, match=words) as error:
            coco2014.open_coco2014_30k("evaluation", ListOptions())
        one_line(error)
    (root / coco2014.CAPTIONS).unlink()
    with pytest.raises(MissingAsset, match="fetch: scottbench fetch coco2014-captions") as error:
        coco2014.open_coco2014_30k("evaluation", ListOptions())
    one_line(error)


# --- MJHQ ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """A list of 3 items of each category, and their pictures in the zip."""
    listed = {hashlib.md5(f"{category}{k}".encode()).hexdigest(): {"category": category, "prompt": f"{category},  style {k}"}
              for category in mjhq.CATEGORIES for k in range(3)}  # fmt: skip
    (tmp_path / mjhq.LISTED).write_text(json.dumps(listed))
    with zipfile.ZipFile(tmp_path / f"{mjhq.PICTURES}.zip", "w") as archive:
        for shade, (item, entry) in enumerate(listed.items()):
            archive.writestr(f"{entry['category']}/{item}.jpg", jpeg(8 * shade))
            archive.writestr(f"__MACOSX/{entry['category']}/{item}.jpg", b"nothing")
    monkeypatch.setenv(mjhq.VARIABLE, str(tmp_path))
    monkeypatch.setattr(mjhq, "EACH", {"mjhq-5k": 2, "mjhq-30k": 3})
    monkeypatch.setattr(mjhq, "SIDE", 16)
    return tmp_path, listed


def test_mjhq_has_as_many_of_each_category_and_is_read_out_of_the_zip_or_a_folder_alike(gallery):
    root, listed = gallery
    small, whole = mjhq.open_mjhq_5k(), mjhq.open_mjhq_30k()
    assert sorted(small.metadata["category"]) == sorted([*mjhq.CATEGORIES] * 2) and len(whole) == 30
    assert all(small.prompts[k] == " ".join(listed[item]["prompt"].split()) for k, item in enumerate(small.ids))
    assert [item for item in whole.ids if item in small.ids] == small.ids  # one order
    shade = 8 * list(listed).index(small.ids[5])
    assert abs(int(small.images([5])[0, 8, 8, 0]) - shade) < 4 and small.images([0, 1]).shape == (2, 16, 16, 3)
    with zipfile.ZipFile(root / f"{mjhq.PICTURES}.zip") as archive:
        archive.extractall(root / mjhq.PICTURES)
    (root / f"{mjhq.PICTURES}.zip").unlink()
    assert mjhq.open_mjhq_5k().digest == small.digest != whole.digest


def test_broken_lists_and_pictures_of_mjhq_are_one_line(gallery):
    root, listed = gallery
    items = mjhq.open_mjhq_5k()
    with zipfile.ZipFile(root / f"{mjhq.PICTURES}.zip", "w") as archive:
        archive.writestr(f"{items.metadata['category'][0]}/{items.ids[0]}.jpg", b"no picture")
    with pytest.raises(MissingAsset, match="missing 19 of 20 pictures") as error:
        mjhq.open_mjhq_5k()
    one_line(error)
    (root / f"{mjhq.PICTURES}.zip").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DamagedAsset, match="is no whole zip") as error:
        mjhq.open_mjhq_5k()
    one_line(error)
    first = next(iter(listed))
    for broken, words in (([], "is not MJHQ's list"), ({first: listed[first]}, "has 1 items of category"),
                          ({"../x": listed[first]}, "an id that is no"),
                          ({first: {"category": "animals"}}, "no key 'prompt'")):  # fmt: skip
        (root / mjhq.LISTED).write_text(json.dumps(broken))
        with pytest.raises(DamagedAsset, match=words) as error:
            mjhq.open_mjhq_5k()
        one_line(error)


# --- lists of prompts ------------------------------------------------------------------------------------------------


def test_parti_prompts_and_drawbench_are_read_as_they_are_published(tmp_path, monkeypatch):
    table = 'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tBio\nthe words "a" and "b\tArts\tComplex\t\n\tArts\tBasic\t\n'
    (tmp_path / "p.tsv").write_text(table, encoding="utf-8")
    monkeypatch.setenv("SCOTTBENCH_PARTI_PROMPTS", str(tmp_path / "p.tsv"))
    items = open_parti()
    assert items.prompts == ["bond", 'the words "a" and "b'] and items.ids == ["00000", "00001"]
    assert items.metadata == {"category": ["Abstract", "Arts"], "challenge": ["Basic", "Complex"]}
    with pytest.raises(UsageError, match="prompts alone"):
        items.images([0])
    (tmp_path / "d.csv").write_text('Prompts,Category\n"A red car, and ""STOP""",Colors\n', encoding="utf-8-sig")
    monkeypatch.setenv("SCOTTBENCH_DRAWBENCH", str(tmp_path / "d.csv"))
    assert open_drawbench().prompts == ['A red car, and "STOP"'] and open_drawbench().metadata == {"category": ["Colors"]}
    for text, words in (("Prompt,Category\nx,y\n", "no column 'Prompts'"), ("Prompts,Category\n", "no prompts"), ("", "no column")):
        (tmp_path / "d.csv").write_text(text)
        with pytest.raises(DamagedAsset, match=words) as error:
            open_drawbench()
        one_line(error)
    (tmp_path / "d.csv").unlink()
    with pytest.raises(MissingAsset, match="scottbench fetch drawbench") as error:
        open_drawbench()
    one_line(error)


def test_fetch_knows_what_each_needs_its_reference_with_it():
    plugins = load_plugins()

    def names(*words):
        return [asset.name for asset in needs_of(plugins, words, "run").assets]

    assert names("coco2014-30k") == ["coco2014-captions", "coco2014-val"] and names("mjhq-5k") == names("mjhq-30k") == ["mjhq"]
    assert names("parti-prompts") == ["parti-prompts"] and names("drawbench") == ["drawbench"]
    assert names("sd15-coco2014-30k")[:3] == ["sd15", "coco2014-captions", "coco2014-val"]
    assert names("sd15-coco2017-5k")[:3] == ["sd15", "coco2017-captions", "coco2017-val"]
    named = {dataset.name: dataset for dataset in scottbench_sd15.register_datasets()}
    assert named["coco2014-30k"].reference == "coco2014-val" and named["drawbench"].reference is None
    assert all(dataset.licence for dataset in named.values())
