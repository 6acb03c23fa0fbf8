"""`scottbench doctor`: every planted fault is a finding with its fix, no fault is a traceback, and none hides another."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import types

import numpy as np
import pytest
import tiny_plugin

from scottbench.cli import invoke
from scottbench.errors import DamagedAsset
from scottbench.registry.loader import load_plugins
from scottbench.run import doctor
from scottbench.run.finding import Finding
from scottbench.run.self_test import determinism, judged


def visit(plugins=None, preset="tiny"):
    made = doctor.Visit(preset)
    if plugins is not None:
        made.__dict__["plugins"] = plugins
    return made


def examine(name, given=None):
    return doctor.examine(name, doctor.CHECKS[name], given if given is not None else visit())


def test_python_and_packages_of_this_environment_are_fine():
    assert [one.status for one in examine("python")] == ["ok"]
    assert {one.status for one in examine("packages")} <= {"ok", "warning"}  # warning: run from a folder


def test_a_package_that_is_missing_or_old_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: ["nosuchthing>=1", "numpy>=999", 'resvg-py; extra == "build"'])
    found = examine("packages")
    assert [one.status for one in found] == ["problem", "problem"]
    assert [one.fix for one in found] == ["pip install 'nosuchthing>=1'", "pip install 'numpy>=999'"]


def test_an_old_python_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 1))
    assert examine("python")[0].status == "problem"


def test_without_torch_that_is_said_once_and_what_needs_it_is_skipped(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    given = visit()
    (torch,) = examine("torch", given)
    assert torch.status == "problem" and "cannot be imported" in torch.found and "pip install" in torch.fix
    for name in ("device", "threads", "assets", "determinism"):
        assert [one.status for one in examine(name, given)] == ["skipped"], name
    assert examine("disk", given)[0].status != "skipped"


def test_more_threads_than_cores_is_a_problem_with_the_line_that_mends_it(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(doctor, "cores", lambda: 3)
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (9.0, 0, 0))
    threads, load = examine("threads")
    assert (threads.status, threads.fix) == ("problem", "export OMP_NUM_THREADS=3")
    assert load.status == "warning"


@pytest.mark.parametrize("free, status", [(1e9, "problem"), (8e9, "ok"), (None, "skipped")])
def test_memory_is_held_against_what_a_run_takes(monkeypatch, free, status):
    monkeypatch.setattr(doctor, "free_memory", lambda: None if free is None else int(free))
    assert examine("memory")[0].status == status


@pytest.mark.parametrize("free, status", [(5e6, "problem"), (1e9, "warning"), (1e12, "ok")])
@pytest.mark.parametrize("name", ["disk", "cache"])
def test_a_full_disk_is_a_problem(monkeypatch, name, free, status):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: types.SimpleNamespace(free=int(free)))
    found = examine(name)[0]
    assert found.status == status
    assert bool(found.fix) == (status != "ok")


def test_folders_that_cannot_be_written_are_told(monkeypatch, tmp_path):
    def full(dir):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "file" / "cache"))
    found = examine("cache")[0]
    assert found.status == "problem" and "is no folder" in found.found and "SCOTTBENCH_CACHE" in found.fix
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", full)
    assert "No space left" in examine("disk")[0].found


def test_the_disk_check_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    examine("disk")
    assert list(tmp_path.iterdir()) == []


def broken(text):
    def load():
        raise ImportError(text)

    return types.SimpleNamespace(name="extra", value="extra", load=load, dist=types.SimpleNamespace(name="extra-package", version="0.2"))


def test_a_broken_plug_in_is_named_with_the_package_that_it_lacks():
    (found,) = [one for one in examine("plug-ins", visit(load_plugins([broken("No module named 'nosuch.sub'")]))) if "extra" in one.found]
    assert found.status == "problem"
    assert "'extra' of extra-package 0.2" in found.found
    assert found.fix.startswith("pip install nosuch,") and found.fix.endswith("--no-plugin extra")


def test_a_name_in_the_variable_that_is_no_plug_in_s_is_a_finding(monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_PLUGINS", "nosuch")
    assert "no plug-in is called 'nosuch'" in examine("plug-ins")[0].found


def test_whole_assets_are_fine(plugins):
    assert [one.status for one in examine("assets", visit(plugins)) if "tiny" in one.found] == ["ok"]


def test_missing_and_damaged_assets_are_told_as_a_run_would_tell_them(files, tmp_path):
    shutil.copytree(files, tmp_path / "tiny")
    plugins = tiny_plugin.tiny_plugins(tmp_path / "tiny")
    (tmp_path / "tiny" / "evaluator" / "SHA256SUMS").write_text(f"{'0' * 64}  open_clip_config.json\n")
    damaged = examine("assets", visit(plugins))[0]
    assert damaged.status == "problem" and "damaged" in damaged.found and damaged.fix
    shutil.rmtree(tmp_path / "tiny" / "model")
    missing = examine("assets", visit(plugins))[0]
    assert missing.status == "problem" and missing.fix
    elsewhere = examine("assets", visit(plugins, preset="another"))
    assert elsewhere[0].status == "problem" and "another" in elsewhere[0].found
    assert elsewhere[1].status == "warning" and "scottbench plan -p tiny" in elsewhere[1].fix


def test_the_line_that_fetches_is_the_fix():
    error = DamagedAsset("model cannot be used:\n  damaged a/b: sha256 is not 1234...  fetch: hf download a/b\n  damaged c: 3 bytes")
    found = doctor._lacking("pocket", error, needed=True)
    assert found.fix == "hf download a/b"
    assert "fetch" not in found.found and "damaged c: 3 bytes" in found.found


def test_images_of_a_sound_machine_are_the_same_bytes(plugins):
    assert determinism(plugins, "tiny").status == "ok"


def test_a_method_that_draws_noise_of_its_own_is_caught(files):
    import torch

    plugins = tiny_plugin.tiny_plugins(files)
    sample = tiny_plugin.sample_ode
    found = plugins.nouns["method"]["ode"]
    noun = doctor_replace(found.noun, sample=lambda run: sample(run) + torch.rand(()))
    plugins.nouns["method"]["ode"] = doctor_replace(found, noun=noun)
    finding = determinism(plugins, "tiny")
    assert finding.status == "problem" and "made twice" in finding.found and finding.fix


def doctor_replace(item, **changes):
    import dataclasses

    return dataclasses.replace(item, **changes)


def test_a_gpu_may_differ_by_its_tolerance_and_a_cpu_by_nothing():
    first = np.full((2, 4, 4, 3), 100, np.uint8)
    assert judged(first, first, first + 3, exact=False).status == "ok"
    assert judged(first, first, first + 3, exact=True).status == "problem"
    assert "made twice" in judged(first, first + 3, first, exact=True).found
    assert judged(first, first, first + 33, exact=False).status == "problem"


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), SystemExit(3), MemoryError()])
def test_a_check_that_fails_is_a_finding_and_costs_the_others_nothing(monkeypatch, error):
    def failing(visit):
        yield Finding("odd", "ok", "First half.")
        raise error

    monkeypatch.setattr(doctor, "CHECKS", {"odd": failing, "python": doctor.python})
    found = list(doctor.examined("tiny"))
    assert [one.status for one in found][1:] == ["problem", "ok"] or [one.status for one in found] == ["problem", "ok"]
    assert any(type(error).__name__ in one.found and one.fix for one in found)


def planted(*findings):
    return {"all": lambda visit: iter(findings)}


def test_exit_codes_and_lines_of_80_columns(monkeypatch, capsys):
    well = Finding("disk", "ok", "The folder of runs is runs, 40.5 GB free. " * 4)
    wrong = Finding("plug-ins", "problem", "'extra' of x 1: No module named 'nosuch'.", "pip install nosuch. " * 6)
    monkeypatch.setattr(doctor, "CHECKS", planted(well))
    assert invoke(["doctor"]) == 0
    assert "All well" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "CHECKS", planted(well, wrong, Finding("load", "warning", "Busy.")))
    assert invoke(["doctor"]) == 1
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "WRONG plug-ins" in out and "fix: pip install nosuch" in out and "1 thing to mend" in out


def test_json_has_every_finding(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", planted(Finding("disk", "problem", "Full.", "Free some space.")))
    assert invoke(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["ok"]) == ("scottbench.doctor/1", False)
    (finding,) = document["findings"]
    assert finding.keys() == {"check", "status", "found", "fix", "seconds"}
