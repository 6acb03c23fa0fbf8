"""UFOGen: its identities and laws in closed form on Gaussians, its losses, and a training on a tiny pipeline."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from scottbench_ufogen import register_methods
from scottbench_ufogen.options import UFOGenOptions
from scottbench_ufogen.sampler import sample, timesteps
from scottbench_ufogen.trainer import DiffusionGAN, discriminator_loss, generator_loss
from tiny import tiny_pipeline
from tiny_training import Registry, batch_of, train, whole_and_cut

from scottbench.diffusion import Schedule, add_noise, x0_from_eps
from scottbench.errors import UsageError
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.plan.choices import check_guidance
from scottbench.registry.nouns import Sampling
from scottbench.registry.options import make_options
from scottbench.training.context import Context
from scottbench.training.discriminator import Discriminator, trainable_share
from scottbench.training.distillation import draw_times

SD = Schedule.scaled_linear()
SMALL = {"lr": "1e-3", "disc_lr": "1e-3"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


def trainer_of(pipeline, **options):
    torch.manual_seed(0)
    return DiffusionGAN(Context(open_pipeline(pipeline), "cpu"), UFOGenOptions(**options))


# --- the sampler ------------------------------------------------------------------------------------------------------


@pytest.mark.invariant(22)
def test_invariant_22_time_steps():
    assert timesteps(SD, 1) == [999] and timesteps(SD, 2) == [999, 499] and timesteps(SD, 4) == [999, 749, 499, 249]
    assert register_methods()[0].made_for == (1, 2, 4)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_generator_with_the_right_law_keeps_it_at_any_number_of_steps(steps, sign):
    """Gaussian data: x0 = +-s z / sqrt(alpha^2 s^2 + sigma^2) has the data's variance. The sample is linear in the independent draws,
    so each is given a coordinate of its own and the sample's variance is the sum of squares."""
    s = 0.4
    law = lambda t: math.sqrt(SD.alpha(t) ** 2 * s**2 + SD.sigma(t) ** 2)  # noqa: E731

    def denoise(z, t):
        x0 = sign * s * z / law(t)
        return x0, (z - SD.alpha(t) * x0) / SD.sigma(t)

    def noise(k):
        z = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
        z[0, k] = law(999) if k == 0 else 1.0
        return z

    x = sample(Sampling(denoise, noise, SD, steps, None))
    assert float(x.square().sum()) == pytest.approx(s**2, rel=1e-12)


def test_no_noise_is_drawn_after_the_last_step():
    drawn = []
    noise = lambda k: drawn.append(k) or torch.ones(1, 1, 1, 1)  # noqa: E731
    sample(Sampling(lambda z, t: (z, z), noise, SD, 4, None))
    assert drawn == [0, 1, 2, 3]


# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.invariant(28)
def test_invariant_28_the_error_of_eps_is_snr_times_the_error_of_x0():
    x0, noise, guess = torch.randn(3, 5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 249, 499, 749, 999])
    z = add_noise(SD, x0, t, noise)
    snr = (1 / SD.lam(t)) ** 2
    assert torch.allclose((guess - noise) ** 2, snr * (x0_from_eps(SD, z, t, guess) - x0) ** 2, rtol=1e-12, atol=1e-12)
    assert snr.flatten()[1:].tolist() == pytest.approx([2.0810, 0.38441, 0.060022, 0.0046819], rel=1e-4)


def test_the_trainers_reconstruction_is_that_error(pipeline):
    trainer, b = trainer_of(pipeline, adv_weight=0.0), batch_of(open_pipeline(pipeline), step=1)
    state = b["generator"].get_state()
    ((role, losses, _),) = trainer.step(b)
    b["generator"].set_state(state)
    t = draw_times(1, 1000, 4, b["generator"])
    z = add_noise(SD, b["latents"], t, torch.randn(b["latents"].shape, generator=b["generator"]))
    with torch.no_grad():
        x0, _ = trainer.both(z, t, trainer.networks["student"](z, t, encoder_hidden_states=b["text"]).sample)
    expected = ((1 / SD.lam(t)) ** 2 * (x0 - b["latents"]) ** 2).mean()
    assert role == "student" and list(losses) == ["reconstruction"]
    assert float(losses["reconstruction"].detach()) == pytest.approx(float(expected), rel=1e-4)


