"""Pictures that anybody made: every container gives the same pixels, what is broken or hostile is named, captions find their pictures."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scottbench.errors import DamagedAsset, ScottbenchError, UsageError
from scottbench.models.pictures import PIXELS, examined, match, open_pictures
from scottbench.store.captions import Caption
from scottbench.store.pictures import open_place, safe_id

N = 4
PIXELS_OF = [np.random.default_rng(k).integers(0, 256, (24, 32, 3), dtype=np.uint8) for k in range(N)]
NAMES = [f"p{k}" for k in range(N)]
CAPTIONS = [f"a thing {k}" for k in range(N)]


def png(pixels: np.ndarray, kind: str = "PNG", **words) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **words)
    return buffer.getvalue()


def folder_of(path: Path, texts: bool = False) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, pixels, text in zip(NAMES, PIXELS_OF, CAPTIONS):
        (path / f"{name}.png").write_bytes(png(pixels))
        if texts:
            (path / f"{name}.txt").write_text(text)
    return path


def tar_of(path: Path, *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, pixels, text in zip(NAMES, PIXELS_OF, CAPTIONS):
            for suffix, data in ((".webp", png(pixels, "WEBP", lossless=True)), (".txt", text.encode())):
                member = tarfile.TarInfo(name + suffix)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return path


def npz_of(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def tensors_of(path: Path) -> Path:
    from safetensors.numpy import save_file

    metadata = {"ids": json.dumps(NAMES), "captions": json.dumps(CAPTIONS)}
    save_file({"images": np.ascontiguousarray(np.stack(PIXELS_OF).transpose(0, 3, 1, 2))}, path, metadata)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda path: folder_of(path / "d", texts=True),
        lambda path: tar_of(path / "d.tar"),
        lambda path: npz_of(path / "d.npz", images=np.stack(PIXELS_OF), ids=np.array(NAMES), captions=np.array(CAPTIONS)),
        lambda path: tensors_of(path / "d.safetensors"),
    ],
    ids=["folder", "tar", "npz", "safetensors"],
)
def test_every_container_gives_the_same_pixels_ids_and_captions(tmp_path, make):
    opened = open_pictures(make(tmp_path))
    matched = match(opened.pictures, opened.captions, opened.where)
    assert list(matched.pictures.ids) == NAMES and list(matched.prompts) == CAPTIONS and not matched.remarks()
    assert np.array_equal(matched.pictures.images(range(N)), np.stack(PIXELS_OF))
    assert not opened.pictures.lossy and list(opened.pictures.sizes) == [(32, 24)]


def test_arrays_without_ids_have_their_captions_by_order(tmp_path):
    pictures = open_pictures(npz_of(tmp_path / "d.npz", arr_0=np.stack(PIXELS_OF).transpose(0, 3, 1, 2))).pictures
    matched = match(pictures, [Caption(text) for text in CAPTIONS], Path("c.txt"))
    assert list(matched.pictures.ids) == ["000000", "000001", "000002", "000003"] and list(matched.prompts) == CAPTIONS
    with pytest.raises(UsageError, match="3 captions for 4 pictures.*captions have no ids, so both must be in one order and equally many"):
        match(pictures, [Caption(text) for text in CAPTIONS[:3]], Path("c.txt"))
    named = match(pictures, [Caption(text, id=f"x {k}") for k, text in enumerate(CAPTIONS)], Path("c.csv"))
    assert named.pictures.ids[0] == safe_id("x 0") != "x 0"


def link(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: (path / "d").mkdir() or path / "d", "holds no pictures (.png, .jpg, .jpeg, .webp)"),
        (lambda path: path / "d", "no folder"),
        (lambda path: tar_of(path / "d.tar", link("a.png")), "'a.png' is no plain file. Such an archive is not opened"),
        (lambda path: tar_of(path / "d.tar", tarfile.TarInfo("../a.png")), "'../a.png' leads out of the archive"),
        (lambda path: npz_of(path / "d.npz", images=np.array([object()])), "holds pickled objects, which can run code"),
        (lambda path: npz_of(path / "d.npz", images=np.zeros((2, 8, 8, 3), np.float32)), "(2, 8, 8, 3) of float32; needed: (n,H,W,3)"),
        (lambda path: npz_of(path / "d.npz", images=np.zeros((2, 8, 8, 4), np.uint8)), "has shape (2, 8, 8, 4) of uint8"),
        (lambda path: npz_of(path / "d.npz", x=np.zeros(3)), "has no array 'images'"),
        (lambda path: npz_of(path / "d.npz", images=np.stack(PIXELS_OF), ids=np.array(["a"])), "'ids' must be 4 texts, one for each"),
    ],
)
def test_a_place_that_may_not_or_cannot_be_read_is_one_line(tmp_path, make, words):
    with pytest.raises(ScottbenchError) as caught:
        open_place(make(tmp_path))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def huge() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(PIXELS_OF[1])[:900], "cannot be decoded"),
        (b"no picture", "cannot be decoded (no PNG, JPEG or WebP)"),
        (huge(), f"has 50,000 x 50,000 pixels; at most {PIXELS:,} are read"),
        (png(np.zeros((2400, 2400, 3), np.uint8), "WEBP"), "has 2,400 x 2,400 pixels"),
    ],
)
def test_a_broken_picture_is_named_and_the_others_are_kept(tmp_path, data, words):
    folder = folder_of(tmp_path / "d")
    (folder / "p1.png").write_bytes(data)
    found = open_pictures(folder).pictures
    assert list(found.ids) == ["p0", "p2", "p3"] and list(found.broken) == ["p1.png"] and words in found.broken["p1.png"]
    assert np.array_equal(found.images([1])[0], PIXELS_OF[2])
    matched = match(found, [Caption(text, id=name) for name, text in zip(NAMES, CAPTIONS)], Path("c.csv"))
    assert not matched.without_picture  # the broken one is told of already


def test_a_folder_of_nothing_but_broken_pictures_names_the_first(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DamagedAsset, match=r"none of 1 picture can be used; a.png cannot be decoded"):
        examined(open_place(tmp_path))


def test_a_link_in_a_folder_is_not_followed(tmp_path):
    folder = folder_of(tmp_path / "d")
    (tmp_path / "secret.png").write_bytes(png(PIXELS_OF[0]))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert open_pictures(folder).pictures.broken == {"link.png": "is a link"}


def test_lossy_formats_are_counted(tmp_path):
    for name, kind, words in (("a.jpg", "JPEG", {}), ("b.webp", "WEBP", {}), ("c.webp", "WEBP", {"lossless": True}), ("d.png", "PNG", {})):
        (tmp_path / name).write_bytes(png(PIXELS_OF[0], kind, **words))
    found = open_pictures(tmp_path).pictures
    assert found.formats == {"JPEG": 1, "lossy WebP": 1, "WebP": 1, "PNG": 1} and found.lossy == 2


def test_pictures_of_several_sizes_stay_as_they_are(tmp_path):
    folder = folder_of(tmp_path / "d")
    (folder / "p3.png").write_bytes(png(PIXELS_OF[0][:10]))
    images = open_pictures(folder).pictures.images(range(N))
    assert images.shape == (N,) and [image.shape for image in images][2:] == [(24, 32, 3), (10, 32, 3)]


def test_a_picture_that_changes_after_it_was_first_read_is_not_taken(tmp_path):
    found = open_pictures(folder_of(tmp_path / "d")).pictures
    (tmp_path / "d" / "p2.png").write_bytes(png(PIXELS_OF[0]))
    with pytest.raises(DamagedAsset, match="p2.png changed while it was in use"):
        found.images([2])
    assert open_pictures(tmp_path / "d").pictures.digest != found.digest


def test_captions_find_pictures_by_file_by_id_and_by_name_with_suffix(tmp_path):
    pictures = open_pictures(folder_of(tmp_path / "d")).pictures
    captions = [Caption("c", file="p2.png"), Caption("a", id="p0"), Caption("b", id="p1.png"), Caption("gone", id="p9")]
    matched = match(pictures, captions, Path("c.csv"))
    assert (list(matched.pictures.ids), list(matched.prompts)) == (["p2", "p0", "p1"], ["c", "a", "b"])
    assert [line.partition(": ")[2] for line in matched.remarks()] == [
        "1 caption without a picture left out (p9)", "1 picture without a caption left out (p3.png)",
    ]  # fmt: skip


def test_two_pictures_of_one_id_are_told_apart_by_their_files_or_named(tmp_path):
    for name in ("x", "y"):
        folder_of(tmp_path / "d" / name)
    pictures = open_pictures(tmp_path / "d").pictures
    with pytest.raises(UsageError, match=r"x/p0.png and y/p0.png have one id, 'p0'"):
        match(pictures, [Caption("a", id="p0")], Path("c.csv"))
    matched = match(pictures, [Caption("a", file="x/p0.png"), Caption("b", file="y/p0.png")], Path("c.csv"))
    assert len(set(matched.pictures.ids)) == 2
    with pytest.raises(UsageError, match="two captions of 'x/p0.png'"):
        match(pictures, [Caption("a", file="x/p0.png"), Caption("b", file="x/p0.png")], Path("c.csv"))
    with pytest.raises(UsageError, match="none of its 1 caption is of a picture in"):
        match(pictures, [Caption("a", id="other")], Path("c.csv"))


@pytest.mark.parametrize("name", ["a b", "ä", "-x", ".x", "a/b", "x" * 200])
def test_a_safe_id_is_a_file_name_and_tells_names_apart(name):
    from scottbench.store.files import check_name

    assert check_name(safe_id(name), "id") != safe_id(name + "_")
    assert safe_id("noto-1f34e") == "noto-1f34e"
