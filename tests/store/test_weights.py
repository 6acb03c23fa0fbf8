"""Files are hashed once, beside other work, and what a digest says does not depend on how it was made."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from scottbench.errors import DamagedAsset
from scottbench.store import assets, weights
from scottbench.store.assets import SUMS, file_digest, verify_folder, walked, write_sums
from scottbench.store.weights import hashed_beside, weights_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    write_sums(tmp_path)
    return tmp_path


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250])
def test_a_digest_is_of_all_blocks(tmp_path, monkeypatch, size):
    monkeypatch.setattr(assets, "BLOCK", 100)
    data = bytes(i % 251 for i in range(size))
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_hashing_beside_gives_the_digests_of_all_opened_files(folder):
    known = hashed_beside(folder)()
    assert known == {folder / name: file_digest(folder / name) for name in ("config.json", "unet/weights.safetensors")}
    assert weights_digest(folder, known=known) == weights_digest(folder)


def test_what_was_hashed_beside_is_not_read_again(folder, monkeypatch):
    known = hashed_beside(folder)()
    for module in (assets, weights):
        monkeypatch.setattr(module, "file_digest", lambda path: pytest.fail(f"{path} was read again"))
    verify_folder(folder, "model", known)
    weights_digest(folder, known=known)


def test_a_damaged_file_is_told_from_the_digest_that_is_known(folder):
    (folder / "unet" / "weights.safetensors").write_bytes(b"weightz")
    with pytest.raises(DamagedAsset, match=r"weights\.safetensors"):
        verify_folder(folder, "model", hashed_beside(folder)())


def test_a_file_of_the_sums_that_is_not_opened_is_still_checked(folder):
    (folder / "notes.md").write_text("a")
    with open(folder / SUMS, "a") as sums:
        sums.write(f"{hashlib.sha256(b'b').hexdigest()}  notes.md\n")
    with pytest.raises(DamagedAsset, match=r"notes\.md"):
        verify_folder(folder, "model", hashed_beside(folder)())


def test_a_folder_that_is_not_there_has_no_digests(tmp_path):
    assert hashed_beside(tmp_path / "none")() == {}


def test_a_file_that_cannot_be_read_is_the_matter_of_whoever_needs_it(folder, monkeypatch):
    def unreadable(path: Path) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(weights, "file_digest", unreadable)
    known = hashed_beside(folder)()
    assert known == {}
    with pytest.raises(PermissionError):
        weights_digest(folder, known=known)


# --- links and names of others ---------------------------------------------------------------------------------------


PIPELINE = (
    "model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "text_encoder/config.json",
    "text_encoder/model.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)  # fmt: skip


def make_pipeline(folder: Path) -> Path:
    for name in PIPELINE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{{}} {name}")
    return folder


@pytest.mark.parametrize("linked", ["scheduler", "unet", "scheduler/scheduler_config.json", "unet/config.json"])
def test_what_is_linked_counts_as_if_it_lay_there(tmp_path, linked):
    folder, plain = make_pipeline(tmp_path / "model"), make_pipeline(tmp_path / "plain")
    elsewhere = (folder / linked).rename(tmp_path / "elsewhere")
    (folder / linked).symlink_to(elsewhere)
    before = weights_digest(folder)
    assert before == weights_digest(plain) and len(hashed_beside(folder)()) == len(PIPELINE)
    first = next(path for path in [elsewhere, *elsewhere.glob("*.json")] if path.is_file())
    first.write_text("x")
    assert weights_digest(folder) != before


@pytest.mark.parametrize("name", [
    "unet/._config.json", "unet/._diffusion_pytorch_model.safetensors", "unet/.ipynb_checkpoints/config.json", ".cache/x.json",
    "unet/.DS_Store.json", "unet/old/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/NOTES.txt", "scheduler/other.json", "safety_checker/config.json", "v1-5.safetensors",
])  # fmt: skip
def test_what_no_loader_opens_does_not_count(tmp_path, name):
    folder = make_pipeline(tmp_path / "model")
    before = weights_digest(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    assert weights_digest(folder) == before


@pytest.mark.parametrize("name", ["unet/adapter_config.json", "tokenizer/added_tokens.json", "unet/model-00001-of-00002.safetensors"])
def test_what_a_loader_may_open_counts(tmp_path, name):
    folder = make_pipeline(tmp_path / "model")
    before = weights_digest(folder)
    (folder / name).write_text("x")
    assert weights_digest(folder) != before


def test_links_in_a_circle_end_and_links_to_nowhere_are_no_files(tmp_path):
    folder = make_pipeline(tmp_path / "model")
    before = weights_digest(folder)
    (folder / "unet" / "again").symlink_to(folder)
    (folder / "unet" / "lost.json").symlink_to(tmp_path / "nowhere")
    assert len(walked(folder)) == len(PIPELINE)
    assert weights_digest(folder) == before and weights_digest(folder / "unet")
