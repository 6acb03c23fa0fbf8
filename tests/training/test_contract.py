"""What a trainer's author gets wrong is one line, with the line of its file; networks that no loss trains are counted, and kept."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import mse_loss

from scottbench import Trainer
from scottbench.diffusion import add_noise
from scottbench.errors import ScottbenchError
from scottbench.models.diffusion_model import run_unet
from scottbench.registry.guard import Owner, guarded
from scottbench.store.files import read_json
from scottbench.testing.finding import Finding, follows
from scottbench.testing.small import small_loop
from scottbench.training.contract import BrokenTrainer, built


class Plain:
    """A diffusion training of a copy of the teacher; `change` are attributes in place of its own."""

    def __init__(self, context, **change):
        self.schedule = context.teacher.schedule
        self.networks = {"student": copy.deepcopy(context.teacher.unet).requires_grad_(True)}
        self.learning_rates, self.betas, self.ema, self.ema_decay = {"student": 1e-3}, {}, None, 0.0
        vars(self).update(change)

    def output(self, batch, network):
        noise = torch.randn(batch["latents"].shape, generator=batch["generator"])
        t = torch.full((len(noise),), 500)
        return noise, run_unet(network, add_noise(self.schedule, batch["latents"], t, noise), t, batch["text"])

    def step(self, batch):
        noise, output = self.output(batch, self.networks["student"])
        yield "student", {"fit": mse_loss(output, noise)}, {}

    def student_config(self):
        return {"guidance": "baked"}


def trainer_of(make) -> Trainer:
    return guarded("trainer", Trainer("plain", "s", lambda context, options: make(context)), Owner("trainer 'plain'", "Leave it out."))


def loop_of(make, out, **settings):
    return small_loop(trainer_of(make), {}, out, **settings)


def lacking(context):
    return SimpleNamespace(networks={"student": context.teacher.unet})


def conv(**more):
    return torch.nn.Conv2d(4, 4, 1).requires_grad_(more.get("trained", True))


@pytest.mark.parametrize(("make", "words"), [
    (lacking, "what it builds has no learning_rates, betas, ema, ema_decay, step, student_config"),
    (lambda c: Plain(c, networks={"pupil": conv()}), 'no role is called "student" .networks: \'pupil\'.'),
    (lambda c: Plain(c, networks=[conv()]), 'no role is called "student" .networks: list.'),
    (lambda c: Plain(c, networks={"student": 3}), "network 'student' is int, no torch.nn.Module"),
    (lambda c: Plain(c, learning_rates={}), "role 'student' has no learning rate"),
    (lambda c: Plain(c, learning_rates={"student": "fast"}), "role 'student' has no learning rate"),
    (lambda c: Plain(c, networks={"student": conv(trained=False)}), "role 'student' has nothing to train.*`frozen`"),
    (lambda c: Plain(c, frozen={"eye": conv()}), r"frozen network 'eye' has weights that require a gradient.*requires_grad_\(False\)"),
    (lambda c: Plain(c, frozen={"eye": len}), "network 'eye' is builtin_function_or_method"),
    (lambda c: Plain(c, ema=0.95), "ema is float"),
])  # fmt: skip
def test_what_a_trainer_builds_wrongly_is_one_line(make, words, tmp_path):
    with pytest.raises(BrokenTrainer, match=f"^trainer 'plain' cannot be used: {words}") as caught:
        loop_of(make, tmp_path)
    assert "\n" not in str(caught.value)


def yielding(*what):
    class Yields(Plain):
        def step(self, batch):
            _, output = self.output(batch, self.networks["student"])
            for one in what:
                yield one(output.mean()) if callable(one) else one

    return Yields


@pytest.mark.parametrize(("what", "words"), [
    (lambda loss: loss, r"its step yielded a tensor of shape \(\)"),
    (lambda loss: ("student", {"a": loss}), r"its step yielded a tuple of 2 \(str, dict\)"),
    (lambda loss: ("critic", {"a": loss}, {}), "yielded a loss of role 'critic', and networks has 'student'"),
    (lambda loss: ("student", loss, {}), r"its step yielded \('student', a tensor of shape \(\), dict"),
    (lambda loss: ("student", {"a": loss}, None), "NoneType None"),
    (lambda loss: ("student", {"a": loss.expand(3)}, {}), r"the student's loss 'a' is a tensor of shape \(3,\)"),
    (lambda loss: ("student", {"a": float(loss.detach())}, {}), "the student's loss 'a' is float"),
    (lambda loss: ("student", {"a": loss.detach()}, {}), "the losses of 'student' have no gradient"),
])  # fmt: skip
def test_what_a_step_yields_wrongly_is_one_line_that_names_the_yield(what, words, tmp_path):
    loop = loop_of(yielding(what), tmp_path)
    with pytest.raises(BrokenTrainer, match=rf"^trainer 'plain' cannot be used: .*{words}.*\(test_contract.py:\d+\)") as caught:
        loop.one_step(0.0)
    loop.feed.close()
    assert "\n" not in str(caught.value) and isinstance(caught.value, ScottbenchError)


def test_a_step_that_yields_nothing_is_told(tmp_path):
    class Returns(Plain):
        def step(self, batch):
            return self.output(batch, self.networks["student"])[1].mean()

    loop = loop_of(Returns, tmp_path)
    with pytest.raises(BrokenTrainer, match="its step returned a tensor of shape .., and yields nothing. Yield .role"):
        loop.one_step(0.0)
    loop.feed.close()


class Staged(Plain):
    """Its teacher is a network of its own, which takes over the student's weights at half of the budget."""

    def __init__(self, context):
        super().__init__(context)
        self.frozen = {"master": copy.deepcopy(context.teacher.unet)}
        self.memory = {"stage": 1}

    def step(self, batch):
        if batch["fraction"] >= 0.5 and self.memory["stage"] == 1:
            self.frozen["master"].load_state_dict(self.networks["student"].state_dict())
            self.memory = {"stage": 2}
        with torch.no_grad():
            wanted = self.output({**batch, "generator": torch.Generator().manual_seed(1)}, self.frozen["master"])[1]
        output = self.output({**batch, "generator": torch.Generator().manual_seed(1)}, self.networks["student"])[1]
        yield "student", {"fit": mse_loss(output, 0.9 * wanted)}, {}


