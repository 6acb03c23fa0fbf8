"""DMD2: its gradient in closed form on Gaussians, simulated inputs, its networks and roles, and a training on a tiny pipeline."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from scottbench_dmd2 import register_methods
from scottbench_dmd2.fake_score import FakeScore
from scottbench_dmd2.options import DMD2Options
from scottbench_dmd2.sampler import sample, timesteps
from scottbench_dmd2.trainer import DistributionMatching, counts, matching_direction, target_of
from tiny import tiny_pipeline
from tiny_training import Registry, batch_of, train

from scottbench.diffusion import Schedule, add_noise, to_x0_eps
from scottbench.errors import UsageError
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.models.transfer import Ahead
from scottbench.registry.nouns import Sampling
from scottbench.registry.options import make_options
from scottbench.training.context import Context
from scottbench.training.discriminator import cross_entropy

SD = Schedule.scaled_linear()
SMALL = {"lr": "1e-3", "fake_lr": "1e-3", "fake_updates": "2"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


def trainer_of(pipeline, **options):
    torch.manual_seed(0)
    return DistributionMatching(Context(open_pipeline(pipeline), "cpu"), DMD2Options(**options))


def bare(student=None, fake=None, teacher=None, **options):
    """A trainer of functions (z, t, **rest) -> (x0,) in place of networks, whose prediction is the clean sample."""
    trainer = object.__new__(DistributionMatching)
    trainer.options, trainer.scaler = DMD2Options(**options), None
    network = None if teacher is None else lambda z, t, text: teacher(z, t)
    trainer.teacher = SimpleNamespace(schedule=SD, prediction="sample", network=network)
    trainer.networks = {"student": student, "fake": fake}
    trainer.times = timesteps(SD, trainer.options.steps)
    return trainer


def numbers(n, seed=0, dtype=torch.float64):
    return torch.randn(n, 1, 2, 2, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def posterior_mean(z, t, mean, deviation):
    """E[x0 | z_t] of data N(mean, deviation^2)."""
    alpha, variance = SD.alpha(t), SD.alpha(t) ** 2 * deviation**2 + SD.sigma(t) ** 2
    return (mean + alpha * deviation**2 / variance * (z - alpha * mean)).to(z.dtype)


# --- the sampler ------------------------------------------------------------------------------------------------------


def test_time_steps_fall_evenly_from_the_last():
    assert timesteps(SD, 1) == [999] and timesteps(SD, 2) == [999, 499] and timesteps(SD, 4) == [999, 749, 499, 249]
    assert register_methods()[0].made_for == (1, 4)


def test_each_prediction_is_noised_to_the_next_time_and_the_last_is_the_sample():
    drawn, asked = [], []
    noise = lambda k: drawn.append(k) or torch.full((1, 1, 1, 1), 10.0 + k, dtype=torch.float64)  # noqa: E731

    def denoise(z, t):
        asked.append((t, float(z)))
        return torch.full_like(z, float(t)), z

    assert float(sample(Sampling(denoise, noise, SD, 4, None))) == 249 and drawn == [0, 1, 2, 3]
    steps = enumerate([(999, 749), (749, 499), (499, 249)], start=11)
    expected = [(999, 10.0)] + [(t, SD.alpha(t) * x0 + SD.sigma(t) * xi) for xi, (x0, t) in steps]
    assert [t for t, _ in asked] == [t for t, _ in expected]
    assert [z for _, z in asked] == pytest.approx([z for _, z in expected])


# --- the gradient of distribution matching ----------------------------------------------------------------------------


def test_on_gaussians_the_direction_is_the_difference_of_the_scores():
    """Data N(0, s^2), samples N(m, r^2): the scores at z_t are -z / (alpha^2 s^2 + sigma^2) and the same of m and r. The published
    weight is sigma^2 / alpha over mean |x - real|; times alpha it makes sigma^2 (s_fake - s_real) over that mean."""
    s, m, r, t = 0.7, 0.4, 1.3, torch.tensor([20, 300, 600, 979])
    x, z = numbers(4), numbers(4, seed=1)
    real, fake = posterior_mean(z, t, 0.0, s), posterior_mean(z, t, m, r)
    alpha, sigma = SD.alpha(t), SD.sigma(t)
    score = lambda mean, deviation: -(z - alpha * mean) / (alpha**2 * deviation**2 + sigma**2)  # noqa: E731
    difference = sigma**2 * (score(m, r) - score(0.0, s))
    distance = (x - real).abs().mean((1, 2, 3), keepdim=True)
    for kind, expected in (("none", difference), ("alpha", difference / distance), ("one", difference / distance / alpha)):
        assert torch.allclose(matching_direction(SD, x, real, fake, t, kind), expected, rtol=1e-9, atol=1e-12), kind


def test_the_normalised_direction_has_no_scale_and_each_sample_its_own():
    x, real, fake, t = numbers(3), numbers(3, 1), numbers(3, 2), torch.tensor([100, 500, 900])
    whole = matching_direction(SD, x, real, fake, t, "alpha")
    assert torch.allclose(matching_direction(SD, 7 * x, 7 * real, 7 * fake, t, "alpha"), whole)
    for i in range(3):
        alone = matching_direction(SD, *(tensor[i : i + 1] for tensor in (x, real, fake, t)), "alpha")
        assert torch.allclose(alone, whole[i : i + 1])
    assert matching_direction(SD, x, x, fake, t, "alpha").isfinite().all()


def test_the_matching_loss_has_that_gradient_at_the_sample_and_none_where_the_scores_agree():
    data = lambda z, t: posterior_mean(z, t, 0.0, 0.7)  # noqa: E731
    own = lambda z, t, text: posterior_mean(z, t, 0.5, 1.2)  # noqa: E731
    x, t, noise = numbers(4).requires_grad_(), torch.tensor([20, 300, 600, 979]), numbers(4, 1)
    batch = {"text": None, "uncond": None, "fraction": 0.0}
    for fake, agree in ((own, False), (lambda z, t, text: data(z, t), True)):
        trainer = bare(fake=fake, teacher=data, gan=False, w=0.0)
        losses, _ = trainer.generator_losses(x, None, batch, Ahead([t, noise], "cpu"))
        (gradient,) = torch.autograd.grad(losses["matching"], x)
        z = add_noise(SD, x.detach(), t, noise)
        expected = matching_direction(SD, x.detach(), data(z, t), own(z, t, None), t, "alpha") / x.numel()
        assert torch.equal(gradient, torch.zeros_like(x)) if agree else torch.allclose(gradient, expected, rtol=1e-9, atol=1e-15)


def test_a_weight_by_time_multiplies_each_items_gradient():
    data, own = (lambda z, t: posterior_mean(z, t, 0.0, 0.7)), (lambda z, t, text: posterior_mean(z, t, 0.5, 1.2))
    x, t, noise, weight = numbers(2).requires_grad_(), torch.tensor([300, 300]), numbers(2, 1), torch.tensor([1.0, 0.25]).view(2, 1, 1, 1)
    trainer, found = bare(fake=own, teacher=data, gan=False, w=0.0), []
    for each in (None, weight):
        losses, _ = trainer.generator_losses(x, each, {"text": None, "uncond": None, "fraction": 0.0}, Ahead([t, noise], "cpu"))
        found += torch.autograd.grad(losses["matching"], x)
    assert torch.allclose(found[1], weight * found[0])


def test_a_generator_with_an_exact_fake_score_becomes_the_data_law():
    """x = a z + b against data N(2, 0.5^2); the fake score is told a and b at every step, as if it had converged."""
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.5, -1.0))
    optimizer, generator = torch.optim.Adam([a, b], lr=0.08), torch.Generator().manual_seed(0)
    own = lambda z, t, text: posterior_mean(z, t, b.item(), abs(a.item()))  # noqa: E731
    trainer = bare(fake=own, teacher=lambda z, t: posterior_mean(z, t, 2.0, 0.5), gan=False, w=0.0)
    for _ in range(160):
        noise = [torch.randn(128, 1, 1, 1, dtype=torch.float64, generator=generator) for _ in range(2)]
        draws = Ahead([torch.randint(20, 980, (128,), generator=generator), noise[1]], "cpu")
        losses, _ = trainer.generator_losses(a * noise[0] + b, None, {"text": None, "uncond": None, "fraction": 0.0}, draws)
        optimizer.zero_grad()
        losses["matching"].backward()
        optimizer.step()
    assert b.item() == pytest.approx(2.0, abs=0.1) and abs(a.item()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_the_real_score_is_guided_and_the_fake_is_not(pipeline, w):
    trainer, b = trainer_of(pipeline, w=w, gan=False), batch_of(open_pipeline(pipeline))
    teacher, z, t = open_pipeline(pipeline), b["latents"], torch.tensor([20, 300, 600, 979])
    with torch.no_grad():
        cond, unc = (to_x0_eps(SD, z, t, teacher.network(z, t, text), "epsilon")[0] for text in (b["text"], b["uncond"].expand(4)))
        trainer.teacher.evaluations = 0
        found = trainer.real_prediction(z, t, b["text"], b["uncond"])
        assert torch.allclose(found, cond + w * (cond - unc), atol=1e-4)
        assert trainer.teacher.evaluations == (4 if w == 0 else 8)
        assert torch.equal(trainer.networks["fake"](z, t, b["text"]), teacher.network(z, t, b["text"]))


# --- the generator's inputs -------------------------------------------------------------------------------------------


def test_simulated_inputs_are_those_that_the_sampler_sees(pipeline):
    trainer, b = trainer_of(pipeline, steps=4, gan=False), batch_of(open_pipeline(pipeline), n=4)
    seen = []

    def denoise(z, t):
        seen.append(z)
        x0 = trainer.generate(z, t, b["text"])
        return x0, (z - SD.alpha(t) * x0) / SD.sigma(t)

    noises = [torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    with torch.no_grad():
        sample(Sampling(denoise, noises.__getitem__, SD, 4, None))
        for places in (torch.tensor([3, 2, 1, 0]), torch.tensor([3, 3, 1, 1]), torch.tensor([0, 0, 0, 0])):
            draws = Ahead([torch.tensor(trainer.times)[places], noises[0], *(n[:m] for n, m in zip(noises[1:], counts(places)))], "cpu")
            z, t = trainer.inputs(b, places, draws)
            assert not draws.left and t.tolist() == [[999, 749, 499, 249][k] for k in places]
            for i, k in enumerate(places.tolist()):
                assert torch.allclose(z[i], seen[k][i], atol=1e-4), (i, k)


def test_inputs_from_data_are_noised_latents_but_for_the_first_step():
    trainer = bare(student=None, steps=4, inputs="data")
    x, noise, places = numbers(4), numbers(4, 1), torch.tensor([3, 1, 0, 0])
    z, t = trainer.inputs({"latents": x}, places, Ahead([torch.tensor(trainer.times)[places], noise], "cpu"))
    assert torch.allclose(z[:2], add_noise(SD, x[:2], t[:2], noise[:2])) and torch.equal(z[2:], noise[2:])


def test_every_place_of_the_schedule_is_drawn_alike_in_falling_order(pipeline):
    trainer, seen = trainer_of(pipeline, steps=4, gan=False), torch.zeros(4)
    for seed in range(60):
        places, draws = trainer.draws(
            batch_of(open_pipeline(pipeline), n=6, seed=seed)
            if seed == 0
            else {"latents": torch.zeros(6, 4, 8, 8), "generator": torch.Generator().manual_seed(seed), "fraction": 0.0},
            due=False,
        )
        assert (places.diff() <= 0).all()
        assert [len(tensor) for tensor in draws.left] == [6, 6, *counts(places), 6, 6]
        seen += places.bincount(minlength=4)
    assert seen.sum() == 360 and (seen - 90).abs().max() <= 15


def test_what_network_learns_for_is_the_output_of_one_that_knows():
    x0, noise, t = numbers(3), numbers(3, 1), torch.tensor([20, 500, 979])
    z = add_noise(SD, x0, t, noise)
    for prediction in ("epsilon", "v_prediction", "sample"):
        found = to_x0_eps(SD, z, t, target_of(SD, x0, noise, t, prediction), prediction)
        assert torch.allclose(found[0], x0, atol=1e-9) and torch.allclose(found[1], noise, atol=1e-9), prediction


# --- networks and roles -----------------------------------------------------------------------------------------------


def test_a_fresh_head_says_nothing(pipeline):
    steps = trainer_of(pipeline).step(batch_of(open_pipeline(pipeline)))
    role, losses, _ = next(steps)
    assert role == "student" and float(losses["adversarial"].detach()) == pytest.approx(1e-3 * math.log(2), rel=1e-6)
    role, losses, facts = next(steps)
    assert role == "fake" and float(losses["gan"].detach()) == pytest.approx(1e-2 * 2 * math.log(2), rel=1e-6)
    assert facts == {"accuracy": 0.5, "paired_accuracy": 0.5} and set(losses) == {"denoising", "gan"}


def test_the_head_s_loss_in_closed_form():
    log1p = lambda x: math.log1p(math.exp(x))  # noqa: E731
    found = cross_entropy(torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0]))
    assert float(found) == pytest.approx((log1p(-2) + log1p(1)) / 2 + (log1p(0.5) + log1p(-3)) / 2)


def test_generator_every_so_many_steps_and_each_term_reaches_its_own_network(pipeline):
    trainer, teacher = trainer_of(pipeline, fake_updates=3), open_pipeline(pipeline)
    torch.nn.init.normal_(trainer.networks["fake"].head.out.weight)
    roles = {step: [role for role, _, _ in trainer.step(batch_of(teacher, step=step))] for step in range(4)}
    assert roles == {0: ["student", "fake"], 1: ["fake"], 2: ["fake"], 3: ["student", "fake"]}
    later = bare(fake_updates=3, fake_alone=0.5)
    assert [later.is_due({"step": step, "fraction": step / 10}) for step in range(10)] == [step in (6, 9) for step in range(10)]
    learning = lambda role: {name for name, p in trainer.networks[role].named_parameters() if p.grad is not None}  # noqa: E731
    steps = trainer.step(batch_of(teacher))
    _, losses, _ = next(steps)
    for name in ("matching", "adversarial"):
        losses[name].backward(retain_graph=True)
        assert learning("student") and not learning("fake"), name
        trainer.networks["student"].zero_grad()
    _, losses, _ = next(steps)
    losses["denoising"].backward(retain_graph=True)
    assert learning("fake") and not learning("student") and not any(name.startswith("head.") for name in learning("fake"))
    losses["gan"].backward()
    every = {name for name, p in trainer.networks["fake"].named_parameters()}
    assert learning("fake") == every and not learning("student")
    assert all(p.grad is None for p in trainer.teacher.unet.parameters())


def test_without_gan_there_is_no_head_and_before_it_counts_it_learns_alone(pipeline):
    trainer, b = trainer_of(pipeline, gan=False), batch_of(open_pipeline(pipeline))
    assert trainer.networks["fake"].head is None
    assert [list(losses) for _, losses, _ in trainer.step(b)] == [["matching"], ["denoising"]]
    trainer = trainer_of(pipeline, gan_from=0.3, adv_from=0.6)
    terms = {f: [list(losses) for _, losses, _ in trainer.step(batch_of(open_pipeline(pipeline), fraction=f))] for f in (0.2, 0.3, 0.6)}
    assert terms[0.2] == [["matching"], ["denoising"]] and terms[0.3] == [["matching"], ["denoising", "gan"]]
    assert terms[0.6] == [["matching", "adversarial"], ["denoising", "gan"]]


def test_logits_come_of_the_smallest_features_and_leave_the_weights_trainable(pipeline):
    network, b = FakeScore(open_pipeline(pipeline).unet, head=True), batch_of(open_pipeline(pipeline))
    torch.nn.init.normal_(network.head.out.weight)
    t = torch.tensor([1, 19, 500, 999])
    before = network.frozen_logits(b["latents"].requires_grad_(), t, b["text"])
    assert before.shape == (4,) and all(p.requires_grad for p in network.parameters())
    before.sum().backward()
    assert b["latents"].grad is not None and all(p.grad is None for p in network.parameters())
    with torch.no_grad():
        for p in network.unet.up_blocks.parameters():
            p.zero_()
        assert torch.equal(network.frozen_logits(b["latents"], t, b["text"]), before)


def test_the_head_learns_to_tell_data_from_samples_that_it_has_not_seen(pipeline):
    trainer, teacher = trainer_of(pipeline, gan_fake_weight=1.0), open_pipeline(pipeline)
    optimizer = torch.optim.AdamW(trainer.networks["fake"].parameters(), lr=1e-3)

    def batch(seed, n=4):
        b = batch_of(teacher, n=n, seed=seed, step=1)
        b["latents"] = 0.1 * b["latents"] + torch.tensor([2.0, -2.0, 2.0, -2.0]).view(1, 4, 1, 1)
        return b

    found = trainer.evaluate(batch(999, 16))
    assert found["held_out_paired_accuracy"] == 0.5 and found["held_out_score_gap"] > 0
    for seed in range(8):
        ((_, losses, _),) = trainer.step(batch(seed))
        losses["gan"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert trainer.evaluate(batch(999, 16))["held_out_paired_accuracy"] > 0.85


# --- a training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "step", "due"), [
    ({}, 4 * (1 + 6), 4 * (3 + 2 + 1 + 2 + 6)),
    ({"gan": "false", "w": "0"}, 4 * (1 + 3), 4 * (3 + 1 + 1 + 3)),
    # places of a batch of four are 3, 2, 1, 0: six passes of the generator before its own
    ({"steps": "4", "ema": "0.9", "gan_scale": "gradient"}, 6 + 4 * (1 + 6), 6 + 4 * (3 + 2 + 1 + 2 + 6)),
])  # fmt: skip
def test_a_few_steps_train_export_and_sample_and_their_passes_are_counted(pipeline, tmp_path, options, step, due):
    out = train(Registry(pipeline), "tiny", "dmd2", tmp_path / "s", max_steps=3, options=SMALL | options)
    facts = json.loads((out / "student.json").read_text())
    assert facts["updates"] == 2 and facts["passes"] == step + 2 * due
    assert facts["made_for"] == [int(options.get("steps", 1))]
    assert facts["guidance"] == "baked" and facts["baked_guidance_scale"] == (1 if options.get("w") else 1.75)
    student = open_student(open_pipeline(pipeline), out, "dmd2")
    b = batch_of(student)
    for steps in (1, 4):
        with torch.inference_mode():
            latents = sample(student.sampling(b["text"], b["uncond"], 1.0, lambda k: torch.randn(4, 4, 8, 8), steps, None))
        assert latents.shape == (4, 4, 8, 8) and torch.isfinite(latents).all()
    assert student.evaluations == 4 * 5


@pytest.mark.parametrize(("options", "message"), [
    ({"steps": "0"}, "1 <= steps"),
    ({"w": "-1"}, "unguided"),
    ({"fake_updates": "0"}, "at least 1"),
    ({"fake_alone": "1"}, "parts of the budget"),
    ({"adv_from": "-0.1"}, "parts of the budget"),
    ({"t_min": "980"}, "t_min <= t_max"),
    ({"gan_weight": "0"}, "gan=false"),
    ({"ema": "1"}, "ema < 1"),
    ({"lr": "0"}, "positive lr"),
    ({"inputs": "noise"}, "one of: simulated, data"),
])  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make_options(DMD2Options, options, "trainer 'dmd2'")
