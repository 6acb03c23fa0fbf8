"""Presets that extend another, and files that add to one of another plug-in."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
from bare_preset import bare_preset

from scottbench.errors import UsageError
from scottbench.plan.choices import of_preset
from scottbench.registry.hookspecs import hookimpl
from scottbench.registry.loader import load_plugins
from scottbench.registry.nouns import Method
from scottbench.registry.presets import Preset, read_draft, read_preset, settle

BASE = bare_preset("base") + """\
model_card = "card.json"
recorded = "rows.json"
teachers = "teachers"
limits = ["a"]
data_limits = ["b"]
[students]
cd = "students/cd"
[guidance]
cd = 2.0
[extractors.image]
kind = "open_clip"
folder = "eval"
[train.options.cd]
lr = 1e-3
tau = 1
"""


def settled(tmp_path: Path, **texts: str) -> tuple[dict[str, Preset], dict[str, str]]:
    """The presets of TOML files, each in a folder of its own, in that order."""
    found = {}
    for name, text in texts.items():
        path = tmp_path / name / f"{name}.toml"
        path.parent.mkdir()
        path.write_text(text)
        one = read_draft(path)
        found[one.name] = one
    return settle(found)


def test_a_preset_that_extends_another_has_its_keys_and_files_but_those_that_it_changes(tmp_path):
    child = 'extends = "base"\nname = "child"\nsteps = [1, 4]\n[students]\nscott = "mine"\n[train.options.cd]\nlr = 5e-4\n'
    presets, faults = settled(tmp_path, child=child, base=BASE)  # the base may come later
    assert not faults
    found = presets["child"]
    assert (found.name, found.model, found.steps, found.metrics) == ("child", "m", [1, 4], ["fid"])
    assert found.path(found.students["cd"]) == tmp_path / "base" / "students/cd"
    assert found.path(found.students["scott"]) == tmp_path / "child" / "mine"
    assert found.extractors["image"]["folder"] == str(tmp_path / "base" / "eval")
    assert found.train["options"]["cd"] == {"lr": 5e-4, "tau": 1}
    assert found.recorded == str(tmp_path / "base" / "rows.json") and found.teachers == str(tmp_path / "base" / "teachers")
    assert found.model_card == str(tmp_path / "base" / "card.json") and found.data_limits == ["b"]
    assert presets["base"] == read_preset(tmp_path / "base" / "base.toml")


def test_other_data_leave_out_what_was_said_of_the_first(tmp_path):
    child = 'extends = "base"\nname = "child"\n[dataset]\nkind = "folder"\npath = "flowers"\n'
    found = settled(tmp_path, base=BASE, child=child)[0]["child"]
    assert (found.dataset, found.data, found.data_folder) == ("folder", {"path": "flowers"}, tmp_path / "child")
    assert (found.model_card, found.data_limits, found.limits) == (None, [], ["a"])
    grandchild = 'extends = "child"\nname = "grandchild"\n'
    (tmp_path / "again").mkdir()
    both = settled(tmp_path / "again", base=BASE, child=child, grandchild=grandchild)[0]
    assert both["grandchild"].data_folder == tmp_path / "again" / "child"


def test_a_file_adds_what_a_preset_lacks_and_those_that_extend_it_have_that_too(tmp_path):
    adds = 'adds_to = "base"\nlimits = ["c"]\n[students]\ntcd = "tcd"\n[guidance]\ntcd = 1.0\n[train.options.tcd]\nlr = 1e-5\n'
    presets, faults = settled(tmp_path, child='extends = "base"\nname = "child"\n', base=BASE, adds=adds)
    assert not faults and sorted(presets) == ["base", "child"]
    for name in ("base", "child"):
        found = presets[name]
        assert found.guidance == {"cd": 2.0, "tcd": 1.0} and found.limits == ["a", "c"]
        assert found.path(found.students["tcd"]) == tmp_path / "adds" / "tcd"
        assert found.path(found.students["cd"]) == tmp_path / "base" / "students/cd"
        assert found.train["options"] == {"cd": {"lr": 1e-3, "tau": 1}, "tcd": {"lr": 1e-5}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('adds_to = "base"\n[guidance]\ncd = 9.0', "has guidance.cd already"),
        ('adds_to = "base"\n[train]\nminutes = 1.0', "may add options of trainers only"),
        ('adds_to = "base"\n[train.options.cd]\nlr = 1.0', "has train.options.cd already"),
        ('adds_to = "basis"\n[guidance]\nx = 9.0', "there is no preset 'basis' for it to lean on. Did you mean 'base'?"),
        ('adds_to = "base"\n[guidance]\nx = "much"', "'guidance' must be a table"),
        ('extends = "base"\nname = "x"\nstepz = [1]', "unknown key 'stepz'. Did you mean 'steps'?"),
        ('extends = "x"\nname = "x"', "it extends 'x', which extends it"),
    ],
)
def test_a_file_that_cannot_lean_so_says_why_and_costs_the_others_nothing(tmp_path, text, words):
    presets, faults = settled(tmp_path, base=BASE, wrong=text)
    assert list(presets) == ["base"] and presets["base"].guidance == {"cd": 2.0}
    (fault,) = faults.values()
    assert words in fault and "\n" not in fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('adds_to = "base"\nsteps = [1]', "unknown key 'steps' in"),
        ('adds_to = "base"\nextends = "base"', "the name of one other preset"),
        ('extends = "base"\nsteps = [1]', "key 'name' is missing"),
        ('name = "x"\nsummary = ""\nmodel = ""\nmethods = []\nsteps = [1]\nmetrics = []\n[dataset]\npath = "x"', "[dataset] needs 'kind'"),
    ],
)
def test_a_file_that_cannot_lean_on_anything_is_refused_when_it_is_read(tmp_path, text, words):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_draft(path)
    assert words in str(caught.value)


def method(name: str, trainer: str | None) -> Method:
    return Method(name, "", lambda run: run, lambda schedule, steps, options: [], trainer=trainer, guidance=3.0)


def test_a_method_without_a_guidance_of_its_own_takes_that_of_the_student_that_it_samples(tmp_path):
    preset = settled(tmp_path, base=BASE)[0]["base"]
    assert of_preset(preset, method("tcd", "cd"), "cd") == 2.0
    assert of_preset(preset, method("tcd", "cd"), "mine") == 2.0  # a student of another name is of cd's trainer too
    assert of_preset(preset, method("ddim", None), None) == 3.0
    assert of_preset(preset, method("scott", "scott"), "scott") == 3.0


def test_a_plug_in_that_may_not_add_is_broken_with_all_its_nouns_and_the_others_go_on(tmp_path):
    def plugin(name: str, *texts: str) -> types.SimpleNamespace:
        paths = []
        for number, text in enumerate(texts):
            path = tmp_path / f"{name}{number}.toml"
            path.write_text(text)
            paths.append(path)
        module = types.ModuleType(name)
        module.register_presets = hookimpl(lambda: paths)
        module.register_presets.__name__ = "register_presets"
        return types.SimpleNamespace(name=name, value=name, load=lambda: module, dist=None)

    good = 'adds_to = "base"\n[guidance]\ntcd = 1.0\n'
    bad = 'adds_to = "base"\n[guidance]\ncd = 9.0\n'
    own = 'extends = "base"\nname = "own"\n'
    plugins = load_plugins([plugin("a", BASE), plugin("b", good), plugin("c", bad, own)])
    assert list(plugins.nouns["preset"]) == ["base"] and plugins.find("preset", "base").noun.guidance == {"cd": 2.0, "tcd": 1.0}
    assert [plugin.status.partition(":")[0] for plugin in plugins.plugins] == ["ok", "ok", "BROKEN"]
    with pytest.raises(UsageError, match="unknown preset 'own'.*Plug-in 'c' .*has guidance.cd already"):
        plugins.find("preset", "own")
