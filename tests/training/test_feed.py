"""On the way to a device and back: one copy for many tensors, the next batch made ready, numbers that are looked at later."""

import math

import numpy as np
import pytest
import torch
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from tiny import tiny_unet
from toy import Toy, toy_data, toy_loop, weights

from scottbench.diffusion import Schedule
from scottbench.errors import TrainingDiverged
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.transfer import Ahead, packed, sent
from scottbench.registry.condition import TextCondition
from scottbench.store.environment import set_tf32
from scottbench.training.context import Context
from scottbench.training.discriminator import weighted_term
from scottbench.training.feed import Feed
from scottbench.training.folder import kept_step
from scottbench.training.ledger import Ledger
from scottbench.training.settings import Budget


def test_a_parcel_holds_what_was_put_in():
    draw = torch.Generator().manual_seed(0)
    tree = {"a": [torch.randn(3, 5, generator=draw), (torch.arange(7), None)],
            "text": TextCondition(torch.randn(2, 3, 4, generator=draw).transpose(1, 2), torch.zeros(2, 3, dtype=torch.float64)),
            "none": torch.zeros(0, 4), "word": "x", "flag": torch.tensor([True, False])}  # fmt: skip
    parcel = packed(tree)
    assert all(start % 256 == 0 for start, _, _ in parcel.places)
    found = parcel.sent("cpu")
    assert torch.equal(found["a"][0], tree["a"][0]) and torch.equal(found["a"][1][0], torch.arange(7)) and found["a"][1][1] is None
    assert torch.equal(found["text"].hidden, tree["text"].hidden) and found["text"].pooled.dtype == torch.float64
    assert found["none"].shape == (0, 4) and found["word"] == "x" and found["flag"].tolist() == [True, False]
    assert sent(tree, "cpu") is tree, "nothing is copied where nothing has to be"
    ahead = Ahead([torch.zeros(1), torch.ones(2)], "cpu")
    assert [ahead.take().tolist(), ahead.take().tolist()] == [[0.0], [1.0, 1.0]]


def test_batches_that_are_made_ready_are_those_that_are_asked_for():
    data = toy_data()
    parts = lambda step: [torch.tensor([step, step + 1]), torch.tensor([0, step])]  # noqa: E731
    plain, ahead = Feed(data, "cpu", parts), Feed(data, "cpu", parts, ahead=True)
    assert not plain.ahead and Feed(data, "cuda:0", parts).ahead
    for step in (0, 1, 2, 7, 3):  # a resumed training begins anywhere
        for one, other in zip(plain.batches(step), ahead.batches(step), strict=True):
            assert torch.equal(one["latents"], other["latents"]) and torch.equal(one["text"].hidden, other["text"].hidden)
            assert torch.equal(one["indices"], other["indices"]) and one["uncond"] is other["uncond"]
    ahead.close()
    ahead.close()


def refuse(step, what):
    raise TrainingDiverged(f"step {step}: {what}")


def test_numbers_are_looked_at_together_and_a_wrong_one_is_told_with_its_step():
    ledger = Ledger(refuse)
    assert ledger.settle() == {}
    for step in range(3):
        ledger.note(step, "student/fit", torch.tensor(float(step)), "the student's fit loss")
        ledger.note(step, "student/fit", torch.tensor(step + 1.0, dtype=torch.float64, requires_grad=True), "the student's fit loss")
        ledger.note(step, "student/pairs", 7)
    ledger.note(2, "student/odd", math.nan)
    found = ledger.settle()
    assert found.pop("student/odd") != 0 and found == {"student/fit": 2.5, "student/pairs": 7.0} and ledger.noted == []
    ledger.note(3, "d", torch.tensor(1.0), "the discriminator's d loss")
    ledger.note(4, "d", torch.tensor(math.inf), "the discriminator's d loss")
    ledger.note(5, "d", torch.tensor(math.nan), "the discriminator's d loss")
    with pytest.raises(TrainingDiverged, match="step 4: the discriminator's d loss is inf"):
        ledger.settle()


