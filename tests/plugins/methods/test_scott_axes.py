"""SCott's axes, each with a test that fails when it does nothing: solver, order, t_n, guidance, discriminator and its input."""

import copy

import pytest
import torch
from analytic import SD, TEXT, Network, column, gaussian, scott
from scottbench_scott.noise_functions import LOG_PSI, rho_er_sde, second_order_weight
from scottbench_scott.options import SCottOptions
from scottbench_scott.trainer import StochasticConsistencyDistillation
from tiny import tiny_unet

from scottbench.diffusion import add_noise, rho_ddim
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.training.context import Context
from scottbench.training.distillation import w_conditioned_copy


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return tiny_unet().requires_grad_(False).eval()


def made(unet, **options):
    """SCott on a tiny U-Net of its own, with small defaults."""
    teacher = DiffusionModel("0" * 64, SD, "epsilon", None, None, copy.deepcopy(unet), None)
    return StochasticConsistencyDistillation(Context(teacher, "cpu"), SCottOptions(**{"disc_rank": 2, "h": 1, "w_max": 4.0} | options))


def batch(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    tensors = {"latents": draw(n, 4, 8, 8), "text": draw(n, 3, 32), "uncond": draw(1, 3, 32)}
    return tensors | {"generator": generator, "step": 0, "fraction": 0.0}


# --- the stochastic teacher ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, expected", [
    ({"solver": "ode"}, lambda s, t: 1.0),
    *[({"solver": "ddim", "eta": eta}, lambda s, t, eta=eta: rho_ddim(SD, s, t, eta)) for eta in (0.1, 0.2, 0.3, 0.6)],
    *[({"noise_function": f}, lambda s, t, f=f: float(rho_er_sde(SD, s, t, f))) for f in LOG_PSI],
    ({"strength": 0.5}, lambda s, t: float(rho_er_sde(SD, s, t, "x(exp(x^0.3)+10)")) ** 0.5),
])  # fmt: skip
def test_every_solver_injects_the_noise_it_names(options, expected):
    """Data at 0: z_m = sigma_m (rho eps + sqrt(1 - rho^2) xi), so what is left of z's own noise is rho."""
    chain = scott(Network(lambda z, t: torch.zeros_like(z)), h=1, **options)
    chain.normal = lambda like, generator: torch.zeros_like(like)
    s = torch.tensor([999, 503, 15])
    z_m, t_m = chain.teacher_chain(SD.sigma(s) * column([1.0, 1.0, 1.0]), s, TEXT.expand(3, -1, -1), TEXT, torch.zeros(3), None)
    rho = (z_m / SD.sigma(t_m)).flatten().tolist()
    assert rho == pytest.approx([expected(int(a), int(b)) for a, b in zip(s, t_m)], abs=1e-12)


@pytest.mark.parametrize("h, times", [(1, [999, 975]), (2, [999, 987, 975]), (3, [999, 991, 983, 975])])
def test_h_sub_steps_each_ask_the_guided_teacher(h, times):
    chain, asked = scott(Network(gaussian(1.0)), h=h), []
    network = chain.teacher.network
    chain.teacher.network = lambda z, t, text: asked.append((t.tolist(), text[:, 0, 0].tolist())) or network(z, t, text)
    chain.teacher_chain(column([1.0]), torch.tensor([999]), TEXT + 1, TEXT + 2, torch.ones(1), torch.Generator())
    assert asked == [([t, t], [1.0, 2.0]) for t in times[:-1]], "one batch of conditional and unconditional passes a sub-step"


@pytest.mark.parametrize("s, t", [(999, 991), (503, 479), (15, 0), (19, 0)])
def test_the_second_order_weight_in_closed_form_for_powers(s, t):
    """phi = x^p: the integral of u^-p is (lambda_t^(1-p) - lambda_s^(1-p)) / (p - 1); for p = 1 it is ln(lambda_s / lambda_t)."""
    a, b = SD.lam(t), SD.lam(s)
    for formula, strength, p in (("x^2", 1.0, 2.0), ("x^2.5", 1.0, 2.5), ("x^1.5", 1.0, 1.5), ("x^2", 0.5, 1.5)):
        exact = (a - b) + a**p * (a ** (1 - p) - b ** (1 - p)) / (p - 1)
        assert float(second_order_weight(SD, s, t, formula, strength)) == pytest.approx(exact, rel=1e-9, abs=1e-14)
    exact = (a - b) + a * torch.tensor(b / a, dtype=torch.float64).log()
    assert float(second_order_weight(SD, s, t, "x")) == pytest.approx(float(exact), rel=1e-9, abs=1e-14)
    grid = torch.tensor([s, 300]), torch.tensor([t, 299])
    assert second_order_weight(SD, *grid, "x^2").shape == (2, 1, 1, 1)


