"""Plug-ins that nobody installed (--plugin-path), names of two packages, and `plugin list`."""

from __future__ import annotations

import json
import os
import shlex
import types
from pathlib import Path

import pytest
import tiny_plugin

from scottbench.cli import invoke
from scottbench.errors import UsageError
from scottbench.plan.code import noun_code
from scottbench.registry.loader import load_plugins
from scottbench.registry.paths import GIVEN, given_paths, points_of

STILL = '''
"""Latents of its own noise."""
from scottbench import Method, hookimpl

def sample(run):
    run.denoise(run.noise(0), 999)
    return {scale} * run.noise(0)  # {comment}

@hookimpl
def register_methods():
    return [Method("{name}", "noise", sample, lambda schedule, steps, options: [999] if steps == 1 else [])]
'''
PROJECT = '[project]\nname = "{name}"\nversion = "0.4"\n[project.entry-points.scottbench]\n{plugin} = "{module}"\n'


def still(path: Path, name: str = "still", scale: str = "0.5", comment: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STILL.format(name=name, scale=scale, comment=comment))
    return path


def project(folder: Path, module: str, name: str = "acme-still", plugin: str = "still", **words: str) -> Path:
    still(folder / "src" / module / "__init__.py", **words)
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name, plugin=plugin, module=module))
    return folder


