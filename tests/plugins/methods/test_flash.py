"""Flash Diffusion: the law of its time steps, the teacher's chain and the score difference in closed form, its losses, a training."""

import json
import math
from types import SimpleNamespace

import pytest
import scottbench_solvers.dpmpp
import scottbench_solvers.euler
import torch
from analytic import Network, gaussian
from scottbench_flash import register_claims, register_methods
from scottbench_flash.chain import chain_of, teacher_end
from scottbench_flash.discriminator import discriminator_loss, student_loss
from scottbench_flash.options import FlashOptions
from scottbench_flash.sampler import sample, timesteps
from scottbench_flash.times import draw_index, grid_times, phase_of, time_weights
from scottbench_flash.trainer import FlashDistillation, Look
from scottbench_solvers.options import EulerOptions
from scottbench_solvers.spacing import spaced
from tiny import tiny_pipeline
from tiny_training import Registry, batch_of, train

from scottbench.diffusion import Schedule, add_noise
from scottbench.errors import UsageError
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.registry.claims import read_claim
from scottbench.registry.nouns import Sampling
from scottbench.registry.options import make_options
from scottbench.training.context import Context

SD = Schedule.scaled_linear()
SMALL = {"grid": "4", "lora_rank": "2", "disc_width": "8", "lr": "1e-3", "disc_lr": "1e-3"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


def trainer_of(pipeline, **options):
    torch.manual_seed(0)
    given = {"grid": 4, "lora_rank": 2, "disc_width": 8} | options
    return FlashDistillation(Context(open_pipeline(pipeline), "cpu"), FlashOptions(**given))


# --- sampler and time steps -------------------------------------------------------------------------------------------


def test_the_sampler_asks_where_training_over_samples():
    assert timesteps(SD, 1) == [999] and timesteps(SD, 2) == [999, 499] and timesteps(SD, 4) == [999, 749, 499, 249]
    grid = grid_times(SD, 32)
    assert len(grid) == 32 and grid[[31, 23, 15, 7]].tolist() == timesteps(SD, 4) and (grid.diff() > 0).all()
    assert register_methods()[0].made_for == (1, 2, 4)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_student_with_the_right_law_keeps_it_at_any_number_of_steps(steps):
    """Unit Gaussian data and x0 = z / sqrt(alpha^2 + sigma^2) = z: every prediction is N(0, 1), whatever noise is added between."""
    n, asked = 40_000, []
    generator = torch.Generator().manual_seed(0)

    def denoise(z, t):
        asked.append(t)
        return z, torch.zeros_like(z)

    noise = lambda k: torch.randn(n, 1, 1, 1, generator=generator)  # noqa: E731
    x0 = sample(Sampling(denoise, noise, SD, steps, None))
    assert asked == timesteps(SD, steps)
    assert abs(float(x0.mean())) < 5 / math.sqrt(n) and float(x0.var()) == pytest.approx(1, abs=7 / math.sqrt(n))


def test_the_law_of_time_steps_sums_to_1_and_has_the_paper_s_modes():
    """K = 32: none over-sampled in the warm-up, four of them afterwards, e times as likely as their neighbours."""
    for phase in range(4):
        weights = time_weights(32, 4, phase)
        assert float(weights.sum()) == pytest.approx(1, abs=1e-12) and (weights > 0).all()
        modes = [k + 1 for k in range(32) if weights[k] > 1.5 * max(weights[k - 1] if k else 0, weights[k + 1] if k < 31 else 0)]
        assert modes == ([] if phase == 0 else [8, 16, 24, 32])
    warm = time_weights(32, 4, 0)
    assert torch.allclose(warm[3:-3], warm[16].expand(26), rtol=1e-3)
    assert float(time_weights(32, 4, 1)[15] / time_weights(32, 4, 1)[14]) == pytest.approx(math.e, rel=1e-6)


def test_mass_moves_to_full_noise_with_the_phases_and_not_without_a_shift():
    k = torch.arange(1, 33, dtype=torch.float64)
    means = [float((time_weights(32, 4, phase) * k).sum()) for phase in range(1, 4)]
    at_modes = [time_weights(32, 4, phase)[[7, 15, 23, 31]] for phase in (1, 2, 3)]
    assert means[0] < means[1] < means[2]
    assert torch.allclose(at_modes[0], at_modes[0][:1].expand(4), rtol=1e-9)
    assert torch.allclose(at_modes[1] / at_modes[1][3], torch.tensor([0.25, 0.5, 0.75, 1], dtype=torch.float64), rtol=1e-6)
    assert torch.allclose(at_modes[2] / at_modes[2][3], torch.tensor([0.25, 0.5, 0.75, 1], dtype=torch.float64) ** 2, rtol=1e-6)
    assert torch.equal(time_weights(32, 4, 3, shift=0), time_weights(32, 4, 1))
    assert [phase_of(fraction, 4) for fraction in (0, 0.24, 0.25, 0.5, 0.99, 1.0)] == [0, 0, 1, 2, 3, 3]


def test_draws_have_that_law():
    weights, n = time_weights(8, 4, 2), 4096
    index = draw_index(weights, n, torch.Generator().manual_seed(0))
    assert torch.allclose(torch.bincount(index, minlength=9)[1:].double() / n, weights, atol=2 / n)
    alone = torch.cat([draw_index(weights, 1, torch.Generator().manual_seed(seed)) for seed in range(600)])
    assert torch.allclose(torch.bincount(alone, minlength=9)[1:].double() / 600, weights, atol=0.07)


# --- the teacher's chain ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["ddim", "dpmpp"])
def test_the_target_is_the_end_of_the_teacher_s_own_sampler(pipeline, solver, monkeypatch):
    """From the top of the grid: DDIM to clean data is Euler with trailing spacing, 2M is dpmpp on the same times; guidance enters."""
    teacher, w = open_pipeline(pipeline), 2.0
    b, z, grid = batch_of(teacher), torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(5)), grid_times(SD, 4)
    chain = chain_of(torch.full((4,), 4), grid)
    got = teacher_end(teacher, z, chain, (b["text"], b["uncond"]), torch.full((4,), w), solver)
    monkeypatch.setattr(scottbench_solvers.dpmpp, "timesteps", lambda schedule, steps: spaced(schedule, steps, "trailing"))
    method = scottbench_solvers.euler if solver == "ddim" else scottbench_solvers.dpmpp
    start = z / teacher.schedule.sigma(999) if solver == "ddim" else z
    run = teacher.sampling(b["text"], b["uncond"], 1 + w, lambda k: start, 4, EulerOptions())
    with torch.no_grad():
        assert torch.allclose(got, method.sample(run), atol=1e-4)
        other = teacher_end(teacher, z, chain, (b["text"], b["uncond"]), torch.zeros(4), solver)
    assert not torch.allclose(got, other, atol=1e-3)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp"])
