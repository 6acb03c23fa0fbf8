"""The README's Python lines and the notebook run from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SHORT = [(r"limit=\d+", "limit=8"), (r"minutes=\d+", "max_steps=2")]
"""Long runs made short: the lines are the README's, their numbers of prompts and minutes are not."""


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_readme_s_python_lines_run(tmp_path, monkeypatch):
    """Those of the metrics get 300 normal rows as features, `real` and `generated`."""
    import numpy as np

    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    names = {"real": random.normal(size=(300, 16)), "generated": random.normal(size=(300, 16)) + 0.1}
    blocks = python_blocks(ROOT / "README.md")
    assert blocks
    for block in blocks:
        for pattern, short in SHORT:
            block = re.sub(pattern, short, block)
        exec(compile(block, "README.md", "exec"), names)


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
