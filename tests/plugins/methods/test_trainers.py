"""CD and SCott: what holds before, during and after a few steps of training on a tiny pipeline."""

import copy
import json

import pytest
import torch
from scottbench_cd import register_methods as cd_methods
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from scottbench_scott import register_methods as scott_methods
from scottbench_scott.options import SCottOptions
from scottbench_scott.trainer import StochasticConsistencyDistillation
from tiny import tiny_pipeline
from tiny_training import Registry, train, whole_and_cut

from scottbench.diffusion import guidance_embedding, pseudo_huber
from scottbench.errors import TrainingDiverged, UsageError
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.registry.nouns import Sampling
from scottbench.training.context import Context
from scottbench.training.discriminator import Discriminator, accuracies, hinge, trainable_share, weighted_term
from scottbench.training.distillation import update_ema

FAST = {"lr": 1e-3, "w_min": 0.0, "w_max": 2.0}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def teacher(pipeline):
    return open_pipeline(pipeline)


def batch(teacher, n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    text = teacher.embed(["a red apple", "a blue fish", "a green star", "the dark moon"][:n])
    return {
        "latents": torch.randn(n, 4, 8, 8, generator=generator),
        "text": text,
        "uncond": teacher.embed([""]),
        "generator": generator,
        "step": 0,
    }


@pytest.mark.invariant(12)
def test_invariant_12_student_equals_teacher_at_the_start_for_every_guidance(teacher):
    student = ConsistencyDistillation(Context(teacher, "cpu"), CDOptions(w_start="zero")).networks["student"]
    b = batch(teacher)
    z, t = torch.randn(4, 4, 8, 8), torch.tensor([0, 19, 500, 999])
    expected = teacher.unet(z, t, encoder_hidden_states=b["text"]).sample
    for w in (0.0, 1.5, 14.0):
        got = student(z, t, encoder_hidden_states=b["text"], timestep_cond=guidance_embedding(torch.full((4,), w))).sample
        assert torch.equal(got, expected), w


@pytest.mark.invariant(17)
def test_invariant_17_scott_reduces_to_cd_bit_for_bit(teacher):
    """h = 1, ODE teacher, skip 20, no discriminator: equal loss and equal gradients."""
    same = {"w_start": "zero", "skip": 20, "weight": "alpha"}
    cd = ConsistencyDistillation(Context(teacher, "cpu"), CDOptions(**same))
    scott = StochasticConsistencyDistillation(Context(teacher, "cpu"), SCottOptions(h=1, solver="ode", discriminator="none", **same))
    results = []
    for distillation in (cd, scott):
        ((role, losses, _),) = distillation.step(batch(teacher))
        assert role == "student"
        losses["consistency"].backward()
        results.append((losses["consistency"].detach(), [p.grad for p in distillation.networks["student"].parameters()]))
    assert results[0][0] > 0 and torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True) if a is not None)


def test_a_noisier_teacher_gives_another_target(teacher):
    """The reduction above is no accident: with ER-SDE noise the loss differs."""
    values = []
    for solver in ("ode", "er-sde"):
        scott = StochasticConsistencyDistillation(Context(teacher, "cpu"), SCottOptions(h=1, solver=solver, skip=20, discriminator="none"))
        values.append(float(next(iter(scott.step(batch(teacher))))[1]["consistency"].detach()))
    assert values[0] != values[1]


@pytest.mark.invariant(19)
def test_invariant_19_a_fresh_discriminator_says_nothing(teacher, pipeline):
    scott = StochasticConsistencyDistillation(Context(teacher, "cpu"), SCottOptions(disc_rank=4))
    steps = scott.step(batch(teacher))
    role, losses, _ = next(steps)
    assert role == "student" and float(losses["adversarial"].detach()) == 0.0
    role, losses, facts = next(steps)
    assert role == "discriminator" and float(losses["hinge"].detach()) == 2.0 and facts["accuracy"] == 0.5
    relu = StochasticConsistencyDistillation(
        Context(open_pipeline(pipeline), "cpu"), SCottOptions(disc_rank=4, adv_loss="relu", discriminator="full")
    )
    assert float(next(relu.step(batch(teacher)))[1]["adversarial"].detach()) == pytest.approx(0.4)