def test_samples_with_different_ways_to_go_end_where_each_would_alone(pipeline, solver):
    """The k-th time step has k steps; the cost is their sum, two passes each."""
    teacher = open_pipeline(pipeline)
    b, z, grid = batch_of(teacher), torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(5)), grid_times(SD, 5)
    index, w = torch.tensor([2, 5, 1, 2]), torch.tensor([0.0, 1.0, 2.0, 3.0])
    ask = lambda rows: teacher_end(  # noqa: E731
        teacher, z[rows], chain_of(index[rows], grid), (b["text"][rows], b["uncond"]), w[rows], solver
    )
    with torch.no_grad():
        before = teacher.evaluations
        together = ask(torch.arange(4))
        assert teacher.evaluations - before == 2 * 10
        for row in range(4):
            assert torch.allclose(together[row], ask(torch.tensor([row]))[0], rtol=1e-4, atol=1e-4)
    assert chain_of(index, grid).times[0].tolist() == [999, 399, 399, 199]


# --- distribution matching --------------------------------------------------------------------------------------------


def on_gaussians(real: float, fake: float, **options):
    """A trainer whose teacher knows data N(0, real^2) and whose student knows N(0, fake^2)."""
    made = object.__new__(FlashDistillation)
    network = Network(gaussian(real))
    made.options = FlashOptions(**options)
    made.teacher = SimpleNamespace(schedule=SD, prediction="epsilon", network=lambda z, t, text, w=None: network(z, t)[0])
    made.networks = {"student": Network(gaussian(fake))}
    return made


def direction(made, x0, t):
    n = len(x0)
    noise = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    text = torch.zeros(n, 1, 1)
    look = Look(torch.full((n,), t), noise)
    return made.match(x0, look, text, text[:1], torch.zeros(n)), add_noise(SD, x0, t, noise)


