"""`distil` trains as the command line does and gives the student back."""

from __future__ import annotations

import json

import pytest
import tiny
import tiny_training

import scottbench
from scottbench.errors import MissingAsset, UsageError


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    return tiny_training.Registry(tiny.tiny_pipeline(tmp_path_factory.mktemp("teacher")))


@pytest.fixture
def trained(registry, monkeypatch, tmp_path):
    from scottbench.registry import loader

    monkeypatch.setattr(loader, "load_plugins", lambda: registry)
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_student_is_made_where_it_is_asked_for(trained):
    student = scottbench.distil("cd", out="mine", preset="tiny", max_steps=2, options={"skip": 250}, progress=False)
    assert student.folder == trained / "mine" and student.trainer == "cd"
    assert student.facts == json.loads((trained / "mine" / "student.json").read_text())
    assert student.facts["steps"] == 2 and student.facts["options"]["skip"] == 250
    again = scottbench.Student("mine")
    assert again.facts == student.facts and "trainer='cd'" in repr(again)


def test_progress_goes_to_stderr_and_the_folder_has_a_default(trained, capfd):
    student = scottbench.distil("cd", preset="tiny", max_steps=1, batch_size=2)
    assert student.folder == trained / "students" / "tiny-cd"
    shown = capfd.readouterr()
    assert "train  step 1" in shown.err and shown.out == ""


@pytest.mark.parametrize("arguments, message", [
    ({"minutes": 0}, "minutes must be a number above 0, found 0"),
    ({"minutes": "5"}, "minutes must be a number above 0, found '5'"),
    ({"max_steps": 1.5}, "max_steps must be a whole number above 0"),
    ({"max_step": 1}, r"distil\(\) has no argument 'max_step'. Did you mean 'max_steps'"),
    ({"options": "skip=2"}, "options must be a dict"),
    ({"options": {"skipp": 2}}, "trainer 'cd' has no option 'skipp'. Did you mean 'skip'"),
    ({"batch_size": 3, "accumulate": 2}, "cannot be cut into 2 equal parts"),
    ({"device": "tpu"}, "must be auto, cpu, cuda"),
])  # fmt: skip
def test_a_mistake_gives_one_clear_message(trained, arguments, message):
    with pytest.raises(UsageError, match=message):
        scottbench.distil("cd", preset="tiny", out="mine", progress=False, **arguments)
    assert not (trained / "mine").exists()


def test_a_folder_without_a_student_says_how_to_make_one(tmp_path):
    with pytest.raises(MissingAsset, match=r"no student at .*student.json is missing.*scottbench train"):
        scottbench.Student(tmp_path)
