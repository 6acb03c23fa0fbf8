"""Files are hashed once a run: a student is checked by the plan, and opened on the word of it."""

from scottbench.models.pipeline import open_student
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.run.execute import execute
from scottbench.store import weights


def test_a_run_hashes_its_student_once(plugins, files, tmp_path, monkeypatch):
    hashed, original = [], weights.file_digest
    monkeypatch.setattr(weights, "file_digest", lambda path: hashed.append(path) or original(path))
    plan = make_plan(plugins, RunRequest("tiny", methods=["hop", "hop@guidance=1"], steps=[1, 2], limit=2, device="cpu"))
    execute(plan, plugins, tmp_path / "run", None, lambda event: None)
    unet = files / "student" / "unet"
    found = [path for path in hashed if unet in path.parents]
    assert sorted(found) == sorted(path for path in unet.rglob("*") if path.suffix in (".safetensors", ".json"))
    assert len(found) == 2


def test_a_student_that_nobody_has_checked_is_checked_when_it_is_opened(plugins, files, monkeypatch):
    plan, hashed, original = make_plan(plugins, RunRequest("tiny", limit=2, device="cpu")), [], weights.file_digest
    monkeypatch.setattr(weights, "file_digest", lambda path: hashed.append(path) or original(path))
    assert open_student(plan.model, files / "student", "hop").student == plan.cells[-1].method.facts
    assert len(hashed) == 2