@pytest.mark.parametrize("t", [20, 500, 980])
def test_the_gradient_of_distribution_matching_is_the_difference_of_scores(t):
    """Laws N(0, s^2) at time t are N(0, alpha^2 s^2 + sigma^2): score -z / variance. The KL's gradient at x0 is alpha (s_fake - s_real)."""
    x0 = torch.randn(64, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = on_gaussians(real=1.0, fake=2.0, dm_form="score")
    got, z = direction(made, x0, t)
    score = lambda s: -z / (SD.alpha(t) ** 2 * s**2 + SD.sigma(t) ** 2)  # noqa: E731
    assert torch.allclose(got, SD.alpha(t) * (score(2.0) - score(1.0)), rtol=1e-9, atol=1e-12)
    mean, _ = direction(on_gaussians(real=1.0, fake=2.0), x0, t)
    real = gaussian(1.0)(z, t)
    expected = (gaussian(2.0)(z, t) - real) / (x0 - real).abs().mean((1, 2, 3), keepdim=True)
    assert torch.allclose(mean, expected, rtol=1e-9)


def test_equal_laws_give_no_gradient_and_a_law_too_wide_is_pulled_in():
    x0 = torch.full((8, 1, 1, 1), 3.0, dtype=torch.float64)
    assert direction(on_gaussians(1.5, 1.5), x0, 400)[0].abs().max() < 1e-9
    assert direction(on_gaussians(1.0, 2.0), x0, 20)[0].mean() > 0, "a step against it makes x0 smaller"
    assert direction(on_gaussians(2.0, 1.0), x0, 20)[0].mean() < 0


def test_the_term_s_gradient_is_lambda_times_that_direction(pipeline):
    trainer = trainer_of(pipeline, variant="full", adv_weight=0.0, dm_weight=0.6, weight="alpha")
    b = batch_of(trainer.teacher, fraction=0.99)
    draws = trainer.draws(b)
    prediction = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3)).requires_grad_()
    losses = {"distillation": prediction.square().mean()}
    trainer.add_matching(prediction, draws, b, losses)
    (got,) = torch.autograd.grad(losses["matching"], prediction)
    found = trainer.match(prediction.detach(), draws.match, b["text"], b["uncond"], draws.w)
    assert torch.allclose(got, 0.6 * SD.alpha(draws.t).float() * found / found.numel(), rtol=1e-4, atol=1e-9)


# --- losses and networks ----------------------------------------------------------------------------------------------


def test_the_student_starts_as_the_teacher_whose_weights_stay(pipeline):
    for variant in ("lora", "full"):
        trainer = trainer_of(pipeline, variant=variant)
        b = batch_of(trainer.teacher)
        z, t = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 250, 500, 999])
        expected = open_pipeline(pipeline).unet(z, t, encoder_hidden_states=b["text"]).sample
        for network in (trainer.networks["student"], trainer.teacher.unet):
            assert torch.equal(network(z, t, encoder_hidden_states=b["text"]).sample, expected)
        assert not any(p.requires_grad for p in trainer.teacher.unet.parameters())


def test_the_distillation_loss_is_the_distance_to_the_teacher_s_end(pipeline):
    trainer = trainer_of(pipeline, ramp="none", dm_weight=0.0, adv_weight=0.0, weight="alpha")
    b = batch_of(trainer.teacher)
    state = b["generator"].get_state()
    ((role, losses, _),) = trainer.step(b)
    b["generator"].set_state(state)
    draws = trainer.draws(b)
    with torch.no_grad():
        z = add_noise(SD, b["latents"], draws.t, draws.noise)
        target = teacher_end(trainer.teacher, z, draws.chain, (b["text"], b["uncond"]), draws.w, "dpmpp")
        eps = trainer.networks["student"](z, draws.t, encoder_hidden_states=b["text"]).sample
        x0 = (z - SD.sigma(draws.t) * eps) / SD.alpha(draws.t)
        assert role == "student" and list(losses) == ["distillation"]
        assert float(losses["distillation"]) == pytest.approx(float((SD.alpha(draws.t) * (x0 - target) ** 2).mean()), rel=1e-4)


def test_losses_of_the_adversary_in_closed_form():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 0.5])
    assert float(discriminator_loss(real, fake, "lsgan")) == pytest.approx(((1 + 0.25) / 2 + (1 + 0.25) / 2) / 2)
    assert float(student_loss(fake, "lsgan")) == pytest.approx((4 + 0.25) / 4)
    assert float(discriminator_loss(real, fake, "hinge")) == pytest.approx(0.25 + 0.75) and float(student_loss(fake, "hinge")) == 0.25


