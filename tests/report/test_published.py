"""The reports under reports/ are what their records say: anybody can judge the claims again, without a model or an image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from scottbench.cli import invoke
from scottbench.plan.request import RunRequest, recorded, unplaced
from scottbench.registry.loader import load_plugins
from scottbench.report import build
from scottbench.report.export import Choice, export
from scottbench.store.assets import file_digest
from scottbench.store.files import json_bytes, own_digest
from scottbench.store.schemas import violations

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(path.parent for path in (ROOT / "reports").glob("*/manifest.json"))


def test_the_reports_that_the_readme_names_are_there():
    assert {folder.name for folder in PUBLISHED} == {
        "pocket-main", "pocket-scott-1", "pocket-continuous", "pocket-ablations", "pocket-ablations-more"}


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_claims_and_pairs_follow_from_the_records(folder, capsys):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert violations(manifest) == [] and manifest["status"] == "complete"
    assert invoke(["claims", str(folder), "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)["claims"]
    assert judged == json.loads((folder / "claims.json").read_text())["claims"] and len(judged) >= 9
    row = pl.read_parquet(folder / "pairs.parquet").to_dicts()[0]
    assert invoke(["compare", str(folder), *(f"{row[f'method_{x}']}@{row[f'steps_{x}']}" for x in "ab"), "--json"]) == 0
    again = {one["metric"]: one for one in json.loads(capsys.readouterr().out)["pairs"]}[row["metric"]]
    assert again["difference"] == pytest.approx(row["difference"], rel=1e-9) and again["p"] == pytest.approx(row["p"], rel=1e-6)


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_a_published_report_names_no_place_of_the_machine_and_loads_nothing(folder):
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".html"):
            text = path.read_text(encoding="utf-8")
            assert "/root/" not in text and "/home/" not in text and "/tmp/" not in text, path
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert 'src="http' not in page and "https://" not in page.partition("<body")[0]


def test_a_run_with_students_of_another_package_names_no_place_of_the_machine(monkeypatch):
    """Their paths are whole ones, for they lie in a folder of their own; a record has them from their package on."""
    monkeypatch.setenv("SCOTTBENCH_PLUGIN_PATH", str(ROOT / "more" / "scottbench_more"))
    preset = load_plugins().find("preset", "pocket").noun
    assert preset.path(preset.students["scm"]) == ROOT / "more" / "scottbench_more" / "students" / "scm"
    settings = recorded(RunRequest("pocket"), preset)
    assert settings["students"]["value"].items() >= {"scm": "scottbench_more/students/scm", "cd": "assets/students/cd"}.items()
    assert str(ROOT) not in json.dumps(settings)
    assert unplaced("/elsewhere/weights", preset.folder) == "/elsewhere/weights", "nothing says from where on it could be told"


def test_a_run_is_held_against_claims_that_came_later(tmp_path, capsys):
    """As if a plug-in had brought one since: verdicts, digest and page become those of today, and nothing else."""
    source, run = tmp_path / "source", tmp_path / "a run"
    shutil.copytree(ROOT / "reports" / "pocket-continuous", source)
    page = (source / "report" / "index.html").read_text()
    build(source)  # figures of another version may be drawn another way
    assert (source / "report" / "index.html").read_text().count("data:image/webp") == page.count("data:image/webp") > 20
    shutil.copytree(source, run)
    facts = json.loads((run / "manifest.json").read_text())
    claims = json.loads((run / "claims.json").read_text())
    (run / "claims.json").write_bytes(json_bytes(claims | {"claims": claims["claims"][1:]}))
    facts["files"]["claims.json"] = file_digest(run / "claims.json")
    (run / "manifest.json").write_bytes(json_bytes(facts | {"check": own_digest(facts)}))
    assert invoke(["claims", str(run), "--write"]) == 0
    written = capsys.readouterr()
    assert claims["claims"][0]["name"] in written.out and f"scottbench export '{run}' -o '{run}'" in written.err
    names = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    assert [name for name in names if (run / name).read_bytes() != (source / name).read_bytes()] == [], "pictures too"
    assert invoke(["verify", str(run)]) == 0
    for words in ([str(source)], ["--claim", "beats-cd"]):
        assert invoke(["claims", str(run), "--write", *words]) == 2 and "name one RUN, and no --claim" in capsys.readouterr().err
    (run / "claims.json").unlink()
    del facts["files"]["claims.json"]
    (run / "manifest.json").write_bytes(json_bytes(facts | {"check": own_digest(facts)}))
    assert invoke(["claims", str(run), "--write"]) == 2 and "has no claims.json" in capsys.readouterr().err
    assert not (run / "claims.json").exists() and not (run / "lock.json").exists()


def test_items_of_a_published_folder_are_compressed_and_vouched_for(tmp_path, capsys):
    """From records as a run writes them, without a codec."""
    source, run = ROOT / "reports" / "pocket-ablations", tmp_path / "run"
    shutil.copytree(source, run)
    pl.read_parquet(run / "items.parquet").write_parquet(run / "items.parquet", compression="uncompressed")
    facts = json.loads((run / "manifest.json").read_text())
    facts["files"]["items.parquet"] = file_digest(run / "items.parquet")
    (run / "manifest.json").write_bytes(json_bytes(facts | {"check": own_digest(facts)}))
    for name, out in ((run, tmp_path / "a"), (tmp_path / "a", tmp_path / "b")):
        export(name, Choice(("csv",)), out, records=True)
    for file in ("items.parquet", "manifest.json", "SHA256SUMS"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    items = tmp_path / "a" / "items.parquet"
    assert pl.read_parquet(items).equals(pl.read_parquet(source / "items.parquet"))
    assert (run / "items.parquet").stat().st_size > 2 * items.stat().st_size
    assert invoke(["verify", str(tmp_path / "a")]) == 0 and "items.parquet: sha256" in capsys.readouterr().err


def test_the_main_reports_sample_the_weights_that_are_shipped(monkeypatch):
    """A student that was trained again needs a report that was made again."""
    manifests = [json.loads((ROOT / "reports" / name / "manifest.json").read_text()) for name in ("pocket-main", "pocket-continuous")]
    monkeypatch.setenv("SCOTTBENCH_PLUGIN_PATH", str(ROOT / "more" / "scottbench_more"))
    preset = load_plugins().find("preset", "pocket").noun
    sampled = {(cell["student"]["trainer"], cell["weights_digest"])
               for manifest in manifests for cell in manifest["cells"] if cell["student"] is not None}  # fmt: skip
    shipped = {(trainer, json.loads((preset.path(path) / "student.json").read_text())["weights_digest"])
               for trainer, path in preset.students.items()}  # fmt: skip
    assert len(shipped) == 9 and shipped <= sampled
    assert {trainer for trainer, _ in sampled} == {trainer for trainer, _ in shipped}
