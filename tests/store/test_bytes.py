"""The same plan gives the same bytes of results.parquet: batch sizes, chunk order, shards, workers of a launcher."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from scottbench.store.events import read_events
from scottbench.store.files import read_json

RUN = ("run", "-p", "tiny", "-q")
SHUFFLE = """
import random, scottbench.run.sample
mine = scottbench.run.session.Work.mine.fget
def shuffled(self):
    found = mine(self)
    random.Random(len(found) + len(self.texts)).shuffle(found)
    return found
scottbench.run.session.Work.mine = property(shuffled)
"""


def contents(root: Path) -> dict[str, bytes]:
    """Everything that must not depend on how the work was divided: tables of numbers, images, features."""
    files = [root / "results.parquet", *root.glob("images/*/*.zip"), *root.glob("features/*/*/*.npy")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def expected(undisturbed):
    return contents(undisturbed)


@pytest.mark.parametrize("size", ["1", "7", "64"])
def test_batch_size_is_scheduling_only(server, expected, tmp_path, size):
    assert server.call(*RUN, "-b", size, "-o", "run", folder=tmp_path)[0] == 0
    assert contents(tmp_path / "run") == expected


def test_the_order_of_the_chunks_does_not_matter(server, expected, tmp_path):
    assert server.call(*RUN, "-o", "run", folder=tmp_path, before=SHUFFLE)[0] == 0
    assert contents(tmp_path / "run") == expected
    order = [event["first"] for event in read_events(tmp_path / "run") if event.get("part") == "ode__s2__seed0" and "first" in event]
    assert sorted(order) == [0, 4, 8] and order != [0, 4, 8]


def test_three_shards_merge_to_the_same_bytes_and_a_missing_one_is_exit_code_4(server, expected, tmp_path):
    for number in (1, 2, 3):
        code, out, _ = server.call(*RUN, "--shard", f"{number}/3", "-o", f"part{number}", folder=tmp_path)
        assert code == 0 and f"shard {number}/3 is done: part{number}" in out
        assert not (tmp_path / f"part{number}" / "results.parquet").exists()
        assert len(list((tmp_path / f"part{number}").glob("images/*__*/*.zip"))) == 2
    code, out, err = server.call("merge", "part1", "part3", "-o", "all", "-q", folder=tmp_path)
    assert (code, out) == (4, "") and "all lacks 3 chunk(s): reference/00004, ode__s2__seed0/00004" in err
    code, out, _ = server.call("merge", "part1", "part2", "part3", "-o", "all", "-q", folder=tmp_path)
    assert code == 0 and "ode" in out
    assert contents(tmp_path / "all") == expected
    manifest, events = read_json(tmp_path / "all" / "manifest.json"), read_events(tmp_path / "all")
    assert manifest["level"] == "exact" and manifest["status"] == "complete"
    assert sorted({event["attempt"] for event in events}) == [1, 2, 3, 4]
    parts = sum(read_json(tmp_path / f"part{number}" / "manifest.json")["wall_seconds"] for number in (1, 2, 3))
    assert manifest["wall_seconds"] > parts - 0.1


OVER_SEEDS = """
from scottbench_metrics import register_metrics
for metric in register_metrics():
    found.nouns["metric"][metric.name] = tiny_plugin.registered("metric", metric)
"""


def test_metrics_over_several_seeds_have_the_same_bytes_from_shards(server, tmp_path):
    words = (*RUN, "-m", "hop", "-n", "10", "--seeds", "0,1", "-k", "gap,diversity,ms_ssim")
    assert server.call(*words, "-o", "whole", folder=tmp_path, before=OVER_SEEDS)[0] == 0
    for number in (1, 2):
        assert server.call(*words, "-b", "1", "--shard", f"{number}/2", "-o", f"part{number}", folder=tmp_path, before=OVER_SEEDS)[0] == 0
    code, out, _ = server.call("merge", "part1", "part2", "-o", "all", "-q", folder=tmp_path, before=OVER_SEEDS)
    assert code == 0 and "over seeds 0,1 together" in out
    assert contents(tmp_path / "all") == contents(tmp_path / "whole")
    for name in ("items.parquet", "pairs.parquet"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_shards_of_different_plans_are_not_merged(server, undisturbed, tmp_path):
    assert server.call(*RUN, "-s", "1", "--shard", "1/2", "-o", "other", folder=tmp_path)[0] == 0
    code, _, err = server.call("merge", str(undisturbed), "other", "-o", "all", "-q", folder=tmp_path)
    assert code == 5 and "other was made from something else" in err
    assert not (tmp_path / "all").exists()


def test_one_chunk_with_two_contents_is_not_merged(server, undisturbed, tmp_path):
    """A shard whose images differ though machine and plan are the same: somebody changed them, digests and all."""
    import shutil

    import numpy as np

    from scottbench.store.folder import RunFolder

    for name in ("a", "b"):
        shutil.copytree(undisturbed, tmp_path / name)
    folder, span = RunFolder(tmp_path / "b"), range(4, 8)
    ids = folder.facts(("images", "ode__s2__seed0"), span)["ids"]
    images = folder.get_images(("images", "ode__s2__seed0"), span, ids)
    folder.put_images(("images", "ode__s2__seed0"), span, ids, np.flip(images, 1), {"nfe": 4})
    code, _, err = server.call("merge", "a", "b", "-o", "all", "-q", folder=tmp_path)
    assert code == 5 and "images/ode__s2__seed0/00004 differs" in err


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def launch(server, count: int, folder: Path, *arguments: str):
    """The processes of a launcher: torchrun and accelerate set these variables, and nothing else counts."""
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [server.start(*arguments, folder=folder, RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank in range(count)]


def test_two_workers_give_the_same_bytes_and_the_main_one_alone_reports(server, expected, tmp_path):
    main, other = [process.wait() for process in launch(server, 2, tmp_path, *RUN, "-o", "run")]
    assert (main[0], other[0]) == (0, 0), main[2] + other[2]
    assert main[1].splitlines()[0].startswith("metrics on") and other[1] == ""
    assert contents(tmp_path / "run") == expected
    made = {}
    for event in read_events(tmp_path / "run"):
        if event["event"] == "chunk":
            made.setdefault(event["worker"], []).append((event["part"], event["first"]))
    assert {first for _, first in made[0]} == {0, 8} and {first for _, first in made[1]} == {4}
    assert read_json(tmp_path / "run" / "manifest.json")["level"] == "exact"


def test_workers_that_cannot_have_the_folder_end_with_one_message(server, undisturbed, tmp_path):
    (tmp_path / "run").write_text("mine")
    main, other = [process.wait() for process in launch(server, 2, tmp_path, *RUN, "-o", "run")]
    assert (main[0], other[0]) == (2, 2)
    assert main[2] == "error: run is a file, not a run folder. Name a new or empty folder with --out.\n"
    assert "error" not in other[2]
