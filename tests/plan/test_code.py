"""Digests of code: they follow what a file does, not how it is written, and cover all files that take part."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest
from tiny_plugin import tiny_plugins

from scottbench.plan import code
from scottbench.plan.cells import make_cells
from scottbench.plan.choices import choose
from scottbench.plan.code import HOST, IN_PLAN, PARTS, digest_of, host_code, normalised, noun_code, part_code
from scottbench.plan.identity import identity
from scottbench.plan.inputs import open_inputs
from scottbench.plan.request import RunRequest
from scottbench.registry.hookspecs import hookimpl
from scottbench.registry.lazy import lazy
from scottbench.registry.loader import load_plugins
from scottbench.registry.nouns import Method, Metric

SOURCE = '"""Says what it does."""\n\n\ndef double(x):\n    """Twice."""\n    return 2 * x  # exact\n'
SAME = ['def double(x):\n    return (2 *\n        x)\n', SOURCE.replace("Twice", "Two times"), "# new\n" + SOURCE.replace("\n", "\r\n")]
OTHER = [SOURCE.replace("2 *", "3 *"), SOURCE.replace("2 * x", "x * 2"), SOURCE.replace("2 *", "2.0 *"), SOURCE + "double = abs\n"]


def test_comments_docstrings_and_layout_do_not_count_and_everything_else_does():
    wanted = normalised(SOURCE.encode())
    assert [normalised(text.encode()) == wanted for text in SAME] == [True] * len(SAME)
    assert len({wanted, *(normalised(text.encode()) for text in OTHER)}) == 1 + len(OTHER)
    assert normalised(b"def broken(:") == b"def broken(:" and normalised(b"'\\d'") == normalised(b"# nothing")


def test_a_digest_follows_a_file_that_is_changed_while_we_run(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(SOURCE)
    before = digest_of(path)
    path.write_text(OTHER[0] + " ")
    assert digest_of(path) != before


def test_the_table_names_files_that_are_there_and_covers_what_makes_images():
    for name, part in PARTS.items():
        assert all(list(HOST.glob(pattern)) for pattern in part.host), name
    assert {"scottbench/diffusion.py", "scottbench/models/noise.py", "scottbench/run/sample.py"} <= host_code("images").keys()
    assert {"scottbench/metrics/frechet.py", "scottbench/metrics/kernel.py"} <= host_code("values").keys()
    assert {"images", "features", "values", "intervals"} == set(IN_PLAN) == PARTS.keys() - {"students", "adopted"}


# --- plug-ins --------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """(folder of a plug-in of three modules, a function that loads it)."""
    folder = tmp_path / "house_of_tests"
    (folder / "parts").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "sampler.py").write_text("from .parts.helper import half\n\n\ndef sample(run):\n    return half(run.noise(0))\n")
    (folder / "parts" / "helper.py").write_text("def half(x):\n    return x / 2\n")
    (tmp_path / "single_of_tests.py").write_text("def mean(cell, options):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("house_of_tests", "single_of_tests")]:
        del sys.modules[name]


def loaded(value: str, **nouns):
    """The plug-in of an entry point of that value, which registers `nouns`."""
    module = types.ModuleType("made_in_memory")
    for kind, noun in nouns.items():
        hook = hookimpl(lambda noun=noun: [noun])
        hook.__name__ = f"register_{kind}s"
        setattr(module, hook.__name__, hook)
    found = load_plugins([types.SimpleNamespace(name="made", value=value, load=lambda: module, dist=None)])
    assert not found.broken, found.plugins
    return found


def of(plugins, kind: str, name: str) -> dict[str, str]:
    return noun_code(plugins.find(kind, name), plugins)


METHOD = Method("halving", "half the noise", lazy("house_of_tests.sampler:sample"), lazy("house_of_tests.sampler:sample"))


@pytest.mark.parametrize("value", ["house_of_tests", "house_of_tests.sampler:plugin", "made_in_memory"])
def test_a_plug_in_counts_with_its_whole_package_wherever_its_entry_point_is(package, value):
    plugins = loaded(value, method=METHOD)
    before = of(plugins, "method", "halving")
    assert before.keys() == {f"house_of_tests/{name}.py" for name in ("__init__", "sampler", "parts/helper")}
    helper = package / "parts" / "helper.py"
    helper.write_text('"""Halves."""\n' + helper.read_text().replace("x / 2", "x / 2  # exact"))
    (package / "parts" / ".#helper.py").write_text("an editor's")
    assert of(plugins, "method", "halving") == before
    helper.write_text("def half(x):\n    return x / 3\n")
    after = of(plugins, "method", "halving")
    assert [name for name in before if before[name] != after[name]] == ["house_of_tests/parts/helper.py"]


def test_a_linked_helper_counts(package, tmp_path):
    plugins = loaded("house_of_tests", method=METHOD)
    helper = package / "parts" / "helper.py"
    elsewhere = helper.rename(tmp_path / "elsewhere.py")
    helper.symlink_to(elsewhere)
    before = of(plugins, "method", "halving")
    elsewhere.write_text("def half(x):\n    return x\n")
    assert of(plugins, "method", "halving") != before


def test_a_plug_in_of_one_file_counts_with_it_and_a_function_that_was_typed_in_with_its_instructions(package):
    single = loaded("single_of_tests", metric=Metric("one", "one", lazy("single_of_tests:mean"), higher_is_better=True))
    assert of(single, "metric", "one").keys() == {"single_of_tests.py"}
    typed = []
    for text in ("lambda cell, options: 1.0", "lambda  cell, options :  1.0", "lambda cell, options: 2.0"):
        function = eval(text, {"__name__": "__notebook__"})
        typed.append(of(loaded("made_in_memory", metric=Metric("one", "one", function, higher_is_better=True)), "metric", "one"))
    assert typed[0] == typed[1] != typed[2] and list(typed[0]) == ["__notebook__:<lambda>"]


def test_a_library_s_function_does_not_bring_the_library(package):
    import statistics

    plugins = loaded("single_of_tests", metric=Metric("one", "one", statistics.fmean, higher_is_better=True))
    assert of(plugins, "metric", "one").keys() == {"single_of_tests.py", "statistics.py"}
    of_host = loaded("made_in_memory", method=Method("one", "one", make_cells, make_cells))
    assert of(of_host, "method", "one").keys() == {"scottbench/plan/cells.py"}


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.fixture
def edited(monkeypatch):
    """A function that makes files of these names look edited."""

    def edit(*names: str) -> None:
        original = digest_of
        monkeypatch.setattr(code, "digest_of", lambda path: "f" * 16 if Path(path).name in names else original(path))

    return edit


@pytest.fixture(scope="module")
def opened(plugins):
    """All that an identity is made of, opened once."""
    choices = choose(plugins, RunRequest("tiny", limit=8, device="cpu"))
    inputs = open_inputs(plugins, choices)
    return plugins, choices, inputs, make_cells(inputs.methods, choices.steps, choices.seeds, inputs.model.schedule)


@pytest.mark.parametrize(("file", "parts", "fingerprints"), [
    ("noise.py", ["images"], False), ("diffusion.py", ["images"], False), ("extractors.py", ["features"], True),
    ("frechet.py", ["values"], True), ("measure.py", ["intervals"], False), ("tiny_plugin.py", ["images", "features", "values"], True),
])  # fmt: skip
def test_an_edited_file_changes_its_parts_of_the_plan_and_the_fingerprints_that_rest_on_it(opened, edited, file, parts, fingerprints):
    before = identity(*opened)
    assert identity(*opened).hash == before.hash
    edited(file)
    after = identity(*opened)
    assert after.hash != before.hash
    assert [part for part in IN_PLAN if after.record["code"][part] != before.record["code"][part]] == parts
    changed = [one.fingerprint != other.fingerprint for one, other in zip(after.metrics, before.metrics, strict=True)]
    assert changed == [fingerprints] * len(before.metrics)


def test_a_change_of_one_metric_s_package_leaves_the_fingerprints_of_others(package, files):
    one = Metric("one", "one", lazy("single_of_tests:mean"), higher_is_better=True, features="")
    two = Metric("two", "two", lazy("house_of_tests.sampler:sample"), higher_is_better=True, features="")
    found = loaded("made_in_memory", metric=one).find("metric", "one"), loaded("made_in_memory", metric=two).find("metric", "two")
    plugins = tiny_plugins(files)
    before = [part_code("values", plugins, [registered]) for registered in found]
    (package.parent / "single_of_tests.py").write_text("def mean(cell, options):\n    return 2.0\n")
    after = [part_code("values", plugins, [registered]) for registered in found]
    assert before[0] != after[0] and before[1] == after[1]
