"""Whatever stops a run: a documented exit code, one clear line, everything finished is kept, and the end is the same to the last byte."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scottbench.store.events import read_events
from scottbench.store.files import read_json

RUN = ("run", "-p", "tiny", "-q", "-o", "run")
CHUNKS = 6
"""Two cells of three chunks."""
COUNTING = """
import os, scottbench.run.sample
original = scottbench.run.sample.make_images
def make_images(work, planned, model, span):
    with open("made", "a") as file:
        file.write(f"{planned.id} {span.start}\\n")
    return original(work, planned, model, span)
scottbench.run.sample.make_images = make_images
"""


def wait_for(condition, seconds=240.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


def chunks(root: Path) -> list[Path]:
    return [path for path in root.glob("images/*__*/*.zip") if path.with_suffix(".json").is_file()]


def same_results(root: Path, undisturbed: Path) -> bool:
    return (root / "results.parquet").read_bytes() == (undisturbed / "results.parquet").read_bytes()


def test_kill_9_at_random_moments_loses_at_most_the_chunk_in_work(server, undisturbed, tmp_path):
    """Killed six times anywhere between its first file and its report, and resumed each time by the same line."""
    root, kills = tmp_path / "run", 0
    begun = time.monotonic()
    assert server.call(*RUN, folder=tmp_path)[0] == 0
    length = time.monotonic() - begun
    subprocess.run(["rm", "-r", str(root)], check=True)
    moments = random.Random(4)
    while kills < 6:
        process = server.start(*RUN, folder=tmp_path, before=COUNTING)
        time.sleep(moments.uniform(0.2, 0.9) * length)
        process.kill(signal.SIGKILL)
        code, _, _ = process.wait()
        assert code in (0, -signal.SIGKILL)
        kills += 1
    code, _, err = server.call(*RUN, folder=tmp_path, before=COUNTING)
    assert (code, err) == (0, "")
    assert same_results(root, undisturbed)
    made = (tmp_path / "made").read_text().splitlines()
    assert len(set(made)) == CHUNKS and len(made) <= CHUNKS + kills
    for cell in ("ode__s2__seed0", "hop__s2__seed0"):
        for path in (undisturbed / "images" / cell).glob("*.zip"):
            assert (root / "images" / cell / path.name).read_bytes() == path.read_bytes()
    assert not list(root.rglob("*.tmp")) or server.call("verify", "run", folder=tmp_path)[0] == 0
    manifest = read_json(root / "manifest.json")
    events = read_events(root)
    assert manifest["status"] == "complete" and manifest["level"] == "exact"
    assert manifest["attempts"] == len({event["attempt"] for event in events})
    last = {event["attempt"]: event["wall"] for event in events}
    assert manifest["wall_seconds"] == pytest.approx(sum(last.values()), abs=0.5)


@pytest.mark.parametrize(("number", "code", "word"), [
    (signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted"), (signal.SIGUSR1, 138, "asked to make room")])  # fmt: skip
def test_a_signal_saves_the_state_and_prints_the_line_that_goes_on(server, undisturbed, tmp_path, number, code, word):
    root = tmp_path / "run"
    process = server.start(*RUN, folder=tmp_path)
    wait_for(lambda: len(chunks(root)) >= 2)
    process.kill(number)
    assert process.wait() == (code, "", f"error: {word}; finished work is kept. Go on with: scottbench resume run\n")
    assert read_json(root / "manifest.json")["status"] == "interrupted"
    assert not (root / "lock.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in chunks(root)}
    assert len(kept) >= 2
    code, _, err = server.call("resume", "run", folder=tmp_path)
    assert code == 0
    assert f"verified; {2 + len(kept)} of 9 chunks present" in err or "chunks present" in err
    assert same_results(root, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_full_disk_is_exit_code_4_and_keeps_what_is_finished(server, undisturbed, tmp_path):
    """Files end at 60 kB: a chunk of four noise pictures, 50 kB, goes in, the report does not. Then at 20 kB, in the first chunk."""
    process = server.call(*RUN, folder=tmp_path, largest_file=60_000, before="scottbench.report.build = build")
    assert process[0] == 4 and process[1] == ""
    assert process[2].count("\n") == 1 and "scottbench resume run" in process[2] and "Traceback" not in process[2]
    small = tmp_path / "small"
    small.mkdir()
    code, _, err = server.call(*RUN, folder=small, largest_file=20_000)
    assert (code, err.count("\n")) == (4, 1) and "no space left while writing" in err
    assert not list((small / "run").rglob("*.tmp")) and read_json(small / "run" / "manifest.json")["status"] == "incomplete"
    for folder in (tmp_path, small):
        assert server.call("resume", "run", "-q", folder=folder)[0] == 0
        assert same_results(folder / "run", undisturbed)


def test_a_read_only_folder_is_exit_code_2_and_one_line(server, tmp_path):
    (tmp_path / "home").mkdir(mode=0o555)
    refuse = """
