"""A run folder may come from anybody: what was changed in it is one line and code 5, nothing in it leads elsewhere or fills the memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import zipfile
import zlib

import numpy as np
import polars as pl
import pytest

from scottbench.cli import invoke
from scottbench.errors import IntegrityError, UsageError
from scottbench.report import build
from scottbench.report.export import Choice, export
from scottbench.run.execute import reopen
from scottbench.store.contents import PIXELS
from scottbench.store.files import canonical, read_json
from scottbench.store.folder import RunFolder
from scottbench.store.reader import read_manifest
from scottbench.store.verify import verify

CELL, OTHER = "ode__s2__seed0", "hop__s2__seed0"
FIRST = range(4)


@pytest.fixture
def run(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "run")


def told(capsys, *arguments) -> tuple[int, str]:
    """(exit code, the one line on stderr) of a command line."""
    code = invoke([str(one) for one in arguments])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err


def edit_json(path, change) -> None:
    record = read_json(path)
    path.write_text(json.dumps(change(record) or record))


def edit_bytes(path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


# --- records ---------------------------------------------------------------------------------------------------------


def change_value(run):
    """FID to 3.14, as a reader of the table alone could not see."""
    table = pl.read_parquet(run / "results.parquet")
    table.with_columns(value=pl.lit(3.14)).write_parquet(run / "results.parquet", compression="uncompressed")


RECORDS = {
    "a value of the results": (change_value, "results.parquet"),
    "one bit of the items": (lambda run: edit_bytes(run / "items.parquet"), "items.parquet"),
    "one bit of the claims": (lambda run: edit_bytes(run / "claims.json"), "claims.json"),
    "a claim added": (lambda run: edit_json(run / "claims.json", lambda old: old["claims"].append({})), "claims.json"),
    "results of 30 million rows": (
        lambda run: pl.DataFrame({"value": np.zeros(30_000_000)}).write_parquet(run / "results.parquet"), "results.parquet"),
    "a table that is a link": (
        lambda run: ((run / "pairs.parquet").rename(run.parent / "pairs"), (run / "pairs.parquet").symlink_to(run.parent / "pairs")),
        "pairs.parquet is a link"),
    "timings taken away": (lambda run: (run / "timings.parquet").unlink(), "timings.parquet"),
    "settings": (lambda run: edit_json(run / "plan.lock.json", lambda old: old["settings"].pop("steps") and None), "plan.lock.json"),
    "environments": (lambda run: edit_json(run / "env.json", lambda old: old["attempts"].append(old["attempts"][0])), "env.json"),
    "the log": (lambda run: edit_bytes(run / "events.ndjson"), "events.ndjson"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_was_changed_is_found(run, name, capsys):
    change, words = RECORDS[name]
    change(run)
    code, err = told(capsys, "verify", run, "-q")
    assert code == 5 and words in err
    if name in ("settings", "environments", "the log"):  # no page shows them
        return
    for verb in (["report", run], ["export", run, "--to", "csv"], ["compare", run, "ode", "hop"]):
        if name == "one bit of the items" and verb[0] != "compare":
            continue
        code, err = told(capsys, *verb)
        assert code == 5 and words in err and err.count("\n") == 1, verb


@pytest.mark.parametrize("change", [
    {"shard": 3}, {"cells": 5}, {"metrics": [1]}, {"plan": []}, {"wall_seconds": "x"}, {"files": {"results.parquet": 5}}, {"samples": None},
    {"chunks": []}, {"status": "fine"},
])  # fmt: skip
def test_wrong_kinds_in_a_manifest_are_one_line(run, change, capsys):
    edit_json(run / "manifest.json", lambda old: {**old, **change})
    for verb in ("report", "export", "verify"):
        code, err = told(capsys, verb, run)
        assert code == 5 and "manifest.json" in err, verb
    with pytest.raises(IntegrityError, match="manifest.json is damaged"):
        build(run)


@pytest.mark.parametrize("text", ['{"schema": NaN}', '{"schema": "scottbench.run/3", "x": 1e999}', "[" * 10**5, "9" * 10**4, "\xff"])
def test_a_manifest_that_is_no_record_is_one_line(run, text, capsys):
    (run / "manifest.json").write_text(text, encoding="latin-1")
    for verb in ("report", "verify"):
        code, err = told(capsys, verb, run)
        assert code == 5 and "manifest.json" in err, verb
    assert invoke(["runs"]) == 0


PLANS = {
    "n of a million millions": lambda plan: plan["dataset"].update(n=10**12),
    "n is text": lambda plan: plan["dataset"].update(n="x"),
    "chunks of none": lambda plan: plan.update(chunk=0),
    "cells are a number": lambda plan: plan.update(cells=5),
    "extractors are a list": lambda plan: plan.update(extractors=[]),
    "a cell that leads out": lambda plan: plan["cells"][0].update(id="../../x"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_that_no_run_made_is_one_line_even_under_its_own_hash(run, name, capsys, monkeypatch):
    def change(lock):
        PLANS[name](lock["plan"])
        lock["plan_hash"] = hashlib.sha256(canonical(lock["plan"])).hexdigest()

    edit_json(run / "plan.lock.json", change)
    code, err = told(capsys, "verify", run, "-q")
    assert code == 5 and len(err.splitlines()) < 20
    (run.parent / "runs").mkdir()
    shutil.move(run, run.parent / "runs" / "one")
    monkeypatch.chdir(run.parent)
    assert invoke(["runs", "list"]) == 0
    out = capsys.readouterr().out.splitlines()[1]
    assert out.split()[0] == "damaged"


@pytest.mark.parametrize("name", ["methods", "limit", "seeds", "students"])
@pytest.mark.parametrize("value", [5, "x", [[]], {"a": []}])
def test_wrong_kinds_in_what_was_asked_for_are_one_line(name, value):
    from scottbench.plan.request import request_of

    settings = {"preset": {"value": "tiny", "origin": "flag"}, name: {"value": value, "origin": "flag"}}
    if (name, value) == ("limit", 5):
        assert request_of(settings, {}, "").limit == 5
        return
    with pytest.raises(IntegrityError, match=f"nobody can ask for '{name}'"):
        request_of(settings, {}, "")


# --- chunks ----------------------------------------------------------------------------------------------------------


def vouch(run, place: str, data: bytes) -> None:
    """Put bytes into the first chunk of a place, under a side-car that fits in all but what they are."""
    path = next((run / place).glob("00000-*.json"))
    data_path = path.with_suffix(".zip" if place.startswith("images") else ".npy")
    data_path.write_bytes(data)
    facts = {**read_json(path), "sha256": hashlib.sha256(data).hexdigest()}
    facts.pop("check")
    path.write_text(json.dumps({**facts, "check": hashlib.sha256(canonical(facts)).hexdigest()}))


def npy(header: bytes, body: bytes = b"") -> bytes:
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def png_of(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def archive(ids, content: bytes, how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as made:
        for item_id in ids:
            made.writestr(f"{item_id}.png", content)
    return buffer.getvalue()


IDS = [f"dot-{number:02d}" for number in range(4)]
CONTENTS = {
    "an array of objects": ("features", npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (4, 8), }", b"\x80\x04N.")),
    "an array that says to be huge": ("features", npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 10000000000), }")),
    "three rows of four": ("features", npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }", bytes(24))),
    "a header that is code": ("features", npy(b"__import__('os').abort()")),
    "no archive": ("images", b"no zip"),
    "an archive that unpacks to much": ("images", archive(IDS, bytes(2**24), zipfile.ZIP_DEFLATED)),
    "pictures that say to be huge": ("images", archive(IDS, png_of(13000, 13000))),
    "pictures that are none": ("images", archive(IDS, b"<script>")),
    "other pictures": ("images", archive(["x", "y", "z", "w"], png_of(8, 8))),
    "a picture that cannot be decoded": ("images", archive(IDS, png_of(64, 64)[:-20])),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_chunk_that_no_run_wrote_is_refused_though_its_side_car_fits(run, name):
    kind, data = CONTENTS[name]
    place = ("images", CELL) if kind == "images" else ("features", CELL, "image")
    vouch(run, "/".join(place), data)
    folder = RunFolder(run)
    with pytest.raises(IntegrityError, match="no run wrote it") as caught:
        (folder.get_images if kind == "images" else folder.get_features)(place, FIRST, IDS)
    assert "\n" not in str(caught.value)
    assert any("no run wrote it" in line or "side-cars" in line for line in verify(run).wrong)


def test_a_picture_as_large_as_allowed_is_not_refused_by_its_size():
    from scottbench.store.contents import picture_size

    assert picture_size(png_of(4096, PIXELS // 4096)) == (4096, 4096)


@pytest.mark.parametrize("verb", ["resume", "score", "merge"])
def test_verbs_that_use_chunks_refuse_them_in_one_line(server, run, verb):
    vouch(run, f"features/{CELL}/image", CONTENTS["an array that says to be huge"][1])
    line = {"resume": ["resume", "run"], "score": ["score", "run", "-k", "agreement"], "merge": ["merge", "run", "-o", "all"]}[verb]
    code, _, err = server.call(*line, "-q", folder=run.parent)
    assert code == 5 and "no run wrote it" in err and err.count("\n") == 1


def swapped_cells(run):
    for kind in ("images", "features"):
        for old, new in ((CELL, "x"), (OTHER, CELL), ("x", OTHER)):
            (run / kind / old).rename(run / kind / new)


def reference_as_cell(run):
    shutil.rmtree(run / "features" / CELL)
    shutil.copytree(run / "features" / "reference", run / "features" / CELL)


def other_weights(run):
    for path in (run / "images" / CELL).glob("*.json"):
        facts = {**read_json(path), "weights": "f" * 64}
        facts.pop("check")
        path.write_text(json.dumps({**facts, "check": hashlib.sha256(canonical(facts)).hexdigest()}))


def test_verify_notices_a_changed_manifest_and_a_log_with_a_line_twice(run, capsys):
    """Values that no digest of another file covers: a time of the manifest, lines after the end of the run."""
    log = (run / "events.ndjson").read_bytes()
    (run / "events.ndjson").write_bytes(log + log)
    assert told(capsys, "verify", run, "-q")[0] == 5
    (run / "events.ndjson").write_bytes(log)
    assert told(capsys, "verify", run, "-q")[0] == 0
    edit_json(run / "manifest.json", lambda record: record.update(store_seconds=record["store_seconds"] + 1))
    code, err = told(capsys, "verify", run, "-q")
    assert code == 5 and "manifest.json: was changed after the run" in err
    for verb in ("report", "claims", "export"):
        assert told(capsys, verb, run)[0] == 5


def test_a_run_that_is_gone_on_with_has_a_manifest_that_vouches_for_itself(run):
    """`resume` marks it as running first: killed there, it is readable still."""
    reopen(RunFolder(run))
    assert read_manifest(run)["status"] == "running"


@pytest.mark.parametrize("change", [swapped_cells, reference_as_cell, other_weights])
def test_a_chunk_in_another_place_does_not_exist(server, run, undisturbed, change):
    change(run)
    assert any("another place" in line for line in verify(run).wrong)
    assert server.call("merge", "run", "-o", "all", "-q", folder=run.parent)[0] == 4
    if change is not reference_as_cell:
        code, _, err = server.call("score", "run", "-k", "agreement", "-q", folder=run.parent)
        assert code == 4 and "Finish it first" in err
    code, _, err = server.call("resume", "run", folder=run.parent)
    assert code == 0 and "damaged chunk(s) discarded" in err
    assert (run / "results.parquet").read_bytes() == (undisturbed / "results.parquet").read_bytes() and verify(run).wrong == []


def test_chunks_of_an_older_version_are_read_for_its_runs_alone(run):
    for path in run.glob("images/*/*.json"):
        path.write_text(json.dumps({key: value for key, value in read_json(path).items() if key in ("ids", "sha256", "nfe")}))
    place = ("images", CELL)
    assert RunFolder(run).get_images(place, FIRST, IDS) is None

    def older(lock):
        lock["schema"] = lock["plan"]["schema"] = "scottbench.plan/2"
        lock["plan_hash"] = hashlib.sha256(canonical(lock["plan"])).hexdigest()

    edit_json(run / "plan.lock.json", older)
    assert RunFolder(run).get_images(place, FIRST, IDS).shape[0] == 4


def gone(*paths):
    def change(run):
        for path in paths:
            (run / path).unlink()
    return change


TEXT = "features/text/image/00000-00003"
LOST = {
    "features of prompts": gone(f"{TEXT}.npy"), "their side-car": gone(f"{TEXT}.json"), "both": gone(f"{TEXT}.npy", f"{TEXT}.json"),
    "half of them": lambda run: (run / f"{TEXT}.npy").write_bytes((run / f"{TEXT}.npy").read_bytes()[:99]),
    "half a side-car": lambda run: (run / f"{TEXT}.json").write_bytes((run / f"{TEXT}.json").read_bytes()[:99]),
    "seconds in a side-car": lambda run: edit_json(
        run / f"images/{CELL}/00000-00003.json", lambda old: old["seconds"].update(denoise=9.0)),
    "a file that is no chunk": lambda run: (run / "images" / CELL / "note.txt").write_text("x"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_every_file_among_the_chunks_is_checked(run, name, capsys):
    LOST[name](run)
    code, err = told(capsys, "verify", run, "-q")
    assert code == 5 and ("text" in err or "images" in err)


# --- page, export ----------------------------------------------------------------------------------------------------


def test_the_page_and_an_exported_folder_are_checked_too(run, tmp_path, capsys):
    assert told(capsys, "verify", run, "-q")[0] == 0
    page = build(run)
    assert told(capsys, "verify", run, "-q")[0] == 0
    out = tmp_path / "out"
    assert told(capsys, "export", run, "-o", out)[0] == 0
    assert told(capsys, "verify", out, "-q") == (0, "")
    assert told(capsys, "report", out)[0] == 0 and told(capsys, "verify", out, "-q") == (0, "")  # no pictures
    edit_bytes(out / "results.csv")
    assert told(capsys, "verify", out, "-q")[0] == 5
    edit_bytes(page)
    code, err = told(capsys, "verify", run, "-q")
    assert code == 5 and "index.html" in err
    assert told(capsys, "export", run, "-o", out)[0] == 5
    (page.parent / "SHA256SUMS").unlink()
    assert told(capsys, "verify", run, "-q")[0] == 5


@pytest.mark.parametrize("name", ["h[1]", "e\x1b[31mred", "[red]x <b>", os.fsdecode(b"nu\xff"), "*", "a{b,c}"])
def test_no_name_of_a_folder_is_taken_for_a_pattern(run, name):
    shutil.copytree(run, run.parent / "h1")
    edit_json(run.parent / "h1" / "manifest.json", lambda old: {**old, "files": {}})
    run = run.rename(run.parent / name)
    assert build(run).is_file()
    assert export(run, Choice(("csv",)), run / "exports", records=False) and verify(run).wrong == []


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["events.ndjson", "lock.json", "manifest.json", "env.json", "claims.json", "report", "images"])
def test_nothing_is_written_through_a_link(server, run, tmp_path, name):
    target = tmp_path / "target"
    (run / name).rename(target) if (run / name).exists() else target.write_text("mine")
    before = target.read_bytes() if target.is_file() else sorted(target.rglob("*"))
    (run / name).symlink_to(target)
    server.call("resume", "run", "-q", folder=tmp_path)
    with_page = name != "report" or pytest.raises(UsageError)
    if with_page is not True:
        with with_page:
            build(run)
    assert before == (target.read_bytes() if target.is_file() else sorted(target.rglob("*")))


def test_a_temporary_name_that_is_a_link_is_never_opened(tmp_path):
    folder, target = RunFolder(tmp_path), tmp_path / "target"
    target.write_text("mine")
    for name in ("manifest.json.tmp", "x.json.tmp"):
        (tmp_path / name).symlink_to(target)
    folder.put("manifest.json", b"{}")
    folder.put("x.json", b"{}")
    assert target.read_text() == "mine"


def test_merge_takes_regular_files_only(server, run):
    for name in ("images", "features"):
        (run / name).rename(run.parent / name)
        (run / name).symlink_to(run.parent / name)
    assert server.call("merge", "run", "-o", "all", "-q", folder=run.parent)[0] == 4
    assert not list((run.parent / "all").rglob("*.zip"))
