"""student.json is part of the student: what was changed by hand is refused, what an older version wrote is used and called unsealed."""

from __future__ import annotations

import json
import shutil

import pytest

from scottbench.errors import DamagedAsset, IntegrityError
from scottbench.models.student import is_sealed, read_student, seal_again, sealed, student_digest
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest

FACTS = {
    "trainer": "hop", "teacher_digest": "a" * 64, "weights_digest": "b" * 64, "prediction": "epsilon", "w_min": 0.0, "w_max": 4.0,
    "minutes": 19.0, "updates": 1217, "options": {"lr": 0.1}, "made_for": [1],
}  # fmt: skip
CHANGES = {
    "prediction": "v_prediction", "w_max": 49.0, "minutes": 1.0, "updates": 1, "options": {"lr": 0.2}, "made_for": [1, 2],
    "weights_digest": "c" * 64, "new": 1, "schema": "scottbench.student/1",
}  # fmt: skip


def write(folder, facts: dict):
    folder.mkdir(exist_ok=True)
    (folder / "student.json").write_text(json.dumps(facts))
    return folder


def test_a_sealed_student_is_read_as_it_was_written(tmp_path):
    assert read_student(write(tmp_path / "s", sealed(FACTS))) == sealed(FACTS)
    assert is_sealed(sealed(FACTS)) and student_digest(sealed(FACTS)) == sealed(FACTS)["seal"] and sealed(sealed(FACTS)) == sealed(FACTS)


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_that_was_changed_by_hand_is_exit_code_5(tmp_path, field):
    with pytest.raises(IntegrityError, match=r"student\.json was changed after the training") as caught:
        read_student(write(tmp_path / "s", sealed(FACTS) | {field: CHANGES[field]}))
    assert caught.value.exit_code == 5


def test_a_seal_that_was_taken_off_is_missed(tmp_path):
    facts = sealed(FACTS)
    del facts["seal"]
    with pytest.raises(IntegrityError):
        read_student(write(tmp_path / "s", facts))
    seal_again(tmp_path / "s")
    assert read_student(tmp_path / "s") == sealed(FACTS)


@pytest.mark.parametrize("change", [
    {"teacher_digest": 5}, {"weights_digest": None}, {"trainer": ["hop"]}, {"w_min": "0"}, {"w_min": None}, {"w_max": float("inf")},
    {"w_max": 10**400}, {"w_min": 5.0}, {"made_for": 2}, {"made_for": ["2"]}, {"options": []}, {"minutes": "19"}, {"prediction": 1},
    {"w_max": True},
])  # fmt: skip
def test_a_value_of_a_wrong_kind_is_exit_code_3_in_one_line(tmp_path, change):
    for facts in (FACTS | change, sealed(FACTS) | change):
        with pytest.raises(DamagedAsset) as caught:
            read_student(write(tmp_path / "s", facts))
        assert "\n" not in str(caught.value) and str(caught.value).count(next(iter(change))) >= 1 and caught.value.exit_code == 3


def test_half_a_range_and_a_nest_are_exit_code_3(tmp_path):
    half = {key: value for key, value in FACTS.items() if key != "w_max"}
    with pytest.raises(DamagedAsset, match="w_min and w_max.* only one is there"):
        read_student(write(tmp_path / "s", half))
    (tmp_path / "s" / "student.json").write_text("[" * 100_000)
    with pytest.raises(DamagedAsset, match="nested too deeply"):
        read_student(tmp_path / "s")


def test_a_student_of_an_older_version_is_used_and_called_unsealed(plugins, files, tmp_path):
    request = RunRequest("tiny", methods=["hop"], limit=2, device="cpu", students={"hop": str(tmp_path / "s")})
    shutil.copytree(files / "student", tmp_path / "s")
    assert make_plan(plugins, request).warnings == []
    facts = read_student(tmp_path / "s")
    old = {key: value for key, value in facts.items() if key not in ("seal", "schema")} | {"schema": "scottbench.student/1"}
    write(tmp_path / "s", old)
    found = make_plan(plugins, request)
    assert [line.partition(":")[0] for line in found.warnings] == ["unsealed (older version)"]
    # nothing vouches for its fields, and still two contents are two students
    write(tmp_path / "s", old | {"minutes": 1})
    assert make_plan(plugins, request).hash != found.hash
