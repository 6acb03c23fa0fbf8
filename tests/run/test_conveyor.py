"""Chunks behind the networks: in order, bounded, first failure told, nothing computed lost; the same bytes with threads and without."""

from __future__ import annotations

import json
import threading
import time
import types

import numpy as np
import pytest
import torch

from scottbench.errors import Incomplete, ScottbenchError
from scottbench.models import queued
from scottbench.models.noise import ItemNoise
from scottbench.models.sampling import Sampler
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.run import clock as clocks
from scottbench.run import execute as executing
from scottbench.run import sample
from scottbench.run.conveyor import Conveyor, conveyor_of
from scottbench.run.execute import execute
from scottbench.store.folder import RunFolder

quiet = lambda event: None  # noqa: E731


def test_a_slow_writer_keeps_the_order_and_never_more_than_one_chunk_waits():
    done, held = [], []
    with Conveyor(2, 1) as conveyor, conveyor.drained():
        for number in range(6):
            def job(number=number):
                time.sleep(0.03 if number % 2 else 0.0)
                done.append(number)

            conveyor.put(job)
            held.append(number + 1 - len(done))
        assert len(done) < 6, "nothing went on beside us"
    assert done == list(range(6)) and max(held) <= 1


def test_images_are_taken_by_several_threads_and_come_back_in_their_order():
    threads, meet = set(), threading.Barrier(2, timeout=20)

    def work(number):
        threads.add(threading.current_thread().name)
        meet.wait()  # passes when two work at once
        return 2 * number

    with Conveyor(2) as conveyor:
        assert list(conveyor.each(work, range(8))) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert len(threads) == 2 and threading.current_thread().name not in threads
    assert list(conveyor.each(abs, [-1])) == [1]  # closed: done at once


def test_the_first_failure_is_told_once_and_the_jobs_behind_it_are_done():
    done = []

    def job(number):
        if number in (1, 2):
            raise ScottbenchError(f"chunk {number}")
        done.append(number)

    with Conveyor(1, 1) as conveyor, pytest.raises(ScottbenchError, match="chunk 1"), conveyor.drained():
        for number in range(9):
            conveyor.put(lambda number=number: job(number))
    assert done == [0] and not conveyor.waiting  # 2 was brought before 1 had failed, and failed too; no other was begun
    with Conveyor(1, 3) as conveyor, pytest.raises(ScottbenchError, match="chunk 1"), conveyor.drained():
        for number in range(4):
            conveyor.put(lambda number=number: job(number))
    assert done == [0, 0, 3]


# --- in a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(plugins, monkeypatch):
    monkeypatch.setattr("scottbench.store.folder.CHUNK", 4)
    monkeypatch.setattr("scottbench.report.build", lambda root: root)  # not what is tested here
    return make_plan(plugins, RunRequest("tiny", device="cpu"))


@pytest.fixture
def ahead(monkeypatch):
    """A run as on a GPU: a chunk is stored while the next is sampled."""
    monkeypatch.setattr(executing, "conveyor_of", lambda plan: Conveyor(2, 1))


def stored(root):
    return sorted(path.relative_to(root / "images").as_posix() for path in root.glob("images/*__*/*.json"))


def data(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.suffix in (".zip", ".npy")} | {
        "results": (root / "results.parquet").read_bytes()}


def test_a_run_that_stores_behind_itself_has_the_same_bytes(plan, plugins, tmp_path, monkeypatch):
    monkeypatch.setattr(executing, "conveyor_of", lambda plan: Conveyor())
    plain = data(execute(plan, plugins, tmp_path / "plain", None, quiet))
    monkeypatch.setattr(executing, "conveyor_of", lambda plan: Conveyor(2, 1))
    events = []
    root = execute(plan, plugins, tmp_path / "ahead", None, events.append)
    assert data(root) == plain and len(plain) == 20
    assert [event["done"] for event in events if event["stage"] == "cell"] == [4, 8, 12, 4, 8, 12]
    lines = [json.loads(line) for line in (root / "events.ndjson").read_text().splitlines()]
    assert [(line["part"], line["first"]) for line in lines if line["event"] == "chunk"] == [
        (part, first) for part in ("reference", "ode__s2__seed0", "hop__s2__seed0") for first in (0, 4, 8)]
    assert lines[0]["batch_size"] == 64


def test_a_cpu_stores_a_chunk_before_the_next_and_a_gpu_while_it_is_sampled(plan):
    assert conveyor_of(plan).ahead == 0 and 1 <= conveyor_of(plan).threads <= 16
    there = types.SimpleNamespace(device="cuda", record={"dtype": "float32"}, sources=plan.sources)
    assert conveyor_of(there).ahead == 1
    # TF32 is a switch of the whole process
    apart = types.SimpleNamespace(precision="tf32")
    assert conveyor_of(types.SimpleNamespace(device="cuda", record={"dtype": "float32"}, sources={"image": apart})).ahead == 0
    assert conveyor_of(types.SimpleNamespace(device="cuda", record={"dtype": "float16"}, sources={"image": apart})).ahead == 1


