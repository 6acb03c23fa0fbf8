"""What the plug-in registers, and what that costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from scottbench_metrics import register_metrics

from scottbench import metrics

WANTED = {
    # name: higher is better, extractor role, scope, has items
    "fid": (False, "image", "cell", False),
    "fid_t": (False, "image", "cell", False),
    "kid": (False, "image", "cell", False),
    "coverage": (True, "image", "cell", True),
    "precision": (True, "image", "cell", True),
    "recall": (True, "image", "cell", True),
    "density": (True, "image", "cell", True),
    "vendi": (True, "image", "cell", False),
    "clip_score": (True, "clip", "cell", True),
    "fd_dinov2": (False, "dinov2", "cell", False),
    "cmmd": (False, "clip_l14_336", "cell", False),
    "mind": (False, "image", "cell", False),
    "patch_fid": (False, "patch", "cell", False),
    "clip_iqa": (True, "clip_iqa", "cell", True),
    "diversity": (True, "image", "seeds", True),
    "ms_ssim": (False, "", "seeds", True),
    "lpips": (True, "", "seeds", True),
}


def test_metrics_are_registered_with_direction_role_and_scope():
    metrics = register_metrics()
    found = {each.name: (each.higher_is_better, each.features, each.scope, each.items is not None) for each in metrics}
    assert found == WANTED
    assert all(each.summary and each.label for each in metrics)


def test_every_registered_function_is_there():
    for metric in register_metrics():
        for function in (metric.compute, metric.influence, metric.items):
            assert function is None or callable(function.resolve())


HEAVY = {"numpy", "scipy", "torch"}


@pytest.mark.parametrize("program", ["import scottbench_metrics as m; m.register_metrics()", "import scottbench.metrics as m; dir(m)"])
def test_registering_and_importing_bring_no_arrays(program):
    program = f"import sys; {program}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not HEAVY & set(modules)


def test_type_checkers_see_the_names_that_the_package_has_each_from_its_own_file():
    """The block under TYPE_CHECKING and the table say the same; a name of the block is one that the file defines."""
    tree = ast.parse(Path(metrics.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, f"{alias.name} is no public name for type checkers without 'as {alias.name}'"
            seen[alias.name] = node.module
    assert seen == metrics._MODULE
    assert all(getattr(metrics, name).__module__ == module for name, module in seen.items())


def test_help_says_of_every_public_name_what_it_is_in_a_sentence_of_its_own():
    """Not "NAME(value, items)", which a dataclass writes itself, and with a line that ends before the details begin."""
    for name in metrics.__all__:
        first = inspect.getdoc(getattr(metrics, name)).split("\n\n")[0]
        assert not first.startswith(f"{name}(") and first[-1] in ".:", name
    for name in (name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))):
        text = inspect.getdoc(getattr(metrics, name))
        given = [given for given in inspect.signature(getattr(metrics, name)).parameters if given not in ("kernel", "block")]
        assert all(given in text for given in given), name


def test_every_public_name_is_a_function_or_class_also_when_asked_twice():
    for _ in range(2):
        assert all(callable(getattr(metrics, name)) for name in metrics.__all__)
        program = "; ".join(f"from scottbench.metrics import {name} as found; assert callable(found)" for name in metrics.__all__)
        exec(program, {})
    with pytest.raises(AttributeError, match="no attribute 'fid'"):
        metrics.fid  # noqa: B018
