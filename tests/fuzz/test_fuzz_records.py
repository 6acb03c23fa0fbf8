"""Random damage to the records of a finished run: every verb that reads them ends in one line, and none shows another number silently.

The seed of each is its number: SCOTTBENCH_FUZZ=long pytest tests/fuzz -k "records[17]".
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from fuzzing import LONG

from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.run.execute import execute

VALUES = [None, True, -1, 0, 10**30, 1e308, "x", "", [], {}, [[]], {"a": {}}, "\x1b[31m", "../..", "/etc/passwd", [1, "a"], "x" * 5000]
READERS = [("verify", "run"), ("claims", "run", "--json"), ("export", "run", "--to", "csv"), ("compare", "run", "ode@2", "hop@2", "--json"),
           ("runs", "list", "--json"), ("plan", "-p", "tiny", "-m", "ode,hop", "-o", "run")]  # fmt: skip
SHOW = {"claims", "export", "compare"}
"""Verbs that show numbers of the run."""


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory) -> Path:
    """A finished run; read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    plan = make_plan(tiny, RunRequest("tiny", methods=["ode", "hop"], device="cpu", command="scottbench run -p tiny"))
    execute(plan, tiny, folder, None, lambda event: None)
    return folder


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damage(source: random.Random, folder: Path) -> str:
    """Damage one file of a run, in a way that its bytes differ; say what was done."""
    paths = files_of(folder)
    records = [path for path in paths if path.parent == folder]
    path = source.choice(records if source.random() < 0.7 else paths)
    kind = source.choice(["bit", "cut", "gone", "value", "value", "key", "swap", "folder", "link", "pipe", "zeros", "double"])
    data = path.read_bytes()
    if kind in ("value", "key") and path.suffix != ".json":
        kind = "bit"
    if kind == "bit" and data:
        place = source.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << source.randrange(8))]) + data[place + 1 :])
    elif kind == "cut":
        path.write_bytes(data[: source.randrange(len(data) or 1)])
    elif kind in ("value", "key"):
        path.write_text(json.dumps(changed(source, json.loads(data), kind)))
    elif kind == "swap":
        path.write_bytes(source.choice([other for other in paths if other.read_bytes() != data]).read_bytes())
    elif kind == "zeros":
        path.write_bytes(bytes(len(data) or 1))
    elif kind == "double":
        path.write_bytes(data + data)
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to("/dev/zero" if source.random() < 0.5 else "nowhere")
        elif kind == "pipe":
            os.mkfifo(path)
    return f"{kind} of {path.relative_to(folder)}"


def changed(source: random.Random, record: object, kind: str) -> object:
    """A JSON document with one value replaced by one of another kind, or one key taken away, somewhere in it."""
    holder, key = None, None
    inner = record
    while isinstance(inner, (dict, list)) and inner and (holder is None or source.random() < 0.7):
        holder, key = inner, source.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        inner = holder[key]
    if holder is None:
        return source.choice(VALUES)
    if kind == "key":
        del holder[key]
    else:
        number = isinstance(inner, (int, float)) and not isinstance(inner, bool)
        holder[key] = inner + 1 if number and source.random() < 0.5 else source.choice([value for value in VALUES if value != inner])
    return record


def shown(words: tuple[str, ...], out: str, folder: Path) -> object:
    """The numbers that a verb shows: its document, or the tables that it wrote."""
    if words[0] != "export":
        return json.loads(out)
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((folder / "exports").glob("*.csv"))}


@pytest.fixture(scope="module")
def good():
    """Verb -> what it shows of the whole run; filled by the first test that needs it."""
    return {}


def learn(call, good: dict, finished: Path, place: Path) -> None:
    shutil.copytree(finished, place / "run")
    for words in READERS:
        code, out, wrong = call(*words)
        assert (code, wrong) == (0, ""), (words, out)
        if words[0] in SHOW:
            good[words[0]] = shown(words, out, place / "run")
    shutil.rmtree(place / "run")


@pytest.mark.parametrize("number", range(300 if LONG else 30), ids=lambda number: f"{number}")
def test_damaged_records_are_refused_in_one_line_or_change_nothing(call, good, finished, tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    if not good:
        learn(call, good, finished, tmp_path)
    source = random.Random(number)
    shutil.copytree(finished, tmp_path / "run")
    os.symlink(tmp_path / "run", tmp_path / "runs" / "one")
    done = damage(source, tmp_path / "run")
    silent = []
    readers = READERS if LONG else [*READERS[:1], *source.sample(READERS[1:], 2)]
    for words in readers:
        code, out, wrong = call(*words)
        assert not wrong, f"{done}: scottbench {' '.join(words)}: {wrong}"
        if code == 0 and words[0] in SHOW and shown(words, out, tmp_path / "run") != good[words[0]]:
            silent.append(words[0])
        if code == 0 and words[0] == "verify":
            silent.append("verify")
    assert not silent, f"{done}: not noticed by {', '.join(silent)}"


def survives(call, finished: Path, copy: Path, seeds: range, *words: str) -> None:
    """Each seed's damage, done to a copy of the run, ends a command line in one line at most."""
    for seed in seeds:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(finished, copy)
        done = damage(random.Random(seed), copy)
        _, _, wrong = call(*words)
        assert not wrong, f"{done}: {wrong}"


def test_a_run_whose_records_are_damaged_is_resumed_or_refused(call, finished, tmp_path, monkeypatch):
    """`resume` writes: each of a few kinds of damage by itself, and then once more."""
    monkeypatch.chdir(tmp_path)
    survives(call, finished, tmp_path / "run", range(1000, 1060 if LONG else 1004), "resume", "run", "-q", "--json")


def test_a_report_of_damaged_records_is_refused_or_as_before(call, finished, tmp_path, monkeypatch):
    """`report` draws: fewer of it."""
    monkeypatch.chdir(tmp_path)
    survives(call, finished, tmp_path / "run", range(2000, 2040 if LONG else 2002), "report", "run")
