"""COCO's captions: which caption, which square, which order; and what is said where something is missing or broken."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scottbench_sd15.coco import CocoFolder, choose, open_coco2017
from sd15_files import CHOSEN, MODES, SIZES, coco_folder

from scottbench.errors import DamagedAsset, MissingAsset, UsageError

CAPTIONS = "annotations/captions_val2017.json"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_COCO2017", str(tmp_path / "my coco"))
    return coco_folder(tmp_path / "my coco")


def rewrite(root, change):
    document = json.loads((root / CAPTIONS).read_text())
    change(document)
    (root / CAPTIONS).write_text(json.dumps(document))


def test_each_captioned_image_has_the_caption_of_the_lowest_annotation_id_in_the_order_of_image_ids(root):
    items = open_coco2017()
    assert dict(zip(items.ids, [(row.annotation, row.caption) for row in items.rows], strict=True)) == CHOSEN
    assert items.ids == sorted(CHOSEN) and items.prompts == [CHOSEN[item][1] for item in items.ids]
    assert items.uncaptioned == 2 and len(items) == 6


def test_the_order_of_the_file_does_not_matter(root):
    before = open_coco2017()
    rewrite(root, lambda document: (document["images"].reverse(), document["annotations"].sort(key=lambda one: -one["id"])))
    after = open_coco2017()
    assert (after.rows, after.digest) == (before.rows, before.digest)


def test_other_data_in_the_place_of_val2017_is_cut_to_the_first_5000(tmp_path):
    items = CocoFolder(coco_folder(tmp_path) / CAPTIONS, tmp_path / "val2017", "data", most=4)
    assert items.ids == sorted(CHOSEN)[:4]
    images = [{"id": number, "file_name": "x.jpg"} for number in range(9)]
    assert len(choose(images, [{"id": 1, "image_id": 3, "caption": "one"}])[0]) == 1


def test_images_are_the_centred_square_in_rgb(root):
    items = open_coco2017()
    images = items.images(range(6))
    assert images.shape == (6, 512, 512, 3) and images.dtype == np.uint8
    for item, image in zip(items.ids, images, strict=True):
        picture = Image.open(root / "val2017" / f"{item}.jpg")
        assert picture.size == SIZES[int(item)] and picture.mode == MODES.get(int(item), "RGB")
        pixels, short = np.asarray(picture.convert("RGB")), min(picture.size)
        top, left = (int((side - short) / 2) for side in pixels.shape[:2])
        wanted = Image.fromarray(pixels[top : top + short, left : left + short].copy()).resize((512, 512), Image.Resampling.LANCZOS)
        assert np.array_equal(image, np.asarray(wanted)), item


def test_a_wide_picture_is_cropped_and_not_squeezed(tmp_path):
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255
    coco_folder(tmp_path)
    Image.fromarray(wide).save(tmp_path / "val2017" / "000000000042.jpg", quality=100)
    items = CocoFolder(tmp_path / CAPTIONS, tmp_path / "val2017", "data", side=50)
    assert items.images([0])[0, :, 3:-3].min() > 240


def test_a_gray_picture_has_three_equal_channels_and_cmyk_keeps_its_colours(root):
    gray, cmyk = open_coco2017().images([2, 3])
    assert np.array_equal(gray[..., 0], gray[..., 1]) and np.array_equal(gray[..., 0], gray[..., 2])
    from sd15_files import picture

    wanted = np.asarray(picture(632, SIZES[632]).crop((200, 0, 500, 300)).resize((512, 512), Image.Resampling.LANCZOS))
    assert np.abs(cmyk.astype(int) - wanted).mean() < 6  # JPEG's loss; inverted or swapped channels are off by far more


def test_pictures_with_transparency_16_bits_or_one_pixel_are_read(tmp_path):
    coco_folder(tmp_path)
    place = tmp_path / "val2017" / "000000000042.jpg"  # decoders look at the bytes, not at the name
    items = CocoFolder(tmp_path / CAPTIONS, tmp_path / "val2017", "data", side=16)
    for picture, wanted in (
        (Image.new("RGBA", (30, 20), (0, 0, 0, 0)), 255),
        (Image.fromarray(np.full((20, 30), 128 * 257, np.uint16)), 128),
        (Image.new("RGB", (1, 1), (9, 9, 9)), 9),
    ):
        picture.save(place, "PNG")
        assert (items.images([0]) == wanted).all()


def test_images_do_not_depend_on_the_company_they_are_asked_for_in(root):
    items = open_coco2017()
    assert np.array_equal(items.images([3, 0])[1], items.images(range(6))[0])


def test_the_digest_sees_a_changed_picture_of_equal_size_and_a_changed_caption(root):
    before = open_coco2017().digest
    path = root / "val2017" / "000000000042.jpg"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    changed = open_coco2017().digest
    rewrite(root, lambda document: document["annotations"][3].update(caption="a small cat"))
    assert len({before, changed, open_coco2017().digest}) == 3


def test_the_training_split_is_train2017_in_the_same_form(root):
    coco_folder(root, "train2017")
    assert open_coco2017("train").ids == sorted(CHOSEN)
    with pytest.raises(UsageError, match="no split 'test'. Splits: evaluation, train"):
        open_coco2017("test")


def test_training_pictures_are_read_once_and_pictures_to_evaluate_on_each_time(root, tmp_path, monkeypatch):
    """A file that changes in size or time is noticed; one that keeps both is by the whole digest, which `verify` makes."""
    from scottbench_sd15 import coco

    coco_folder(root, "train2017")
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))
    read, digest_of = [], coco.file_digest
    monkeypatch.setattr(coco, "file_digest", lambda path: read.append(path) or digest_of(path))
    first = coco.open_coco2017("train")
    n, digest = len(first), first.digest
    assert len(read) == n and coco.open_coco2017("train").digest == digest == coco.open_coco2017("train").full_digest()
    assert len(read) == 2 * n
    path = first.folder / first.rows[0].file_name
    path.write_bytes(path.read_bytes() + b"\0")
    assert coco.open_coco2017("train").digest != digest and len(read) == 3 * n
    read.clear()
    assert coco.open_coco2017().digest == coco.open_coco2017().digest and len(read) == 2 * len(coco.open_coco2017())


def test_missing_data_is_named_with_size_and_the_lines_that_fetch_it(root):
    shutil.rmtree(root)
    with pytest.raises(MissingAsset) as caught:
        open_coco2017()
    lines = str(caught.value).splitlines()
    assert lines[1].startswith(f"  missing {root}/annotations/captions_val2017.json (in a zip of 252.9 MB)  fetch: mkdir -p '{root}'")
    assert lines[1].endswith("annotations_trainval2017.zip && unzip -q annotations_trainval2017.zip annotations/captions_val2017.json")
    assert lines[2].startswith(f"  missing {root}/val2017/ (5,000 pictures, a zip of 815.6 MB)  fetch: ")
    assert lines[2].endswith("curl -LO http://images.cocodataset.org/zips/val2017.zip && unzip -q val2017.zip")
    assert len(lines) == 3 and not isinstance(caught.value, DamagedAsset)


def test_missing_pictures_are_counted_and_the_first_are_named(root):
    for image in (42, 139, 285, 724):
        (root / "val2017" / f"{image:012d}.jpg").unlink()
    named = r"000000000042.jpg, 000000000139.jpg, 000000000285.jpg, \.\.\. \(5,000 pictures, a zip"
    with pytest.raises(MissingAsset, match=f"missing 4 of 6 pictures in .*: {named}"):
        open_coco2017()


def test_a_truncated_file_of_captions_is_damaged(root):
    path = root / CAPTIONS
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedAsset, match="captions_val2017.json is not a whole file of COCO captions"):
        open_coco2017()


BROKEN = {
    "no annotations": lambda document: document.pop("annotations"),
    "annotations of another task": lambda document: document["annotations"][0].pop("caption"),
    "an id that is a list": lambda document: document["images"][0].update(id=[776]),
    "an id that is blank": lambda document: document["images"][0].update(id=" "),
    "an annotation without an id": lambda document: document["annotations"][0].pop("id"),
    "an image listed twice": lambda document: document["images"].append(document["images"][0]),
    "a file name that leads out": lambda document: document["images"][0].update(file_name="../../secret.jpg"),
    "an absolute file name": lambda document: document["images"][0].update(file_name="/etc/secret.jpg"),
    "no captions at all": lambda document: document["annotations"].clear(),
    "a caption that is no text": lambda document: document["annotations"][0].update(caption=None),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_file_of_captions_in_another_form_is_damaged(root, change):
    rewrite(root, change)
    with pytest.raises(DamagedAsset, match="captions_val2017.json is not a whole file") as caught:
        open_coco2017()
    assert "elete" not in str(caught.value), "the user's own file cannot be fetched again"


def test_data_of_others_may_have_ids_that_are_text_and_a_byte_order_mark(root):
    """cocodataset/cocoapi#373, cvat-ai/cvat#298: exporters write ids as text; tools of Windows begin with a byte order mark."""
    before = open_coco2017()

    def as_text(document):
        for image in document["images"]:
            image["id"] = f"x{image['id']}" if image["id"] % 2 else str(image["id"])
        for annotation in document["annotations"]:
            image, annotation["id"] = annotation["image_id"], str(annotation["id"])
            annotation["image_id"] = f"x{image}" if image % 2 else image  # a number where the other list has text

    rewrite(root, as_text)
    path = root / CAPTIONS
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = open_coco2017()
    named = {f"x{row.image}" if row.image % 2 else str(row.image): row.caption for row in before.rows}
    assert dict(zip(after.ids, after.prompts)) == named, "the caption with the lowest id, by number"
    assert after.ids == [one for one in named if one[0] != "x"] + sorted(one for one in named if one[0] == "x")


def test_a_truncated_picture_is_damaged_and_named(root):
    path = root / "val2017" / "000000000724.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DamagedAsset, match="000000000724.jpg cannot be decoded"):
        open_coco2017().images(range(6))