def test_a_fresh_discriminator_says_nothing(pipeline):
    steps = trainer_of(pipeline).step(batch_of(open_pipeline(pipeline), fraction=0.99))
    _, losses, facts = next(steps)
    assert float(losses["adversarial"].detach()) == pytest.approx(0.3 / 2) and float(facts["adversarial_gradient"]) == 0
    role, losses, facts = next(steps)
    assert role == "discriminator" and float(losses["lsgan"].detach()) == 0.5 and facts["paired_accuracy"] == 0.5


def test_the_adversary_s_gradients_go_one_way_at_a_time(pipeline):
    trainer = trainer_of(pipeline)
    head, b = trainer.networks["discriminator"], batch_of(trainer.teacher)
    torch.nn.init.normal_(head.head[-1].weight)
    for learn in (True, False):
        z = b["latents"].clone().requires_grad_()
        head(z, torch.tensor([1, 19, 500, 999]), b["text"], learn).sum().backward()
        assert (z.grad is None) == learn and all((p.grad is not None) == learn for p in head.trainable)
        assert torch.is_grad_enabled() and all(p.requires_grad for p in head.trainable)
        head.zero_grad(set_to_none=True)


@pytest.mark.parametrize("variant", ["lora", "full"])
def test_each_role_s_gradients_stay_its_own(pipeline, variant):
    """Every term of the student reaches the student alone, the discriminator's reaches its head alone, and none the teacher."""
    trainer = trainer_of(pipeline, variant=variant)
    torch.nn.init.normal_(trainer.networks["discriminator"].head[-1].weight)
    learning = lambda role: [p for p in trainer.networks[role].parameters() if p.grad is not None]  # noqa: E731
    steps = trainer.step(batch_of(trainer.teacher, fraction=0.99))
    _, losses, _ = next(steps)
    assert set(losses) == {"distillation", "matching", "adversarial"}
    for loss in losses.values():
        loss.backward(retain_graph=True)
        assert sum(float(p.grad.abs().sum()) for p in learning("student")) > 0 and not learning("discriminator")
        for p in learning("student"):
            assert p.requires_grad
            p.grad = None
    next(steps)[1]["lsgan"].backward()
    assert len(learning("discriminator")) == len(trainer.networks["discriminator"].trainable) and not learning("student")
    assert all(p.grad is None for p in trainer.teacher.unet.parameters())


def test_the_other_losses_begin_after_the_warm_up_and_grow(pipeline):
    trainer, b = trainer_of(pipeline, variant="full"), batch_of(open_pipeline(pipeline))
    terms, seen = {}, {}
    for fraction in (0.0, 0.3, 0.6, 0.9):
        terms[fraction] = set(next(trainer.step(b | {"fraction": fraction}))[1])
        seen[fraction] = trainer.ramped(0.3, b | {"fraction": fraction})
    assert terms[0.0] == {"distillation"} and terms[0.3] == terms[0.9] == {"distillation", "matching", "adversarial"}
    assert list(seen.values()) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert trainer_of(pipeline, ramp="none").ramped(0.3, b | {"fraction": 0.0}) == 0.3


@pytest.mark.parametrize(("variant", "student"), [("full", 3), ("lora", 2)])
def test_passes_are_counted_by_hand(pipeline, variant, student):
    """A sample costs: student 1 and its way back, two for each of the teacher's steps, 1 + 2 for the scores, 2 for the fake and back
    through the trunk, 2 for the discriminator's look at both."""
    trainer = trainer_of(pipeline, variant=variant)
    model, b = trainer.teacher, batch_of(trainer.teacher, fraction=0.99)
    for network in trainer.networks.values():
        model.count_also(network)
    state = b["generator"].get_state()
    steps = sum(len(t) for t in trainer.draws(b).chain.times)
    b["generator"].set_state(state)
    model.passes = model.evaluations = 0
    list(trainer.step(b))
    assert model.evaluations == 4 * 1 + 2 * steps + 4 * 3 + 4 * 1 + 4 * 2
    assert model.passes == 4 * student + 2 * steps + 4 * 3 + 4 * 2 + 4 * 2


