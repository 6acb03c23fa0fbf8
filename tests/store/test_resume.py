"""resume, plan, score, verify, runs: on a finished run and on copies of it that something has happened to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from scottbench.store.differences import differences
from scottbench.store.files import read_json, with_check
from scottbench.store.schemas import known, violations

HERE = Path(__file__).parent
RUN = ("run", "-p", "tiny", "-q")


@pytest.fixture
def home(undisturbed, tmp_path):
    """A working folder with one finished run in runs/."""
    shutil.copytree(undisturbed, tmp_path / "runs" / "20260101T000000Z-tiny-one")
    return tmp_path


def head(home: Path) -> str:
    (lock,) = home.glob("runs/*/plan.lock.json")
    return read_json(lock)["plan_hash"][:6]


def test_resume_finds_a_run_by_the_head_of_its_hash(server, home, undisturbed):
    (root,) = (home / "runs").iterdir()
    shutil.rmtree(root / "images" / "hop__s2__seed0")
    code, out, err = server.call("resume", head(home), folder=home)
    assert code == 0 and "6 of 9 chunks present" in err and "3 to do" in err and "run     runs/" in out
    assert (root / "results.parquet").read_bytes() == (undisturbed / "results.parquet").read_bytes()
    assert read_json(root / "manifest.json")["command"] == read_json(undisturbed / "manifest.json")["command"]


def test_what_names_no_run_or_two_is_exit_code_2(server, home):
    assert server.call("resume", "abcd", folder=home)[0] == 2
    name = head(home)
    assert server.call("resume", name[:3], folder=home)[0] == 2
    shutil.copytree(home / "runs" / "20260101T000000Z-tiny-one", home / "runs" / "two")
    code, _, err = server.call("resume", name, folder=home)
    assert code == 2 and "is the head of 2 runs: runs/20260101T000000Z-tiny-one, runs/two" in err


CHANGES = {
    "version of a method": (
        "import dataclasses\nnouns = found.nouns['method']\n"
        "nouns['ode'] = dataclasses.replace(nouns['ode'], noun=dataclasses.replace(nouns['ode'].noun, version='2'))",
        "cells.ode__s2__seed0.version"),
    "data": ("tiny_plugin.Dots.digest = '0' * 64", "dataset.digest"),
    "number format": ("import scottbench.plan.device\nscottbench.plan.device.choose_dtype = lambda preset, device: 'bfloat16'", "dtype"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_reused_where_something_else_is_meant_now(server, home, change):
    before, place = CHANGES[change]
    (root,) = (home / "runs").iterdir()
    untouched = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for line in (("resume", str(root)), ("score", str(root), "-k", "agreement")):
        code, out, err = server.call(*line, folder=home, before=before)
        assert (code, out) == (5, "") and place in err and "Nothing of it is reused" in err and err.count("\n") == 1
    # the function behind `score` does not rely on the command's check
    unchecked = "\nimport scottbench.store.differences, scottbench.run.score\nscottbench.store.differences.check_same = lambda *_: None"
    assert server.call("score", str(root), "-k", "agreement", folder=home, before=before + unchecked)[0] == 5
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == untouched


def test_the_same_line_on_a_folder_with_other_digests_is_exit_code_5_and_another_line_is_2(server, home):
    (root,) = (home / "runs").iterdir()
    code, _, err = server.call(*RUN, "-o", str(root), folder=home, before=CHANGES["data"][0])
    assert code == 5 and "dataset.digest" in err
    code, _, err = server.call(*RUN, "-s", "1", "-o", str(root), folder=home)
    assert code == 2 and "holds a run of plan" in err


def test_a_plan_shows_cells_images_evaluations_cost_and_what_is_done_and_writes_nothing(server, home):
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    code, out, _ = server.call("plan", "-p", "tiny", folder=home)
    lines = out.splitlines()
    assert code == 0 and lines[0].endswith("preset tiny  2 methods x 1 step count x 1 seed x 12 prompts = 24 images")
    assert [line.split()[:4] for line in lines[2:4]] == [["ode__s2__seed0", "3", "12", "4"], ["hop__s2__seed0", "2.5", "12", "2"]]
    assert lines[4] == "left to do: nothing; level exact" and lines[-1].endswith("9 of 9 chunks")
    code, out, _ = server.call("run", "--dry-run", "-p", "tiny", "-m", "hop", "--seeds", "0..1", "--json", folder=home)
    found = json.loads(out)
    assert code == 0 and found["images"] == 24 and [cell["nfe"] for cell in found["cells"]] == [2, 2] and found["chunks_done"] == 0
    assert found["seconds"] > 0 and 20_000 < found["bytes"] < 1_000_000
    assert found["settings"]["seeds"] == {"value": [0, 1], "origin": "flag"}
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_several_seeds_are_several_cells(server, tmp_path):
    assert server.call(*RUN, "-m", "hop", "-n", "4", "--seeds", "0..1", "-o", "run", folder=tmp_path)[0] == 0
    rows = pl.read_parquet(tmp_path / "run" / "results.parquet")
    cells = rows.filter(pl.col("seed").is_not_null())
    assert cells["seed"].to_list() == [0, 0, 1, 1] and cells["value"].n_unique() == 4
    means = rows.filter(pl.col("seed").is_null())
    of_cells = cells.group_by("metric", maintain_order=True).agg(pl.col("value").mean())
    assert means["metric"].to_list() == of_cells["metric"].to_list()
    assert means["value"].to_list() == pytest.approx(of_cells["value"].to_list(), rel=1e-12)


def test_other_metrics_are_measured_without_generating(server, home, undisturbed):
    refuse = "import scottbench.models.sampling as s\ndef refuse(*_):\n    raise AssertionError\ns.Sampler.latents = refuse"
    (root,) = (home / "runs").iterdir()
    shutil.rmtree(root / "features" / "hop__s2__seed0")  # made again from the images
    before = (root / "results.parquet").read_bytes()
    code, out, _ = server.call("score", head(home), "-k", "agreement", "--json", "-q", folder=home, before=refuse)
    assert code == 0
    rows = json.loads(out)["results"]
    own = pl.read_parquet(undisturbed / "results.parquet").filter(pl.col("metric") == "agreement")
    assert [row["value"] for row in rows] == own["value"].to_list() and [row["nfe"] for row in rows] == [4, 2]
    assert (root / "results.parquet").read_bytes() == before
    shutil.rmtree(root / "images" / "hop__s2__seed0")
    assert server.call("score", head(home), "-k", "agreement", "-q", folder=home)[0] == 4


def test_images_made_again_are_the_stored_ones(server, home):
    code, out, err = server.call("verify", head(home), "--resample", "5", folder=home)
    images = [line for line in err.splitlines() if "the same bytes" in line and "features/" not in line]
    assert code == 0 and out.endswith(": as recorded\n") and len(images) == 5
    assert all(f"features/{owner}/image/" in err for owner in ("reference", "text"))
    other = "import scottbench.models.sampling as s\nlatents = s.Sampler.latents\ns.Sampler.latents = lambda *a: 2 * latents(*a)"
    code, _, err = server.call("verify", head(home), "--resample", "2", "-q", folder=home, before=other)
    assert code == 5 and err.count("made again, it differs by") == 2
    other = "import scottbench.models.extractors as e\nown = e.OpenExtractor.features\ne.OpenExtractor.features = lambda *a: own(*a) + 1"
    code, _, err = server.call("verify", head(home), "--resample", "1", "-q", folder=home, before=other)
    assert code == 5 and err.count("made again, its rows differ") == 2 and "features/reference/image" in err


MOVED = """
import os, scottbench.run.sample as sample
own = sample.sample_cell
def moved(*given):
    if os.path.exists("run"):
        {how}
    return own(*given)
