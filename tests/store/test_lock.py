"""The lock and the event log of a run folder, by themselves."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from scottbench.errors import Busy, UsageError
from scottbench.store.events import Events, attempts, read_events, spent
from scottbench.store.folder import RunFolder
from scottbench.store.lock import NAME, STALE, is_held, locked, take
from scottbench.store.plan_record import plan_digest


def test_a_held_lock_names_its_holder_and_goes_when_released(tmp_path):
    with locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text()).keys() == {"pid", "host", "started"}
        assert is_held(tmp_path)
        with pytest.raises(Busy, match=f"in use by process {os.getpid()} on {socket.gethostname()}") as caught, locked(tmp_path):
            pass
        assert caught.value.exit_code == 4
    assert not (tmp_path / NAME).exists() and not is_held(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 999999999, "host": "HERE", "started": "?"}'])
def test_what_a_dead_process_left_is_taken_over(tmp_path, text):
    (tmp_path / NAME).write_text(text.replace("HERE", socket.gethostname()))
    assert not is_held(tmp_path)
    with locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


def test_a_holder_on_another_host_counts_as_alive_while_it_gives_signs_of_life(tmp_path):
    """Where the kernel's locks do not reach that host, the file's age is all there is."""
    (tmp_path / NAME).write_text('{"pid": 1, "host": "elsewhere", "started": "2026-01-01T00:00:00Z"}')
    with pytest.raises(Busy, match="process 1 on elsewhere, since 2026-01-01T00:00:00Z"), locked(tmp_path):
        pass
    old = time.time() - STALE - 1
    os.utime(tmp_path / NAME, (old, old))
    with locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["host"] == socket.gethostname()


OTHERS = '{"pid": 1, "host": "elsewhere", "started": "2026-01-01T00:00:00Z"}'


def test_a_lock_with_a_later_clock_is_watched_and_taken_over_where_nobody_touches_it(tmp_path, monkeypatch):
    """The age of a file says nothing between two clocks: a sign of life does."""
    monkeypatch.setattr("scottbench.store.lock.WATCH", 0.2)
    path = tmp_path / NAME
    path.write_text(OTHERS)
    later = time.time() + 3600
    os.utime(path, (later, later))
    assert is_held(tmp_path)
    with locked(tmp_path):
        assert json.loads(path.read_text())["host"] == socket.gethostname()
    path.write_text(OTHERS)
    os.utime(path, (later, later))
    alive = threading.Timer(0.05, lambda: os.utime(path, (later + 5, later + 5)))
    alive.start()
    with pytest.raises(Busy, match="process 1 on elsewhere.*--take-lock"), locked(tmp_path):
        pass
    alive.join()


def test_the_lock_of_another_host_is_taken_over_when_asked(tmp_path):
    (tmp_path / NAME).write_text(OTHERS)
    with pytest.raises(Busy, match="--take-lock"), locked(tmp_path):
        pass
    take(tmp_path)
    with locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    take(tmp_path)  # nothing there: nothing to do


def test_the_lock_of_a_living_process_here_cannot_be_taken_over(tmp_path):
    with locked(tmp_path), pytest.raises(Busy, match=f"process {os.getpid()} .*It is alive"):
        take(tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.parent / "precious"),
                                  lambda path: os.link(path.parent / "precious", path), lambda path: path.write_bytes(b" " * 2**17)],
                         ids=["folder", "pipe", "link", "hard link", "large"])  # fmt: skip
def test_what_is_no_lock_of_ours_is_one_line_and_can_be_put_away(tmp_path, make):
    (tmp_path / "precious").write_text("data")
    make(tmp_path / NAME)
    with pytest.raises(UsageError, match="none of scottbench's.*--take-lock") as caught, locked(tmp_path):
        pass
    assert "\n" not in str(caught.value) and is_held(tmp_path)
    take(tmp_path)
    with locked(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "data"


def test_a_message_cannot_steer_the_terminal(tmp_path):
    (tmp_path / NAME).write_text(json.dumps({"pid": "\x1b[2J1", "host": "else\x1b]0;x\x07where", "started": "now"}))
    with pytest.raises(Busy) as caught, locked(tmp_path):
        pass
    assert "\x1b" not in str(caught.value) and "process 1 on elsewhere" in str(caught.value)


def test_times_add_up_over_attempts_and_workers(tmp_path):
    for attempt, worker, walls in [(1, 0, (1.0, 5.0)), (1, 1, (2.0, 4.0)), (2, 0, (0.5, 3.0))]:
        for wall in walls:
            reading = {"wall": wall, "forward": {"U-Net": wall / 2}, "store": wall / 10}
            Events(tmp_path, attempt, worker, lambda reading=reading: reading).log_event("chunk")
    events = read_events(tmp_path)
    assert attempts(events) == 2 and len(events) == 6
    total = spent(events)
    assert total["wall"] == 8.0 and total["processes"] == 12.0
    assert total["forward"] == {"U-Net": 6.0} and total["store"] == pytest.approx(1.2)


def test_a_torn_line_costs_nothing_but_itself(tmp_path):
    log = Events(tmp_path, 1, 0, lambda: {"wall": 1.0})
    log.log_event("start")
    with open(tmp_path / "events.ndjson", "ab") as file:
        file.write(b'{"time": "2026-01-01T00:0')
    Events(tmp_path, 2, 0, lambda: {"wall": 2.0}).log_event("start")
    assert [event["attempt"] for event in read_events(tmp_path)] == [1, 2]
    assert spent(read_events(tmp_path))["wall"] == 3.0


def test_a_folder_with_nothing_but_a_dead_lock_is_as_good_as_empty(tmp_path):
    (tmp_path / NAME).write_text("{}")
    assert RunFolder.open(tmp_path, plan_digest({"preset": "x"}), {"preset": "x"}).locked_plan()["plan"] == {"preset": "x"}
