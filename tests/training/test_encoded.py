"""The encoded training split: made once, checked, mended, resumed by chunk, in little memory; a full or unwritable cache."""

import errno
import json
import os
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scottbench.errors import DamagedAsset, Incomplete, ScottbenchWarning, UsageError
from scottbench.registry.condition import TextCondition
from scottbench.store.lock import locked
from scottbench.training import encoded
from scottbench.training.data import PIXELS, is_whole, open_data


class Encoder:
    """The part of a model that `open_data` uses; counts what it encodes."""

    def __init__(self, digest="a" * 64):
        self.digest, self.dtype, self.latent_shape, self.images = digest, torch.float32, (4, 2, 2), 0
        self.calls = []

    def encode_images(self, images):
        self.images += len(images)
        self.calls.append(len(images))
        return torch.from_numpy(images.astype(np.float32)).mean((1, 2, 3)).view(-1, 1, 1, 1).expand(-1, 4, 2, 2)

    def encode_prompts(self, prompts):
        return TextCondition(torch.tensor([float(len(prompt)) for prompt in prompts]).view(-1, 1, 1).expand(-1, 3, 5))

    def empty_prompt(self):
        return self.encode_prompts([""])


ITEMS = SimpleNamespace(
    ids=[str(i) for i in range(150)], prompts=["x" * i for i in range(1, 151)], digest="b" * 64,
    images=lambda index: np.stack([np.full((8, 8, 3), i, np.uint8) for i in index]))  # fmt: skip


def quiet(*event):
    pass


def test_a_second_training_does_not_encode_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    first, second, other = Encoder(), Encoder(), Encoder("c" * 64)
    data = open_data(first, ITEMS, 8, 0, quiet)
    again = open_data(second, ITEMS, 8, 0, quiet)
    assert (first.images, second.images) == (150, 0)
    assert isinstance(again.latents, np.memmap) and again.latents.shape == (150, 4, 2, 2) and again.text.shape == (150, 3, 5)
    batch = again.batch(torch.tensor([149, 3]), "cpu")
    assert batch["latents"][:, 0, 0, 0].tolist() == [149.0, 3.0] and batch["text"][:, 0, 0].tolist() == [150.0, 4.0]
    assert len(data.held_out) == 15 and not set(data.held_out.tolist()) & set(data.train.tolist())
    open_data(other, ITEMS, 8, 0, quiet)
    assert other.images == 150, "another model's latents are others"
    assert not list(tmp_path.glob("latents/*.partial"))


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """The folder of an encoded split."""
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    open_data(Encoder(), ITEMS, 8, 0, quiet)
    (folder,) = (tmp_path / "latents").iterdir()
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def infinite(folder):
    path = folder / "latents.npy"
    data = bytearray(path.read_bytes())
    data[-4:] = np.float32(np.inf).tobytes()
    path.write_bytes(data)


def swapped(folder):
    """The first two chunks of the texts in each other's place."""
    path, head, chunk = folder / "text.npy", 128, 64 * 15 * 4
    data = path.read_bytes()
    path.write_bytes(data[:head] + data[head + chunk : head + 2 * chunk] + data[head : head + chunk] + data[head + 2 * chunk :])


def another_digest(folder):
    path = folder / "chunks.ndjson"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace(json.loads(lines[2])["text"], "0" * 64), *lines[3:]]) + "\n")


def cut(name, lost):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-lost])


def header(folder):
    """A header that claims more rows."""
    path = folder / "latents.npy"
    path.write_bytes(path.read_bytes().replace(b"(150, ", b"(950, ", 1))


def no(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize("change, again, told", [
    (infinite, 22, True), (swapped, 128, True), (another_digest, 64, True), (cut("text.npy", 4), 22, True), (header, 150, True),
    (cut("chunks.ndjson", 1), 0, False), (cut("chunks.ndjson", 9), 22, False), (no("text.npy"), 150, True),
    (no("chunks.ndjson"), 150, False), (lambda folder: (folder / "chunks.ndjson").write_text("[]\n" * 9), 150, False),
], ids=["inf", "swapped", "digest", "cut", "header", "newline", "torn", "gone", "no-record", "foreign-record"])  # fmt: skip
def test_bytes_that_changed_are_encoded_again_and_only_those(whole, change, again, told):
    """Whatever changed, the bytes afterwards are those that were written first, and a note says so where a chunk had been whole."""
    before = contents(whole)
    change(whole)
    encoder = Encoder()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = open_data(encoder, ITEMS, 8, 0, quiet)
    assert encoder.images == again
    after = contents(whole)
    assert {name: after[name] for name in ("latents.npy", "text.npy")} == {name: before[name] for name in ("latents.npy", "text.npy")}
    assert np.isfinite(data.latents).all() and is_whole(whole, 150) and after.keys() == before.keys()
    lines = [str(one.message) for one in caught if issubclass(one.category, ScottbenchWarning)]
    assert ["are encoded again" in line for line in lines] == [True] * told


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 2])
def test_a_killed_training_loses_the_chunk_it_was_encoding_and_leaves_nothing_else(tmp_path, monkeypatch, at):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))

    class Dying(Encoder):
        def encode_prompts(self, prompts):
            if self.images > 64 * at:
                raise Killed
            return super().encode_prompts(prompts)

    with pytest.raises(Killed):
        open_data(Dying(), ITEMS, 8, 0, quiet)
    (folder,) = (tmp_path / "latents").iterdir()
    assert not is_whole(folder, 150) and sorted(path.name for path in folder.iterdir()) == ["chunks.ndjson", "latents.npy", "text.npy"]
    with open(folder / "chunks.ndjson", "a") as record:
        record.write('{"first": 64, "lat')
    after, seen = Encoder(), []
    open_data(after, ITEMS, 8, 0, lambda *event: seen.append(event))
    assert after.images == 150 - 64 * at and seen[-1] == ("encode", 150, 150) and seen[0][1] == min(64 * (at + 1), 150)
    whole = contents(folder)
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "other"))
    open_data(Encoder(), ITEMS, 8, 0, quiet)
    (other,) = (tmp_path / "other" / "latents").iterdir()
    assert contents(other) == whole and sorted(whole) == ["chunks.ndjson", "latents.npy", "text.npy"]


