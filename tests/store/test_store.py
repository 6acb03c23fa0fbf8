"""Run folder: chunks are whole or absent, equal content gives equal bytes, and no name leads out of the folder."""

import errno
import json
import os

import numpy as np
import pytest

from scottbench.errors import Incomplete, IntegrityError, UsageError
from scottbench.store.files import canonical, check_name
from scottbench.store.folder import LOCK, RunFolder, spans
from scottbench.store.plan_record import PLAN_SCHEMA, plan_digest

IDS = ["a", "b", "c"]
SPAN = range(64, 67)
PLACE = ("images", "cell")
X, Y = ({"schema": PLAN_SCHEMA, "preset": name} for name in "xy")


@pytest.fixture
def folder(tmp_path):
    return RunFolder.open(tmp_path / "run", plan_digest(X), X)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


def test_images_come_back_bit_for_bit(folder, images):
    folder.put_images(PLACE, SPAN, IDS, images, {"nfe": 2})
    assert np.array_equal(folder.get_images(PLACE, SPAN, IDS), images)
    assert folder.facts(PLACE, SPAN)["nfe"] == 2
    assert (folder.root / "images/cell/00064-00066.zip").is_file()


def test_features_come_back_bit_for_bit_and_load_without_pickle(folder):
    features = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    folder.put_features(("features", "cell", "image"), SPAN, IDS, features)
    back = folder.get_features(("features", "cell", "image"), SPAN, IDS)
    assert back.dtype == np.float32 and np.array_equal(back, features)
    assert np.array_equal(np.load(folder.root / "features/cell/image/00064-00066.npy", allow_pickle=False), features)


def test_equal_images_give_equal_bytes_at_any_time_and_place(folder, images, tmp_path, monkeypatch):
    folder.put_images(PLACE, SPAN, IDS, images)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    other = RunFolder.open(tmp_path / "other", plan_digest({}), {})
    other.put_images(PLACE, SPAN, IDS, images)
    name = "images/cell/00064-00066.zip"
    assert (folder.root / name).read_bytes() == (other.root / name).read_bytes()


def test_a_chunk_without_side_car_does_not_exist(folder, images):
    folder.put_images(PLACE, SPAN, IDS, images)
    (folder.root / "images/cell/00064-00066.json").unlink()
    assert folder.get_images(PLACE, SPAN, IDS) is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_chunk_does_not_exist(folder, images, damage):
    folder.put_images(PLACE, SPAN, IDS, images)
    path = folder.root / "images/cell/00064-00066.zip"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    assert folder.get_images(PLACE, SPAN, IDS) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ids": ["a", "b", "c"]}', '{"sha256": 1, "ids": ["a", "b", "c"]}'])
def test_a_torn_side_car_does_not_vouch_for_a_chunk(folder, images, text):
    folder.put_images(PLACE, SPAN, IDS, images)
    (folder.root / "images/cell/00064-00066.json").write_text(text)
    assert folder.get_images(PLACE, SPAN, IDS) is None


def test_a_chunk_of_other_items_is_not_taken_for_this_one(folder, images):
    folder.put_images(PLACE, SPAN, IDS, images)
    assert folder.get_images(PLACE, SPAN, ["a", "b", "d"]) is None


def test_an_old_side_car_never_describes_new_bytes(folder, images, monkeypatch):
    """A run killed between the chunk and its side-car leaves a chunk that does not exist."""
    folder.put_images(PLACE, SPAN, IDS, images)
    monkeypatch.setattr(RunFolder, "put_json", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        folder.put_images(PLACE, SPAN, IDS, images)
    assert folder.get_images(PLACE, SPAN, IDS) is None


def test_a_reader_never_sees_half_a_file(folder, monkeypatch):
    folder.put("manifest.json", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Incomplete, match="same line"):
        folder.put("manifest.json", b"new")
    assert (folder.root / "manifest.json").read_bytes() == b"old"
    assert sorted(path.name for path in folder.root.iterdir()) == ["manifest.json", LOCK]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_an_unwritable_folder_is_a_usage_error(folder, monkeypatch, number):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(UsageError, match="--out"):
        folder.put("manifest.json", b"x")


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", "..", ".", "", ".hidden", "a\\b", "a\0b", "a\nb", "x" * 200, "C:x"])
def test_no_name_leads_out_of_the_folder(folder, images, name):
    with pytest.raises(UsageError):
        check_name(name, "item id")
    with pytest.raises(UsageError):
        folder.put_images(PLACE, SPAN, ["a", "b", name], images)
    with pytest.raises(UsageError):
        folder.put_images(("images", name), SPAN, IDS, images)


def test_the_folder_of_another_plan_is_refused_with_both_hashes(tmp_path):
    RunFolder.open(tmp_path / "run", plan_digest(X), X)
    before = (tmp_path / "run" / LOCK).read_bytes()
    with pytest.raises(UsageError, match=plan_digest(X)[:12] + ".*" + plan_digest(Y)[:12]):
        RunFolder.open(tmp_path / "run", plan_digest(Y), Y)
    assert (tmp_path / "run" / LOCK).read_bytes() == before
    assert RunFolder.open(tmp_path / "run", plan_digest(X), X).root == tmp_path / "run"


def test_a_file_or_a_folder_of_something_else_is_no_run_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder.open(tmp_path / "file", "a" * 64, {})
    with pytest.raises(UsageError, match="cannot be a run folder"):
        RunFolder.open(tmp_path / "file" / "below", "a" * 64, {})
    with pytest.raises(UsageError, match="not empty"):
        RunFolder.open(tmp_path, "a" * 64, {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_torn_lock_is_refused(tmp_path):
    RunFolder.open(tmp_path / "run", plan_digest(X), X)
    (tmp_path / "run" / LOCK).write_text('{"plan_hash"')
    with pytest.raises(IntegrityError, match="damaged"):
        RunFolder.open(tmp_path / "run", plan_digest(X), X)


def test_spans_cover_every_item_once():
    for n in (1, 63, 64, 65, 5000):
        found = spans(n, 64)
        assert [item for span in found for item in span] == list(range(n))
        assert all(span.start % 64 == 0 for span in found)


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical({"b": 1, "a": [1.5, None]}) == canonical({"a": [1.5, None], "b": 1}) == b'{"a":[1.5,null],"b":1}'
    with pytest.raises(ValueError):
        canonical({"a": float("nan")})


def test_side_cars_are_plain_json(folder, images):
    folder.put_images(PLACE, SPAN, IDS, images)
    record = json.loads((folder.root / "images/cell/00064-00066.json").read_text())
    assert record["ids"] == IDS and len(record["sha256"]) == 64
