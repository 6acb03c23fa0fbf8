"""The presets of SCott's tables: methods and students of published weights, papers' numbers, what is fetched and what is missing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from bare_preset import bare_preset

from scottbench.errors import MissingAsset, UsageError
from scottbench.plan import inputs
from scottbench.plan.choices import choose
from scottbench.plan.needs import needs_of
from scottbench.plan.request import RunRequest
from scottbench.registry.label import Label
from scottbench.registry.loader import load_plugins
from scottbench.registry.presets import read_draft, settle
from scottbench.store.fetch.table import of_hub

NAMES = ("scott-paper-coco2017", "scott-paper-coco2014", "scott-paper-mjhq")
SIZES = {"scott-paper-coco2017": 5_000, "scott-paper-coco2014": 30_000, "scott-paper-mjhq": 5_000}


@pytest.fixture(scope="module")
def plugins():
    return load_plugins()


@pytest.mark.parametrize("name", NAMES)
def test_a_line_samples_teachers_trained_and_published_students_at_the_paper_s_steps(plugins, name):
    found = choose(plugins, RunRequest(name, device="cpu"))
    rows = {(str(choice.label), steps): choice for choice in found.methods for steps in choice.steps or found.steps}
    teachers = {row for row, choice in rows.items() if choice.student is None}
    assert teachers == {("ddim", 50), ("dpmpp", 25)}
    assert {(method, steps) for method in ("scott", "cd") for steps in (1, 2, 4)} <= rows.keys()
    published = {choice.student: choice for choice in found.methods if choice.student in found.preset.adopted}
    assert published.keys() == found.preset.adopted.keys()  # none is named and not sampled
    assert {choice.guidance for choice in published.values()} == {1.0}  # baked; not the 7.5 and 8 of the preset's own
    assert {"fid", "clip_score", "coverage"} == {choice.metric.name for choice in found.metrics}
    assert found.dataset.dataset.sizes["evaluation"] == SIZES[name]
    assert any("UFOGen has no row" in line or "UFOGen and DMD have no row" in line for line in found.preset.limits)


@pytest.mark.parametrize("name", NAMES)
def test_a_number_of_a_paper_has_its_source_and_stands_beside_a_row_that_is_sampled(plugins, name):
    found = choose(plugins, RunRequest(name, device="cpu"))
    rows = {(str(choice.label), steps) for choice in found.methods for steps in choice.steps or found.steps}
    papers = found.preset.papers
    assert papers and {one.n for one in papers} == {SIZES[name]}
    for one in papers:
        assert one.row == "" or (str(Label.parse(one.row)), one.steps) in rows, one
        assert one.source and one.metric in found.preset.metrics
        assert one.steps > 0 or (one.confidence == "C" and "unclear" in one.remark)
    spec = {(one.method, one.steps): (one.value, one.confidence) for one in papers if one.metric == "fid"}
    assert len(spec) == sum(one.metric == "fid" for one in papers)  # none twice


def test_the_numbers_of_coco_2017_are_those_of_the_claims(plugins):
    """One paper, quoted in two places: they must agree."""
    papers = {(one.method, one.steps): one.value for one in plugins.find("preset", NAMES[0]).noun.papers if one.metric == "fid"}
    claims = {name: plugins.find("claim", name).noun.compare for name in ("headline-instaflow", "headline-ufogen", "beats-cd",
                                                                         "flash-improves-with-steps")}  # fmt: skip
    quoted = {name: next(one.quoted for one in compare if one.quoted is not None) for name, compare in claims.items()}
    for name, worse in {"headline-instaflow": ("InstaFlow 0.9B", 1), "headline-ufogen": ("UFOGen", 4), "beats-cd": ("LCM", 2)}.items():
        assert (papers["SCott", 2], papers[worse]) == (quoted[name].better, quoted[name].worse)
    flash = quoted["flash-improves-with-steps"]
    assert (papers["Flash Diffusion", 4], papers["Flash Diffusion", 2]) == (flash.better, flash.worse)


@pytest.mark.parametrize("name", NAMES)
def test_published_students_are_fetched_and_then_adopted_by_lines_that_the_command_line_takes(plugins, name):
    from scottbench.cli.adopt import adopt

    needs = needs_of(plugins, [name], "run")
    preset = plugins.find("preset", name).noun
    there = {asset.name: asset for asset in needs.assets}
    assert preset.adopted.keys() <= there.keys() and {"sd15", "inception-2015", "open-clip-vit-g-14"} <= there.keys()
    for student, one in preset.published.items():
        asset = there[student]
        assert [file.name for file in asset.files] == one.files and asset.hub == one.hub
        assert all(of_hub(f"{one.hub}/{file}") is not None for file in one.files)
        line = asset.then.format(folder="")
        words = line.split()
        assert words[:2] == ["scottbench", "adopt"] and words[-2:] == ["--out", str(preset.path(one.folder))]
        parsed = adopt.make_context("adopt", words[2:]).params
        assert parsed["method"] == one.flags.split()[1] and parsed["name"] == student
        documented = (Path(__file__).parents[3] / "docs" / "published-students.md").read_text()
        method = one.flags.split()[1]
        assert one.flags.startswith("--as ") and re.search(rf"{re.escape(one.hub)}\S* --as {method} ", documented), student


def test_a_student_that_was_adopted_is_not_fetched_again(plugins, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".local/share/scottbench/students/sd15/lcm-lora").mkdir(parents=True)
    there = {asset.name for asset in needs_of(plugins, [NAMES[0]], "run").assets}
    assert "lcm-lora" not in there and "flash-sd" in there


def test_a_student_that_is_not_here_is_named_with_the_lines_that_bring_it(plugins, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = choose(plugins, RunRequest(NAMES[0], methods=["lcm@student=flash-sd"], device="cpu"))
    with pytest.raises(MissingAsset) as caught:
        inputs.find_students(found)
    folder = tmp_path / ".local/share/scottbench/students/sd15/flash-sd"
    assert f"no student at {folder} " in str(caught.value)
    assert (f"scottbench fetch {NAMES[0]} && scottbench adopt jasperai/flash-sd/pytorch_lora_weights.safetensors --as lcm --teacher sd15 "
            f"--made-for 2,4 --name flash-sd --out {folder}") in str(caught.value)  # fmt: skip
    given = dataclasses.replace(found.request, students={"flash-sd": str(tmp_path / "mine")})
    with pytest.raises(MissingAsset, match="no student at .*mine"):  # --student goes before the preset's folder
        inputs.find_students(dataclasses.replace(found, request=given))
    with pytest.raises(UsageError, match="no student goes by the name 'nobody'"):
        choose(plugins, RunRequest(NAMES[0], methods=["lcm@student=nobody"], device="cpu"))


HEAD = bare_preset("base")
ADOPTED = '[adopted.a]\nhub = "o/n"\nfiles = ["w.safetensors"]\nflags = "--as lcm"\nfolder = "students/a"\n'
QUOTED = '[[quoted]]\nmethod = "A"\nsteps = 2\nmetric = "fid"\nvalue = 2.5\nn = 10\ndataset = "D"\nsource = "p. 3"\nconfidence = "A"\n'


@pytest.mark.parametrize("text, words", [
    (ADOPTED.replace('flags = "--as lcm"', 'flags = ""'), "flags with --as"),
    (ADOPTED.replace('"o/n"', '"o"'), 'hub = "OWNER/NAME"'),
    (ADOPTED.replace("[adopted.a]", '[adopted."../a"]'), "plain name"),
    (ADOPTED + '[students]\na = "b"\n', r"stands in \[students\] and in \[adopted\]"),
    (QUOTED.replace('confidence = "A"', 'confidence = "D"'), "confidence"),
    (QUOTED.replace('source = "p. 3"\n', ""), "source"),
])  # fmt: skip
def test_what_is_wrong_in_the_tables_is_one_line(tmp_path, text, words):
    (tmp_path / "p.toml").write_text(HEAD + text)
    with pytest.raises(UsageError, match=words) as caught:
        read_draft(tmp_path / "p.toml")
    assert "\n" not in str(caught.value)


def test_a_preset_that_extends_another_has_its_students_and_its_numbers_only_for_the_same_data(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.toml").write_text(HEAD + ADOPTED + QUOTED)
    (tmp_path / "same.toml").write_text('extends = "base"\nname = "same"\nsteps = [4]\n')
    (tmp_path / "other.toml").write_text('extends = "base"\nname = "other"\ndataset = "e"\n')
    found, faults = settle({name: read_draft(path) for name, path in (
        ("base", tmp_path / "base" / "base.toml"), ("same", tmp_path / "same.toml"), ("other", tmp_path / "other.toml"))})  # fmt: skip
    assert not faults and [len(found[name].papers) for name in ("base", "same", "other")] == [1, 1, 0]
    assert found["same"].path(found["same"].published["a"].folder) == tmp_path / "base" / "students" / "a"
