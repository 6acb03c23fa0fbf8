"""The lock and the event log of a run folder, by themselves."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest

from scottbench.errors import Busy
from scottbench.store.events import Events, attempts, read_events, spent
from scottbench.store.folder import RunFolder
from scottbench.store.plan_record import plan_digest
from scottbench.store.lock import NAME, STALE, is_held, locked


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