def test_a_disk_that_is_full_behind_the_networks_is_one_error_and_the_run_goes_on_later(plan, plugins, tmp_path, monkeypatch, ahead):
    original, room = RunFolder.put_images, [3]

    def put(self, place, *rest, **words):
        room[0] -= 1
        if room[0] < 0:
            raise Incomplete("no space left")
        return original(self, place, *rest, **words)

    monkeypatch.setattr(RunFolder, "put_images", put)
    with pytest.raises(Incomplete, match="no space left"):
        execute(plan, plugins, tmp_path / "run", None, quiet)
    assert len(stored(tmp_path / "run")) == 2 and json.loads((tmp_path / "run/manifest.json").read_text())["status"] == "incomplete"
    room[0] = 99
    assert len(stored(execute(plan, plugins, tmp_path / "run", None, quiet))) == 6


def test_a_plugin_that_fails_behind_the_networks_costs_its_cell_alone(plan, plugins, tmp_path, monkeypatch, ahead):
    original = sample.put_features

    def put(work, planned, span, images, seconds):
        if planned.id.startswith("ode") and span.start == 0:
            raise RuntimeError("the extractor broke")
        original(work, planned, span, images, seconds)

    monkeypatch.setattr(sample, "put_features", put)
    with pytest.raises(ScottbenchError, match="ode__s2__seed0: RuntimeError: the extractor broke"):
        execute(plan, plugins, tmp_path / "run", None, quiet)
    found = stored(tmp_path / "run")
    assert len([name for name in found if name.startswith("hop")]) == 3
    # the chunk that was sampled meanwhile is kept
    assert [name for name in found if name.startswith("ode")] == ["ode__s2__seed0/00000-00003.json", "ode__s2__seed0/00004-00007.json"]


def test_an_interrupt_keeps_the_chunk_that_was_being_stored(plan, plugins, tmp_path, monkeypatch, ahead):
    original, made = sample.make_images, []

    def make(work, planned, model, span):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(span.start)
        return original(work, planned, model, span)

    keep = sample.keep_chunk
    monkeypatch.setattr(sample, "make_images", make)
    monkeypatch.setattr(sample, "keep_chunk", lambda *given: (time.sleep(0.2), keep(*given)))
    with pytest.raises(KeyboardInterrupt):
        execute(plan, plugins, tmp_path / "run", None, quiet)
    assert stored(tmp_path / "run") == ["ode__s2__seed0/00000-00003.json", "ode__s2__seed0/00004-00007.json"]


# --- from the device -------------------------------------------------------------------------------------------------


class Event:
    """A CUDA event that passes when the test says so."""

    passed, clock = True, 0.0

    def __init__(self, enable_timing=False):
        self.at = None

    def record(self, stream=None):
        Event.clock += 0.25
        self.at = Event.clock

    def query(self):
        return Event.passed

    def synchronize(self):
        assert self.at is not None, "waited for what nobody records"
        Event.passed = True

    def elapsed_time(self, other):
        return 1000 * (other.at - self.at)


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "passed", True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(queued, "_to_host", lambda tensor: tensor.clone())


def test_pixels_that_come_late_are_those_of_the_plain_decoder_and_bad_latents_are_told_when_they_come(plugins, device, monkeypatch):
    plan = make_plan(plugins, RunRequest("tiny", methods=["ode"], device="cpu"))
    model, method = plan.model, plan.cells[0].method
    latents = ItemNoise(0, ["a", "b", "c"], model.latent_shape)(0)
    expected, good = model.decode_checked(latents)
    monkeypatch.setattr(model, "device", "cuda")
    sampler = Sampler(model, method.noun, method.label, method.options, None, 1.0, 2, 0)
    late = queued.decode(sampler, latents, 2)
    images, finite = late.wait()
    assert late.arrived is not None and np.array_equal(images, expected[:2]) and np.array_equal(finite, good[:2])
    latents[1] = torch.nan
    late = queued.decode(sampler, latents, 3)
    with pytest.raises(ScottbenchError, match="returned latents that are NaN or infinite"):
        late.wait()
    # finite latents that overflow in the decoder are decoded as they always were
    again = np.zeros_like(expected), np.array([True, False, True])
    monkeypatch.setattr(model, "decode_checked", lambda latents: again)
    monkeypatch.setattr(model, "by_part", lambda vae, latents: torch.full((3, 3, 4, 4), torch.inf))
    images, finite = queued.decode(sampler, torch.zeros(3, *model.latent_shape), 2).wait()
    assert len(images) == 2 and not images.any() and finite.tolist() == [True, False]


def test_a_stage_on_a_device_is_read_when_it_has_passed_and_nothing_waits_for_it(device, monkeypatch):
    clock, seconds = clocks.Clock("cuda"), {}
    monkeypatch.setattr(clock, "synchronise", lambda: pytest.fail("waited for the device"))
    monkeypatch.setattr(Event, "passed", False)
    for _ in range(2):
        with clock.stage(seconds, "denoise"), clock.stage(clock.forward, "U-Net"):
            pass
    assert seconds == {} and clock.forward_so_far() == {}
    clock.settle({})  # somebody else's chunk
    assert seconds == {} and not Event.passed
    clock.settle(seconds)  # that of this chunk is waited for
    assert clock.forward_so_far() == {"U-Net": 0.5} and seconds == {"denoise": 1.5}
    with clock.stage(seconds, "store", host=True):
        time.sleep(0.01)
    assert 0.01 <= seconds["store"] < 5
