"""The training loop on a toy of two roles: micro-batches, processes, resume, curve, divergence; the encoded data; settings."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from toy import Toy, toy_loop, weights

from scottbench.errors import MissingAsset, TrainingDiverged, UsageError
from scottbench.training import data as latents
from scottbench.training.folder import kept_step
from scottbench.training.settings import Budget, TrainSettings, make_settings
from scottbench.training.train import open_accelerator

HERE = Path(__file__).parent


def run(loop, max_steps, curve=None, keep_best=None):
    loop.run(Budget(None, max_steps), lambda *event: None, curve, keep_best)
    return loop


# --- micro-batches and processes -------------------------------------------------------------------------------------


def positive_parts(loop) -> list[bool]:
    """Which micro-batches of the first step have a discriminator loss."""
    return [bool((micro["latents"][:, 0, 0, 0] > 0).any()) for micro in loop.batches(0.0)]


def test_micro_batches_add_up_to_the_batch_for_every_role(tmp_path):
    """The student's loss is a mean over items: 1, 2 and 4 micro-batches give one gradient. The discriminator's is a sum over some
    of them, so that its gradient, averaged over the micro-batches that have one, is the whole sum over their number."""
    seed = next(s for s in range(99) if not all(positive_parts(toy_loop(tmp_path, seed=s, accumulate=4))))
    found = {}
    for parts in (1, 2, 4):
        loop = toy_loop(tmp_path, Toy(random=False), accumulate=parts, seed=seed)
        assert all(len(micro["latents"]) == 8 // parts for micro in loop.batches(0.0))
        contributing = sum(positive_parts(loop))
        logged = loop.one_step(0.0)
        found[parts] = (logged["student/fit"], logged["student/grad_norm"], logged["discriminator/grad_norm"] * contributing)
    assert 0 < contributing < 4
    assert found[2] == pytest.approx(found[1], rel=1e-5) and found[4] == pytest.approx(found[1], rel=1e-5)


def test_a_role_is_updated_before_any_micro_batch_goes_on(tmp_path, monkeypatch):
    loop, order = toy_loop(tmp_path, accumulate=4), []
    update = loop.update
    monkeypatch.setattr(loop, "update", lambda role, *rest: order.append(role) or update(role, *rest))
    loop.one_step(0.0)
    assert order == ["discriminator", "student"]


def test_the_trainer_is_told_the_spent_fraction_of_the_budget(tmp_path):
    toy = Toy()
    run(toy_loop(tmp_path, toy), 4)
    assert [(step, fraction) for step, fraction, _ in toy.seen] == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]
    assert Budget(2.0, 100).fraction(30.0, 50, 0) == 0.5 and Budget(0.5, None).fraction(15.0, 50, 0) == 0.5
    assert Budget(2.0, 100, 1000).fraction(30.0, 50, 900) == 0.9 and Budget(None, None, 1000).fraction(1e9, 10**9, 10) == 0.01


@pytest.mark.timeout(600)
def test_two_processes_train_as_one(tmp_path):
    """A launcher's variables, gloo, SCott on a tiny U-Net: equal to two micro-batches on one process; split by FSDP2 as well."""
    subprocess.run([sys.executable, str(HERE.parent / "two_processes.py"), str(tmp_path)], check=True, timeout=500)
    found = {path.stem: torch.from_numpy(np.load(path)) for path in tmp_path.glob("*.npy")}
    start, one, two = found["start"], found["one"], found["two"]
    assert not torch.allclose(start, one[: len(start)], atol=1e-4)
    assert torch.allclose(one, two, atol=1e-7), float((one - two).abs().max())
    assert torch.allclose(found["toy-one"], found["toy-two"], atol=1e-6)
    # Split weights are multiplied in another order. Adam makes part of a step of a rounded gradient near 0, of which the second
    # step's gradient is made: seen were 4e-6 in a weight (two steps move it by 2e-4) and 1.5e-5 of the norm. Forgotten
    # averaging would be a factor of 2 in the norm.
    whole, split = found["cd"], found["cd-split"]
    assert torch.allclose(whole[:-2], split[:-2], rtol=0, atol=1e-5), float((whole - split)[:-2].abs().max())
    assert torch.allclose(whole[-2:], split[-2:], rtol=1e-4, atol=0), (whole[-2:], split[-2:])


# --- resume, divergence ----------------------------------------------------------------------------------------------


def test_three_steps_and_three_resumed_are_six_bit_for_bit(tmp_path):
    whole = weights(run(toy_loop(tmp_path / "whole"), 6))

    def interrupt(event, step, *rest):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toy_loop(tmp_path / "cut").run(Budget(None, 6), interrupt)
    log = tmp_path / "cut" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 5, "seconds": 1.0}\n{"step": 6, "sec')
    again = toy_loop(tmp_path / "cut")
    again.resume()
    assert again.state.step == 3
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1], "what was logged after the checkpoint is gone"
    assert torch.equal(weights(run(again, 6)), whole)
    assert not torch.equal(weights(run(toy_loop(tmp_path / "other", seed=1), 6)), whole)


@pytest.mark.parametrize("what, role, term", [("fit", "student", "fit loss"), ("d", "discriminator", "d loss"),
                                              ("gradient", "student", "gradient")])  # fmt: skip
