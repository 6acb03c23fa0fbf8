"""Documentation that a machine can check: generated parts are up to date, commands are those that CI runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from scottbench.registry.loader import HOOKS, load_plugins
from scottbench.registry.options import options_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["README.md", "plugins/README.md", "reports/README.md"])
def test_the_generated_parts_are_up_to_date(generate, name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- generated:" in text
    assert generate.rendered(text) == text, "run: python docs/generate.py"


def test_the_check_sees_a_part_that_is_out_of_date(generate):
    stale = "<!-- generated: exit_codes -->\nold\n<!-- end -->"
    assert "interrupted by Ctrl-C" in generate.rendered(stale)


@pytest.mark.parametrize("kind, name", [
    *(("trainer", name) for name in ("cd", "instaflow", "scott", "ufogen")), *(("method", name) for name in ("cd", "scott"))])  # fmt: skip
def test_every_option_of_a_distillation_is_in_its_plug_in_s_readme(kind, name):
    """By name, in a table that gives its values and its default."""
    rows = [line for line in (ROOT / f"plugins/scottbench_{name}/README.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    options = options_of(load_plugins().find(kind, name).noun.options)
    assert options
    for option in options:
        assert any(f"`{option.name}`" in row for row in rows), option.name


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_in_the_guide_with_a_text(hook):
    section = re.search(rf"### `{hook}\(.*?\n\n(.+?)\n", GUIDE)
    assert section is not None
    assert len(section[1]) > 20


def test_every_public_field_of_the_guide_says_what_it_means():
    """Name, summary and paper speak for themselves; everything else has a text."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", GUIDE, re.MULTILINE)
    assert len(rows) > 30
    assert {name for name, meaning in rows if not meaning.strip()} <= {"name", "summary", "paper", "licence", "higher_is_better"}


def test_ci_runs_the_test_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert f"\n{command}\n" in README


def test_the_two_commands_of_the_readme_need_only_python_and_pip():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
    assert len(lines) == 2
    assert all(" && " in line for line in lines)


def test_links_to_files_are_not_dead():
    for text, base in ((README, ROOT), (GUIDE, ROOT / "plugins")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (base / target).exists(), target
