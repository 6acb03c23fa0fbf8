"""The check script for an accelerator runs here with small networks, so that it works on the day that there is one."""

import json

import check
import pytest


def test_every_section_of_the_check_runs_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["check.py", "--tiny", "--out", str(tmp_path)])
    assert check.main() == 0
    rows = json.loads((tmp_path / "gpu-check.json").read_text())["rows"]
    assert [row["section"] for row in rows if row["what"] == "section"] == list(check.SECTIONS)
    assert not [row for row in rows if row["what"] == "FAILED"]
    rows_of = lambda name: [row for row in rows if row["section"] == name and row["what"] != "section"]  # noqa: E731
    run, again, plain = rows_of("pipeline")
    assert run["value"] > 0 and 0 < run["stages_share"] <= 1 and again["value"] == 0 and again["checked"] > 10 and plain["value"] > 0
    (killed,) = rows_of("resume")
    assert (killed["value"], killed["killed"], killed["kept_untouched"], killed["grey_max"]) == (12, True, True, 0)
    assert killed["chunks_kept"] >= 1
    (half,) = rows_of("half")
    assert half["value"] == 3 and half["moved"] > 0
    # a plain loop of diffusers makes the same images
    assert all(row["plain_grey_max"] <= 1 for row in rows if "plain_grey_max" in row)
    (cosine,) = [row["value"] for row in rows if row["section"] == "gradients" and row["unit"] == "cosine"]
    assert 0.8 < cosine < 1
    assert all(row["equal_twice"] for row in rows if row["unit"] == "img/s" and row["section"] == "sampling")
    updates = rows_of("training")
    assert len(updates) == 5 and all(row["finite"] for row in updates)
    assert updates[0]["predicted_gib"] > 0 and updates[0]["tflops"] > 0


def test_a_section_that_fails_is_a_row_and_costs_the_others_nothing(tmp_path, monkeypatch):
    def broken(found):
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(check.SECTIONS, "smoke", broken)
    monkeypatch.setattr("sys.argv", ["check.py", "--tiny", "--out", str(tmp_path), "--only", "smoke,png"])
    assert check.main() == 1
    rows = json.loads((tmp_path / "gpu-check.json").read_text())["rows"]
    assert rows[0]["value"] == "RuntimeError" and rows[0]["message"] == "no such kernel"
    assert any(row["unit"] == "img/s" for row in rows)
    for words in ([], ["--out", str(tmp_path), "--only", "smoke,nonsense"]):
        monkeypatch.setattr("sys.argv", ["check.py", "--tiny", *words])
        with pytest.raises(SystemExit):
            check.main()
