"""The guide for authors: its blocks are run from top to bottom in an empty folder, and what it calls stable is what the code has."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import commands

from scottbench.cli import invoke
from scottbench.cli import scottbench as command_line
from scottbench.testing.package import checks

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
PATHS = GUIDE[: GUIDE.index("## Rules")]
FENCES = [(language, mark.strip(), body) for language, mark, body in commands.FENCE.findall(PATHS)]
WRITTEN = {mark.removeprefix("file: "): body for _, mark, body in FENCES if mark.startswith("file: ")}
TRAINER_CHECKS = {"gradients by role", "export and sample"}
"""The rules that the guide's second trainer, which contains the first, is held against here: `plugin check` takes 20 seconds for all."""


def forget() -> None:
    """Let the next command import the packages anew, as a process of its own does."""
    ours = ("scottbench_my_", "my_flow", "my_midpoint", "my_stages")
    for name in [name for name in sys.modules if name.partition(".")[0].startswith(ours)]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """An empty folder in which the guide was followed: (the folder, every command with its exit code, files that differ from what
    `plugin new` made)."""
    folder, codes, other = tmp_path_factory.mktemp("author"), {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        for language, mark, body in FENCES:
            kind, _, place = mark.partition(": ")
            if kind == "file":
                assert (folder / place).parent.is_dir(), place
                (folder / place).write_text(body, encoding="utf-8")
            elif kind == "as made":
                other += [place] if (folder / place).read_text(encoding="utf-8") != body else []
            elif (language, mark) == ("python", "run"):
                exec(compile(body, "guide", "exec"), {})
            elif mark == "run":
                for line in commands.to_run(f"```sh run\n{body}```\n"):
                    codes[line] = invoke(shlex.split(line)[1:])
            forget()
        yield folder, codes, other
    forget()


def test_every_block_is_run_or_says_why_not():
    known = re.compile(r"run|file: \S+|as made: \S+|not run: \w.{9,}")
    assert [(language, mark) for language, mark, _ in FENCES if not known.fullmatch(mark)] == []
    kinds = [mark.partition(":")[0] for _, mark, _ in FENCES]
    assert kinds.count("file") >= 12 and kinds.count("run") >= 9 and kinds.count("as made") == 5


def test_verbs_and_options_of_the_guide_exist():
    wrong = {line: found for line in commands.all_commands(GUIDE) if (found := commands.wrong_words(line, command_line))}
    assert wrong == {}


def test_the_guide_works_from_top_to_bottom(desk):
    _, codes, _ = desk
    assert {line: code for line, code in codes.items() if code != 0} == {}
    assert sum(line.startswith("scottbench plugin new") for line in codes) == 5
    assert sum(line.startswith("scottbench plugin check") for line in codes) == 5


def test_the_files_that_the_guide_shows_are_those_that_plugin_new_makes(desk):
    assert desk[2] == [], "run: python docs/generate.py"


def test_the_sampler_of_the_guide_runs_beside_another(desk):
    from scottbench.testing.small import Small, small_run

    asked = Small(["my-sampler", "my-sampler@eta=0.5", "ddim"], n=2, steps=[2])
    results = small_run(desk[0] / "scottbench-my-sampler", asked, desk[0] / "run").results
    forget()
    assert set(results["method"]) == {"my-sampler", "my-sampler@eta=0.5", "ddim"}
    assert results["value"].n_unique() == 3


def test_the_sampler_that_asks_twice_a_step_is_counted_and_recorded_so(desk):
    from scottbench.store.files import read_json
    from scottbench.testing.small import Small, small_run

    small_run(desk[0] / "my_midpoint.py", Small(["my-midpoint"], n=2, steps=[2]), desk[0] / "twice")
    forget()
    (cell,) = read_json(desk[0] / "twice" / "manifest.json")["cells"]
    assert cell["steps"] == 2 and cell["timesteps"] == [999, 749, 499, 249] and cell["nfe"] % 4 == 0


def test_the_training_of_two_stages_comes_to_both_and_goes_on_in_the_second(desk):
    chosen = [bound for bound in checks(str(desk[0] / "my_stages.py")) if bound.check.name in {"gradients by role", "kill and resume"}]
    found = [bound.find() for bound in chosen]
    loop, logged, _ = chosen[-1].subject.seen["trained"]
    forget()
    assert [one.line for one in found if one.status != "ok"] == [] and len(found) == 2
    assert [step["student/stage"] for step in logged] == [1, 2, 2, 2]
    loop.feed.close()


def test_the_folder_of_the_guide_is_a_dataset(desk):
    from scottbench.registry.loader import load_plugins

    noun = load_plugins().find("dataset", "folder").noun
    items = noun.open("evaluation", noun.options(**{noun.path_option: desk[0] / "pictures"}))
    assert sorted(items.prompts) == [f"a grey square number {k}" for k in range(4)]
    assert items.images([0, 3]).shape == (2, 64, 64, 3)


@pytest.mark.parametrize("package", ["my-student", "my-metric"])
def test_the_tests_of_a_changed_package_pass(package, desk, monkeypatch, capfd):
    folder = desk[0] / f"scottbench-{package}"
    monkeypatch.syspath_prepend(str(folder))
    own = folder / "tests" / f"test_{package.replace('-', '_')}.py"
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", f"--rootdir={folder}", "-c", str(folder / "pyproject.toml")]
    code = pytest.main([*options, "-o", "pythonpath=", "-W", "ignore", str(own)])
    forget()
    assert code == 0, capfd.readouterr().out


def test_the_trainer_of_the_guide_keeps_the_rules(desk):
    bounds = checks(desk[0] / "scottbench-my-student", full=False)
    chosen = [bound for bound in bounds if bound.check.name in TRAINER_CHECKS and bound.subject.name == "trainer my-judged"]
    found = [bound.find() for bound in chosen]
    forget()
    assert {one.check for one in found} == TRAINER_CHECKS
    assert [one.line for one in found if one.status != "ok"] == []


# --- stable API --------------------------------------------------------------------------------------------------------


STABLE: dict[str, list[str]] = {}
for line in (ROOT / "plugins" / "stable.txt").read_text(encoding="utf-8").splitlines():
    if line.startswith(" "):
        STABLE[list(STABLE)[-1]].append(line.strip())
    elif not line.startswith("#"):
        STABLE[line] = []


def broken(item: object, given: list[str]) -> str:
    """Say how a function breaks a call by the arguments of the list ("steps", "seed=", "*", "*parts"); "" where it does not."""
    found = [one for one in inspect.signature(item).parameters.values() if one.name != "self"]
    by_name = given.index("*") if "*" in given else len(given)
    names = [one.strip("*=") for one in given if one != "*"]
    if [one.name for one in found][: len(given[:by_name])] != names[:by_name]:
        return "arguments have moved"
    if missing := set(names) - {one.name for one in found}:
        return f"arguments are gone: {sorted(missing)}"
    optional = {one.strip("*=") for one in given if "=" in one or "*" in one}
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = {one.name for one in found if one.default is one.empty and one.kind not in free}
    return f"arguments are needed now: {sorted(extra)}" if (extra := needed - (set(names) - optional)) else ""


@pytest.mark.parametrize("module", STABLE)
def test_what_the_list_calls_stable_is_in_the_code(module):
    home, wrong = importlib.import_module(module), {}
    for entry in STABLE[module]:
        name, bracket, arguments = entry.rstrip(")").partition("(")
        item: object = home
        for part in name.split("."):
            item = getattr(item, part, None)
        if item is None:
            wrong[entry] = "is gone"
        elif bracket and (words := broken(item, [one for one in arguments.split(", ") if one])):
            wrong[entry] = words
    assert wrong == {}, "a change of stable API: keep the old way, or change plugins/stable.txt and say so in CHANGELOG.md"


@pytest.mark.parametrize("arguments, words", [
    (["a", "b=", "c="], ""), (["a"], ""), (["b", "a"], "have moved"), (["a", "x="], "have moved"), ([], "are needed now: ['a']"),
    (["a", "*", "c="], ""), (["a", "*", "d="], "are gone: ['d']"), (["a="], "are needed now: ['a']"),
])  # fmt: skip
def test_a_change_of_a_stable_function_is_seen(arguments, words):
    def function(a, b=1, c=2, *rest, **more):
        return a

    assert words in (said := broken(function, arguments)) and bool(words) == bool(said)


def names_imported(source: str) -> set[tuple[str, str]]:
    """(module, name) of all that a source imports of scottbench."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "scottbench":
            found |= {(node.module, alias.name) for alias in node.names}
    return found


def test_the_guide_and_the_templates_use_stable_names_alone():
    sources = [body for language, _, body in FENCES if language == "python"]
    for path in (ROOT / "scottbench" / "cli" / "templates").rglob("*.py.j2"):
        sources.append(re.sub(r"<<\w+>>", "name", path.read_text(encoding="utf-8")))
    stable = {(module, entry.partition("(")[0]) for module, entries in STABLE.items() for entry in entries}
    used = set().union(*(names_imported(source) for source in sources))
    assert len(used) > 25
    assert used - stable == set()


def test_every_stable_name_is_in_the_reference():
    reference = GUIDE[GUIDE.index("## Reference: hooks") :]
    absent = [f"{module}.{name}" for module, entries in STABLE.items() for entry in entries
              if not re.search(rf"\b{re.escape((name := entry.partition('(')[0]).split('.')[-1])}\b", reference)]  # fmt: skip
    assert absent == []


# --- a teacher of another kind -----------------------------------------------------------------------------------------


class Only:
    """A model of which nothing but `Teacher` can be reached from outside."""

    def __init__(self, model):
        from scottbench.models.teacher import Teacher

        members = [name for name in vars(Teacher) if not name.startswith("_")]
        object.__setattr__(self, "hidden", (model, {*Teacher.__annotations__, *members}))

    def __getattr__(self, name):
        model, allowed = object.__getattribute__(self, "hidden")
        if name not in allowed:
            raise AttributeError(f"the protocol Teacher has no '{name}'")
        return getattr(model, name)

    def __setattr__(self, name, value):
        model, allowed = object.__getattribute__(self, "hidden")
        assert name in allowed, name
        setattr(model, name, value)


def test_a_run_asks_its_teacher_for_nothing_that_the_protocol_does_not_name(tmp_path, monkeypatch):
    from scottbench.registry.loader import load_plugins
    from scottbench.testing import small

    tiny = small.tiny_model
    monkeypatch.setattr(small, "tiny_model", lambda: Only(tiny()))
    run = small.small_run(load_plugins(), small.Small(["ddim"], n=2, steps=[1]), tmp_path / "run")
    assert run.results["value"].is_finite().all()


def test_a_training_asks_its_teacher_for_nothing_that_the_protocol_does_not_name(tmp_path):
    from scottbench.registry.loader import load_plugins
    from scottbench.testing import small

    plugins = load_plugins()
    trainer = plugins.find("trainer", "cd").noun
    loop = small.small_loop(trainer, {}, tmp_path, plugins, Only(small.tiny_model()))
    logged = loop.counted_step(0.0)
    loop.feed.close()
    assert logged["student/consistency"] >= 0 and loop.model.passes > 0