def test_a_diverging_training_stops_and_keeps_its_checkpoint(tmp_path, what, role, term):
    good = weights(run(toy_loop(tmp_path), 3))
    bad = toy_loop(tmp_path, Toy(fail={5: what}))
    bad.resume()
    with pytest.raises(TrainingDiverged, match=f"step 5: the {role}'s {term} is (nan|inf).*step 3 is kept.*--resume --max-steps 3"):
        run(bad, 9)
    assert torch.isfinite(weights(bad)).all()
    again = toy_loop(tmp_path)
    again.resume()
    assert torch.equal(weights(again), good)
    with pytest.raises(TrainingDiverged, match="No checkpoint had been made yet"):
        run(toy_loop(tmp_path / "new", Toy(fail={0: what})), 9)


def test_a_half_written_checkpoint_does_not_cost_the_last_one(tmp_path):
    good = weights(run(toy_loop(tmp_path), 2))
    (tmp_path / "checkpoint.new").mkdir()
    (tmp_path / "checkpoint.new" / "state.json").write_text("{")
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    assert kept_step(tmp_path) is None
    again = toy_loop(tmp_path)
    again.resume()
    assert torch.equal(weights(again), good)


# --- metric curve ----------------------------------------------------------------------------------------------------


class Scripted:
    """A curve that was written beforehand."""

    label = "distance"

    def __init__(self, values, higher_is_better=False):
        self.values, self.higher = iter(values), higher_is_better

    def __call__(self):
        return {"distance": next(self.values), "other": 1.0}

    def better(self, value, than):
        return value > than if self.higher else value < than


@pytest.mark.parametrize("higher, best", [(False, 4), (True, 2)])
def test_early_stopping_keeps_the_best_point(tmp_path, higher, best):
    loop, kept = toy_loop(tmp_path, evaluate_every=2, patience=3, export="best"), []
    curve = Scripted([5.0, 3.0, 4.0, 3.5, 6.0, 3.2, 3.1, 3.3, 3.4], higher)
    run(loop, 40, curve, lambda: kept.append(loop.state.step))
    assert kept[-1] == loop.state.best_step == best and loop.state.step == best + 6
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "curve/distance" in line] == list(range(2, best + 7, 2))
    again = toy_loop(tmp_path, evaluate_every=2, patience=3)
    again.resume()
    assert run(again, 40, curve).state.step == best + 6, "patience is spent; going on takes a larger one"


# --- data -------------------------------------------------------------------------------------------------------------


def test_every_epoch_sees_every_item_once_in_another_order():
    train = torch.arange(100, 124)
    epochs = [torch.cat([latents.epoch_batch(train, 3 * e + i, 8, 0) for i in range(3)]) for e in range(2)]
    assert all(sorted(epoch.tolist()) == train.tolist() for epoch in epochs) and not torch.equal(*epochs)


# --- settings, tracker -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table, flags, message", [
    ({}, {"patience": 2}, "--evaluate-every K"),
    ({}, {"export": "best"}, "--evaluate-every K"),
    ({"precision": "half"}, {}, "'precision' must be one of: auto, float32, bfloat16, float16"),
    ({}, {"accumulate": 0}, "accumulate >= 1"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(table, flags, message):
    with pytest.raises(UsageError, match=message):
        make_settings(table, flags)


def test_flags_stand_above_the_preset_and_none_is_no_flag():
    made = make_settings({"batch_size": 12, "minutes": 3.0, "accumulate": 2, "options": {}}, {"batch_size": None, "accumulate": 3})
    assert (made.batch_size, made.accumulate) == (12, 3)
    assert made.micro_batch_size(2) == 2
    with pytest.raises(UsageError, match="a batch of 12 cannot be cut into 15 equal parts"):
        made.micro_batch_size(5)


def test_a_cpu_never_trains_below_float32():
    assert TrainSettings().mixed_precision("cpu") == "no" and TrainSettings(precision="float16").mixed_precision("cuda:0") == "fp16"
    with pytest.raises(UsageError, match="--precision bfloat16: a CPU trains in float32 only"):
        TrainSettings(precision="bfloat16").mixed_precision("cpu")


def test_a_tracker_gets_what_the_log_gets(tmp_path):
    class Tracker(GeneralTracker):
        name, requires_logging_directory, tracker = "mine", False, None

        def __init__(self):
            super().__init__()
            self.logged = []

        def store_init_configuration(self, values):
            pass

        def log(self, values, step=None, **kwargs):
            self.logged.append((step, values))

    tracker = Tracker()
    accelerator = open_accelerator(TrainSettings(), "cpu", tracker, tmp_path)
    accelerator.init_trackers("scottbench", {})
    run(toy_loop(tmp_path, accelerator=accelerator), 10)
    assert [step for step, _ in tracker.logged] == [1, 10] and "student/fit" in tracker.logged[0][1]
    with pytest.raises(UsageError, match="--tracker nonsense"):
        open_accelerator(TrainSettings(), "cpu", "nonsense", tmp_path)


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(MissingAsset, match="--tracker tensorboard: its package is not installed. Install it with: pip install tensorboard"):
        open_accelerator(TrainSettings(), "cpu", "tensorboard", tmp_path)
    assert Accelerator(cpu=True).mixed_precision == "no"
