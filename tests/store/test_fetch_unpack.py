"""Archives from outside: what leads out, links, lies or is torn is refused in one line, and nothing of it stays on the disk."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile

import pytest

from scottbench.errors import DamagedAsset, Incomplete
from scottbench.store.fetch import unpack as unpacking
from scottbench.store.fetch.table import File
from scottbench.store.fetch.unpack import unpack

GOOD = {"pictures/a.jpg": b"a" * 1000, "pictures/b.jpg": b"b" * 1000, "notes.txt": b"notes"}


def zipped(path, files, kind=stat.S_IFREG):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (kind | 0o644) << 16
            archive.writestr(info, data)
    return path


def tarred(path, files, kind=tarfile.REGTYPE, link=""):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    return path


MAKERS = {"x.zip": zipped, "x.tar": tarred, "x.tar.gz": tarred}


@pytest.mark.parametrize("name", MAKERS)
def test_only_the_folder_or_the_members_of_the_table_are_taken(tmp_path, name):
    archive = MAKERS[name](tmp_path / name, GOOD)
    unpack(archive, File(name, folder="pictures", count=2), tmp_path / "out")
    unpack(archive, File(name, members=("notes.txt",)), tmp_path / "other")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a.jpg", "b.jpg", "pictures"]
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]
    assert (tmp_path / "out" / "pictures" / "a.jpg").read_bytes() == GOOD["pictures/a.jpg"]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("bad", ["../evil", "pictures/../../evil", "/tmp/evil", "a\\..\\evil", "C:/evil"])
def test_a_path_that_leads_out_takes_nothing(tmp_path, name, bad):
    archive = MAKERS[name](tmp_path / name, {**GOOD, bad: b"evil"})
    with pytest.raises(DamagedAsset, match="leads out of its folder") as caught:
        unpack(archive, File(name, folder="pictures", count=2), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == [] and not list(tmp_path.rglob("evil")) and not os.path.exists("/tmp/evil")


def test_links_and_devices_are_refused(tmp_path):
    cases = [zipped(tmp_path / "l.zip", {"pictures/a.jpg": b"/etc/passwd"}, stat.S_IFLNK),
             tarred(tmp_path / "s.tar", {"pictures/a.jpg": b""}, tarfile.SYMTYPE, "/etc/passwd"),
             tarred(tmp_path / "h.tar", {"pictures/a.jpg": b""}, tarfile.LNKTYPE, "../../x"),
             tarred(tmp_path / "d.tar", {"pictures/a.jpg": b""}, tarfile.FIFOTYPE)]  # fmt: skip
    for archive in cases:
        with pytest.raises(DamagedAsset, match="is a link or no plain file"):
            unpack(archive, File(archive.name, folder="pictures", count=1), tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", MAKERS)
def test_a_torn_archive_leaves_nothing(tmp_path, name):
    whole = MAKERS[name](tmp_path / name, {f"pictures/{number}.jpg": os.urandom(5000) for number in range(20)}).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedAsset):
        unpack(tmp_path / name, File(name, folder="pictures", count=20), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_zip_whose_bytes_changed_fails_its_checksum(tmp_path):
    archive = zipped(tmp_path / "x.zip", {"pictures/a.jpg": b"a" * 1000})
    data = archive.read_bytes()
    at = data.index(b"pictures/a.jpg") + len("pictures/a.jpg") + 3
    archive.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(DamagedAsset, match="no whole archive"):
        unpack(archive, File("x.zip", folder="pictures", count=1), tmp_path / "out")


def test_what_the_table_promises_has_to_be_in_it(tmp_path):
    archive = zipped(tmp_path / "x.zip", GOOD)
    with pytest.raises(DamagedAsset, match="holds 2 files in pictures/, expected 3"):
        unpack(archive, File("x.zip", folder="pictures", count=3), tmp_path / "out")
    with pytest.raises(DamagedAsset, match="does not hold absent.txt"):
        unpack(archive, File("x.zip", members=("absent.txt",)), tmp_path / "out")


def test_an_archive_that_swells_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "LEAST", 1000)
    archive = zipped(tmp_path / "x.zip", {"pictures/a": b"\0" * 10**6})
    with pytest.raises(DamagedAsset, match="would unpack to more than"):
        unpack(archive, File("x.zip", folder="pictures", count=1), tmp_path / "out")
    monkeypatch.setattr(unpacking, "ENTRIES", 2)
    with pytest.raises(DamagedAsset, match="more than 2 files"):
        unpack(zipped(tmp_path / "y.zip", GOOD), File("y.zip", folder="pictures", count=1), tmp_path / "out")


def test_a_name_that_stands_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning), zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("pictures/a", b"1")
        archive.writestr("pictures/a", b"2")
    with pytest.raises(DamagedAsset, match="twice"):
        unpack(tmp_path / "x.zip", File("x.zip", folder="pictures", count=1), tmp_path / "out")


def test_a_folder_that_is_there_gets_what_it_lacks_and_loses_nothing(tmp_path):
    (tmp_path / "out" / "pictures").mkdir(parents=True)
    (tmp_path / "out" / "pictures" / "mine.txt").write_text("mine")
    unpack(zipped(tmp_path / "x.zip", GOOD), File("x.zip", folder="pictures", count=2), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == ["a.jpg", "b.jpg", "mine.txt"]


def test_a_full_disk_is_resumable_and_leaves_nothing_half(tmp_path, monkeypatch):
    def full(entry, path, told):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking, "_write", full)
    with pytest.raises(Incomplete, match="no space left"):
        unpack(zipped(tmp_path / "x.zip", GOOD), File("x.zip", folder="pictures", count=2), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