def test_the_second_order_chain_is_of_second_order_and_costs_nothing():
    """Without noise, on Gaussian data, against the exact flow 999 -> 899: h = 4 and 8 sub-steps; the first does half as well, the
    second a quarter."""
    s, t = torch.tensor([999]), torch.tensor([899])
    exact = float(SD.alpha(899) / SD.alpha(999) * ((1 + SD.lam(899) ** 2) / (1 + SD.lam(999) ** 2)) ** 0.5)
    errors, calls = {}, {}
    for order in (1, 2):
        for h in (5, 10, 20):
            chain, counted = scott(Network(gaussian(1.0)), h=h, skip=100, solver="ode", order=order), []
            chain.normal = lambda like, generator: torch.zeros_like(like)
            network = chain.teacher.network
            chain.teacher.network = lambda z, t, text, n=network, c=counted: c.append(len(z)) or n(z, t, text)
            z_m, t_m = chain.teacher_chain(column([1.0]), s, TEXT, TEXT, torch.zeros(1), None)
            assert t_m.tolist() == t.tolist()
            errors[order, h], calls[order, h] = abs(float(z_m) - exact), sum(counted)
    assert all(calls[1, h] == calls[2, h] for h in (5, 10, 20))
    assert errors[1, 5] / errors[1, 10] == pytest.approx(2, abs=0.2) and errors[1, 10] / errors[1, 20] == pytest.approx(2, abs=0.2)
    assert errors[2, 10] / errors[2, 20] == pytest.approx(4, abs=0.8) and errors[2, 10] < errors[1, 10] / 5


@pytest.mark.parametrize("options, message", [
    ({"skip": 1000, "h": 1}, "h <= skip <= 999"), ({"h": 25}, "h <= skip"), ({"adv_t_min": -1}, "adv_t_min <= 999"),
    ({"adv_t_min": 1000}, "adv_t_min <= 999"), ({"tau_min": 5, "tau_max": 4}, "tau_min <= tau_max"), ({"w_min": -0.5}, "0 <= w_min"),
    ({"eta": 1.5}, "eta <= 1"), ({"huber_c": 0.0}, "positive lr"), ({"ema": 1.0}, "ema < 1"),
])  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SCottOptions(**options)


@pytest.mark.parametrize("options", [{"h": 1}, {"solver": "ddim"}])
def test_second_order_needs_a_sub_step_before(options):
    with pytest.raises(ValueError, match="order 2 needs"):
        SCottOptions(order=2, **options)


def test_time_steps_come_from_the_grid_or_from_everywhere():
    grid = scott(None).draw_times(4000, torch.Generator().manual_seed(0))
    assert set(grid.tolist()) == set(range(999, 0, -24)) and len(set(grid.tolist())) == 42
    uniform = scott(None, t_sampling="uniform").draw_times(200_000, torch.Generator().manual_seed(0))
    assert (int(uniform.min()), int(uniform.max())) == (24, 999) and len(set(uniform.tolist())) == 976


def test_teacher_student_and_target_get_one_guidance_from_the_range(unet):
    """w of the batch moves the teacher (through its guided step) and is what student and target are conditioned on."""
    trainer, seen = made(unet, discriminator="none", w_min=1.0, w_max=3.0), []
    import scottbench_scott.trainer as module

    original, f = module.guided_teacher, trainer.f
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "guided_teacher", lambda *a: seen.append(a[-1]) or original(*a))
        patch.setattr(trainer, "f", lambda network, z, t, text, w: seen.append(w) or f(network, z, t, text, w))
        list(trainer.step(batch(64)))
    assert len(seen) == 3 and all(torch.equal(w, seen[0]) for w in seen)
    assert seen[0].min() >= 1 and seen[0].max() <= 3 and seen[0].std() > 0.3


def test_the_student_s_embedding_of_w_starts_at_zero_and_learns(unet):
    student = w_conditioned_copy(unet)
    assert student.time_embedding.cond_proj.weight.shape == (32, 256) and not student.time_embedding.cond_proj.weight.any()
    trainer = made(unet, discriminator="none")
    ((_, losses, _),) = trainer.step(batch())
    sum(losses.values()).backward()
    assert trainer.networks["student"].time_embedding.cond_proj.weight.grad.abs().sum() > 0


# --- the discriminator's axes ----------------------------------------------------------------------------------------


