"""What the documentation tells to type works: its commands, its Python lines, and the notebook from top to bottom."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import commands

from scottbench.cli import invoke, scottbench

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in commands.pages(ROOT)}
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SHORT = [(r"limit=\d+", "limit=8"), (r"minutes=\d+", "max_steps=2"), (r"seeds=range\(\d+\)", "seeds=range(1)")]
"""Long runs made short: the lines are the page's, their numbers of prompts and minutes are not."""


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """The folder where the commands are run, and the commands that were; the pages have a run to speak of."""
    place = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = {}
        for line in ("scottbench run -n 8",):
            done[line] = invoke(shlex.split(line)[1:])
        yield place, done


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if commands.to_run(text)])
def test_the_commands_of_a_page_run(name, desk, capsys):
    """In the page's order, each command once over all pages, RUN being the newest run."""
    place, done = desk
    for line in commands.to_run(PAGES[name]):
        if line not in done:
            run = max((place / "runs").iterdir())
            words = [str(run.relative_to(place)) if word == "RUN" else word for word in shlex.split(line)[1:]]
            done[line] = invoke(words)
        allowed = {0, 1} if line == "scottbench doctor" else {0}  # the machine of the tests may have its faults
        assert done[line] in allowed, f"{line}: exit code {done[line]}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_run_or_says_why_not(name):
    """How to mark a fence: CONTRIBUTING.md, "Write documentation"."""
    assert commands.unmarked(PAGES[name]) == []


@pytest.mark.parametrize("name", PAGES)
def test_verbs_and_options_of_every_command_exist(name):
    wrong = {line: found for line in commands.all_commands(PAGES[name]) if (found := commands.wrong_words(line, scottbench))}
    assert wrong == {}


def test_a_forgotten_mark_a_wrong_verb_and_a_wrong_option_are_seen():
    page = "```sh\nscottbench run -n 8\n```\n```sh not run: short\nscottbench run\n```\n```\nscottbench x\n```\n```text\nrun\n```\n"
    assert commands.unmarked(page) == ["scottbench run -n 8", "scottbench run", "scottbench x"]
    assert commands.unmarked("<!-- commands not run: they need a GPU -->\n" + page) == []
    assert commands.unmarked("```sh not run: it needs a GPU\nscottbench run\n```\n```sh run\nscottbench run\n```\n") == []
    assert commands.to_run("```sh run\nscottbench run -n 256   # all\n```\n") == ["scottbench run -n 8"]
    for line, wrong in [
        ("scottbench walk", ["walk"]), ("scottbench run --limits 3", ["--limits"]), ("torchrun --nnodes 2 -m scottbench run -q", []),
        ("scottbench run --gate", ["--gate"]), ("scottbench compare RUN a@2 b@2 --gate", []), ("scottbench plan -n 5   cells --no", []),
    ]:  # fmt: skip
        assert commands.wrong_words(line, scottbench) == wrong, line


def code_lines(name: str) -> list[str]:
    """Lines of a page's Python blocks without their comments."""
    return [line.partition("#")[0].rstrip() for block in python_blocks(ROOT / name) for line in block.splitlines() if line.strip()]


def test_the_readme_s_python_lines_are_those_of_the_reference_which_run():
    assert len(code_lines("README.md")) >= 4
    assert set(code_lines("README.md")) <= set(code_lines("docs/reference/python.md"))


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if "```python" in text and name != "README.md"])
def test_the_python_lines_of_a_page_run(name, tmp_path, monkeypatch):
    """Those of the metrics get 300 normal rows as features, `real` and `generated`."""
    import numpy as np

    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    names = {"real": random.normal(size=(300, 16)), "generated": random.normal(size=(300, 16)) + 0.1}
    blocks = python_blocks(ROOT / name)
    assert blocks
    for block in blocks:
        for pattern, short in SHORT:
            block = re.sub(pattern, short, block)
        exec(compile(block, name, "exec"), names)


def test_the_notebook_is_stored_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"limit=\d+", "limit=8", cell.source)
    nbclient.NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [set(output.get("data", {})) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in kind for kind in kinds) == 2, "samples and one image"
    assert sum("text/html" in kind for kind in kinds) >= 3, "the run and its tables"
    assert (tmp_path / "runs" / "notebook" / "report" / "index.html").is_file()


def test_a_notebook_shows_a_message_and_no_traceback(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import scottbench\nscottbench.open_run('nowhere')")])
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True,
                                     resources={"metadata": {"path": str(tmp_path)}})  # fmt: skip
    client.execute()
    (output,) = notebook.cells[0].outputs
    assert output.ename == "UsageError"
    assert len(output.traceback) == 1 and output.traceback[0].startswith("UsageError: no run 'nowhere'")