def test_hinge_and_accuracy_in_closed_form():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, -0.5, 1.0])
    assert float(hinge(real, fake)) == pytest.approx((0 + 0.5 + 2) / 3 * 2)
    assert accuracies(real, fake) == {"accuracy": pytest.approx(4 / 6), "paired_accuracy": pytest.approx(2 / 3)}


@pytest.mark.invariant(20)
@pytest.mark.parametrize("kind", ["lora", "unconditional"])
def test_invariant_20_adapters_off_is_the_teacher_bit_for_bit(pipeline, kind):
    plain, teacher = open_pipeline(pipeline), open_pipeline(pipeline)
    b, z, t = batch(plain), torch.randn(4, 4, 8, 8), torch.tensor([1, 19, 500, 999])
    expected = plain.unet(z, t, encoder_hidden_states=b["text"]).sample
    discriminator = Discriminator(teacher.unet, kind, rank=4)
    assert torch.equal(teacher.unet(z, t, encoder_hidden_states=b["text"]).sample, expected)
    for p in discriminator.trainable:
        torch.nn.init.normal_(p)
    assert torch.equal(teacher.unet(z, t, encoder_hidden_states=b["text"]).sample, expected)
    teacher.unet.enable_adapters()
    assert not torch.equal(teacher.unet(z, t, encoder_hidden_states=b["text"]).sample, expected)


@pytest.mark.invariant(20)
@pytest.mark.parametrize("kind", ["lora", "full", "unconditional"])
def test_invariant_20_only_the_decoder_learns(teacher, kind):
    discriminator = Discriminator(teacher.unet, kind, rank=4)
    trainable = discriminator.trainable
    torch.nn.init.normal_(discriminator.head.weight)
    b = batch(teacher)
    logits = discriminator(torch.randn(4, 4, 8, 8), torch.tensor([1, 19, 500, 999]), b["text"], b["uncond"])
    assert logits.shape == (4,)
    logits.sum().backward()
    with_grad = {name for name, p in discriminator.named_parameters() if p.grad is not None}
    assert with_grad and all("up_blocks" in name or name.startswith("head") for name in with_grad)
    assert {id(p) for p in trainable} == {id(p) for p in discriminator.parameters() if p.requires_grad}
    assert 0 < trainable_share(discriminator) < 1


def test_the_student_term_reaches_the_student_only(teacher):
    scott = StochasticConsistencyDistillation(Context(teacher, "cpu"), SCottOptions(disc_rank=4))
    torch.nn.init.normal_(scott.networks["discriminator"].head.weight)
    _, losses, _ = next(scott.step(batch(teacher)))
    losses["adversarial"].backward()
    assert all(p.grad is None for p in scott.networks["discriminator"].trainable)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in scott.networks["student"].parameters())