def weights(loop):
    return torch.cat([p.detach().flatten() for p in loop.parameters["student"]])


def test_a_frozen_network_is_counted_and_kept_in_checkpoints_once_it_is_changed(tmp_path):
    loop = loop_of(Staged, tmp_path / "a")
    loop.counted_step(0.0)
    assert loop.state.passes == 4 * (3 + 1)  # forward and twice that backward, and the frozen one's forward, of 4 items
    loop.save()
    kept = read_json(tmp_path / "a" / "checkpoint" / "digests.json")["files"]["tensors.safetensors"]["bytes"]
    loop.counted_step(0.6)
    loop.save()
    changed = read_json(tmp_path / "a" / "checkpoint" / "digests.json")["files"]["tensors.safetensors"]["bytes"]
    size = 4 * sum(p.numel() for p in loop.model.unet.parameters())
    assert kept < 4 * size and changed - kept > 0.9 * size
    loop.counted_step(0.8)
    loop.feed.close()
    again = loop_of(Staged, tmp_path / "a")
    again.resume()
    assert again.state.step == 2 and again.distillation.memory == {"stage": 2}
    again.counted_step(0.8)
    again.save()
    assert torch.equal(weights(loop), weights(again))
    again.feed.close()
    once_more = loop_of(Staged, tmp_path / "a")
    once_more.resume()  # what was put back counts as changed
    frozen = [network.distillation.frozen["master"].state_dict().values() for network in (again, once_more)]
    assert all(torch.equal(a, b) for a, b in zip(*frozen))


def test_a_frozen_network_in_the_place_of_another_is_refused(tmp_path):
    loop = loop_of(Staged, tmp_path)
    loop.distillation.frozen["master"] = copy.deepcopy(loop.model.unet)
    with pytest.raises(BrokenTrainer, match="its frozen network 'master' is another than `build` made. Name every one in build"):
        loop.save()


def test_a_trainer_that_keeps_the_contract_is_given_back(tmp_path):
    loop = loop_of(Staged, tmp_path)
    context = SimpleNamespace(teacher=loop.model)
    assert set(built(trainer_of(Staged), context, None).networks) == {"student"}
    loop.counted_step(0.0)
    loop.feed.close()


def test_one_cause_is_one_fail():
    first = Finding("FAIL", "method a", "batch", "it failed: ValueError: x", "a.py:3", "mend that line.", unforeseen=True)
    same = Finding("FAIL", "method a", "seed", "it failed: ValueError: x", "a.py:3", "mend that line.", unforeseen=True)
    told = follows(same, [first])
    assert (told.status, told.found) == ("warn", "not tried: it falls over what 'batch' found.")
    elsewhere = Finding("FAIL", "method a", "seed", "it failed: ValueError: y", "a.py:9", "mend that line.", unforeseen=True)
    assert follows(elsewhere, [first]) is elsewhere
    rule = Finding("FAIL", "method a", "time steps", "they rise", "a.py:1", "mend.")
    assert follows(elsewhere, [rule]).status == "warn" and follows(rule, [first]) is rule
    again = Finding("FAIL", "method a", "gradients by role", "they rise", "a.py:1", "mend.")
    assert follows(again, [rule]).found == "not tried: it falls over what 'time steps' found." and follows(again, [first]) is again
    assert follows(elsewhere, [Finding("FAIL", "method b", "time steps", "they rise", "b.py:1", "mend.")]) is elsewhere
