"""`plugin check` finds every planted fault of tests/third_party/broken, with its line and a fix: one fault each, marked "fault" there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scottbench.cli import invoke
from scottbench.testing.finding import FAIL
from scottbench.testing.package import check_plugin, checks, counted

ROOT = Path(__file__).parents[2]
BROKEN = ROOT / "tests" / "third_party" / "broken"
FAULTS = {
    "prints_at_import.py": ("import", "prints 'loaded'"),
    "imports_torch.py": ("import", "imports numpy, torch"),
    "opens_a_socket.py": ("import", "opens a connection"),
    "exits_at_import.py": ("loads", "SystemExit"),
    "lost_function.py": ("functions", "cannot be imported"),
    "no_such_trainer.py": ("names", "trainer 'cdd', which nobody registers. Did you mean 'cd'?"),
    "thawed_options.py": ("options", "must be a frozen dataclass"),
    "wrong_field.py": ("loads", "field 'guidance' must be a number"),
    "rising_times.py": ("time steps", "Give 2 time steps that fall"),
    "global_noise.py": ("global randomness", "draws from, or seeds, a global random generator"),
    "batch_mean.py": ("batch", "change with batch size, order or company"),
    "depends_on_company.py": ("nfe", "must be the same whole number for every image"),
    "misses_the_point.py": ("point mass", "Go on to time 0"),
    "writes_noise.py": ("noise unwritten", "writes into a tensor that run.noise(k) gave"),
    "same_version/new": ("version", "has version '2' as before"),
    "wrong_influence.py": ("influence", "have correlation -1.00"),
    "hides_nan.py": ("hard cells", "with a NaN among the features compute returned"),
    "writes_cell.py": ("read-only cell", "changed the arrays that it was given"),
    "worse_is_better.py": ("best value", "more is better"),
    "leaks_gradients.py": ("gradients by role", "the loss of 'critic' reaches the student's weights"),
    "sums_the_batch.py": ("micro-batches", "gradient of twice 8 items is 0.50 times that of 16,"),
    "forgets.py": ("kill and resume", "it goes on differently"),
    "loses_a_stage.py": ("kill and resume", "a network that it changes in `frozen`"),
    "breaks_a_choice.py": ("other choices", "with loss=huber: KeyError: 'huber'"),
    "one_form_is_nan.py": ("other choices", "with squared=True: the latents are NaN or infinite."),
    "stays_on_the_cpu.py": ("placement", "on a GPU tensors of two devices meet"),
    "batch_norm.py": ("batch", "features of an image change with its batch"),
    "digest_of_a_name": ("weight byte", "with a byte of weights.npy changed the digest is the same"),
    "digest_of_ids": ("pixel", "with a byte of pictures.npy changed its pictures differ"),
    "quotes_backwards": ("sides", "less is better"),
}
OF_IMPORT = [name for name, (check, _) in FAULTS.items() if check in ("import", "loads", "version")]
SLOW = ("placement", "weight byte", "pixel", "other choices")
"""Checks that are run where they are to find something: each takes a second or more."""


def place_of(name: str) -> str:
    """ "file:line" of the mark in a planted plug-in."""
    path = BROKEN / name
    for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix in (".py", ".toml")):
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            if line.rstrip().endswith("fault") and "#" in line:
                return f"{file}:{number}"
    raise AssertionError(f"{name} has no mark")


def source_of(name: str) -> str:
    return str(BROKEN / name / f"{name.split('/')[0]}.py" if "/" in name else BROKEN / name)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_with_its_line_and_a_fix(name, monkeypatch):
    monkeypatch.chdir("/")
    wanted, words = FAULTS[name]
    older = BROKEN / "same_version/old/same_version.py" if name.startswith("same_version") else None
    found = []
    for check in checks(source_of(name), older=older):
        if check.check.name == wanted or not (check.check.name in SLOW or check.check.name in ("import", "version")):
            found.append(check.find())
            if found[-1].check == wanted and found[-1].status == FAIL:
                break  # checks that come later may fall over the same fault
    failed = [one for one in found if one.status == FAIL]
    assert [one.check for one in failed] == [wanted], [one.line for one in failed]
    finding = failed[0]
    assert words in f"{finding.found} {finding.fix}"
    assert finding.where.lstrip("/") == place_of(name).lstrip("/") and finding.fix
    # the planted trainers have no method to sample their students
    assert not [one.line for one in found if one.status == "warn" and one.check != "export and sample"]


def test_there_are_twenty_faults_and_more_one_each():
    planted = {path.name for path in BROKEN.iterdir() if path.name != "__pycache__"} - {"same_version"} | {"same_version/new"}
    assert planted == set(FAULTS) and len(FAULTS) >= 20


def test_the_verb_says_it_in_a_line_and_by_its_exit_code(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    path = "tests/third_party/broken/rising_times.py"
    assert invoke(["plugin", "check", path]) == 1
    out = capsys.readouterr().out
    assert "FAIL method rising-times: time steps: " in out and f"\n     {path}:{place_of('rising_times.py').rpartition(':')[2]}\n" in out
    assert "\n     fix: Give 2 time steps that fall, from noise to data" in out
    assert out.splitlines()[-1].startswith("17 checks: ")
    assert invoke(["plugin", "check", path, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False and document["counts"]["FAIL"] >= 1 and len(document["findings"]) == 17
    monkeypatch.chdir(tmp_path)
    for wrong in ("ddimm", "nowhere/at/all"):
        assert invoke(["plugin", "check", wrong]) == 2
        assert capsys.readouterr().err.startswith(f"error: no plug-in is called '{wrong}'")


def test_a_correct_plug_in_of_somebody_else_has_no_finding(monkeypatch):
    # another test of this process may have installed it elsewhere
    for name in [name for name in sys.modules if name.partition(".")[0] == "scottbench_example"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not (Path(place) / "scottbench_example").is_dir()])
    findings = check_plugin(ROOT / "tests" / "third_party" / "scottbench_example")
    assert counted(findings) == {"ok": len(findings), "warn": 0, "FAIL": 0}, [one.line for one in findings if one.status != "ok"]


@pytest.mark.parametrize("wrong", ["guidance='3'", "version=3", "version=Method"])
def test_a_field_of_another_type_is_named_whatever_it_holds(tmp_path, wrong):
    text = (BROKEN / "wrong_field.py").read_text().replace('guidance="3"', wrong)
    file = tmp_path / "of_another_type.py"
    file.write_text(text)
    first = next(iter(checks(str(file)))).find()
    assert (first.check, first.status) == ("loads", FAIL) and f"field '{wrong.partition('=')[0]}' must be" in first.found