@pytest.mark.parametrize("scale", ["fixed", "gradient"])
def test_the_adversarial_gradient_is_lambda_times_the_other_gradient_where_asked(teacher, scale):
    """adv_scale = gradient: at the student's output the two gradients' norms are in the ratio lambda; fixed: the plain gradient."""
    scott = StochasticConsistencyDistillation(Context(copy.deepcopy(teacher), "cpu"), SCottOptions(disc_rank=4))
    torch.manual_seed(0)
    torch.nn.init.normal_(scott.networks["discriminator"].head.weight)
    prediction = torch.randn(4, 4, 8, 8, requires_grad=True)
    consistency, b = pseudo_huber(prediction, torch.randn(4, 4, 8, 8)), batch(teacher)

    def loss(output):
        return scott.generator_loss(output, torch.tensor([999, 500, 99, 3]), b["text"], b["uncond"], torch.Generator().manual_seed(1))

    term, norms = weighted_term(prediction, loss, {"consistency": consistency}, 0.4, scale)
    (got,) = torch.autograd.grad(term, prediction)
    if scale == "gradient":
        assert float(got.norm()) == pytest.approx(0.4 * float(norms["consistency_gradient"]), rel=1e-4)
    else:
        plain = 0.4 * loss(prediction)
        (expected,) = torch.autograd.grad(plain, prediction)
        assert torch.allclose(got, expected, rtol=1e-3, atol=1e-6)
        assert float(term.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
        alone, facts = weighted_term(prediction, loss, {}, 0.4, scale)
        assert torch.equal(torch.autograd.grad(alone, prediction)[0], got) and set(facts) == {"adversarial_gradient"}


@pytest.mark.invariant(21)
def test_invariant_21_ema_in_closed_form():
    source, target = torch.nn.Linear(3, 2).double(), torch.nn.Linear(3, 2).double()
    start = copy.deepcopy(target)
    for _ in range(7):
        update_ema(target, source, 0.95)
    for p, q, r in zip(target.parameters(), source.parameters(), start.parameters(), strict=True):
        assert torch.allclose(p, q + 0.95**7 * (r - q), atol=1e-12)


@pytest.mark.parametrize(
    "name, options",
    [
        ("cd", {}),
        ("cd", {"huber": "norm"}),
        ("scott", {"disc_rank": "4", "adv_scale": "gradient"}),
        ("scott", {"disc_rank": "4", "solver": "ddim", "disc_input": "target", "t_sampling": "uniform"}),
        ("scott", {"discriminator": "full", "disc_input": "clean", "disc_steps": "2", "h": "2"}),
    ],
)
def test_a_few_steps_train_export_and_sample(pipeline, tmp_path, name, options):
    out = train(Registry(pipeline), "tiny", name, tmp_path / "s", max_steps=3, options={**FAST, **options})
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 1 and lines[0]["student/consistency"] > 0
    facts = json.loads((out / "student.json").read_text())
    assert facts["steps"] == 3 and facts["samples_seen"] == 12 and facts["trainer"] == name
    per_image = {"cd": 2 + 1 + 1}.get(name)
    if per_image is not None:
        assert facts["network_evaluations"] == 12 * per_image
    teacher = open_pipeline(pipeline)
    student = open_student(teacher, out, name)
    method = {"cd": cd_methods, "scott": scott_methods}[name]()[0]
    text = student.encode_prompts(["a red apple"] * 2)
    with torch.no_grad():
        run = Sampling(
            student.denoiser(text, student.encode_prompts([""]), 2.0),
            lambda k: torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(k)),
            student.schedule,
            2,
            method.options(),
        )
        latents = method.sample(run)
    assert latents.shape == (2, 4, 8, 8) and torch.isfinite(latents).all() and student.evaluations == 4
    with pytest.raises(UsageError, match="student of"):
        open_student(teacher, out, "scott" if name == "cd" else "cd")


def test_an_interrupted_training_resumes_bit_for_bit(pipeline, tmp_path):
    """Ctrl-C in the whole of a training; tests/testing/test_kit.py holds the loop of every trainer against the same."""
    options = {**FAST, "disc_rank": "4"}
    digests = whole_and_cut(pipeline, "scott", tmp_path, options, steps=4, at=2)
    assert digests[0] == digests[1]
    other = train(Registry(pipeline), "tiny", "scott", tmp_path / "other", max_steps=4, options=options, seed=1)
    assert json.loads((other / "student.json").read_text())["weights_digest"] != digests[0]


def test_bad_folders_and_budgets_are_refused_in_one_line(pipeline, tmp_path):
    registry, out = Registry(pipeline), tmp_path / "s"
    with pytest.raises(UsageError, match="nothing to resume"):
        train(registry, "tiny", "cd", out, max_steps=1, resume=True)
    with pytest.raises(UsageError, match="fewer than one batch"):
        train(registry, "tiny", "cd", out, max_steps=1, batch_size=64)
    with pytest.raises(TrainingDiverged, match="No checkpoint"):
        train(registry, "tiny", "cd", out, max_steps=9, options=FAST | {"lr": "1e38"})
    assert (out / "training.json").is_file(), "and still nothing of value stands in the way of the next one"
    train(registry, "tiny", "cd", out, max_steps=1, options=FAST)
    with pytest.raises(UsageError, match="already holds"):
        train(registry, "tiny", "cd", out, max_steps=1, options=FAST)
    with pytest.raises(UsageError, match="another configuration \\(options"):
        train(registry, "tiny", "cd", out, max_steps=1, options={**FAST, "lr": "0.5"}, resume=True)


def test_a_diverging_training_names_step_and_term(pipeline, tmp_path):
    with pytest.raises(TrainingDiverged, match="step [1-9].*consistency"):
        train(Registry(pipeline), "tiny", "cd", tmp_path / "s", max_steps=5, options={"lr": "1e38"})
