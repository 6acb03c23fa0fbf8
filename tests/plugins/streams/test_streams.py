"""Shards of five layouts as items: captions, pictures, filters, indices that are made once, and shards that are not what they should be."""

import json
import os

import numpy as np
import polars as pl
import pytest
from made_shards import arrows, jpeg, numbers, parquets, sample, table, tar, tars, zips
from scottbench_streams import items as module
from scottbench_streams.items import open_stream
from scottbench_streams.options import StreamOptions
from scottbench_streams.shards import Held

from scottbench.errors import DamagedAsset, ScottbenchError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(folder, **options):
    return open_stream("train", StreamOptions(path=folder, side=16, **options))


@pytest.mark.parametrize("make, n", [(tars, 20), (parquets, 145), (arrows, 16), (zips, 6)])
def test_a_layout_gives_its_captions_and_pictures_in_order_and_at_random(tmp_path, make, n):
    found = opened(make(tmp_path / "data"))
    assert len(found) == n == len(set(found.ids)) and not found.remarks
    assert list(found.prompts) == [f"caption {number}" for number in range(n)]
    assert numbers(found.images(range(n))) == list(range(n))
    chosen = np.random.default_rng(0).permutation(n).tolist()
    assert numbers(found.readable(chosen)) == chosen and found.images([0]).shape == (1, 16, 16, 3)
    assert sum(found.shards) == n


def test_columns_and_fields_may_be_named(tmp_path):
    (tmp_path / "data").mkdir()
    table(range(5), struct=False).rename({"jpg": "raw", "text": "words"}).write_parquet(tmp_path / "data" / "a.parquet")
    found = opened(tmp_path / "data", image="raw", caption="words")
    assert found.prompts[3] == "caption 3" and numbers(found.images([4])) == [4]
    folder = tmp_path / "tar"
    tar(folder / "a.tar", {"x": {".png": jpeg(9, form="PNG"), ".txt": b"no", ".json": json.dumps({"long": "a  long\none"}).encode()}})
    assert opened(folder, caption="long").prompts[:] == ["a long one"] and opened(folder).prompts[0] == "no"


def test_a_sample_may_have_its_caption_in_its_json_alone_and_its_key_in_a_folder(tmp_path):
    parts = {".jpg": jpeg(3), ".json": b'{"TEXT": "a dog"}'}
    found = opened(tar(tmp_path / "a.tar", {"x/1": parts, "y/1": parts, "./z": parts}))
    assert found.prompts[:] == ["a dog"] * 3


@pytest.mark.parametrize("make", [tars, parquets])
def test_filters_leave_items_out_and_count_them(tmp_path, make):
    if make is tars:
        for shard, sizes in enumerate([[(40, 32), (64, 50)], [(64, 64)]]):
            tar(tmp_path / "d" / f"{shard}.tar", {
                f"{shard}{n}": {**sample(10 * shard + n, AESTHETIC_SCORE=4.0 + shard), ".jpg": jpeg(10 * shard + n, size)}
                for n, size in enumerate(sizes)})  # fmt: skip
        assert opened(tmp_path / "d", min_size=40).prompts[:] == ["caption 1", "caption 10"]
        assert "1 smaller than min_size" in opened(tmp_path / "d", min_size=40).remarks[0]
        assert opened(tmp_path / "d", min_aesthetic=4.5).prompts[:] == ["caption 10"]
    else:
        found = opened(parquets(tmp_path / "d"), min_aesthetic=10.0)
        assert found.prompts[0] == "caption 100" and len(found) == 45 and numbers(found.images([0, 44])) == [100, 144]
        assert "100 below min_aesthetic" in found.remarks[0] and len(opened(tmp_path / "d", min_size=32)) == 145


def test_samples_without_a_picture_or_a_caption_are_left_out_and_counted(tmp_path):
    good = {f"{n}": sample(n) for n in range(3)}
    bad = {"a": {".txt": b"failed"}, "b": {".jpg": jpeg(1)}, "c": {".jpg": jpeg(1), ".txt": b" \n"}}
    found = opened(tar(tmp_path / "a.tar", good | bad))
    assert len(found) == 3 and "1 without a picture, 2 without a caption" in found.remarks[0]


def test_a_broken_picture_is_none_where_others_can_be_read(tmp_path):
    samples = {f"{n}": sample(n) for n in range(4)}
    samples["1"][".jpg"] = samples["1"][".jpg"][:200]
    samples["2"][".jpg"] = b"no picture"
    found = opened(tar(tmp_path / "a.tar", samples))
    pictures = found.readable([0, 1, 2, 3])
    assert [picture is None for picture in pictures] == [False, True, True, False] and len(found.reasons) == 2
    with pytest.raises(DamagedAsset, match="item 'a-00000-000001' of .* cannot be decoded"):
        found.images([1])


