"""One identity: code, students, switches of the CPU and the plan's own body are compared wherever two things are put together."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from scottbench.report.prose import limits
from scottbench.store.environment import COUNTED, VARIABLES, arithmetic
from scottbench.store.files import canonical, read_json
from scottbench.store.plan_record import older_identity
from scottbench.store.record import read_record
from scottbench.store.verify import verify

RUN = ("run", "-p", "tiny", "-q", "-m", "hop", "-k", "gap", "-n", "8")
EDITED = """
import scottbench.plan.code as host_code
unedited = host_code.digest_of
host_code.digest_of = lambda path: "f" * 16 if path.name == {name!r} else unedited(path)
"""


@pytest.fixture(scope="module")
def shards(server, tmp_path_factory):
    """Folder of two shards of one run, made with other code and other switches; read only."""
    home = tmp_path_factory.mktemp("shards")
    assert server.call(*RUN, "--shard", "1/2", "-o", "one", folder=home)[0] == 0
    assert server.call(*RUN, "--shard", "2/2", "-o", "edited", folder=home, before=EDITED.format(name="noise.py"))[0] == 0
    switches = {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}
    assert server.call(*RUN, "--shard", "2/2", "-o", "switched", folder=home, **switches)[0] == 0
    return home


def test_shards_of_two_codes_are_not_merged_and_the_line_names_the_file(server, shards, tmp_path):
    code, out, err = server.call("merge", "one", "edited", "-o", str(tmp_path / "all"), "-q", folder=shards)
    assert (code, out) == (5, "") and "edited was made from something else" in err and err.count("\n") == 1
    assert "code of images (scottbench/models/noise.py)" in err
    assert not (tmp_path / "all").exists()


def test_a_run_of_two_settings_of_the_cpu_does_not_claim_to_be_exact(server, shards, tmp_path):
    code, _, err = server.call("merge", "one", "switched", "-o", str(tmp_path / "all"), "-q", folder=shards)
    assert code == 0, err
    assert read_json(tmp_path / "all" / "manifest.json")["level"] == "tolerance"
    variables = [entry["environment"]["variables"] for entry in read_json(tmp_path / "all" / "env.json")["attempts"]]
    assert [one.get("ATEN_CPU_CAPABILITY") for one in variables].count("default") == 1
    shutil.copytree(shards / "switched", tmp_path / "own")
    assert server.call("resume", "own", "-q", folder=tmp_path)[0] == 0
    assert read_json(tmp_path / "own" / "manifest.json")["level"] == "tolerance"


def test_what_rounds_otherwise_is_another_arithmetic_and_how_threads_were_asked_for_is_not():
    here = {"cpu": "x", "threads": 1, "device": "cpu", "packages": {"torch": "2"}, "variables": {}, "flags": {"cpu_capability": "AVX2"}}
    others = [{**here, "threads": 2}, {**here, "packages": {"torch": "2", "scipy": "1"}}, {**here, "flags": {"cpu_capability": "DEFAULT"}}]
    others += [{**here, "variables": {name: "1"}} for name in VARIABLES if name not in COUNTED]
    assert len({arithmetic(one) for one in [here, *others]}) == 1 + len(others)
    assert arithmetic({**here, "variables": dict.fromkeys(COUNTED, "1")}) == arithmetic(here)
    assert arithmetic({"cpu": "x", "threads": 1, "device": "cpu", "packages": {"torch": "2"}}) != arithmetic(here)


def test_switches_of_the_cpu_are_in_the_record_of_every_attempt(undisturbed):
    flags = read_json(undisturbed / "env.json")["attempts"][0]["environment"]["flags"]
    assert flags["flush_denormal"] is True and flags["cpu_capability"] and {"mkldnn", "matmul_precision"} <= flags.keys()


# --- on copies of a finished run -------------------------------------------------------------------------------------


@pytest.fixture
def run(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "run")


def rewrite(path, change) -> None:
    record = read_json(path)
    change(record)
    path.write_text(json.dumps(record))


def test_a_plan_whose_body_was_edited_is_exit_code_5_though_its_hash_was_kept(server, run):
    def widen(record):
        record["plan"]["cells"][0]["guidance_scale"] = 9.0

    rewrite(run / "plan.lock.json", widen)
    for verb in ("run", "plan"):
        code, _, err = server.call(verb, "-p", "tiny", "-o", "run", folder=run.parent)
        assert code == 5 and err.count("\n") == 1 and "plan.lock.json is damaged (the plan has another hash" in err, verb


def test_other_code_of_images_forbids_resuming_but_not_measuring_what_is_stored(server, run):
    before = EDITED.format(name="sample.py")
    code, _, err = server.call("resume", "run", folder=run.parent, before=before)
    assert code == 5 and "code of images (scottbench/run/sample.py)" in err
    code, out, err = server.call("score", "run", "-k", "agreement", "-q", folder=run.parent, before=before)
    assert code == 0 and "agreement" in out, err
    (scored,) = (run / "scores").iterdir()
    record = read_json(scored / "manifest.json")
    assert record["plan"]["code"]["images"] == read_json(run / "plan.lock.json")["plan"]["code"]["images"]
    assert record["plan_hash"] == hashlib.sha256(canonical(record["plan"])).hexdigest()
    # but features that are stored must not stand beside others
    code, _, err = server.call("score", "run", "-k", "agreement", folder=run.parent, before=EDITED.format(name="extractors.py"))
    assert code == 5 and "code of features (scottbench/models/extractors.py)" in err


def test_a_run_of_an_older_version_is_read_and_must_be_made_anew_to_go_on(server, run):
    def older(record):
        plan = record["plan"]
        plan["schema"] = "scottbench.plan/2"
        del plan["code"]
        for cell in plan["cells"]:
            del cell["student_digest"]
            cell["code"] = "f" * 16
        record["plan_hash"] = hashlib.sha256(canonical(plan)).hexdigest()

    def older_manifest(record):
        older(record)
        record["schema"] = "scottbench.run/2"
        record["files"] = {name: record["files"][name] for name in ("results.parquet", "items.parquet", "timings.parquet")}
        del record["chunks"], record["check"]

    rewrite(run / "plan.lock.json", lambda record: (older(record), record.update(schema="scottbench.plan/2")))
    rewrite(run / "manifest.json", older_manifest)
    for path in [*run.glob("images/*/*.json"), *run.glob("features/*/*/*.json")]:  # they were bound to no place then
        own = ("plan", "place", "weights", "extractor", "check")
        path.write_text(json.dumps({key: value for key, value in read_json(path).items() if key not in own}))
    words = "identity of an older version (scottbench.plan/2)"
    for line in (("resume", "run"), ("run", "-p", "tiny", "-o", "run")):
        code, _, err = server.call(*line, folder=run.parent)
        assert code == 5 and words in err and "make a new run" in err and err.count("\n") == 1
    found = verify(run)
    assert found.wrong == [] and any(words in line for line in found.checked)
    assert any(words in line for line in limits(read_record(run)))
    assert older_identity({"schema": "scottbench.plan/9"}).startswith("identity of another version")