@pytest.fixture
def cli(files, tmp_path, monkeypatch, capsys):
    """cli("run", ...) -> (exit code, stdout, stderr), in an empty working folder, with the tiny plug-in and those of paths."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tiny_plugin, "load_plugins", lambda points: load_plugins([*points, *points_of(given_paths())]))
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: tiny_plugin.tiny_plugins(files))

    def call(*arguments: object) -> tuple[int, str, str]:
        code = invoke([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_file_is_sampled_and_no_record_says_where_it_lay(cli, tmp_path):
    file = still(tmp_path / "nobodys-business" / "loose_still.py")
    run = ("run", "-p", "tiny", "-m", "still", "-s", "1", "-n", "8", "-q", "-o", "out")
    code, _, said = cli(*run, "--plugin-path", file)
    assert code == 0, said
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["environment"]["packages"]["loose_still"] == "no version (--plugin-path loose_still.py)"
    assert next(iter(manifest["plan"]["code"]["images"])) == "loose_still.py"
    assert manifest["command"].endswith("--plugin-path loose_still.py")
    assert not [path for path in Path("out").rglob("*") if path.is_file() and b"nobodys-business" in path.read_bytes()]
    # without the plug-in the run can be checked and shown, and what goes on with it says what is missing
    assert cli("verify", "out")[0] == 0
    assert cli("report", "out")[0] == 0
    code, _, said = cli("resume", "out")
    assert code == 2 and "unknown method 'still'" in said
    assert said.endswith("The run was made with --plugin-path loose_still.py: give it again.\n")
    assert cli("resume", "out", "--plugin-path", file, "-q")[0] == 0


def test_the_line_that_a_shard_prints_merges_what_came_by_a_path(cli, tmp_path):
    file = still(tmp_path / "a folder" / "loose_still.py")
    run = ("run", "-p", "tiny", "-m", "still", "-s", "1", "-n", "8", "-q", "--plugin-path", file)
    for number in (1, 2):
        code, out, said = cli(*run, "--shard", f"{number}/2", "-o", f"part{number}")
        assert code == 0, said
    words = shlex.split(out.partition("put all shards together with: scottbench ")[2].replace("RUN RUN ...", "part1 part2"))
    assert words == ["merge", "part1", "part2", "--plugin-path", str(file)]
    code, _, said = cli(*words, "-q", "-o", "whole")
    assert code == 0 and json.loads(Path("whole/manifest.json").read_text())["status"] == "complete", said


def test_code_that_came_by_a_path_is_part_of_the_plan(tmp_path):
    def code_of(**words: str) -> dict[str, str]:
        file = still(tmp_path / "digested_still.py", **words)
        os.utime(file, ns=(len(str(words)), len(str(words))))
        plugins = load_plugins(points_of([str(file)]))
        return noun_code(plugins.find("method", "still"), plugins)

    first = code_of()
    assert list(first) == ["digested_still.py"]
    assert code_of(comment="another remark") == first
    assert code_of(scale="0.25") != first


def test_a_project_has_its_name_version_and_whole_package(tmp_path):
    folder = project(tmp_path / "work", "srced_still")
    (folder / "src" / "srced_still" / "helper.py").write_text("x = 1\n")
    plugins = load_plugins(points_of([str(folder)]))
    found = plugins.find("method", "still")
    assert (found.distribution, found.version, found.plugin) == ("acme-still", "0.4", "still")
    assert list(noun_code(found, plugins)) == ["srced_still/__init__.py", "srced_still/helper.py"]
    assert plugins.plugins[0].version_and_source == "0.4 (--plugin-path work)"


def test_an_installed_plug_in_gives_way_to_the_same_one_by_a_path_and_no_bundled_one_does(tmp_path):
    def installed(name: str, distribution: str) -> types.SimpleNamespace:
        dist = types.SimpleNamespace(name=distribution, version="0.3")
        return types.SimpleNamespace(name=name, value=f"of_{name}", dist=dist, load=lambda: 1 / 0)

    points = points_of([str(project(tmp_path / "work", "later_still"))])
    plugins = load_plugins([installed("still", "acme-still"), *points])
    assert [(one.status, one.version) for one in plugins.plugins] == [("ok", "0.4"), ("left out: --plugin-path gives it", "0.3")]
    plugins = load_plugins([installed("still", "scottbench"), *points])
    assert "two plug-ins are called 'still'" in plugins.plugins[1].status


def test_another_folder_with_a_module_of_the_same_name_is_another_module(tmp_path):
    for number in (1, 2):
        file = still(tmp_path / str(number) / "twice_still.py", name=f"still{number}")
        assert list(load_plugins(points_of([str(file)])).nouns["method"]) == [f"still{number}"]
    with pytest.raises(UsageError, match="two files give a module 'twice_still'"):
        points_of([str(tmp_path / "1" / "twice_still.py"), str(tmp_path / "2" / "twice_still.py")])


WRONG = {
    "no-such-file.py": "there is no such file or folder",
    "notes.txt": "that is no Python file",
    "empty": "a folder with neither pyproject.toml nor __init__.py",
    "has-dash.py": "Python cannot import a module called 'has-dash'",
    "numpy.py": "'numpy' is the name of another module",
    "ast.py": "'ast' is the name of another module",
    "scottbench.py": "a plug-in cannot be called 'scottbench'",
    "nameless": "must give the project a name",
    "elsewhere": "names module 'nowhere', and neither the folder nor its src has it",
    "broken": "pyproject.toml cannot be read",
}


@pytest.mark.parametrize(("path", "words"), WRONG.items())
def test_a_path_that_is_no_plug_in_is_one_line(cli, path, words):
    for name in WRONG:
        if name.endswith((".py", ".txt")) and name != "no-such-file.py":
            still(Path(name))
    for name in ("empty", "nameless", "elsewhere", "broken"):
        Path(name).mkdir()
    Path("nameless/pyproject.toml").write_text("[project]\nname = 3\n")
    Path("elsewhere/pyproject.toml").write_text(PROJECT.format(name="x", plugin="x", module="nowhere"))
    Path("broken/pyproject.toml").write_text("[project")
    code, out, said = cli("list", "methods", "--plugin-path", path)
    assert code == 2 and not out and said.count("\n") == 1 and said.startswith(f"error: --plugin-path {path}: ") and words in said


def test_no_preset_and_no_config_file_can_name_a_path(cli, files, tmp_path):
    still(Path("mine_still.py"))
    Path("bench.toml").write_text('plugin_path = ["mine_still.py"]\n')
    code, _, said = cli("run", "-c", "bench.toml")
    assert code == 2 and "unknown key 'plugin_path'" in said
    preset = Path("preset.toml")
    preset.write_text('plugin_path = "mine_still.py"\n' + (files / "preset.toml").read_text())
    holder = types.ModuleType("holder")
    exec("from pathlib import Path\nfrom scottbench import hookimpl\n@hookimpl\ndef register_presets():\n    return [Path('preset.toml')]",
         holder.__dict__)  # fmt: skip
    plugins = load_plugins([types.SimpleNamespace(name="holder", value="holder", load=lambda: holder, dist=None)])
    assert "unknown key 'plugin_path'" in plugins.plugins[0].status


def test_the_variable_and_the_flag_add_up_and_a_path_can_be_left_out(cli, monkeypatch):
    for name in ("one", "two", "three"):
        still(Path(f"{name}_still.py"), name)
    monkeypatch.setenv("SCOTTBENCH_PLUGIN_PATH", os.pathsep.join(["one_still.py", "two_still.py"]))
    monkeypatch.setenv("SCOTTBENCH_PLUGINS", "tiny")
    code, out, _ = cli("plugin", "list", "--json", "--plugin-path", "three_still.py", "--no-plugin", "two_still")
    states = {row["name"]: (row["state"], row["from"], row["names"].get("method")) for row in json.loads(out)}
    assert code == 0 and states == {
        "tiny": ("ok", "installed", states["tiny"][2]), "one_still": ("ok", "one_still.py", ["one"]),
        "two_still": ("off", "two_still.py", None), "three_still": ("ok", "three_still.py", ["three"]),
    }  # fmt: skip
    assert GIVEN.get() == ()  # what a command line adds is gone after it


def test_a_plug_in_that_fails_is_listed_with_its_reason(cli, monkeypatch):
    Path("bad_still.py").write_text("import no_such_module\n")
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: load_plugins(points_of(given_paths())))
    code, out, _ = cli("plugin", "list", "--plugin-path", "bad_still.py")
    (line,) = [line for line in out.splitlines() if line.startswith("bad_still ")]
    assert code == 0 and "failed: ModuleNotFoundError: No module named 'no_such_module' (bad_still.py:1)" in line


def test_two_packages_with_one_name_are_told_apart_in_one_run(cli):
    first, second = project(Path("a"), "still_a", "acme", "a"), project(Path("z"), "still_z", "zoo", "z", scale="2")
    flags = ("--plugin-path", first, "--plugin-path", second)
    run = ("run", "-p", "tiny", "-s", "1", "-n", "8", "-q", "-o", "out", *flags)
    code, _, said = cli(*run, "-m", "still")
    assert code == 2 and "method 'still' is registered by 2 packages. Say which: acme/still or zoo/still" in said
    code, _, said = cli(*run, "-m", "acme/still,zoo/still")
    assert code == 0, said
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert [(cell["id"], cell["method"]) for cell in manifest["cells"]] == [
        ("acme+still__s1__seed0", "acme/still"), ("zoo+still__s1__seed0", "zoo/still")]  # fmt: skip
    assert {"still_a/__init__.py", "still_z/__init__.py"} <= manifest["plan"]["code"]["images"].keys()
    assert cli("verify", "out")[0] == 0
