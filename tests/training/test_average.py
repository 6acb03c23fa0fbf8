"""The average that is exported, learning rates over a training, and budgets in passes, on the toy of two roles."""

import copy
from types import SimpleNamespace

import pytest
import torch
from toy import Toy, toy_loop

from scottbench.errors import UsageError
from scottbench.training.average import Average
from scottbench.training.choices import choose_budget
from scottbench.training.request import TrainRequest
from scottbench.training.settings import Budget, TrainSettings, learning_rate_scale


def test_the_average_in_closed_form():
    """Parameter u at update u: decays 2/11, 3/12, 4/13, ... up to the limit."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    average, expected = Average([p], 0.3), 0.0
    for u in range(1, 6):
        p.data.fill_(u)
        average.update(u)
        decay = min(0.3, (1 + u) / (10 + u))
        expected = decay * expected + (1 - decay) * u
    assert float(average.tensors[0]) == pytest.approx(expected, rel=1e-12)
    with average.applied():
        assert p.item() == pytest.approx(expected, rel=1e-12)
    assert p.item() == 5 and float(average.tensors[0]) == pytest.approx(expected, rel=1e-12)


def test_a_resumed_training_has_the_average_of_one_that_went_through(tmp_path):
    def weights(loop):
        return [t.clone() for t in loop.average.tensors]

    whole = toy_loop(tmp_path / "whole", average=0.9)
    whole.run(Budget(None, 6), lambda *event: None)
    part = toy_loop(tmp_path / "part", average=0.9)
    part.run(Budget(None, 6), lambda *event: part.state.step == 3 and stop(part))
    again = toy_loop(tmp_path / "part", average=0.9)
    again.resume()
    assert again.state.step == 3
    again.run(Budget(None, 6), lambda *event: None)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))
    raw = [p.detach() for p in whole.parameters["student"]]
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole), raw, strict=True))


def stop(loop):
    loop.save()
    loop.settings = copy.copy(loop.settings)
    object.__setattr__(loop.settings, "patience", 1)
    loop.state.since_best = 1


def test_learning_rates_over_a_training():
    assert [learning_rate_scale("none", f, 0) for f in (0.0, 0.5, 1.0)] == [1, 1, 1]
    assert learning_rate_scale("constant", 0.99, 0) == 1 / 20 and learning_rate_scale("constant", 0.99, 19) == 1
    assert learning_rate_scale("cosine", 0.4, 99) == 1 and learning_rate_scale("cosine", 0.7, 99) == pytest.approx(0.5)
    assert learning_rate_scale("cosine", 1.0, 99) == 0


def test_a_budget_of_passes_ends_a_training_on_any_machine(tmp_path):
    loop = toy_loop(tmp_path, Counting())
    loop.distillation.model = loop.model
    loop.run(Budget(None, None, 50), lambda *event: None)
    assert (loop.state.step, loop.state.passes) == (5, 50)
    with pytest.raises(ValueError, match="average"):
        TrainSettings(average=1.0)


class Counting(Toy):
    """A toy whose step costs 10 passes."""

    def step(self, batch):
        self.model.passes += 10
        yield from super().step(batch)


def test_passes_that_are_no_budget_are_refused():
    preset = SimpleNamespace(train={})
    with pytest.raises(UsageError, match="--passes must be a whole number of at least 1, found '0'"):
        choose_budget(TrainRequest("cd", "pocket", passes=0), preset)
    assert choose_budget(TrainRequest("cd", "pocket", passes=7), preset) == Budget(None, None, 7)