def test_a_split_of_an_older_version_is_encoded_again_with_a_note(whole):
    (whole / "chunks.ndjson").unlink()
    (whole / "facts.json").write_text('{"latents.npy": 1}')
    held = np.load(whole / "latents.npy", mmap_mode="r")
    with pytest.warns(ScottbenchWarning, match=r"has no digests \(it is of an older version\): it is encoded again"):
        open_data(Encoder(), ITEMS, 8, 0, quiet)
    assert not (whole / "facts.json").exists()
    assert float(held[149, 0, 0, 0]) == 149.0, "a training that has the old file mapped reads on"


def test_two_trainings_encode_a_split_once(whole, monkeypatch):
    """The second waits, tells so once, and finds all there."""
    record = (whole / "chunks.ndjson").read_bytes()
    (whole / "chunks.ndjson").unlink()
    holder = locked(whole)
    holder.__enter__()

    def first_ends(seconds):
        (whole / "chunks.ndjson").write_bytes(record)
        holder.__exit__(None, None, None)

    monkeypatch.setattr(encoded.time, "sleep", first_ends)
    second = Encoder()
    with pytest.warns(ScottbenchWarning, match="another training encodes the same training split into .*: this one waits for it"):
        open_data(second, ITEMS, 8, 0, quiet)
    assert second.images == 0


def test_a_cache_that_is_whole_needs_no_writing(whole, monkeypatch):
    def refuse(*arguments, **words):
        raise AssertionError("written")

    for name in ("alone", "keeping"):
        monkeypatch.setattr(f"scottbench.training.data.{name}", refuse)
    assert open_data(Encoder(), ITEMS, 8, 0, quiet).latents.shape == (150, 4, 2, 2)


@pytest.mark.parametrize("side, calls", [(64, [64, 64, 22]), (128, [16] * 8 + [16, 6]), (512, [1] * 150), (1024, [1] * 150)])
def test_large_images_are_encoded_few_at_a_time(tmp_path, monkeypatch, side, calls):
    """64 images of 512x512 in one call of a VAE take 40 GiB; those of 64x64 go together as they always did, and give the same bits."""
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    images = lambda index: np.broadcast_to(np.uint8(1), (len(index), side, side, 3))  # noqa: E731
    encoder = Encoder()
    encoder.encode_images = lambda batch: encoder.calls.append(len(batch)) or torch.zeros(len(batch), 4, 2, 2)
    open_data(encoder, SimpleNamespace(**vars(ITEMS) | {"images": images}), 8, 0, quiet)
    assert sum(encoder.calls) == 150 and max(encoder.calls) * side * side <= max(PIXELS, side * side)
    assert encoder.calls == calls


def test_an_image_without_latents_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    encoder = Encoder()
    encoder.encode_images = lambda images: torch.full((len(images), 4, 2, 2), torch.inf)
    with pytest.raises(DamagedAsset, match="NaN or infinite latents for item '0' of the training split"):
        open_data(encoder, ITEMS, 8, 0, quiet)


def test_a_link_in_the_cache_is_not_written_through(whole, tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    (whole / "latents.npy").unlink()
    (whole / "latents.npy").symlink_to(target)
    with pytest.warns(ScottbenchWarning, match="in 3 of its 3 chunks"):
        open_data(Encoder(), ITEMS, 8, 0, quiet)
    assert target.read_text() == "precious" and not (whole / "latents.npy").is_symlink()


@pytest.mark.parametrize("number, kind, told", [
    (errno.ENOSPC, Incomplete, "no space left"), (errno.EROFS, UsageError, "Read-only file system")])  # fmt: skip
def test_a_full_or_unwritable_cache_is_one_clear_line_and_keeps_what_is_encoded(tmp_path, monkeypatch, number, kind, told):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    written, write = [], encoded.write_at

    def full(path, offset, data):
        if len(written) == 6:
            raise OSError(number, os.strerror(number))
        written.append(path)
        write(path, offset, data)

    with monkeypatch.context() as patch, pytest.raises(kind, match=f"{told}.*needs 18.6 kB; .*is kept.*SCOTTBENCH_CACHE") as caught:
        patch.setattr(encoded, "write_at", full)
        open_data(Encoder(), ITEMS, 8, 0, quiet)
    assert "\n" not in str(caught.value)
    after = Encoder()
    open_data(after, ITEMS, 8, 0, quiet)
    assert after.images == 22


def test_a_cache_folder_that_is_a_file_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="Not a directory.*18.6 kB.*SCOTTBENCH_CACHE"):
        open_data(Encoder(), ITEMS, 8, 0, quiet)