class Recorder(torch.nn.Module):
    """In the discriminator's place: notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.shown, self.scale = [], torch.nn.Parameter(torch.zeros(1))

    def forward(self, z, tau, text, uncond, learn=True):
        self.shown.append((z.detach().clone(), tau.clone(), learn))
        return z.flatten(1).sum(1) * self.scale


@pytest.mark.parametrize("kind", ["renoise", "clean", "target"])
def test_the_discriminator_is_shown_what_disc_input_says(unet, kind, monkeypatch):
    trainer, b = made(unet, disc_input=kind, tau_min=100, tau_max=300), batch(64)
    trainer.networks["discriminator"], noises, outputs = Recorder(), [], []
    normal, f = trainer.normal, trainer.f
    monkeypatch.setattr(trainer, "normal", lambda like, generator: noises.append(normal(like, generator)) or noises[-1])
    monkeypatch.setattr(trainer, "f", lambda *arguments: outputs.append(f(*arguments)) or outputs[-1])
    list(trainer.step(b))
    (z_student, tau_student, learn_student), (z, tau, learn) = trainer.networks["discriminator"].shown
    target, prediction = (output.detach() for output in outputs)
    real = target if kind == "target" else b["latents"]
    assert learn and not learn_student and len(z) == 128 and len(z_student) == 64
    assert torch.equal(tau[:64], tau[64:])  # the two of a pair stand at one time
    if kind == "clean":
        assert set(tau.tolist()) <= set(trainer.grid.tolist()) and len(tau.unique()) > 20
        assert torch.equal(tau[:64], tau_student) and torch.equal(z, torch.cat([real, prediction])) and torch.equal(z_student, prediction)
    else:
        assert tau.min() >= 100 and tau.max() <= 300 and len(tau.unique()) > 40
        # and have one noise: what is different is the two latents, at the scale alpha
        assert torch.allclose(z[:64] - z[64:], SD.alpha(tau[:64]).float() * (real - prediction), atol=1e-5)
        assert torch.allclose(z, add_noise(SD, torch.cat([real, prediction]), tau, torch.cat([noises[-1]] * 2)), atol=1e-6)


def test_fakes_of_small_t_are_left_out_where_asked(unet):
    trainer = made(unet, adv_t_min=500)
    trainer.networks["discriminator"] = Recorder()
    trainer.draw_times = lambda n, generator: torch.tensor([999, 15, 503, 39])
    assert [role for role, _, _ in trainer.step(batch())] == ["student", "discriminator"]
    assert [len(z) for z, _, _ in trainer.networks["discriminator"].shown] == [2, 4]
    trainer.draw_times = lambda n, generator: torch.tensor([15, 15, 39, 39])
    assert [(role, list(losses)) for role, losses, _ in trainer.step(batch())] == [("student", ["consistency"])]


@pytest.mark.parametrize("kind", ["lora", "full", "unconditional"])
def test_each_discriminator_looks_at_text_and_time_or_not(unet, kind):
    d, b = made(unet, discriminator=kind).networks["discriminator"], batch(2)
    torch.manual_seed(1)
    for p in d.trainable:
        torch.nn.init.normal_(p, std=0.1)
    logits = [d(b["latents"], torch.tensor([t, t]), b["text"] * c, b["uncond"]) for t, c in ((10, 1.0), (900, 1.0), (10, -1.0))]
    same = kind == "unconditional"
    assert torch.equal(logits[0], logits[1]) == same and torch.equal(logits[0], logits[2]) == same


@pytest.mark.parametrize("kind", ["lora", "full", "unconditional", "none"])
def test_learning_of_the_discriminator_leaves_the_teacher_as_it_was(unet, kind):
    """Teacher and LoRA discriminator share one frozen U-Net; "full" owns a copy; "none" has neither network nor loss."""
    trainer, b = made(unet, discriminator=kind), batch()
    before = unet(b["latents"], torch.tensor([5, 99, 500, 999]), encoder_hidden_states=b["text"]).sample
    if kind == "none":
        assert set(trainer.networks) == {"student"} and [role for role, _, _ in trainer.step(b)] == ["student"]
        return
    shared = trainer.networks["discriminator"].unet is trainer.teacher.unet
    assert shared == (kind != "full")
    parameters = [p for p in trainer.networks["discriminator"].parameters() if p.requires_grad]
    torch.nn.init.normal_(trainer.networks["discriminator"].head.weight)
    steps = trainer.step(b)
    assert next(steps)[0] == "student"
    role, losses, _ = next(steps)
    sum(losses.values()).backward()
    assert role == "discriminator" and any(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    torch.optim.SGD(parameters, lr=10.0).step()
    after = trainer.teacher.unet(b["latents"], torch.tensor([5, 99, 500, 999]), encoder_hidden_states=b["text"]).sample
    assert torch.equal(before, after) and list(steps) == []


def test_the_discriminator_learns_so_often_and_waits_so_long(unet):
    roles = [role for role, _, _ in made(unet, disc_steps=3).step(batch())]
    assert roles == ["student"] + ["discriminator"] * 3
    waiting = made(unet, disc_warmup=5)
    (_, losses, _) = next(iter(waiting.step(batch() | {"step": 4})))
    assert set(losses) == {"consistency"}
    (_, losses, _) = next(iter(waiting.step(batch() | {"step": 5})))
    assert set(losses) == {"consistency", "adversarial"}


def test_a_chain_can_be_used_for_several_updates(unet, monkeypatch):
    """reuse = 3: one chain, three updates of the student, each towards the target network as it is then."""
    trainer, chains = made(unet, discriminator="none", reuse=3), []
    chain = trainer.teacher_chain
    monkeypatch.setattr(trainer, "teacher_chain", lambda *given: chains.append(1) or chain(*given))
    losses = []
    for role, terms, _ in trainer.step(batch()):
        assert role == "student"
        losses.append(float(terms["consistency"].detach()))
        for p in trainer.ema.parameters():
            p.data.add_(0.01)  # the target moves on
    assert len(chains) == 1 and len(set(losses)) == 3


def test_the_discriminator_may_learn_in_every_second_update_only(unet):
    trainer = made(unet, disc_every=2)
    assert [[role for role, _, _ in trainer.step(batch() | {"step": step})] for step in range(4)] == [
        ["student", "discriminator"], ["student"], ["student", "discriminator"], ["student"]]  # fmt: skip
    both = made(unet, disc_every=2, reuse=2)
    assert [role for role, _, _ in both.step(batch())] == ["student", "discriminator", "student"]


def adversarial(trainer) -> list[float]:
    """The student's adversarial term in two steps."""
    return [float(losses["adversarial"].detach()) for step in range(2)
            for role, losses, _ in trainer.step(batch() | {"step": step}) if role == "student"]  # fmt: skip


