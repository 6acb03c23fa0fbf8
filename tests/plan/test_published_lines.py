"""Students of published weights in a plan: whose they are is said, another teacher is no error, their sampler's options are taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_plugin
from scottbench_cd import register_methods as of_cd
from scottbench_solvers import register_methods as of_solvers
from scottbench_tcd import register_methods as of_tcd

from scottbench.errors import DamagedAsset, UsageError
from scottbench.models.student import read_student, sealed
from scottbench.plan.choices import find_methods
from scottbench.plan.plan import make_plan
from scottbench.plan.published import student_options
from scottbench.plan.request import RunRequest
from scottbench.report.tables import maker_of
from scottbench.run.worker import open_weights

TOLD = {"source": "latent-consistency/lcm-lora-sdv1-5", "sha256": "a" * 64, "licence": "openrail++", "by": "latent-consistency",
        "trained_from": "Dreamshaper v7"}  # fmt: skip


@pytest.fixture(scope="module")
def samplers(files):
    """The tiny plug-in with the samplers of published students."""
    found = tiny_plugin.tiny_plugins(files)
    for method in [*of_cd(), *of_solvers(), *of_tcd()]:
        found.nouns["method"][method.name] = tiny_plugin.registered("method", method)
    return found


@pytest.fixture
def student(files, tmp_path):
    """student(changes of student.json) -> a folder."""

    def make(**changes):
        folder = tmp_path / f"s{len(list(tmp_path.iterdir()))}"
        shutil.copytree(files / "student", folder)
        facts = json.loads((folder / "student.json").read_text()) | {"trainer": "cd"} | changes
        (folder / "student.json").write_text(json.dumps(sealed(facts)))
        return str(folder)

    return make


def cells(plugins, method, folder, **more):
    made = make_plan(plugins, RunRequest("tiny", methods=[method], students={"x": folder}, steps=[2], limit=2, device="cpu", **more))
    return made, made.cells[0]


def options(plugins, text, facts, **more):
    """The options that a method gets for a student, without a plan."""
    request = RunRequest("tiny", methods=[text], students={"x": "x"}, **more)
    (choice,) = find_methods(plugins, plugins.find("preset", "tiny").noun, request)
    return vars(student_options(choice, facts, Path("x")))


@pytest.mark.parametrize("facts", [{"sampler": {"skip": 50}}, {"options": {"skip": 50, "lr": 1e-3}}])
@pytest.mark.parametrize("method", ["cd", "lcm", "tcd"])
def test_the_grid_that_a_student_was_trained_on_is_taken_where_the_user_names_none(samplers, method, facts):
    """By its table `sampler`; of an older version's student, by its trainer's option of the same name."""
    assert options(samplers, f"{method}@student=x", facts)["skip"] == 50
    assert options(samplers, f"{method}@student=x,skip=20", facts)["skip"] == 20
    assert options(samplers, f"{method}@student=x", facts, options={"skip": "20"})["skip"] == 20, "-O is named too"
    assert options(samplers, f"{method}@student=x", {})["skip"] == 20


def test_a_plan_s_time_steps_are_those_of_the_student_s_grid(samplers, student):
    _, cell = cells(samplers, "cd@student=x,steps=3", student(sampler={"skip": 50}))
    assert cell.timesteps == [999, 699, 349] and cell.method.options.skip == 50


def test_options_that_a_sampler_lacks_are_left_alone_and_impossible_ones_refused(samplers, student):
    told = {"sampler": {"skip": 50, "eta": 1.0}, "published": TOLD}
    assert options(samplers, "tcd@student=x", told) == {"eta": 1.0, "skip": 50}
    assert options(samplers, "lcm@student=x", told) == {"skip": 50}
    assert options(samplers, "lcm@student=x", {"options": {"skip": 50}, "published": TOLD}) == {"skip": 20}, "not trained here"
    for bad in ({"skip": 0}, {"skip": "many"}):
        with pytest.raises(DamagedAsset, match=r"student.json does not fit its sampler: method 'lcm'.*skip"):
            options(samplers, "lcm@student=x", {"sampler": bad})
    with pytest.raises(DamagedAsset, match="sampler is .*not a table"):
        read_student(Path(student(sampler=[50])))
    with pytest.raises(DamagedAsset, match="published.by is .*not text"):
        read_student(Path(student(published={"by": {"a": 1}})))


def test_the_plan_says_whose_weights_are_published_and_with_what_they_are_compared(samplers, student):
    made, cell = cells(samplers, "lcm@student=x", student(published=TOLD))
    (line,) = [line for line in made.warnings if "published" in line]
    assert line == (
        "student of 'lcm@student=x': published weights latent-consistency/lcm-lora-sdv1-5 (sha256 aaaaaaaaaaaa), trained by "
        "latent-consistency, licence openrail++, student of Dreamshaper v7, compared with tiny.")
    assert maker_of(cell.method.facts) == (
        "published weights: latent-consistency/lcm-lora-sdv1-5, of latent-consistency, student of Dreamshaper v7, licence openrail++")
    assert maker_of({"trainer": "cd"}) == "cd"


def test_another_teacher_is_said_of_published_weights_and_refused_of_trained_ones(samplers, student):
    other = {"teacher_digest": "f" * 64, "teacher": "sd15"}
    made, _ = cells(samplers, "lcm@student=x", student(published=TOLD, **other))
    assert "compared with tiny, not with sd15 (digest ffffffffffff), for which they were adopted." in "\n".join(made.warnings)
    with pytest.raises(DamagedAsset, match="was distilled from a teacher with digest ffffffffffff"):
        cells(samplers, "lcm@student=x", student(**other))


def test_a_plain_student_is_sampled_by_the_teacher_s_samplers_and_no_other_is(samplers, student):
    folder = student(trainer="plain", published=TOLD, guidance="baked", sampler={"spacing": "trailing"})
    made, cell = cells(samplers, "ddim@student=x", folder)
    assert cell.timesteps == [999, 499] and cell.method.guidance == 1
    work = type("Work", (), {"plan": made})
    assert open_weights(work, cell, {}).digest == cell.method.weights_digest != made.model.digest, "it is the student that is sampled"
    with pytest.raises(UsageError, match="holds a student of 'plain', not of 'cd'"):
        cells(samplers, "lcm@student=x", folder)
    with pytest.raises(UsageError, match="a student of 'cd', and a sampler of the teacher takes none but ordinary U-Nets"):
        cells(samplers, "ddim@student=x", student())