import os, errno
opened = os.open
def read_only(path, flags, *rest, **words):
    if flags & (os.O_WRONLY | os.O_RDWR):
        raise OSError(errno.EROFS, "Read-only file system", path)
    return opened(path, flags, *rest, **words)
def no_folder(self, *rest, **words):
    if not self.is_dir():
        raise OSError(errno.EROFS, "Read-only file system", str(self))
os.open, pathlib.Path.mkdir = read_only, no_folder
"""
    code, out, err = server.call("run", "-p", "tiny", "-q", "-o", "home/run", folder=tmp_path, before=refuse)
    assert (code, out) == (2, "")
    assert err == "error: cannot write home/run: Read-only file system. Name a folder that is writable with --out.\n"


def damage(root: Path) -> dict[str, Path]:
    """A flipped bit, a torn side-car, a chunk without one, in folders of one run."""
    flipped, torn, alone = sorted((root / "images" / "hop__s2__seed0").glob("*.zip"))
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    side_car = torn.with_suffix(".json")
    side_car.write_bytes(side_car.read_bytes()[:40])
    alone.with_suffix(".json").unlink()
    return {"flipped": flipped, "torn": torn, "alone": alone}


def test_damaged_parts_are_found_and_only_they_are_made_again(server, undisturbed, tmp_path):
    root = tmp_path / "run"
    subprocess.run(["cp", "-a", str(undisturbed), str(root)], check=True)
    damage(root)
    kept = {path: path.stat().st_mtime_ns for path in root.glob("images/ode__s2__seed0/*")}
    code, _, err = server.call("verify", "run", folder=tmp_path)
    assert code == 5 and "00000-00003.json: damaged" in err and err.count("makes the chunk again") == 3
    code, _, err = server.call("resume", "run", folder=tmp_path)
    assert code == 0 and "6 of 9 chunks present, 3 damaged chunk(s) discarded, 3 to do" in err
    assert same_results(root, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert server.call("verify", "run", "-q", folder=tmp_path) == (0, "", "")
    assert sum("damaged" in event.get("text", "") for event in read_events(root)) == 3


def test_a_second_process_is_told_who_holds_the_folder_and_changes_nothing(server, undisturbed, tmp_path):
    root = tmp_path / "run"
    slow = "import time, scottbench.run.execute\nscottbench.run.execute.measure = lambda *_: time.sleep(600)"
    first = server.start(*RUN, folder=tmp_path, before=slow)
    wait_for(lambda: len(chunks(root)) >= 1)
    code, out, err = server.call(*RUN, folder=tmp_path)
    assert (code, out) == (4, "")
    assert err.startswith(f"error: run is in use by process {first.pid} on {socket.gethostname()}, since ") and err.count("\n") == 1
    # the kernel ends the lock with the process, however it dies: no file has to be removed by hand
    first.kill(signal.SIGKILL)
    first.wait()
    assert json.loads((root / "lock.json").read_text())["pid"] == first.pid
    assert server.call(*RUN, folder=tmp_path)[0] == 0
    assert same_results(root, undisturbed) and not (root / "lock.json").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="network namespaces are Linux's")
def test_a_run_needs_no_network(undisturbed, tmp_path, server):
    """In a process that may not so much as make a socket of the internet's families."""
    guard = """
import socket
def refuse(*_, **__):
    raise AssertionError("a socket was opened")
socket.socket, socket.create_connection, socket.getaddrinfo = refuse, refuse, refuse
"""
    assert server.call(*RUN, folder=tmp_path, before=guard)[0] == 0
    assert same_results(tmp_path / "run", undisturbed)
