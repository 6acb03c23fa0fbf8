"""The check script for an accelerator runs here with small networks, so that it works on the day that there is one."""

import json

import check
import pytest


def test_every_section_of_the_check_runs_on_a_cpu(tmp_path, monkeypatch):
    sections = [name for name in check.SECTIONS if name != "pocket"]  # its trainers and the embedded model have tests of their own
    monkeypatch.setattr("sys.argv", ["check.py", "--tiny", "--out", str(tmp_path), "--only", *sections])
    assert check.main() == 0
    rows = json.loads((tmp_path / "gpu-check.json").read_text())["rows"]
    assert [row["section"] for row in rows if row["what"] == "section"] == sections and not [r for r in rows if r["what"] == "FAILED"]
    (cosine,) = [row["value"] for row in rows if row["section"] == "gradients" and row["unit"] == "cosine"]
    assert 0.8 < cosine < 1
    assert all(row["equal_twice"] for row in rows if row["unit"] == "img/s" and row["section"] == "sampling")
    assert sum(row["section"] == "training" and row.get("finite", False) for row in rows) == 4


def test_a_section_that_fails_is_a_row_and_costs_the_others_nothing(tmp_path, monkeypatch):
    def broken(found):
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(check.SECTIONS, "smoke", broken)
    monkeypatch.setattr("sys.argv", ["check.py", "--tiny", "--out", str(tmp_path), "--only", "smoke", "png"])
    assert check.main() == 1
    rows = json.loads((tmp_path / "gpu-check.json").read_text())["rows"]
    assert rows[0]["value"] == "RuntimeError" and rows[0]["message"] == "no such kernel"
    assert any(row["unit"] == "img/s" for row in rows)
    with pytest.raises(SystemExit):
        monkeypatch.setattr("sys.argv", ["check.py", "--tiny"])
        check.main()