def test_a_shard_is_looked_through_once(tmp_path, monkeypatch):
    """Again after its size or time changed; a copy elsewhere is the same data."""
    folder = tars(tmp_path / "data")
    first = opened(folder)
    seen = []
    index = module.Shard
    from scottbench_streams.tars import Tar

    original = Tar.index
    monkeypatch.setattr(Tar, "index", lambda self, options: seen.append(self.path.name) or original(self, options))
    assert opened(folder).digest == first.digest and seen == [] and index is module.Shard
    os.utime(folder / "00001.tar", (5, 5))
    assert opened(folder).digest == first.digest and seen == ["00001.tar"]
    (folder / "00002.tar").unlink()
    tar(folder / "00002.tar", {"1": sample(1), "2": sample(2)})
    assert opened(folder).digest != first.digest and seen == ["00001.tar", "00002.tar"]
    broken = next((tmp_path / "cache" / "shards").iterdir())
    broken.write_bytes(b"")
    assert len(opened(folder)) == 14, "an index that cannot be read is made again"


def other_schema(path):
    pl.DataFrame({"url": ["a"], "width": [3]}).write_parquet(path / "a.parquet")


def truncated(path, lost=3000):
    tars(path, (3, 4))
    data = (path / "00001.tar").read_bytes()
    (path / "00001.tar").write_bytes(data[: len(data) - 9 * 1024 - lost])


def spoiled(path):
    tars(path, (3, 4))
    data = bytearray((path / "00001.tar").read_bytes())
    at = data.index(b"000000004.jpg")
    data[at : at + 30] = b"\xff" * 30
    (path / "00001.tar").write_bytes(data)


def cut(make, suffix):
    def change(path):
        make(path)
        for file in path.glob(f"*{suffix}"):
            file.write_bytes(file.read_bytes()[:-50])

    return change


@pytest.mark.parametrize("make, kind, told", [
    (lambda path: tar(path / "a.tar", {"../../evil": {".jpg": jpeg(1)}}), UsageError, "'../../evil.jpg' leads out of the archive"),
    (lambda path: tar(path / "a.tar", {"/evil": {".jpg": jpeg(1)}}), UsageError, "leads out"),
    (truncated, DamagedAsset, "00001.tar is cut off or damaged after .* Fetch it again; the other shards need not be"),
    (spoiled, DamagedAsset, "00001.tar is (cut off or )?damaged"),
    (lambda path: (path / "a.tar").write_bytes(b"no tar" * 999), DamagedAsset, "a.tar is cut off or damaged after 0 samples"),
    (lambda path: tar(path / "a.tar", {"1": {".jpg": jpeg(1)}}), UsageError, "no item to train on .*1 without a caption.*KEY.txt"),
    (other_schema, UsageError, r"has no column of pictures' bytes; it has url \(String\), width .* Name it: image=COLUMN"),
    (lambda path: table([1]).drop("text").write_parquet(path / "a.parquet"), UsageError, "of captions.*caption=COLUMN"),
    (cut(parquets, ".parquet"), DamagedAsset, "train-00000.parquet is cut off or damaged"),
    (cut(arrows, ".arrow"), DamagedAsset, "arrow is cut off or damaged .*message"),
    (cut(zips, ".zip"), DamagedAsset, "zip is cut off or damaged"),
    (lambda path: (path / "a.txt").write_text("x"), UsageError, r"holds no shards \(.tar, .zip, .parquet, .arrow\)"),
], ids=["dots", "absolute", "cut", "spoiled", "no-tar", "captions", "schema", "no-text", "parquet", "arrow", "zip", "none"])  # fmt: skip
def test_a_bad_shard_is_one_line_that_says_what_to_do(tmp_path, make, kind, told):
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder)
    with pytest.raises(ScottbenchError, match=told) as caught:
        opened(folder)
    assert type(caught.value) is kind and "\n" not in str(caught.value)


def test_what_was_looked_through_before_a_bad_shard_stays_so(tmp_path, cache):
    truncated(tmp_path / "data")
    with pytest.raises(DamagedAsset):
        opened(tmp_path / "data")
    assert len(list((cache / "shards").iterdir())) == 1
    tars(tmp_path / "data", (3, 4))
    assert len(opened(tmp_path / "data")) == 7


def test_a_link_in_a_tar_is_refused(tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("1.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(UsageError, match=r"'1\.jpg' is no plain file"):
        opened(tmp_path / "a.tar")


@pytest.mark.parametrize("options, told", [
    ({"side": 4}, "side must be"), ({"buffer": 0}, "buffer must be"), ({"broken": 0.9}, "broken must be"), ({"workers": -1}, "workers")])
def test_options_that_cannot_be_are_refused(tmp_path, options, told):
    with pytest.raises(ValueError, match=told):
        StreamOptions(path=tmp_path, **options)


def test_another_split_and_no_folder_are_one_line(tmp_path):
    with pytest.raises(UsageError, match="training split alone"):
        open_stream("evaluation", StreamOptions(path=tmp_path))
    with pytest.raises(UsageError, match="no folder .*stream@path=FOLDER"):
        opened(tmp_path / "nowhere")


def test_what_is_held_stays_below_its_bound():
    held, made = Held(100), []
    for key in range(50):
        assert held.get(key, lambda key=key: (made.append(key) or key, 30)) == key
        assert held.size <= 100
    assert held.get(49, lambda: (None, 0)) == 49 and made == list(range(50))
    held.get(0, lambda: (made.append("again") or 0, 30))
    assert made[-1] == "again"