class Listener(torch.nn.Module):
    """A discriminator that keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.seen, self.unet = [], torch.nn.Identity()

    def forward(self, z, tau, text, uncond, learn=True):
        self.seen.append((z.detach(), tau))
        return z[:, 0] * 0


@pytest.mark.invariant(28)
def test_invariant_28_with_the_true_x0_fakes_are_reals():
    """Both are q(x_t' | x0) at t' = max(t - 250, 0), with the same noise: the discriminator sees the difference of the two x0 alone."""
    n, trainer = 20_000, object.__new__(DiffusionGAN)
    trainer.teacher, trainer.options = SimpleNamespace(schedule=SD, prediction="sample"), UFOGenOptions(recon_weight=0.0)
    trainer.scaler = None
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(n, 1, 1, 1, generator=generator)
    trainer.networks = {"student": lambda z, t, **rest: (x0,), "discriminator": Listener()}
    b = {"latents": x0, "text": x0[:, 0], "uncond": x0[:1, 0], "generator": generator, "step": 0}
    state = generator.get_state()
    list(trainer.step(b))
    generator.set_state(state)
    t = draw_times(1, 1000, n, generator)
    (fake, tau_student), (both, tau) = trainer.networks["discriminator"].seen
    assert torch.equal(tau[:n], (t - 250).clamp_min(0)) and torch.equal(tau[:n], tau[n:]) and torch.equal(tau[:n], tau_student)
    assert torch.equal(both[n:], fake)
    xi = ((both.double() - torch.cat([SD.alpha(tau[:n]) * x0] * 2)) / SD.sigma(tau)).flatten()
    real, fake = xi[:n], xi[n:]
    for noise in (real, fake):
        assert abs(float(noise.mean())) < 4 / math.sqrt(n) and float(noise.var()) == pytest.approx(1, abs=6 / math.sqrt(n))
    assert torch.equal(both[:n], both[n:])


def test_the_law_of_fakes_has_two_optima_and_the_reconstruction_tells_them_apart():
    """1-D Gaussian data, x0 = k z: at every t' both k = +-s / sqrt(alpha^2 s^2 + sigma^2) give the law of the reals. The error of x0,
    1 - 2 k alpha s^2 / ... , is least at k = alpha s^2 / (alpha^2 s^2 + sigma^2): 0.068 at t = 999, s = 1, a collapse to the mean."""
    s, t, t_next = 1.0, 999, 749
    alpha, sigma = SD.alpha(t), SD.sigma(t)
    variance = alpha**2 * s**2 + sigma**2
    error = lambda k: (1 - k * alpha) ** 2 * s**2 + k**2 * sigma**2  # noqa: E731
    right, best = s / math.sqrt(variance), alpha * s**2 / variance
    for k in (right, -right):
        fake = SD.alpha(t_next) ** 2 * k**2 * variance + SD.sigma(t_next) ** 2
        assert fake == pytest.approx(SD.alpha(t_next) ** 2 * s**2 + SD.sigma(t_next) ** 2, rel=1e-12)
    assert error(right) < error(-right)
    assert best == pytest.approx(0.068, abs=5e-4) and error(best) < error(right) and error(best) < error(best * 1.01)


@pytest.mark.invariant(19)
def test_invariant_19_a_fresh_discriminator_says_nothing(pipeline):
    for kind in ("whole", "full", "lora"):
        steps = trainer_of(pipeline, discriminator=kind, disc_rank=4).step(batch_of(open_pipeline(pipeline)))
        role, losses, _ = next(steps)
        assert role == "student" and float(losses["adversarial"].detach()) == pytest.approx(math.log(2), rel=1e-7)
        role, losses, facts = next(steps)
        assert role == "discriminator" and float(losses["bce"].detach()) == pytest.approx(2 * math.log(2), rel=1e-7)
        assert facts == {"accuracy": 0.5, "paired_accuracy": 0.5}


def test_losses_in_closed_form_and_without_gradient_beyond_the_clamp():
    real, fake = (torch.tensor(values, requires_grad=True) for values in ([0.2, 3.0], [-0.1, -3.0]))
    log1p = lambda x: math.log1p(math.exp(x))  # noqa: E731
    value = discriminator_loss(real, fake, 0.5)
    value.backward()
    assert float(value.detach()) == pytest.approx((log1p(-0.2) + log1p(-0.5)) / 2 + (log1p(-0.1) + log1p(-0.5)) / 2)
    assert real.grad[0] < 0 and real.grad[1] == 0 and fake.grad[0] > 0 and fake.grad[1] == 0
    free = discriminator_loss(real.detach(), fake.detach(), None)
    assert float(free) == pytest.approx((log1p(-0.2) + log1p(-3)) / 2 + (log1p(-0.1) + log1p(-3)) / 2)
    logits = torch.tensor([0.2, 3.0, -3.0], requires_grad=True)
    generator_loss(logits, 0.5).backward()
    assert logits.grad[0] < 0 and logits.grad[1] == 0 and logits.grad[2] < logits.grad[0]


# --- networks ---------------------------------------------------------------------------------------------------------


def test_the_generator_starts_as_the_teacher_and_the_teacher_stays(pipeline):
    trainer, b = trainer_of(pipeline, discriminator="lora", disc_rank=4), batch_of(open_pipeline(pipeline))
    z, t = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 250, 500, 999])
    expected = open_pipeline(pipeline).unet(z, t, encoder_hidden_states=b["text"]).sample
    for network in (trainer.networks["student"], trainer.ema, trainer.teacher.unet):
        assert torch.equal(network(z, t, encoder_hidden_states=b["text"]).sample, expected)


def test_what_learns_of_a_whole_discriminator(pipeline):
    """All of the U-Net but its own output map; LoRA and decoder are parts of it. Patch logits have the map's shape."""
    teacher = open_pipeline(pipeline)
    b, shares = batch_of(teacher), {}
    for kind in ("lora", "full", "whole"):
        discriminator = Discriminator(open_pipeline(pipeline).unet, kind, 4, patches=True)
        torch.nn.init.normal_(discriminator.head.weight)
        logits = discriminator(b["latents"], torch.tensor([1, 19, 500, 999]), b["text"], b["uncond"])
        assert logits.shape == (4, 8, 8)
        logits.sum().backward()
        with_grad = {name for name, p in discriminator.named_parameters() if p.grad is not None}
        assert with_grad == {name for name, p in discriminator.named_parameters() if p.requires_grad}
        shares[kind] = trainable_share(discriminator)
    assert any(name.startswith("unet.down_blocks") for name in with_grad) and not any("conv_out" in name for name in with_grad)
    assert shares["lora"] < shares["full"] < shares["whole"] < 1


def test_the_discriminator_learns_every_second_step_and_each_term_reaches_its_own_network(pipeline):
    trainer, teacher = trainer_of(pipeline), open_pipeline(pipeline)
    torch.nn.init.normal_(trainer.networks["discriminator"].head.weight)
    roles = {step: [role for role, _, _ in trainer.step(batch_of(teacher, step=step))] for step in range(4)}
    assert roles == {0: ["student", "discriminator"], 1: ["student"], 2: ["student", "discriminator"], 3: ["student"]}
    learning = lambda role: [p for p in trainer.networks[role].parameters() if p.grad is not None]  # noqa: E731
    steps = trainer.step(batch_of(teacher))
    next(steps)[1]["adversarial"].backward()
    assert learning("student") and not learning("discriminator")
    for p in learning("student"):
        p.grad = None
    next(steps)[1]["bce"].backward()
    assert learning("discriminator") and not learning("student")


@pytest.mark.parametrize("sign", [1, -1])
def test_held_out_accuracy_is_1_for_a_discriminator_that_knows_and_0_for_one_that_has_it_backwards(sign):
    """Data +2, predictions -2, told apart by the mean of what is seen at t'; named by the t of the prediction."""
    trainer = object.__new__(DiffusionGAN)
    trainer.teacher, trainer.options = SimpleNamespace(schedule=SD, prediction="sample"), UFOGenOptions()
    wrong = lambda z, t, **rest: (torch.full_like(z, -2.0),)  # noqa: E731
    trainer.networks = {"student": wrong, "discriminator": lambda z, tau, text, uncond: sign * z[:, 0]}
    x0 = torch.full((8, 1, 16, 16), 2.0)
    b = {"latents": x0, "text": x0[:, 0], "uncond": x0[:1, 0], "generator": torch.Generator().manual_seed(0)}
    found = trainer.evaluate(b)
    names = ["held_out_accuracy", "held_out_paired_accuracy", *(f"held_out_accuracy_t{t}" for t in (999, 749, 499, 249))]
    assert found == dict.fromkeys(names, 1.0 if sign == 1 else 0.0)


def test_the_discriminator_learns_what_it_has_not_seen(pipeline):
    """Data that the untrained generator does not hit: after 8 updates the discriminator ranks held-out latents above predictions."""
    trainer, teacher = trainer_of(pipeline, disc_every=1), open_pipeline(pipeline)
    optimizer = torch.optim.AdamW(trainer.networks["discriminator"].trainable, lr=1e-3, betas=trainer.betas["discriminator"])

    def batch(seed, n=4):
        b = batch_of(teacher, n=n, seed=seed)
        b["latents"] = 0.1 * b["latents"] + torch.tensor([2.0, -2.0, 2.0, -2.0]).view(1, 4, 1, 1)
        return b

    assert trainer.evaluate(batch(999, 16))["held_out_paired_accuracy"] == 0.5
    for seed in range(8):
        _, losses, _ = list(trainer.step(batch(seed)))[-1]
        losses["bce"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert trainer.evaluate(batch(999, 16))["held_out_paired_accuracy"] > 0.85


# --- a training -------------------------------------------------------------------------------------------------------


OTHER = {"discriminator": "lora", "disc_rank": "4", "clamp": "none", "recon": "uniform", "disc_every": "1"}


@pytest.mark.parametrize("options", [{}, OTHER])
def test_a_few_steps_train_export_and_sample(pipeline, tmp_path, options):
    out = train(Registry(pipeline), "tiny", "ufogen", tmp_path / "s", max_steps=4, options=SMALL | options)
    facts = json.loads((out / "student.json").read_text())
    assert facts["updates"] == 4 and facts["samples_seen"] == 16 and 0 < facts["discriminator_trainable_share"] < 1
    disc = {"1": 4}.get(options.get("disc_every"), 2)
    assert facts["network_evaluations"] == 4 * 4 + 4 * 4 + disc * 8
    student = open_student(open_pipeline(pipeline), out, "ufogen")
    b = batch_of(student)
    for steps in (1, 2, 4):
        with torch.inference_mode():
            latents = sample(student.sampling(b["text"], b["uncond"], 1.0, lambda k: torch.randn(4, 4, 8, 8), steps, None))
        assert latents.shape == (4, 4, 8, 8) and torch.isfinite(latents).all()
    assert student.evaluations == 4 * 7
    check_guidance("ufogen", 1.0, facts)
    with pytest.raises(UsageError, match="guidance scale 2 of method 'ufogen'.*sampled with 1"):
        check_guidance("ufogen", 2.0, facts)
    with pytest.raises(UsageError, match="student of 'ufogen'"):
        open_student(open_pipeline(pipeline), out, "instaflow")


def test_an_interrupted_training_resumes_bit_for_bit(pipeline, tmp_path):
    """With the discriminator that shares the teacher; the default one: tests/testing/test_kit.py."""
    options = SMALL | {"discriminator": "lora", "disc_rank": "4"}
    digests = whole_and_cut(pipeline, "ufogen", tmp_path, options, steps=4, at=3)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("options", "message"), [
    ({"delta": "0"}, "delta <= 999"),
    ({"recon_weight": "0", "adv_weight": "0"}, "one of them above 0"),
    ({"adv_weight": "-1"}, "at least 0"),
    ({"clamp": "0"}, "clamp must be above 0"),
    ({"disc_every": "0"}, "at least 1"),
    ({"ema": "1"}, "ema < 1"),
    ({"discriminator": "none"}, "one of: whole, full, lora"),
])  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make_options(UFOGenOptions, options, "trainer 'ufogen'")


def test_a_training_set_smaller_than_a_batch_is_refused(pipeline, tmp_path):
    with pytest.raises(UsageError, match="fewer than one batch of 32"):
        train(Registry(pipeline), "tiny", "ufogen", tmp_path / "s", max_steps=1, batch_size=32)
