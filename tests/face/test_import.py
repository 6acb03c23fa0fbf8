"""`import scottbench` costs next to nothing, and a type checker knows every name."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import scottbench

FACE = Path(scottbench.__file__)
HEAVY = {"typing", "numpy", "torch", "polars", "PIL", "click", "dataclasses"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60)


def test_importing_the_face_imports_nothing_else():
    before = set(python("-c", "import sys; print(*sys.modules)").stdout.split())
    after = set(python("-c", "import sys, scottbench; print(*sys.modules)").stdout.split())
    assert not HEAVY & (after - before)
    assert {name for name in after - before if name.startswith("scottbench")} == {"scottbench"}


def test_importing_the_face_takes_no_time():
    """At most 60 ms, by Python's own clock: the median of five."""
    lines = [python("-X", "importtime", "-c", "import scottbench").stderr.splitlines()[-1] for _ in range(5)]
    assert all(line.endswith(" scottbench") for line in lines)
    assert statistics.median(int(line.split("|")[1]) for line in lines) <= 60_000, "microseconds"


def test_the_names_are_said_three_times_alike():
    tree = ast.parse(FACE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {(node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert all(alias.asname == alias.name for node in block.body if isinstance(node, ast.ImportFrom)
               for alias in node.names)  # fmt: skip
    where = {(f"scottbench.{module}", name) for module, names in scottbench._WHERE.items() for name in names.split()}
    assert imported == where
    assert set(scottbench.__all__) == {name for _, name in where} | {"__version__"} == set(dir(scottbench))


def test_every_name_is_there_and_an_unknown_one_is_an_attribute_error():
    for name in scottbench.__all__:
        assert getattr(scottbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'benchmarks'. It has: .*benchmark, distil"):
        scottbench.benchmarks  # noqa: B018


USES = '''
from pathlib import Path
import polars as pl
import scottbench
from scottbench import (Batch, CellFeatures, Context, Dataset, Distillation, Extractor, Influence, Items, Method, Metric, Model, NoOptions,
                        OpenExtractor, Run, Samples, Sampling, Student, TextCondition, Trainer, benchmark, distil, hookimpl,
                        lazy, open_run, sample as sample_prompts)

run = benchmark(["a", "b"], [2], limit=16, seeds=[0, 1], students={"cd": Student("folder"), "scott": "other"}, progress=False)
reveal_type(run)  # scottbench.run.notebook.Run
reveal_type(run.results)  # polars.dataframe.frame.DataFrame
reveal_type(run.image("a", 1, "id"))  # PIL.Image.Image
reveal_type(run.report)  # pathlib.Path
reveal_type(distil("cd", minutes=5, out="students/mine").trainer)  # str
reveal_type(open_run(Path("runs/x")).samples(2))  # PIL.Image.Image
reveal_type(scottbench.__version__)  # str
reveal_type(sample_prompts("a cat", "a", 2, seeds=range(4)).images[0])  # PIL.Image.Image

def sample(run: Sampling) -> object:
    return run.steps + 1

@hookimpl
def register_methods() -> list[Method]:
    return [Method("mine", "mine", lazy("a:b"), lazy("a:c"), options=NoOptions)]

def step(batch: Batch) -> None:
    reveal_type(batch["step"])  # int

def f(items: Items, cell: CellFeatures, model: Model, data: Dataset, made: Distillation, by: Trainer, context: Context) -> Influence:
    reveal_type(cell.n)  # int
    raise NotImplementedError
'''
WRONG = {
    "benchmark(limit='all')": "arg-type",
    "benchmark(sees=[1])": "call-arg",
    "benchmark(seeds='0')": "typeddict-item|arg-type",
    "benchmark(steps='2')": "arg-type",
    "run.resluts": "attr-defined",
    "scottbench.benhcmark()": "attr-defined",
    "distil('cd', minutes='5')": "arg-type",
    "Method('mine')": "call-arg",
    "Metric('mine', '', None, True)": "arg-type",
    "run.image('a', 1)": "call-arg",
    "from scottbench import Runs": "attr-defined",
}
UNREAD = "torch numpy diffusers transformers accelerate safetensors matplotlib scipy pandas pyarrow altair great_tables hvplot".split()
"""Packages whose insides no type of the face needs: without them the check takes a third of the time."""


def test_a_type_checker_knows_every_public_name(tmp_path):
    """Right uses pass with the types that they reveal; each wrong one is an error of its own line."""
    pytest.importorskip("mypy")
    script = tmp_path / "uses.py"
    first = len(USES.splitlines()) + 1
    script.write_text(USES + "\n".join(WRONG) + "\n")
    skipped = ",".join(f"{name}.*" for name in UNREAD)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n[mypy-{skipped}]\nfollow_imports = skip\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--follow-imports=silent", "--ignore-missing-imports",
         "--no-incremental", "--check-untyped-defs", str(script)],
        capture_output=True, text=True, timeout=280, cwd=tmp_path)  # fmt: skip
    found = [line for line in done.stdout.splitlines() if re.match(r"uses.py:\d+: (error|note: Revealed)", line)]
    said = {int(line.split(":")[1]): line for line in found}
    for number, line in enumerate(USES.splitlines(), start=1):
        if "# " in line:
            assert line.rpartition("# ")[2] in said.pop(number), done.stdout
    for number, (line, kind) in enumerate(WRONG.items(), start=first):
        error = said.pop(number, "")
        assert ": error: " in error and any(f"[{part}]" in error for part in kind.split("|")), (line, done.stdout)
    assert not said, "right uses pass"
    assert set(scottbench.__all__) - {"__version__"} <= set(USES.replace("(", " ").replace(",", " ").replace(")", " ").split())
