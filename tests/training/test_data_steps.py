"""What the loop does for trainers with stages: steps that make data, memory kept in checkpoints, indices of the items."""

import json
import os
import signal

import pytest
import torch
from toy import Toy, toy_loop, weights

from scottbench.training.settings import Budget


class Staged(Toy):
    """Two of three steps say something and update nothing; what was made is remembered."""

    def __init__(self):
        super().__init__()
        self.memory = {"made": []}

    def step(self, batch):
        yield "student", {}, {"said": 7.0}
        if batch["step"] % 3 == 2:
            yield from super().step(batch)
        else:
            self.memory["made"].append(batch["indices"].tolist())


def run(loop, max_steps):
    loop.run(Budget(None, max_steps), lambda *event: None)
    return loop


def test_a_step_without_losses_updates_nothing_and_is_not_counted_as_an_update(tmp_path):
    loop = toy_loop(tmp_path, Staged())
    before = weights(loop)
    run(loop, 2)
    assert torch.equal(weights(loop), before) and (loop.state.step, loop.state.updates) == (2, 0)
    run(loop, 3)
    assert not torch.equal(weights(loop), before) and (loop.state.step, loop.state.updates) == (3, 1)
    line = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert line["student/said"] == 7.0 and not any("grad_norm" in key for key in line)


def test_micro_batches_of_such_a_step_all_make_data_of_their_own_items(tmp_path):
    loop = run(toy_loop(tmp_path, Staged(), accumulate=4), 1)
    made = loop.distillation.memory["made"]
    assert [len(part) for part in made] == [2] * 4 and len({index for part in made for index in part}) == 8


def test_memory_comes_back_with_the_checkpoint_and_the_training_goes_on_bit_for_bit(tmp_path):
    whole = run(toy_loop(tmp_path / "whole", Staged()), 7)

    def interrupt(event, step, *rest):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toy_loop(tmp_path / "cut", Staged()).run(Budget(None, 7), interrupt)
    again = toy_loop(tmp_path / "cut", Staged())
    again.resume()
    assert again.distillation.memory == {"made": whole.distillation.memory["made"][:3]} and again.state.updates == 1
    run(again, 7)
    assert torch.equal(weights(again), weights(whole)) and again.distillation.memory == whole.distillation.memory
    plain = run(toy_loop(tmp_path / "plain"), 2)
    plain.resume()
    assert not hasattr(plain.distillation, "memory")
