"""Trainings on a stream: resumed where they were, with other processes too; broken items replaced and counted; float16 latents."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from toy import Toy, counts

from scottbench.errors import DamagedAsset, ScottbenchWarning, UsageError
from scottbench.registry.condition import TextCondition
from scottbench.training import data as training_data
from scottbench.training.data import Encoding, chosen_kind, encoded_folder, is_whole, open_data
from scottbench.training.encoded import RECORD
from scottbench.training.loop import Loop
from scottbench.training.settings import Budget, TrainSettings

N = 200


class Shards:
    """200 items in four shards, each a picture of its number; `bad` ones cannot be read."""

    def __init__(self, bad=(), broken=0.1, n=N):
        self.ids, self.prompts = [f"item-{i}" for i in range(n)], [f"{'x' * (1 + i % 7)}" for i in range(n)]
        self.digest, self.shards, self.buffer, self.broken = "d" * 64, [n // 4] * 4, 16, broken
        self.bad, self.reads, self.reasons = set(bad), [], {"item-9": "is cut off"} if bad else {}

    def readable(self, indices):
        self.reads += list(indices)
        return [None if i in self.bad else np.full((16, 16, 3), i, np.uint8) for i in indices]

    def images(self, indices):
        return np.stack(self.readable(indices))


class Encoder:
    """A model whose latents are the colours of pictures and whose embeddings are the lengths of prompts."""

    def __init__(self):
        self.digest, self.dtype, self.latent_shape, self.device = "a" * 64, torch.float32, (1, 2, 2), "cpu"
        self.vae = SimpleNamespace(config=SimpleNamespace(block_out_channels=(1,) * 4))
        self.text_encoder = self.wide_vae = None
        self.pictures, self.texts = 0, 0

    def encode_images(self, images):
        self.pictures += len(images)
        return torch.from_numpy(images.astype(np.float32)).mean((1, 2, 3)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)

    def encode_prompts(self, prompts):
        self.texts += len(prompts)
        return TextCondition(torch.tensor([float(len(prompt)) for prompt in prompts]).view(-1, 1, 1).expand(-1, 3, 5))

    def empty_prompt(self):
        return self.encode_prompts([""])


def quiet(*event):
    pass


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))


def loop_on(out, items, accumulate=1):
    """A toy training on a stream."""
    out.mkdir(exist_ok=True)
    found = open_data(Encoder(), items, 8, 0, quiet, Encoding("none"))
    settings = TrainSettings(batch_size=8, accumulate=accumulate)
    return Loop(Toy(lr=1e-3), found, Accelerator(cpu=True), out, settings, counts())


def seen(loop, since=0):
    """Numbers of the items that each step was trained on, in order."""
    return [(step, x[:, 0].round().int().tolist()) for step, _, x in loop.distillation.seen if step >= since]


@pytest.mark.filterwarnings("ignore::scottbench.errors.ScottbenchWarning")
@pytest.mark.parametrize("at", [3, 21, 30])
def test_a_resumed_training_sees_the_items_that_an_uninterrupted_one_does(tmp_path, at):
    """Broken ones are replaced by the same spares; 30 is in the second epoch."""
    bad = range(0, N, 29)
    whole = loop_on(tmp_path / "a", Shards(bad))
    whole.run(Budget(None, 34), quiet)
    first = loop_on(tmp_path / "b", Shards(bad))
    first.run(Budget(None, at), quiet)
    again = loop_on(tmp_path / "b", Shards(bad))
    again.resume()
    again.run(Budget(None, 34), quiet)
    assert seen(again) == seen(whole, at) and seen(first) == seen(whole)[:at]
    assert not set(bad) & {item for _, items in seen(whole) for item in items}
    skipped = [one.state.place["skipped"] for one in (whole, again)]
    logged = [json.loads(line).get("data/skipped", 0) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert skipped[0] == skipped[1] >= 6 and 0 < logged[-1] <= skipped[0]


@pytest.mark.parametrize("ways", [(1, 2), (2, 1), (4, 2)])
def test_with_another_number_of_micro_batches_nothing_comes_twice_in_the_epoch(tmp_path, ways):
    first = loop_on(tmp_path, Shards(), ways[0])
    first.run(Budget(None, 5), quiet)
    again = loop_on(tmp_path, Shards(), ways[1])
    with pytest.warns(ScottbenchWarning, match="another number of micro-batches .* no item comes twice in this epoch"):
        again.resume()
    steps = 5 + again.data.stream.order.course.steps
    again.run(Budget(None, steps), quiet)
    items = [item for _, part in seen(first) + seen(again) for item in part]
    assert again.state.step == steps > 10 and len(items) == len(set(items)) == 8 * steps


def test_two_processes_see_disjoint_items_that_cover_all():
    """Each process knows its own lanes alone; with no spares an epoch has every item that is not held out."""
    found = []
    for first in (0, 1):
        data = open_data(Encoder(), Shards(broken=0.0), 10, 0, quiet, Encoding("none"))
        data.stream.cut(2, 5, first)
        read = [data.read(data.stream.parts(step, 1), step)[0] for step in range(data.stream.order.course.steps)]
        found.append([item for rows in read for item in rows.indices.tolist()])
        assert all(rows.images[:, 0, 0, 0].tolist() == rows.indices.tolist() for rows in read)
    held_out = set(data.held_out.tolist())
    assert len(held_out) == 20 and not set(found[0]) & set(found[1])
    assert set(found[0]) | set(found[1]) == set(range(N)) - held_out


def test_more_broken_items_than_the_bound_end_the_training_in_one_line(tmp_path):
    with pytest.warns(ScottbenchWarning, match=r"an item of the stream is broken \(the first: item-9 is cut off\); spares take the place"):
        loop = loop_on(tmp_path, Shards(range(0, N, 12), broken=0.05))
        with pytest.raises(DamagedAsset, match="more than 5.0% of the items of this epoch are broken; the last is 'item-.*option broken"):
            loop.run(Budget(None, 40), quiet)


def test_what_cannot_be_streamed_is_one_line():
    items = SimpleNamespace(ids=["a"] * 50, prompts=["x"] * 50, digest="e" * 64)
    with pytest.raises(UsageError, match="--cache none is for datasets that are read from shards"):
        open_data(Encoder(), items, 8, 0, quiet, Encoding("none"))
    wrong = Encoder()
    wrong.latent_shape = (1, 4, 4)
    with pytest.raises(UsageError, match="brought to 16 x 16 and the model makes 32 x 32: give the dataset's option side=32"):
        open_data(wrong, Shards(), 8, 0, quiet, Encoding("none"))
    few = open_data(Encoder(), Shards(n=40), 8, 0, quiet, Encoding("none"))
    with pytest.raises(UsageError, match="has 36 items beside those held out, too few for a batch of 80"):
        few.stream.cut(2, 40)


@pytest.mark.parametrize("change", [{"place": None}, {"place": {"epoch": 0}}, {"spans": [[0, 10**7]]}, {"skipped": -1}])
def test_a_checkpoint_with_a_place_that_cannot_be_is_refused(tmp_path, change):
    loop = loop_on(tmp_path, Shards())
    loop.run(Budget(None, 2), quiet)
    state = change["place"] if "place" in change else loop.state.place | change
    with pytest.raises((ValueError, DamagedAsset)):
        loop.data.stream.resume(state, 2)


# --- caches ----------------------------------------------------------------------------------------------------------


def test_latents_are_kept_in_half_precision_and_texts_are_embedded_for_each_batch():
    model, items = Encoder(), Shards(bad=[5, 77])
    found = open_data(model, items, 8, 0, quiet, Encoding("latents"))
    folder = encoded_folder(model, items, "latents")
    assert sorted(path.name for path in folder.iterdir()) == [RECORD, "latents.npy"]
    assert (folder / "latents.npy").stat().st_size == 128 + N * 4 * 2 and found.latents.dtype == np.float16
    assert not {5, 77} & set(found.train.tolist() + found.held_out.tolist()) and len(found.train) + len(found.held_out) == N - 2
    texts, pictures = model.texts, model.pictures
    batch = found.batch(torch.tensor([150, 3]), "cpu")
    assert batch["latents"].dtype == torch.float32 and batch["latents"][:, 0, 0, 0].tolist() == [150.0, 3.0]
    assert batch["text"][:, 0, 0].tolist() == [4.0, 4.0] and (model.texts, model.pictures) == (texts + 2, pictures)
    assert found.texts(torch.tensor([6]), "cpu").hidden[0, 0, 0] == 7.0
    assert len(found) == N and found.size == (2, 2)
    assert is_whole(folder, N, "latents") and not is_whole(folder, N), "the two kinds are not taken for each other"


def test_the_default_goes_by_kind_and_size(monkeypatch):
    model, plain = Encoder(), SimpleNamespace(ids=["a"] * 100, prompts=["x"] * 100)
    assert chosen_kind("auto", model, Shards()) == "none" and chosen_kind("auto", model, plain) == "both"
    monkeypatch.setattr(training_data, "SMALL", 100 * (4 * 4 + 3 * 5 * 4) - 1)
    assert chosen_kind("auto", model, plain) == "latents" and chosen_kind("both", model, plain) == "both"


def test_too_many_broken_items_in_a_cache_are_one_line():
    with pytest.raises(DamagedAsset, match="5 of 200 items could not be read, 'item-2' among them"):
        open_data(Encoder(), Shards(bad=[2, 3, 4, 5, 6], broken=0.02), 8, 0, quiet, Encoding("latents"))


@pytest.mark.parametrize("kind", ["latents", "both"])
def test_all_processes_encode_their_share_and_a_killed_one_loses_one_chunk(kind):
    """Three processes, told apart by turns: the first begins, each encodes, the first puts the records together."""
    items, models = Shards(), [Encoder() for _ in range(3)]
    folder = encoded_folder(models[0], items, kind)

    def share(rank):
        training_data.share_chunks(models[rank], items, folder, quiet, Encoding(kind, rank, 3))

    waits = iter([lambda: (share(2), share(1)), quiet, quiet])
    open_data(models[0], items, 8, 0, quiet, Encoding(kind, 0, 3, wait=lambda: next(waits)()))
    # 200 items are four chunks: one to begin with, one for each process
    assert [model.pictures for model in models] == [128, 64, 8]
    assert sum(model.pictures for model in models) == N and sorted(path.name for path in folder.iterdir())[0] == RECORD
    assert not list(folder.glob("chunks.*.ndjson")) and is_whole(folder, N, kind)
    one = Encoder()
    before = (folder / "latents.npy").read_bytes()
    open_data(one, items, 8, 0, quiet, Encoding(kind))
    assert one.pictures == 0
    lines = (folder / RECORD).read_text().splitlines()
    (folder / RECORD).write_text("\n".join(lines[:2]) + "\n")
    (folder / "chunks.1.ndjson").write_text(lines[3] + "\n" + lines[4][:20])  # killed in the midst of a line
    open_data(one, items, 8, 0, quiet, Encoding(kind))
    assert one.pictures == N - 128 and (folder / "latents.npy").read_bytes() == before
    assert len(json.loads(lines[0])) == (3 if kind == "latents" else 4)


@pytest.mark.filterwarnings("ignore:an item of the stream")
def test_a_training_on_tars_makes_a_student_and_goes_on_with_other_micro_batches(files, tmp_path):
    """Through the whole of `scottbench train`: nothing is kept, a broken picture is counted, and the folder's training is the same one."""
    import sys
    from pathlib import Path

    import tiny_plugin
    from scottbench_streams import register_datasets
    from tiny_cd import with_cd
    from tiny_training import train

    sys.path.append(str(Path(__file__).parents[1] / "plugins" / "streams"))
    from made_shards import sample, tar

    samples = {f"{n:03d}": sample(n) for n in range(60)}
    samples["030"][".jpg"] = samples["030"][".jpg"][:300]
    tar(tmp_path / "data" / "0.tar", samples | {"no": {".jpg": samples["001"][".jpg"]}})
    plugins = with_cd(files)
    plugins.nouns["dataset"]["stream"] = tiny_plugin.registered("dataset", register_datasets()[0])
    asked = {"dataset": f"stream@path={tmp_path / 'data'},side=64,buffer=8,broken=0.1", "options": {"w_max": "2", "w_min": "2"}}
    out = tmp_path / "student"
    with pytest.warns(ScottbenchWarning, match="data: 60 items; left out: 1 without a caption"):
        train(plugins, "tiny", "cd", out, max_steps=2, **asked)
    with pytest.warns(ScottbenchWarning, match="another number of micro-batches"):
        train(plugins, "tiny", "cd", out, max_steps=15, accumulate=2, resume=True, **asked)
    facts = json.loads((out / "student.json").read_text())
    assert (facts["cache"], facts["steps"], facts["micro_batches"]) == ("none", 15, 2) and facts["skipped_items"] >= 1
    assert not list((tmp_path / "cache").glob("latents/*")) and list((tmp_path / "cache" / "shards").iterdir())
    with pytest.raises(UsageError, match="cache was none, now latents"):
        train(plugins, "tiny", "cd", out, max_steps=16, accumulate=2, resume=True, cache="latents", **asked)
