"""flag > SCOTTBENCH_* variable > config file > preset > default; every value with its origin; several seeds."""

from __future__ import annotations

import json

import pytest
from tiny_plugin import tiny_plugins

from scottbench.cli import invoke
from scottbench.errors import UsageError
from scottbench.plan.request import NAMES, RunRequest, misspelt, parse_seeds, read_config, request_of

CONFIG = """
preset = "tiny"
steps = [1, 2]
limit = 7
seeds = "0..1"
guidance = 1.5
[options]
eta = 0.5
[students]
hop = "./student"
"""


@pytest.fixture
def show(files, tmp_path, monkeypatch, capsys):
    """show(*arguments) -> {setting: (value, origin)}."""
    plugins = tiny_plugins(files)
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: plugins)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench.toml").write_text(CONFIG)

    def call(*arguments: str) -> dict:
        assert invoke(["config", "show", "--json", *arguments]) == 0
        return {name: (entry["value"], entry["origin"]) for name, entry in json.loads(capsys.readouterr().out).items()}

    return call


def test_every_level_gives_way_to_the_one_before(show, monkeypatch):
    assert show("-p", "tiny")["steps"] == ([2], "preset tiny")
    assert show("-c", "bench.toml")["steps"] == ([1, 2], "file bench.toml")
    monkeypatch.setenv("SCOTTBENCH_STEPS", "4")
    assert show("-c", "bench.toml")["steps"] == ([4], "SCOTTBENCH_STEPS")
    found = show("-c", "bench.toml", "-s", "8")
    assert found["steps"] == ([8], "flag")
    assert found["limit"] == (7, "file bench.toml") and found["seeds"] == ([0, 1], "file bench.toml")
    assert found["methods"] == (["ode", "hop"], "preset tiny") and found["batch_size"] == ("auto", "default")
    assert found["guidance"] == (1.5, "file bench.toml") and show("-p", "tiny")["guidance"] == ({"ode": 3.0}, "preset tiny")


def test_every_setting_has_a_variable(show, monkeypatch):
    values = {
        "preset": "tiny", "methods": "hop", "steps": "3", "metrics": "gap", "limit": "5", "seeds": "2", "guidance": "2.5",
        "options": "eta=1", "device": "cpu", "students": "hop=x", "model": "tiny", "batch_size": "8",
        "dataset": "dots", "prompts": "captions.csv", "compile": "blocks", "tf32": "on", "reference": "dots",
    }  # fmt: skip
    assert set(values) == set(NAMES)
    for name, value in values.items():
        monkeypatch.setenv(f"SCOTTBENCH_{name.upper()}", value)
    assert {name: origin for name, (_, origin) in show().items() if name in values} == {
        name: f"SCOTTBENCH_{name.upper()}" for name in values}


def test_a_folder_of_a_config_file_is_beside_the_file(tmp_path):
    (tmp_path / "bench.toml").write_text(CONFIG)
    assert read_config(tmp_path / "bench.toml")["students"] == [f"hop={tmp_path}/student"]


@pytest.mark.parametrize(("text", "message"), [
    ("stepz = [1]", "unknown key 'stepz'. Did you mean 'steps'?"),
    ("steps = ", "cannot be read"),
    ("steps = {a = 1}", "'steps' must be a list"),
    ("limit = [1, 2]", "'limit' must be one value"),
    ("options = 3", "'options' must be a table"),
])  # fmt: skip
def test_a_config_file_that_cannot_be_meant_is_refused(tmp_path, text, message):
    (tmp_path / "bench.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_config(tmp_path / "bench.toml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_variable_that_is_almost_a_setting_is_named_and_one_of_a_plug_in_is_not():
    found = misspelt({"SCOTTBENCH_METHOD": "x", "SCOTTBENCH_CACHE": "x", "SCOTTBENCH_STEPS": "1", "METHODZ": "x", "SCOTTBENCH_SD15": "x"})
    assert found == ["warning: SCOTTBENCH_METHOD is no setting. Did you mean SCOTTBENCH_METHODS?"]


@pytest.mark.parametrize(("text", "seeds"), [("0", [0]), ("0..2", [0, 1, 2]), ("4,1", [4, 1]), ("0..1,7", [0, 1, 7])])
def test_seeds_are_lists_and_ranges(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "-1", "2..1", "a", "1..", "0,0", "0..1,1", "1.5", "0..9999999"])
def test_seeds_that_cannot_be_meant_are_refused(text):
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds(text)


def test_what_was_asked_for_can_be_asked_for_again():
    settings = {
        "preset": {"value": "tiny", "origin": "default"}, "steps": {"value": [1], "origin": "flag"},
        "methods": {"value": ["ode"], "origin": "preset tiny"}, "limit": {"value": 3, "origin": "call"},
    }  # fmt: skip
    found = request_of(settings, {"model": "here"}, "scottbench run -s 1")
    assert found == RunRequest(
        "tiny", steps=[1], limit=3, model="here", command="scottbench run -s 1", origins={"preset": "default", "steps": "flag"})
    settings["students"] = {"value": {"hop": "a", "long": "b"}, "origin": "flag"}
    assert request_of(settings, {"students": {"long": "c"}}, "").students == {"hop": "a", "long": "c"}
    with pytest.raises(UsageError, match="another version"):
        request_of({"steps": {"value": [1], "origin": "flag"}}, {}, "")