sample.sample_cell = moved
"""


@pytest.mark.parametrize("how", ["os.rename('run', 'elsewhere')", "import shutil; shutil.rmtree('run')"])
def test_a_run_folder_that_is_moved_or_deleted_meanwhile_is_one_line_and_not_made_again(server, tmp_path, how):
    code, out, err = server.call(*RUN, "-n", "8", "-o", "run", folder=tmp_path, before=MOVED.format(how=how))
    assert (code, out) == (4, "") and "run was moved or deleted while the run went on" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    if "rename" in how:
        code, _, err = server.call("resume", "elsewhere", folder=tmp_path)
        assert code == 0 and "2 of 6 chunks present" in err and len(list(tmp_path.glob("elsewhere/features/reference/*/*.npy"))) == 2


def test_a_run_folder_does_not_choose_which_model_is_opened(server, tmp_path):
    import tiny_plugin

    shutil.copytree(tiny_plugin.SHARED[0] / "model", tmp_path / "own")
    words = ("-m", "ode", "-n", "4", "--model", "own")
    assert server.call(*RUN, *words, "-o", "run", folder=tmp_path)[0] == 0
    for line in (["resume", "run"], ["score", "run", "-k", "gap"], ["merge", "run", "-o", "all"], ["verify", "run", "--resample", "1"]):
        code, out, err = server.call(*line, "-q", folder=tmp_path)
        assert (code, out) == (2, "") and "A run folder does not choose what is opened" in err and "--model own" in err, line
        assert server.call(*line, "--model", "own", "-q", folder=tmp_path)[0] == 0


def test_a_table_or_a_plan_that_was_edited_is_found(server, home):
    (root,) = (home / "runs").iterdir()
    assert server.call("verify", head(home), "-q", folder=home) == (0, "", "")
    (root / "results.parquet").write_bytes((root / "results.parquet").read_bytes()[:-1] + b"x")
    lock = read_json(root / "plan.lock.json")
    lock["plan"]["cells"][0]["guidance_scale"] = 9.0
    (root / "plan.lock.json").write_text(json.dumps(lock))
    code, _, err = server.call("verify", str(root), "-q", folder=home)
    assert code == 5 and "results.parquet has another sha256" in err and "the plan has another hash than it says" in err


def test_runs_are_listed_and_only_leftovers_is_removed(server, home):
    (root,) = (home / "runs").iterdir()
    killed, empty, theirs = (home / "runs" / name for name in ("killed", "empty", "theirs"))
    shutil.copytree(root, killed)
    for name in ("results", "items", "pairs", "timings"):
        (killed / f"{name}.parquet").unlink()
    (killed / "claims.json").unlink()
    manifest = read_json(killed / "manifest.json")
    (killed / "manifest.json").write_text(json.dumps(with_check({**manifest, "status": "running", "files": {}, "chunks": {}, "log": None})))
    for folder in (root, killed):
        images = folder / "images" / "hop__s2__seed0"
        (images / ".scottbench-0123456789abcdef.tmp").write_bytes(b"half")
        (images / "00000-00003.zip.tmp").write_bytes(b"of an earlier version")
        (images / "mine.tmp").write_bytes(b"not theirs")
        (images / "00004-00007.json").unlink()
    for folder in (empty, theirs):
        folder.mkdir()
        shutil.copy(root / "plan.lock.json", folder)
    (theirs / "notes.txt").write_text("mine")
    everything = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    code, out, _ = server.call("runs", folder=home)
    assert code == 0 and [line.split()[1] for line in out.splitlines()[1:]] == ["complete", "begun", "killed", "begun"]
    code, out, _ = server.call("runs", "gc", folder=home)
    *found, last = out.splitlines()
    here = "runs/killed/images/hop__s2__seed0"
    removed = ["runs/empty", f"{here}/.scottbench-0123456789abcdef.tmp", f"{here}/00000-00003.zip.tmp", f"{here}/00004-00007.zip"]
    assert [line.split("  ")[0] for line in found] == removed and all(line.endswith(("kB", "bytes")) for line in found)
    assert last.startswith("not removed: 4 things, ")
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == everything
    assert server.call("runs", "gc", "--yes", folder=home)[0] == 0
    gone = {str(path.relative_to(home)) for path in everything if not path.exists()}
    assert gone == {*removed[1:], "runs/empty/plan.lock.json"} and not empty.exists()


def test_a_folder_with_results_is_never_tidied(server, home, tmp_path):
    """A finished run whose images were taken away to save room, and an exported folder."""
    (root,) = (home / "runs").iterdir()
    assert server.call("export", str(root), "-o", str(home / "runs" / "out"), folder=home)[0] == 0
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "features")
    before = sorted(home.rglob("*"))
    code, out, _ = server.call("runs", "gc", "--yes", folder=home)
    assert (code, out) == (0, "nothing to remove\n") and sorted(home.rglob("*")) == before


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_obey_their_schemas_and_the_schemas_see_what_is_wrong(undisturbed):
    for name in ("plan.lock.json", "manifest.json", "env.json"):
        record = read_json(undisturbed / name)
        assert violations(record) == [], name
        for key in json.loads(known()[record["schema"]].read_text())["required"]:
            assert violations({other: value for other, value in record.items() if other != key}), f"{name} without {key}"
    manifest = read_json(undisturbed / "manifest.json")
    assert violations({**manifest, "status": "fine"}) and violations({**manifest, "schema": "scottbench.run/9"})


def test_a_run_of_session_1_is_still_read(tmp_path):
    """Records as version 1 wrote them: they obey the shipped schema 1, and a report is made of them."""
    from scottbench.report import build

    for name in ("plan.lock.json", "manifest.json"):
        assert violations(read_json(HERE / "run-schema-1" / name)) == []
    root = shutil.copytree(HERE / "run-schema-1", tmp_path / "run")
    assert "ode" in build(root).read_text()
    plans = {f"scottbench.plan/{version}" for version in (1, 2, 3)}
    assert {"scottbench.run/1", "scottbench.run/2", "scottbench.env/1", *plans} <= known().keys()


def test_no_environment_variable_but_those_of_the_list_is_recorded(server, tmp_path):
    assert server.call(*RUN, "-m", "hop", "-n", "2", "-o", "run", folder=tmp_path, OMP_NUM_THREADS="1", HF_TOKEN="hf_secret")[0] == 0
    everything = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"hf_secret" not in everything
    assert read_json(tmp_path / "run" / "env.json")["attempts"][0]["environment"]["variables"]["OMP_NUM_THREADS"] == "1"


def test_differences_are_named_by_what_differs():
    old = {"cells": [{"id": "a", "digest": "1"}, {"id": "b", "digest": "2"}], "n": 1}
    new = {"cells": [{"id": "a", "digest": "1"}, {"id": "b", "digest": "3"}], "n": 1, "seeds": [0]}
    assert differences(old, new) == ["cells.b.digest", "seeds"] and differences(old, old) == []
