"""`scottbench fetch` from end to end, against a server in this process that stands in for publishers, mirrors and the hub."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "store"))
import fetch_server

from scottbench.cli import invoke
from scottbench.errors import UsageError
from scottbench.plan import needs as needs_module
from scottbench.registry.loader import load_plugins
from scottbench.store.fetch import work as work_module
from scottbench.store.fetch.table import read_assets
from scottbench.store.fetch.web import Patience

QUICK = Patience(tries=8, connect=2.0, read=0.3, first=0.005, longest=0.02)
WEIGHTS = bytes(range(256)) * 500
CONFIG = b'{"width": 8}'
COMMIT = fetch_server.COMMIT


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as found:
        for number in range(3):
            found.writestr(f"val/{number}.jpg", bytes([number]) * 2000)
    return buffer.getvalue()


ZIP = archive()
TABLE = f"""
[[assets]]
name = "tiny-model"
summary = "a model"
licence = "MIT"
hub = "acme/model"
revision = "{COMMIT}"
files = [
    {{ name = "unet/weights.safetensors", bytes = {len(WEIGHTS)}, sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}" }},
    {{ name = "config.json", bytes = {len(CONFIG)} }},
]
[[assets]]
name = "tiny-pictures"
summary = "pictures"
licence = "CC BY 4.0"
to = "pictures"
files = [{{ url = "http://publisher.example/sets/val.zip", bytes = {len(ZIP)}, folder = "val", count = 3 }}]
[[assets]]
name = "tiny-unknown"
summary = "nobody published a digest"
licence = "MIT"
to = "unknown"
then = "convert {{folder}}/a.bin"
files = [{{ url = "http://publisher.example/a.bin" }}]
[[assets]]
name = "tiny-unpinned"
summary = "no revision"
licence = "MIT"
hub = "acme/model"
files = [{{ name = "config.json" }}]
"""


@pytest.fixture(scope="module")
def running():
    with fetch_server.serving() as found:
        yield found


@pytest.fixture(scope="module")
def loaded():
    return load_plugins()


@pytest.fixture
def server(running, loaded, tmp_path, monkeypatch):
    """Files, the hub and a mirror on this machine; caches below tmp_path; the table above in the place of the plug-ins' own."""
    running.files = {
        f"/acme/model/resolve/{revision}/{name}": data
        for revision in (COMMIT, "main") for name, data in (("unet/weights.safetensors", WEIGHTS), ("config.json", CONFIG))
    }  # fmt: skip
    running.files |= {"/mirror/publisher.example/sets/val.zip": ZIP, "/mirror/publisher.example/a.bin": b"first"}
    running.faults, running.status, running.heads, running.seen, running.tokens = [], {}, {}, [], []
    (tmp_path / "assets.toml").write_text(TABLE)
    monkeypatch.setattr(needs_module, "_tables", lambda target: [tmp_path / "assets.toml"] if target == "scottbench_sd15" else [])
    monkeypatch.setattr("scottbench.cli.running.all_plugins", lambda: loaded)
    monkeypatch.setattr(work_module.Work, "__init__", _with_patience(work_module.Work.__init__))
    for name, value in {"HF_ENDPOINT": running.url, "SCOTTBENCH_MIRROR": f"{running.url}/mirror", "SCOTTBENCH_CACHE": tmp_path / "cache",
                        "TORCH_HOME": tmp_path / "torch"}.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    return running


def _with_patience(init):
    def quick(self, *given, **more):
        init(self, *given, **{"patience": QUICK, **more})

    return quick


@pytest.fixture
def cli(capsys):
    def call(*words):
        code = invoke(["fetch", *words])
        found = capsys.readouterr()
        return code, found.out, found.err

    return call


def cached(tmp_path, name):
    return tmp_path / "hub" / "models--acme--model" / "snapshots" / COMMIT / name


def test_the_table_comes_first_and_a_dry_run_asks_nobody(server, cli, tmp_path):
    code, out, _ = cli("tiny-model", "tiny-pictures", "tiny-unknown", "--dry-run")
    assert code == 0 and server.seen == [] and not (tmp_path / "cache").exists() and not (tmp_path / "hub").exists()
    lines = out.splitlines()
    assert lines[0].split() == ["what", "size", "licence", "sha256", "from", "to", "there"]
    model, pictures, unknown = lines[1:4]
    assert "(2 files)" in model and "1 of 2 known" in model and f"{server.url}/acme/model @ cccccccc" in model and model.endswith("no")
    assert "CC BY 4.0" in pictures and str(tmp_path / "cache" / "pictures") in pictures
    assert unknown.count("not known") == 2  # size and digest
    assert "4 files" in lines[4] and "1 file of unknown size" in lines[4] and "free at" in lines[5]


def test_nobody_to_ask_is_an_error_and_no_is_no(server, cli):
    code, _, err = cli("tiny-model")
    assert code == 2 and "Add --yes" in err and server.seen == []


def test_all_of_it_comes_and_a_second_call_finds_it_there(server, cli, tmp_path):
    code, out, _ = cli("tiny-model", "tiny-pictures", "tiny-unknown", "--yes")
    assert code == 0 and "4 files in place" in out
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache("acme/model", "unet/weights.safetensors", revision=COMMIT)
    assert found == str(cached(tmp_path, "unet/weights.safetensors")) and Path(found).read_bytes() == WEIGHTS
    assert sorted(path.name for path in (tmp_path / "cache" / "pictures" / "val").iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
    assert not (tmp_path / "cache" / "pictures" / "val.zip").exists()
    assert f"then: convert {tmp_path}/cache/unknown/a.bin" in out
    server.seen = []
    code, out, _ = cli("tiny-model", "tiny-pictures", "tiny-unknown", "--yes")
    assert code == 0 and server.seen == [] and "nothing to fetch: all of it is there" in out and "known, of the first fetch" in out


def test_faults_on_the_way_change_nothing(server, cli, tmp_path):
    server.faults = ["truncated", "gone", "wrong bytes", "no ranges", "busy", "stalled"]
    code, _, err = cli("tiny-model", "--yes")
    assert code == 0, err
    assert cached(tmp_path, "unet/weights.safetensors").read_bytes() == WEIGHTS and cached(tmp_path, "config.json").read_bytes() == CONFIG


def test_a_damaged_file_is_seen_and_fetched_again(server, cli, tmp_path):
    cli("tiny-model", "--yes")
    file = cached(tmp_path, "unet/weights.safetensors")
    target = file.resolve()
    target.write_bytes(WEIGHTS[::-1])  # of the same size
    code, out, _ = cli("tiny-model", "--dry-run")
    assert "1 of 2, 1 damaged" in out
    code, _, _ = cli("tiny-model", "--yes")
    assert code == 0 and file.read_bytes() == WEIGHTS


def test_an_unknown_digest_is_that_of_the_first_fetch(server, cli, tmp_path):
    assert cli("tiny-unknown", "--yes")[0] == 0
    (tmp_path / "cache" / "unknown" / "a.bin").unlink()
    server.files["/mirror/publisher.example/a.bin"] = b"other"
    code, _, err = cli("tiny-unknown", "--yes")
    assert code == 3 and "that of the first fetch on this machine" in err and "fetched.jsonl" in err
    assert not (tmp_path / "cache" / "unknown" / "a.bin").exists()


def test_a_gated_file_says_where_to_accept_the_licence(server, cli):
    path = f"/acme/model/resolve/{COMMIT}/config.json"
    server.status[path], server.heads[path] = 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}
    code, _, err = cli("tiny-model", "--yes")
    assert code == 3 and "Accept the licence at https://huggingface.co/acme/model, then set HF_TOKEN" in err
    assert "1 of 2" not in err or "the others are in their place" in err


def test_a_hub_file_that_is_not_there_is_one_line(server, cli):
    code, _, err = cli("acme/model/absent.bin@" + COMMIT, "--yes")
    assert code == 3 and "is not there (404)" in err and err.strip().count("\n") <= 1


def test_a_file_of_the_hub_may_be_named_alone_and_its_revision_is_noted(server, cli, tmp_path):
    assert cli("acme/model/config.json", "--yes")[0] == 0
    assert (tmp_path / "hub" / "models--acme--model" / "refs" / "main").read_text() == COMMIT
    from huggingface_hub import try_to_load_from_cache

    assert try_to_load_from_cache("acme/model", "config.json") == str(cached(tmp_path, "config.json"))


def test_the_hubs_own_digest_holds_where_the_table_has_none(server, cli, tmp_path):
    path = f"/acme/model/resolve/{COMMIT}/config.json"
    server.heads[path] = {"X-Linked-ETag": hashlib.sha1(b"blob 12\0" + CONFIG).hexdigest()}
    assert cli("tiny-model", "--yes")[0] == 0
    shutil.rmtree(tmp_path / "hub")
    server.heads[path] = {"X-Linked-ETag": hashlib.sha1(b"blob 12\0other").hexdigest()}
    code, _, err = cli("tiny-model", "--yes")
    assert code == 3 and "its digest is not the one that the hub gives" in err


def test_a_token_goes_to_the_hub_and_to_no_publisher(server, cli, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    cli("tiny-model", "tiny-pictures", "--yes")
    shown = {path: token for (_, path, _), token in zip(server.seen, server.tokens, strict=True)}
    assert all((token is not None) == path.startswith("/acme/") for path, token in shown.items()) and len(shown) == 3


def test_offline_by_the_users_word_is_respected(server, cli, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, err = cli("tiny-model", "--yes")
    assert code == 2 and "HF_HUB_OFFLINE is set" in err and server.seen == []


def test_a_disk_without_room_is_told_before_anything_comes(server, cli, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(work_module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    code, _, err = cli("tiny-model", "--yes")
    assert code == 4 and "1.0 kB free" in err and "needed" in err and server.seen == []


def test_dest_takes_all_and_says_how_to_use_it(server, cli, tmp_path):
    code, out, _ = cli("tiny-model", "tiny-pictures", "--yes", "--dest", "place")
    assert code == 0 and f"export SCOTTBENCH_CACHE={tmp_path}/place HF_HUB_CACHE={tmp_path}/place/hub" in out
    assert (tmp_path / "place" / "pictures" / "val").is_dir() and not (tmp_path / "cache").exists() and not (tmp_path / "hub").exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the list's own line is run by curl")
def test_a_machine_without_a_network_takes_what_another_fetched_by_the_list(server, cli, tmp_path, monkeypatch):
    code, _, _ = cli("tiny-model", "tiny-pictures", "tiny-unpinned", "--export", "LIST")
    text = (tmp_path / "LIST").read_text()
    assert code == 0 and server.seen == [] and hashlib.sha256(WEIGHTS).hexdigest() in text
    line = next(line for line in text.splitlines() if "curl" in line).lstrip("# ")
    (tmp_path / "brought").mkdir()
    environ = {**os.environ, "no_proxy": "*"}
    subprocess.run(["sh", "-c", line.replace("LIST", "../LIST").replace("-fL", "-sfL")], cwd=tmp_path / "brought", check=True, env=environ)
    server.seen = []
    code, out, err = cli("tiny-model", "tiny-pictures", "tiny-unpinned", "--import", "brought")
    assert code == 0 and server.seen == [] and "4 files in place" in out, err
    from huggingface_hub import try_to_load_from_cache

    assert Path(str(try_to_load_from_cache("acme/model", "unet/weights.safetensors", revision=COMMIT))).read_bytes() == WEIGHTS
    assert Path(str(try_to_load_from_cache("acme/model", "config.json"))).read_bytes() == CONFIG
    assert len(list((tmp_path / "cache" / "pictures" / "val").iterdir())) == 3


def test_an_import_takes_what_is_right_and_names_the_rest(server, cli, tmp_path):
    (tmp_path / "brought" / "tiny-model" / "unet").mkdir(parents=True)
    (tmp_path / "brought" / "tiny-model" / "config.json").write_bytes(CONFIG)
    (tmp_path / "brought" / "tiny-model" / "unet" / "weights.safetensors").write_bytes(WEIGHTS[:-1])
    code, _, err = cli("tiny-model", "tiny-unknown", "--import", "brought")
    assert code == 3 and f"has {len(WEIGHTS) - 1} bytes, expected {len(WEIGHTS)}" in err and "lacks tiny-unknown/a.bin, from http" in err
    assert cached(tmp_path, "config.json").read_bytes() == CONFIG and not cached(tmp_path, "unet/weights.safetensors").exists()


def test_an_unknown_name_lists_what_there_is(server, cli):
    code, _, err = cli("tiny-modle", "--dry-run")
    assert code == 2 and "did you mean 'tiny-model'" in err.lower() and "tiny-pictures" in err


@pytest.mark.parametrize("old, new, message", [
    ('licence = "MIT"\nhub', 'licences = "MIT"\nhub', "unknown key 'licences'"),
    ('"config.json", bytes', '"../config.json", bytes', "leads out"),
    ("http://publisher.example/a.bin", "file:///etc/passwd", "http address"), (f'"{COMMIT}"', '"../x y"', "no revision"),
    ('folder = "val"', 'folder = "/val"', "leads out"), ("[[assets]]", "[[assets", "is no table of public files"),
    ('name = "tiny-unknown"', 'name = "tiny-model"', "is taken"), ("bytes = 12 ", 'bytes = "12" ', "whole numbers"),
])  # fmt: skip
def test_a_table_that_is_none_is_one_line(server, cli, tmp_path, old, new, message):
    assert old in TABLE
    (tmp_path / "assets.toml").write_text(TABLE.replace(old, new, 1))
    code, _, err = cli("tiny-model", "--dry-run")
    assert code == 2 and message in err and str(tmp_path / "assets.toml") in err and err.strip().count("\n") == 0


def test_reading_a_table_names_the_file(tmp_path):
    with pytest.raises(UsageError, match="is no table of public files"):
        read_assets(tmp_path / "absent.toml")