def test_the_adversarial_term_fades_while_the_discriminator_guesses(unet):
    """With margin 0 it is 0, with a margin of 2 or more it is whole; the margin is that of D's last update."""
    found, options = {}, {"adv_scale": "gradient", "w_start": "zero"}
    for head in (0.0, 1.0, 5.0):
        trainer = made(unet, adv_fade="margin", **options)
        trainer.networks["discriminator"] = Judge(head)
        found[head] = adversarial(trainer)
        assert found[head][0] == 0 and trainer.memory["margin"] == pytest.approx(head, abs=1e-2)
    plain = made(unet, **options)
    plain.networks["discriminator"] = Judge(5.0)
    whole = adversarial(plain)[1]
    assert abs(found[0.0][1]) < 2e-3 * abs(whole) and found[5.0][1] == pytest.approx(whole)
    assert found[1.0][1] == pytest.approx(whole / 2, rel=0.02)


def test_the_margin_is_of_all_micro_batches_and_comes_back_from_a_checkpoint(unet):
    trainer = made(unet, adv_fade="margin", disc_steps=2)
    judges = [Judge(1.0), Judge(3.0)]
    steps = []
    for judge in judges:  # two micro-batches, each with its own margin
        trainer.networks["discriminator"] = judge
        steps.append(trainer.step(batch()))
        next(steps[-1])
    for _ in range(2):
        for judge, step in zip(judges, steps, strict=True):
            trainer.networks["discriminator"] = judge
            next(step)
    assert trainer.memory == {"margin": pytest.approx(2.0, abs=1e-2)} and made(unet).memory is None
    again = made(unet, adv_fade="margin")
    assert again.memory == {"margin": 0.0}
    again.memory = trainer.memory
    assert again.memory == trainer.memory


class Judge(torch.nn.Module):
    """In the discriminator's place: likes the first half of what it is shown better than the second, by `margin`."""

    def __init__(self, margin):
        super().__init__()
        self.margin, self.scale = margin, torch.nn.Parameter(torch.ones(1))

    def forward(self, z, tau, text, uncond, learn=True):
        rank = torch.zeros(len(z))
        if learn:
            rank[: len(z) // 2] = self.margin
        return z.flatten(1).mean(1) * self.scale * 1e-3 + rank
