"""Completion of a shell: verbs, flags, kinds, names, runs and cells, without torch; the scripts of three shells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from scottbench.cli import invoke, scottbench

PUBLISHED = Path(__file__).resolve().parents[2] / "reports" / "pocket-main"


def completed(*words: str) -> list[str]:
    """Values that a shell is offered for the last of the words."""
    items = ShellComplete(scottbench, {}, "scottbench", "_SCOTTBENCH_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in items]


@pytest.mark.parametrize(("words", "expected"), [
    (("ru",), ["run", "runs"]),
    (("run", "--pre"), ["--preset"]),
    (("run", "-m", "sc"), ["scm", "scott"]),
    (("run", "-m", "scott,instaf"), ["scott,instaflow"]),
    (("run", "-k", "fid,clip_s"), ["fid,clip_score"]),
    (("run", "-p", "po"), ["pocket"]),
    (("train", "ufo"), ["ufogen"]),
    (("list", "pl"), ["plugins"]),
    (("show", "plugin", "uf"), ["ufogen"]),
    (("show", "methods", "dd"), ["ddim"]),
    (("compare", str(PUBLISHED), "scott@"), ["scott@1", "scott@2", "scott@4"]),
    (("export", str(PUBLISHED), "--style", "c"), ["compact"]),
    (("export", "--columns", "fid,clip_s"), ["fid,clip_score"]),
    (("completion", "f"), ["fish"]),
    (("compare", "nowhere", "sc"), []),
])  # fmt: skip
def test_names_verbs_flags_and_kinds_are_completed(words, expected):
    assert completed(*words) == expected


def test_a_list_offers_no_name_twice():
    assert "scott" not in completed("run", "-m", "scott,s")


def test_runs_are_completed_by_the_head_of_their_plan_and_by_folder(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "20260211T093004Z-pocket"
    run.mkdir(parents=True)
    (run / "plan.lock.json").write_bytes((PUBLISHED / "plan.lock.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    head, folder, path = completed("claims", "")
    assert len(head) == 8 and folder == "runs/20260211T093004Z-pocket" and path == "<dir>"
    assert completed("report", head[:3]) == [head, "<dir>"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_names_the_program(shell, capsys, monkeypatch):
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", staticmethod(lambda: None))  # asks the bash that is there
    assert invoke(["completion", shell]) == 0
    assert f"_SCOTTBENCH_COMPLETE={shell}_complete" in capsys.readouterr().out
    assert invoke(["completion", "fisch"]) == 2 and "Did you mean 'fish'?" in capsys.readouterr().err


def test_what_a_shell_asks_loads_nothing_heavy():
    program = (
        "import os, sys\n"
        "os.environ.update(COMP_WORDS='scottbench run -m sco', COMP_CWORD='3', _SCOTTBENCH_COMPLETE='bash_complete')\n"
        "from scottbench.cli import invoke\n"
        "try:\n    invoke([])\n"
        "except SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy', 'polars', 'PIL', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["plain,scott", "[]"]


def test_every_parameter_keeps_its_own_type():
    """Completion changes no value: RUN of compare is still a path."""
    (run,) = [param for param in scottbench.commands["compare"].params if param.name == "run"]
    assert isinstance(run, click.Argument) and run.type.convert("x", None, None) == Path("x")
