"""`scottbench plugin new`: every kind's package passes its own tests and the rules, installs, and overwrites nothing."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scottbench.cli import invoke
from scottbench.cli.plugin_new import FORMS
from scottbench.registry.loader import load_plugins
from scottbench.registry.paths import points_of

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]

RUFF = shutil.which("ruff") or shutil.which("ruff", path=Path(sys.executable).parent)


def name_of(kind: str) -> str:
    return f"tried-{kind}.1"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a package of every kind."""
    folder = tmp_path_factory.mktemp("made")
    for kind in FORMS:
        assert invoke(["plugin", "new", name_of(kind), "--kind", kind, "-o", str(folder / kind)]) == 0
    return folder


def test_the_tests_of_every_package_pass(made, monkeypatch, capfd):
    for kind in FORMS:
        monkeypatch.syspath_prepend(str(made / kind))
    tests = [str(made / kind / "tests") for kind in FORMS]
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", f"--rootdir={made}", "-c", str(made / "method/pyproject.toml")]
    code = pytest.main([*options, "-o", "pythonpath=", "-W", "ignore", *tests])
    shown = capfd.readouterr().out
    assert code == 0, shown
    assert "skipped" not in shown


@pytest.mark.parametrize("kind", FORMS)
def test_a_package_brings_its_noun_from_its_folder(made, kind):
    plugins = load_plugins(points_of([str(made / kind)]) if kind != "preset" else [*_installed(), *points_of([str(made / kind)])])
    found = plugins.find(kind, name_of(kind))
    assert (found.distribution, found.version, found.plugin) == (f"scottbench-{name_of(kind)}", "0.1", name_of(kind))


def _installed() -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group="scottbench"))


def test_every_package_has_what_a_repository_needs(made):
    for kind in FORMS:
        files = {path.relative_to(made / kind).as_posix() for path in (made / kind).rglob("*") if path.is_file()}
        assert {"pyproject.toml", "README.md", ".gitignore", ".github/workflows/test.yml", "tests/conftest.py"} <= files
        for path in files - {".github/workflows/test.yml"}:
            text = (made / kind / path).read_text() if path.endswith((".py", ".toml", ".md")) else ""
            assert "<<" not in text and "<%" not in text, path
        assert "${{ matrix.python }}" in (made / kind / ".github/workflows/test.yml").read_text()
    assert len((made / "method" / "scottbench_tried_method_1" / "sampler.py").read_text().splitlines()) <= 25


@pytest.mark.skipif(RUFF is None, reason="ruff is not here")
def test_every_package_passes_ruff(made):
    for kind in FORMS:
        for words in (["check", "--select", "E,F,W,I,B,UP,C4,SIM,RUF", "--ignore", "B905"], ["format", "--check"]):
            found = subprocess.run([RUFF, *words, "--no-cache", "--isolated", "."], cwd=made / kind, capture_output=True, text=True)
            assert found.returncode == 0, found.stdout


def test_a_package_installs(made, tmp_path, monkeypatch):
    source = shutil.copytree(made / "method", tmp_path / "source")
    subprocess.run([*PIP, "--target", str(tmp_path / "site"), str(source)], check=True, capture_output=True, text=True, timeout=120)
    (distribution,) = importlib.metadata.distributions(path=[str(tmp_path / "site")])
    (point,) = distribution.entry_points
    assert (point.group, point.name, point.value) == ("scottbench", name_of("method"), "scottbench_tried_method_1")
    assert (tmp_path / "site" / "scottbench_tried_method_1" / "sampler.py").is_file()


@pytest.mark.parametrize("kind", FORMS)
def test_the_next_three_commands_are_printed(tmp_path, capsys, kind):
    folder = tmp_path / "with blank"
    assert invoke(["plugin", "new", f"other-{kind}", "--kind", kind, "-o", str(folder)]) == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{folder}: {kind} 'other-{kind}', ") and first.endswith(". Next:")
    assert lines[:2] == [f"  scottbench plugin check '{folder}'", f"  pytest '{folder}'"]
    assert len(lines) == 3 and f"other-{kind}" in lines[2] and lines[2].endswith(f" --plugin-path '{folder}'")


WRONG = {
    ("ddim", "method"): "method 'ddim' is there already, of scottbench",
    ("cd", "trainer"): "trainer 'cd' is there already",
    ("ddim", "trainer"): "method 'ddim' is there already",
    ("solvers", "method"): "a plug-in 'solvers' is there already",
    ("a/b", "method"): "'a/b' cannot be a name: letters, digits",
    ("-x", "method"): "No such option",
    ("x-", "method"): "'x-' cannot be a name",
    ("", "metric"): "'' cannot be a name",
    ("x" * 65, "metric"): "cannot be a name",
    ("é", "metric"): "cannot be a name",
    ("fine", "sampler"): "--kind sampler: must be method, trainer",
}


@pytest.mark.parametrize(("given", "words"), WRONG.items(), ids=lambda given: str(given)[:30])
def test_a_name_that_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, given, words):
    monkeypatch.chdir(tmp_path)
    assert invoke(["plugin", "new", given[0], "--kind", given[1]]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and words in said
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for place in (Path("scottbench-fine"), Path("a-file"), Path("a-link")):
        place.mkdir() if place.name == "scottbench-fine" else place.symlink_to("nowhere") if place.name == "a-link" else place.touch()
        flags = [] if place.name == "scottbench-fine" else ["-o", str(place)]
        assert invoke(["plugin", "new", "fine", "--kind", "metric", *flags]) == 2
        told = "is there already, and nothing of it is overwritten. Name another folder with -o."
        assert capsys.readouterr().err == f"error: {place} {told}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-file", "a-link", "scottbench-fine"]