def test_held_out_distance_is_0_for_the_teacher_s_own_map(pipeline):
    """One step of the grid: the student, still the unguided teacher, is the teacher's end; with a longer chain it is not."""
    for grid, expected in ((1, 0.0), (4, None)):
        trainer = trainer_of(pipeline, grid=grid, modes=1, w_min=0.0, w_max=0.0)
        found = trainer.evaluate(batch_of(trainer.teacher))
        assert found["held_out_paired_accuracy"] == 0.5 and "held_out_distance_t999" in found
        assert float(found["held_out_distance"]) == pytest.approx(0, abs=1e-6) if expected == 0 else found["held_out_distance"] > 1e-3


# --- a training -------------------------------------------------------------------------------------------------------

WHOLE = {"variant": "full", "solver": "ddim", "distance": "huber", "dm_scale": "gradient", "adv_scale": "gradient", "adv_loss": "hinge",
         "w_min": "2", "w_max": "2", "disc_every": "2"}  # fmt: skip


@pytest.mark.parametrize("options", [{}, WHOLE])
def test_a_few_steps_train_export_and_sample(pipeline, tmp_path, options):
    options = SMALL | options
    out = train(Registry(pipeline), "tiny", "flash", tmp_path / "s", max_steps=4, options=options)
    facts = json.loads((out / "student.json").read_text())
    assert facts["updates"] == 4 and facts["guidance"] == "baked"
    assert facts.get("baked_guidance_scale") == (3 if "w_min" in options else None)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 1 and lines[0]["student/distillation"] > 0
    student = open_student(open_pipeline(pipeline), out, "flash")
    b = batch_of(student)
    for steps in (1, 2, 4):
        with torch.inference_mode():
            latents = sample(student.sampling(b["text"], b["uncond"], 1.0, lambda k: torch.randn(4, 4, 8, 8), steps, None))
        assert latents.shape == (4, 4, 8, 8) and torch.isfinite(latents).all()
    assert student.evaluations == 4 * 7


@pytest.mark.parametrize(("options", "message"), [
    ({"grid": "0"}, "1 <= modes <= grid"),
    ({"grid": "10"}, "a divisor of grid"),
    ({"phases": "0"}, "phases >= 1"),
    ({"w_min": "3", "w_max": "2"}, "w_min <= w_max"),
    ({"dm_weight": "-1"}, "at least 0"),
    ({"dm_t_min": "990"}, "dm_t_min <= dm_t_max"),
    ({"disc_width": "12"}, "a multiple of 8"),
    ({"lr": "0"}, "positive lr"),
    ({"adv_loss": "wgan"}, "one of: lsgan, hinge"),
])  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make_options(FlashOptions, options, "trainer 'flash'")


def test_a_chain_is_not_the_student_s_own_jump():
    """Guards the tests above against a chain that stops after its first prediction: on Gaussian data the k-step end nears the ODE's."""
    s, z, grid = 2.0, torch.full((1, 1, 1, 1), 1.5, dtype=torch.float64), grid_times(SD, 64)
    network = Network(gaussian(s))
    teacher = SimpleNamespace(schedule=SD, prediction="epsilon", network=lambda z, t, text, w=None: network(z, t)[0])

    def end(solver):
        text = torch.zeros(1, 1, 1)
        return float(teacher_end(teacher, z, chain_of(torch.tensor([64]), grid), (text, text), torch.zeros(1), solver))

    exact = s * 1.5 / SD.alpha(999) / math.sqrt(s**2 + SD.lam(999) ** 2)
    jump = float(gaussian(s)(z, 999))
    errors = {solver: abs(end(solver) - exact) for solver in ("ddim", "dpmpp")}
    assert errors["dpmpp"] < errors["ddim"] < 0.1 * abs(jump - exact)


def test_its_claims_quote_the_model_card():
    claims = {path.stem: read_claim(path) for path in register_claims()}
    assert set(claims) == {"flash-beats-cd", "flash-beats-instaflow", "flash-improves-with-steps"}
    quoted = [(one.metric, one.quoted.better, one.quoted.worse) for claim in claims.values() for one in claim.compare if one.quoted]
    assert quoted == [("fid", 22.6, 23.4), ("fid", 22.5, 22.6), ("clip_score", 0.311, 0.306)]
    assert all(one.quoted is None or "model card" in one.quoted.source for claim in claims.values() for one in claim.compare)
