"""One file by HTTP: whatever a server does, what is put in its place is the file, and what cannot be had is one line."""

from __future__ import annotations

import hashlib
import os
import random
import threading

import fetch_server
import pytest

from scottbench.errors import Busy, DamagedAsset, Incomplete, MissingAsset, UsageError
from scottbench.store.fetch import web
from scottbench.store.fetch.web import Part, Patience, Wanted, download, part_of

QUICK = Patience(tries=4, connect=2.0, read=0.2, first=0.005, longest=0.02)
DATA = random.Random(1).randbytes(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def running():
    with fetch_server.serving() as found:
        yield found


@pytest.fixture
def server(running, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running.files, running.faults, running.status, running.seen = {"/data/file.bin": DATA}, [], {}, []
    return running


def get(server, target, patience=QUICK, stop=None, moved=lambda count: None, path="/data/file.bin", **known):
    wanted = Wanted("file.bin", server.url + path, **known)
    return download(wanted, target, moved, threading.Event() if stop is None else stop, patience)


def left(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_comes_whole_and_nothing_else_is_left(server, tmp_path):
    moved: list[int] = []
    assert get(server, tmp_path / "deep" / "x", moved=moved.append, bytes=len(DATA), sha256=DIGEST) == DIGEST
    assert (tmp_path / "deep" / "x").read_bytes() == DATA and left(tmp_path / "deep") == {"x"} and sum(moved) == len(DATA)


@pytest.mark.parametrize("seed", range(50))
def test_no_seeded_fault_leaves_a_corrupt_file(server, tmp_path, seed):
    """One to four faults in a row, of all kinds: the file is right, or there is none and an error says why."""
    chosen = random.Random(seed)
    server.faults = [chosen.choice(fetch_server.FAULTS) for _ in range(1 + seed % 4)]
    known = [{"sha256": DIGEST}, {"bytes": len(DATA), "sha256": DIGEST}, {"sha256": DIGEST[:8]}][seed % 3]
    faults = list(server.faults)
    try:
        assert get(server, tmp_path / "x", **known) == DIGEST, faults
    except (Incomplete, DamagedAsset):
        assert not (tmp_path / "x").exists() and len(faults) >= 3, faults
    else:
        assert (tmp_path / "x").read_bytes() == DATA and left(tmp_path) == {"x"}


@pytest.mark.parametrize("fault", ["truncated", "stalled"])
def test_a_broken_try_is_gone_on_with_by_a_range(server, tmp_path, fault):
    server.faults = [fault]
    get(server, tmp_path / "x", sha256=DIGEST)
    ranges = [asked for _, _, asked in server.seen]
    assert ranges[0] is None and ranges[1] is not None and ranges[1] != "bytes=0-"
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_later_call_goes_on_where_the_first_gave_up(server, tmp_path):
    server.faults = ["truncated", "gone", "gone", "gone", "gone"]
    with pytest.raises(Incomplete, match=r"file.bin: the connection to 127.0.0.1 broke .*of it are kept: the same line goes on from there"):
        get(server, tmp_path / "x", sha256=DIGEST)
    server.faults, server.seen = [], []
    moved: list[int] = []
    get(server, tmp_path / "x", moved=moved.append, sha256=DIGEST)
    assert server.seen == [("GET", "/data/file.bin", f"bytes={len(DATA) // 2}-")]
    assert (tmp_path / "x").read_bytes() == DATA and sum(moved) == len(DATA)


def test_a_file_that_changed_between_two_calls_is_not_mixed_with_the_old_one(server, tmp_path):
    server.faults = ["truncated", *["gone"] * 4]
    with pytest.raises(Incomplete):
        get(server, tmp_path / "x")
    server.files["/data/file.bin"] = DATA[::-1]
    get(server, tmp_path / "x")  # nothing is known of it: only the server's tag tells
    assert (tmp_path / "x").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("fault", ["shifted range", "no ranges", "other file"])
def test_an_answer_to_a_range_that_does_not_fit_is_not_put_behind_what_is_here(server, tmp_path, fault):
    """Though nothing is known of the file that could tell at the end."""
    server.faults = ["truncated", fault]
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == (DATA[::-1] + b"more" if fault == "other file" else DATA)


def test_wrong_bytes_are_fetched_again_and_then_refused_without_a_rest(server, tmp_path):
    with pytest.raises(
        DamagedAsset, match=r"file.bin: its sha256 is .*expected 000000000000.* \(3 times, from http://127.0.0.1:\d+/data/file.bin"
    ):
        get(server, tmp_path / "x", sha256="0" * 64)
    assert left(tmp_path) == set() and len(server.seen) == 3


def test_a_length_that_is_not_the_known_one_is_refused_before_the_bytes_come(server, tmp_path):
    moved: list[int] = []
    with pytest.raises(DamagedAsset, match=f"the server says that it has {len(DATA)} bytes, expected 5"):
        get(server, tmp_path / "x", moved=moved.append, bytes=5)
    assert sum(abs(one) for one in moved) == 0


def test_what_drips_is_taken_for_silence(server, tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr(web.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(Incomplete, match="sends less than 400000 bytes in 60 s"):
        get(server, tmp_path / "x", Patience(tries=2, first=0.005, least=400_000))


@pytest.mark.parametrize("code, message, kind", [
    (404, "is not there .404.", MissingAsset),
    (403, "is not given to us .403.. Accept the licence at https://page, then set HF_TOKEN", MissingAsset),
    (401, "not given to us .401.", MissingAsset), (407, "asks for a name and a password", Incomplete),
    (500, "the server answers 500", Incomplete), (418, "answers 418 .*no file", MissingAsset),
])  # fmt: skip
def test_an_answer_without_a_file_is_one_line_that_says_what_to_do(server, tmp_path, code, message, kind):
    server.status["/data/file.bin"] = code
    with pytest.raises(kind, match=message) as caught:
        get(server, tmp_path / "x", accept="https://page")
    assert "\n" not in str(caught.value) and len(server.seen) == (QUICK.tries if code == 500 else 1)


def test_a_server_that_disappears_is_resumable_and_named(tmp_path):
    with fetch_server.serving() as gone:
        pass
    with pytest.raises(Incomplete, match=r"the connection to 127.0.0.1 broke .*refused.*4 tries"):
        get(gone, tmp_path / "x")


def test_a_proxy_that_does_not_answer_is_named_by_its_variable_alone(server, tmp_path, monkeypatch):
    with fetch_server.serving() as gone:
        pass
    monkeypatch.setenv("http_proxy", gone.url.replace("http://", "http://user:secret@"))
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(Incomplete, match="the proxy that http_proxy names does not pass it on") as caught:
        get(server, tmp_path / "x")
    assert "secret" not in str(caught.value)


def test_an_address_that_is_none_is_a_wrong_mirror(tmp_path):
    with pytest.raises(UsageError, match="no address"):
        download(Wanted("x", "mirror/host/x"), tmp_path / "x", lambda count: None, threading.Event(), QUICK)


def test_a_full_disk_keeps_what_came(server, tmp_path, monkeypatch):
    real, room = os.fdopen, {"bytes": 100_000}

    class Small:
        """A file on a disk with little room."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if room["bytes"] <= 0:
                raise OSError(28, "No space left on device")
            room["bytes"] -= len(data)
            return self.file.write(data)

    monkeypatch.setattr(web.os, "fdopen", lambda *given, **more: Small(real(*given, **more)))
    with pytest.raises(Incomplete, match="no space left .*What came is kept: free some space, then run the same line") as caught:
        get(server, tmp_path / "x", sha256=DIGEST)
    assert caught.value.exit_code == 4 and part_of(tmp_path / "x").stat().st_size > 0
    room["bytes"] = 10**9
    assert get(server, tmp_path / "x", sha256=DIGEST) == DIGEST


def test_two_processes_do_not_write_one_file(server, tmp_path):
    part = Part(part_of(tmp_path / "x"), lambda count: None)
    with pytest.raises(Busy, match="another process fetches"):
        get(server, tmp_path / "x")
    part.close()


def test_a_stop_from_elsewhere_ends_it_at_once_and_keeps_what_came(server, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Incomplete, match="stopped. What came is kept"):
        get(server, tmp_path / "x", stop=stop)
    assert part_of(tmp_path / "x").stat().st_size > 0


def test_a_link_in_the_place_of_the_hidden_file_is_not_written_through(server, tmp_path):
    (tmp_path / "other").write_bytes(b"mine")
    part_of(tmp_path / "x").symlink_to(tmp_path / "other")
    with pytest.raises(UsageError, match="cannot write"):
        get(server, tmp_path / "x")
    assert (tmp_path / "other").read_bytes() == b"mine"
