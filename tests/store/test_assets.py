"""Files that must be here: each absent or damaged one is named with its size and the line that fetches it."""

import os
import sys

import pytest

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.store.assets import (
    SUMS,
    Needed,
    bytes_in_words,
    cache_dir,
    file_digest,
    gather,
    offline,
    require,
    verify_folder,
    write_sums,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights.safetensors").write_bytes(b"0123456789")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "quality.json").write_text("measured later")
    (tmp_path / "README.md").write_text("words")
    write_sums(tmp_path)
    return tmp_path


def test_every_missing_file_is_named_with_size_and_fetch_line(tmp_path):
    files = [Needed(tmp_path / "a", "get a", 5_470_000_000), Needed(tmp_path / "b", "get b")]
    with pytest.raises(MissingAsset) as caught:
        require("model 'x'", files)
    assert str(caught.value).splitlines() == [
        "model 'x' cannot be used:", f"  missing {tmp_path}/a (5.5 GB)  fetch: get a", f"  missing {tmp_path}/b  fetch: get b"]
    assert not isinstance(caught.value, DamagedAsset) and caught.value.exit_code == 3


@pytest.mark.parametrize("needed", [{"bytes": 11}, {"sha256": "0" * 64}])
def test_a_file_of_another_size_or_digest_is_damaged(folder, needed):
    path = folder / "unet" / "weights.safetensors"
    require("model", [Needed(path, bytes=10, sha256=file_digest(path))])
    with pytest.raises(DamagedAsset, match="damaged .*weights"):
        require("model", [Needed(path, **needed)])


@pytest.mark.parametrize("damage", [b"0123456780", b"01234", None])
def test_sums_find_a_flipped_bit_a_truncated_and_a_missing_file(folder, damage):
    verify_folder(folder, "model")
    path = folder / "unet" / "weights.safetensors"
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(MissingAsset, match="unet/weights.safetensors"):
        verify_folder(folder, "model")


def test_sums_are_in_the_form_of_the_sha256sum_tool(folder):
    lines = (folder / SUMS).read_text().splitlines()
    assert lines == [f"{file_digest(folder / name)}  {name}" for name in ("config.json", "unet/weights.safetensors")]
    (folder / SUMS).write_text("nonsense\n")
    with pytest.raises(DamagedAsset, match="a line is not"):
        verify_folder(folder, "model")


def test_a_folder_without_sums_is_not_checked(tmp_path):
    verify_folder(tmp_path, "model")


def fail(error):
    raise error


def test_gather_names_all_that_is_missing_once_and_lets_other_errors_through():
    checks = {"a": lambda: fail(MissingAsset("no a")), "b": lambda: 2, "c": lambda: fail(DamagedAsset("bad c"))}
    checks["d"] = checks["a"]
    with pytest.raises(MissingAsset) as caught:
        gather(checks)
    assert str(caught.value) == "no a\nbad c" and not isinstance(caught.value, DamagedAsset)
    with pytest.raises(DamagedAsset):
        gather({"c": checks["c"]})
    with pytest.raises(UsageError):
        gather({"a": checks["a"], "b": lambda: fail(UsageError("no"))})
    assert gather({"b": checks["b"]}) == {"b": 2}


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("SCOTTBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "scottbench"


def test_offline_is_undone_at_the_end(monkeypatch):
    import huggingface_hub.constants as constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(KeyError), offline():
        assert os.environ["HF_HUB_OFFLINE"] == "1" and sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE
        raise KeyError
    assert "HF_HUB_OFFLINE" not in os.environ and not constants.HF_HUB_OFFLINE


def test_sizes_are_said_in_words():
    assert [bytes_in_words(count) for count in (12, 1500, 95_607_719, 5_470_000_000)] == ["12 bytes", "1.5 kB", "95.6 MB", "5.5 GB"]
