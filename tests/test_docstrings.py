"""Every public function and class says in a sentence what it does; arrays have shapes, errors are named; nothing is left unannotated.

Public: importable without an underscore, from the host or a bundled plug-in. A docstring begins with a verb or a subject, not with "What",
"Where", "Whether", "Of" or "Likewise" (docs/architecture.md, docstrings).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path for base in ("scottbench", "plugins") for path in (ROOT / base).rglob("*.py")
    if "build" not in path.relative_to(ROOT).parts)  # fmt: skip
WEAK = re.compile(r"(?:What|Where|Whether|Of|Likewise|Whose|Which|Those|Same|Such|As|For|To)\b")
"""First words that leave out the verb, or the thing that is spoken of."""
ARRAYS = re.compile(r"\b(?:ndarray|Tensor)\b")
SHAPE = re.compile(r"\([A-Za-z0-9_ .+*//-]*(?:,[A-Za-z0-9_ .+*//-]*)+\)|\b0-d\b|\bany shape\b|\bof one shape\b|\bshape of\b")
"""A shape in words or in signs: "(n, d)", "(N,C,h,w)", "(n,)", "any shape"."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Functions, classes and methods without an underscore; what is defined inside a function is its own business."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def definitions() -> list[tuple[str, Function | ast.ClassDef]]:
    return [
        (f"{path.relative_to(ROOT)}:{name}", node)
        for path in FILES for name, node in public(ast.parse(path.read_text(encoding="utf-8")).body)]  # fmt: skip


def functions() -> list[tuple[str, Function]]:
    return [(name, node) for name, node in definitions() if not isinstance(node, ast.ClassDef)]


def parameters(node: Function) -> list[ast.arg]:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return [one for one in given if one is not None and one.arg not in ("self", "cls")]


def raised(node: Function) -> set[str]:
    """Names of the exceptions that a function raises itself: `raise Name(...)` or `raise Name`."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Raise) and inner.exc is not None:
            called = inner.exc.func if isinstance(inner.exc, ast.Call) else inner.exc
            if isinstance(called, ast.Name) and called.id[:1].isupper():
                found.add(called.id)
    return found


def test_every_public_function_and_class_has_a_docstring():
    assert [name for name, node in definitions() if ast.get_docstring(node) is None] == []


def test_every_public_function_is_annotated_whole():
    """In its file or in the stub beside it: the bytes of a sampler are part of a plan's hash, so two have their types in stubs."""
    bare = {name for name, node in functions() if node.returns is None or any(one.annotation is None for one in parameters(node))}
    for stub in sorted((ROOT / "plugins").rglob("*.pyi")):
        for name, node in public(ast.parse(stub.read_text(encoding="utf-8")).body):
            if isinstance(node, Function) and node.returns is not None and all(one.annotation is not None for one in parameters(node)):
                bare.discard(f"{stub.with_suffix('.py').relative_to(ROOT)}:{name}")
    assert bare == set()


@pytest.mark.parametrize("stub", sorted((ROOT / "plugins").rglob("*.pyi")), ids=lambda path: path.parent.name)
def test_a_stub_has_the_functions_and_parameters_of_its_file(stub):
    found = [
        {name: [one.arg for one in parameters(node)] for name, node in public(ast.parse(path.read_text(encoding="utf-8")).body)
         if isinstance(node, Function)}
        for path in (stub, stub.with_suffix(".py"))]  # fmt: skip
    assert found[0] == found[1] and found[0]


def test_functions_of_arrays_give_their_shapes():
    lacking = []
    for name, node in functions():
        annotations = [one.annotation for one in parameters(node)] + [node.returns]
        text = " ".join(ast.unparse(one) for one in annotations if one is not None)
        if ARRAYS.search(text) and not SHAPE.search(ast.get_docstring(node) or ""):
            lacking.append(name)
    assert lacking == []


def test_functions_name_what_they_raise():
    lacking = []
    for name, node in functions():
        said = ast.get_docstring(node) or ""
        # "Raises as `other`" hands the list on
        lacking += [f"{name} raises {error}" for error in sorted(raised(node)) if error not in said and "aises as `" not in said]
    assert lacking == []


def test_a_docstring_is_a_sentence():
    """Its first word is neither of the weak ones; the texts under fields likewise."""
    weak = [name for name, node in definitions() if WEAK.match(ast.get_docstring(node) or "")]
    for path in FILES:
        for name, node in public(ast.parse(path.read_text(encoding="utf-8")).body):
            if isinstance(node, ast.ClassDef):
                for field, below in zip(node.body, node.body[1:]):
                    text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
                    if isinstance(field, ast.AnnAssign) and isinstance(text, str) and re.match(r"\s*(?:Of|Likewise|What)\b", text):
                        weak.append(f"{path.relative_to(ROOT)}:{name}.{ast.unparse(field.target)}")
    assert weak == []


@pytest.mark.parametrize("source, lacks", [
    ("def f(x): return x", "annotation"),
    ("def f(x: np.ndarray) -> None:\n    'Change it.'", "shape"),
    ("def f() -> None:\n    'Do it.'\n    raise UsageError('no')", "raises"),
])  # fmt: skip
def test_the_checks_see_what_they_are_for(source, lacks):
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    said = ast.get_docstring(node) or ""
    assert {
        "annotation": node.returns is None,
        "shape": bool(ARRAYS.search(ast.unparse(node.args))) and not SHAPE.search(said),
        "raises": bool(raised(node)) and "UsageError" not in said,
    }[lacks]


def test_functions_are_short_and_take_few_things():
    """At most 40 lines and 6 parameters."""
    tall, wide = [], []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name = f"{path.relative_to(ROOT)}:{node.name}"
                assert node.end_lineno is not None
                tall += [name] if node.end_lineno - node.lineno + 1 > 40 else []
                wide += [name] if len(parameters(node)) > 6 else []
    assert (tall, wide) == ([], [])