def test_a_training_whose_numbers_are_looked_at_late_is_the_same_and_keeps_its_checkpoint(tmp_path):
    found = []
    for every in (1, 10):
        loop = toy_loop(tmp_path / str(every))
        loop.settle_every, loop.ledger.at_once = every, every == 1
        loop.run(Budget(None, 7), lambda *event: None)
        found.append(weights(loop))
    assert torch.equal(*found)
    bad = toy_loop(tmp_path / "10", Toy(fail={8: "fit"}))
    bad.settle_every, bad.ledger.at_once = 10, False
    bad.resume()
    seen = []
    with pytest.raises(TrainingDiverged, match="step 8: the student's fit loss is nan.*step 7 is kept.*--resume --max-steps 7"):
        bad.run(Budget(None, 20), lambda event, step, *rest: seen.append(step))
    assert seen == [8, 9] and kept_step(tmp_path / "10") == 7, "it went on for a step, and kept nothing of it"
    assert not torch.isfinite(weights(bad)).all()


class Scale:
    """In the place of torch's GradScaler."""

    def scale(self, outputs):
        return outputs * 2.0**16


def test_the_adversarial_gradient_passes_through_float16_at_its_scale():
    """A gradient of 1e-8 an element is 0 in float16, and 1e-8 where the loss was scaled."""
    output = torch.randn(2, 4, 8, 8, requires_grad=True)

    def adversarial(f):
        return (f.half() * 1.0).float().sum() * 1e-8

    found = {}
    for name, scaler in (("plain", None), ("scaled", Scale())):
        term, facts = weighted_term(output, adversarial, {}, 0.5, "fixed", scaler)
        (found[name],) = torch.autograd.grad(term, output)
        assert float(term.detach()) == pytest.approx(0.5 * float(adversarial(output).detach()))
    assert not found["plain"].any() and torch.allclose(found["scaled"], torch.full_like(output, 0.5e-8), rtol=1e-3)
    assert float(facts["adversarial_gradient"]) == pytest.approx(1e-8 * math.sqrt(output.numel()), rel=1e-3)


def test_a_discriminator_without_gradient_counts_nothing_and_not_too_much():
    output = torch.randn(2, 4, 8, 8, requires_grad=True)
    term, _ = weighted_term(output, lambda f: (0 * f).sum() + 1, {"other": output.square().mean()}, 0.4, "gradient")
    assert float(term.detach()) == 0 and not torch.autograd.grad(term, output)[0].any()


def test_lora_s_student_is_asked_with_gradients_first_within_one_autocast():
    """Older torch keeps a weight's cast of a pass without gradients for the pass that needs them."""
    torch.manual_seed(0)
    teacher = DiffusionModel("0" * 64, Schedule.scaled_linear(), "epsilon", None, None, tiny_unet().requires_grad_(False).eval(), None)
    trainer, seen = ConsistencyDistillation(Context(teacher, "cpu"), CDOptions(variant="lora", lora_rank=2)), []
    student = trainer.networks["student"]
    down = next(module for name, module in student.named_modules() if name.endswith("lora_A.student"))
    down.register_forward_pre_hook(lambda module, given: seen.append(torch.is_grad_enabled()))
    draw = np.random.default_rng(0)
    batch = {"latents": torch.tensor(draw.normal(size=(2, 4, 8, 8)), dtype=torch.float32), "text": torch.randn(2, 3, 32),
             "uncond": torch.zeros(1, 3, 32), "generator": torch.Generator().manual_seed(0), "step": 0}  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        _, losses, _ = next(trainer.step(batch))
    assert seen == [True, False]  # the prediction, then the target; the teacher between them has no adapters
    losses["consistency"].backward()
    ups = [p for name, p in student.named_parameters() if "lora_B" in name]
    assert all(p.grad is not None and p.grad.any() for p in ups)


def test_one_switch_sets_tf32_of_matrices_and_of_convolutions():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for on in (True, False):
            set_tf32(on)
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (on, on)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
