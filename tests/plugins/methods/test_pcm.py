"""PCM: its identities in closed form, its adversary, and a training on a tiny pipeline."""

import itertools
import json
import math
from types import SimpleNamespace

import pytest
import torch
from analytic import SD, TEXT, Network, column, gaussian
from scottbench_pcm.heads import FeatureDiscriminator
from scottbench_pcm.options import PCMOptions, SamplerOptions
from scottbench_pcm.phases import Phases
from scottbench_pcm.sampler import sample, timesteps
from scottbench_pcm.trainer import PhasedConsistencyDistillation, chosen, renoised
from scottbench_solvers import ddim
from scottbench_solvers.options import DDIMOptions
from tiny import tiny_pipeline
from tiny_training import Registry, batch_of, train, whole_and_cut

from scottbench.diffusion import add_noise, skipping_grid
from scottbench.diffusion import even_edges as edges
from scottbench.errors import UsageError
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.registry.claims import read_claim
from scottbench.registry.condition import TextCondition
from scottbench.registry.nouns import Sampling
from scottbench.registry.options import make_options
from scottbench.training.context import Context

SMALL = {"variant": "full", "lr": "1e-3", "disc_lr": "1e-3", "disc_heads": "1", "w_min": "2", "w_max": "2"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def teacher(pipeline):
    return open_pipeline(pipeline)


def of(teacher, **options):
    torch.manual_seed(0)
    return PhasedConsistencyDistillation(Context(teacher, "cpu"), PCMOptions(**{"variant": "full", "disc_heads": 1} | options))


def closed(teacher, student, **options):
    """A trainer over networks in closed form; the constructor, which copies U-Nets, is passed by."""
    made = object.__new__(PhasedConsistencyDistillation)
    made.options = PCMOptions(**{"w_min": 1.0, "w_max": 1.0} | options)
    made.teacher = SimpleNamespace(schedule=SD, prediction="epsilon", unet=teacher, network=lambda z, t, text: teacher(z, t)[0])
    made.networks, made.ema = {"student": student}, student
    made.phases = Phases.of(SD, made.options.phases, made.options.skip)
    return made


def loss_of(made, n=400):
    """The consistency loss on n items, at all times of the grid."""
    batch = {"latents": column(torch.linspace(-2, 2, n)), "text": TEXT.expand(n, -1, -1), "uncond": TEXT, "step": 0}
    ((role, losses, _),) = made.step(batch | {"generator": torch.Generator().manual_seed(0)})
    assert role == "student" and set(losses) == {"consistency"}
    return float(losses["consistency"])


def deviation(t, s):
    """Of y = z / alpha of data N(0, s^2): along the flow y over it is constant."""
    return (s**2 + SD.lam(t) ** 2) ** 0.5


class Exact(torch.nn.Module):
    """The student whose DDIM form ends where the exact flow of data N(0, s^2) does: eps is the secant's slope in y over lambda."""

    def __init__(self, phases, s):
        super().__init__()
        self.bounds, self.s = sorted({*phases.ends.tolist()}), s

    def forward(self, z, t, encoder_hidden_states=None, return_dict=False):
        t = torch.as_tensor(t).expand(len(z))
        e = torch.tensor([max(bound for bound in self.bounds if bound <= max(int(u) - 1, 0)) for u in t])
        y = z / SD.alpha(t)
        end = y * deviation(e, self.s) / deviation(t, self.s)
        return ((end - y) / (SD.lam(e) - SD.lam(t)),)


# --- phases and f -----------------------------------------------------------------------------------------------------


def test_phases_are_equal_parts_and_one_phase_is_lcm_s_grid():
    assert edges(SD, 4) == [0, 249, 499, 749, 999] and edges(SD, 1) == [0, 999]
    one = Phases.of(SD, 1, 20)
    assert one.times.tolist() == skipping_grid(SD, 20) and set(one.ends.tolist()) == {0} and set(one.tops.tolist()) == {999}
    four = Phases.of(SD, 4, 100)
    assert four.times.tolist() == [249, 149, 49, 499, 399, 299, 749, 649, 549, 999, 899, 799]
    assert Phases.of(SD, 3, 111).times.tolist() == [333, 222, 111, 666, 555, 444, 999, 888, 777], "an end belongs to the phase below"
    assert four.ends.tolist() == [0] * 3 + [249] * 3 + [499] * 3 + [749] * 3


def test_time_steps_are_the_upper_edges():
    assert [timesteps(SD, n, SamplerOptions()) for n in (1, 2, 4)] == [[999], [999, 499], [999, 749, 499, 249]]
    for n in (3, 4, 7):
        assert timesteps(SD, n, SamplerOptions()) == sorted(set(Phases.of(SD, n, 20).tops.tolist()), reverse=True)


@pytest.mark.parametrize("phases", [1, 2, 4])
def test_at_the_end_of_each_phase_f_is_the_identity_whatever_the_weights(teacher, phases):
    made, n = of(teacher, phases=phases), phases
    for p in made.networks["student"].parameters():
        torch.nn.init.normal_(p, std=0.3)
    ends = torch.tensor(edges(SD, phases)[:-1])
    z, text = torch.randn(n, 4, 8, 8), teacher.embed(["a dog"] * n)
    assert torch.equal(made.f(made.networks["student"], z, ends, ends, text), z)
    assert not torch.allclose(made.f(made.networks["student"], z, ends + 1, ends, text), z, atol=1e-4)


def test_with_one_phase_f_is_c_skip_z_plus_c_out_x0_of_the_ddim_form():
    """c_skip = sigma_0 / sigma_t and c_out = alpha_0 - sigma_0 alpha_t / sigma_t: CD's f with another pair of scalings."""
    network = Network(gaussian(0.5))
    made = closed(network, network, phases=1)
    t = made.phases.times
    z = column(torch.linspace(-3, 3, len(t)))
    c_skip, c_out = SD.sigma(0) / SD.sigma(t), SD.alpha(0) - SD.sigma(0) * SD.alpha(t) / SD.sigma(t)
    f = made.f(network, z, t, torch.zeros_like(t), TextCondition(TEXT.expand(len(t), -1, -1)))
    assert torch.allclose(f, c_skip * z + c_out * network.x0(z, t), rtol=1e-12, atol=1e-12)
    assert float(SD.sigma(0) / SD.sigma(999)) == pytest.approx(0.0292, abs=1e-4), "at the top f is x0, but for 3 % of the noise"


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phases", [1, 2, 4])
def test_a_teacher_of_data_at_one_point_is_its_own_exact_student(phases):
    network = Network(lambda z, t: torch.full_like(z, 0.7))
    assert abs(loss_of(closed(network, network, phases=phases, skip=30))) < 1e-15
    other = Network(lambda z, t: torch.full_like(z, 0.6))
    assert loss_of(closed(network, other, phases=phases, skip=30)) > 1e-5


@pytest.mark.parametrize("form", ["element", "norm"])
def test_the_exact_student_has_no_loss_where_the_teacher_follows_the_exact_flow(monkeypatch, form):
    student = Exact(Phases.of(SD, 4, 60), 0.6)
    made = closed(Network(gaussian(0.6)), student, phases=4, skip=60, huber=form)
    assert loss_of(made) > 1e-7, "one DDIM step is not the flow"

    def flow(z, t, t_m, *rest):
        return SD.alpha(t_m) / SD.alpha(t) * deviation(t_m, 0.6) / deviation(t, 0.6) * z

    monkeypatch.setattr(made, "teacher_step", flow)
    assert abs(loss_of(made)) < 1e-14


def test_one_ddim_step_leaves_an_error_of_second_order():
    losses = []
    for skip in (40, 20, 10):
        made = closed(Network(gaussian(1.0)), Exact(Phases.of(SD, 2, skip), 1.0), phases=2, skip=skip, huber_c=1e-12)
        made.phases = Phases(torch.tensor([800]), torch.tensor([499]), torch.tensor([999]))
        losses.append(loss_of(made))
    assert [math.log2(a / b) for a, b in itertools.pairwise(losses)] == pytest.approx([2, 2], abs=0.12)


def test_the_step_of_the_teacher_does_not_pass_the_end_of_a_phase():
    made = closed(Network(gaussian(1.0)), None, phases=4, skip=100)
    t, e, t_m, tau, *_ = made.draws(5000, torch.Size((1, 1, 1)), torch.Generator().manual_seed(0), torch.device("cpu"))
    assert torch.equal(t_m, torch.where(t - e >= 100, t - 100, e)) and set((t - t_m).tolist()) == {49, 50, 100}
    assert set(t.tolist()) == set(made.phases.times.tolist())
    assert (tau >= e).all() and (tau < e + 250).all() and int((tau - e).max()) > 240 and int((tau - e).min()) < 10


def test_weight_alpha_is_the_share_of_the_signal_since_the_end():
    made = closed(None, None, weight="alpha")
    t, e = torch.tensor([999, 19]), torch.tensor([749, 0])
    assert made.weight(t, e).flatten().tolist() == pytest.approx([SD.alpha(999) / SD.alpha(749), SD.alpha(19) / SD.alpha(0)])
    assert closed(None, None).weight(t, e) is None


# --- the sampler ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("s", [1.0, 0.25])
def test_the_exact_student_of_as_many_phases_ends_on_the_flow_without_noise(n, s):
    student, drawn = Exact(Phases.of(SD, n, 20), s), []
    start = SD.alpha(999) * deviation(999, s)

    def denoise(z, t):
        eps = student(z, t)[0]
        return (z - SD.sigma(t) * eps) / SD.alpha(t), eps

    def noise(k):
        drawn.append(k)
        return column([start, -2 * start])

    z = sample(Sampling(denoise, noise, SD, n, SamplerOptions()))
    end = SD.alpha(0) * deviation(0, s)
    assert z.flatten().tolist() == pytest.approx([end, -2 * end], rel=1e-12) and drawn == [0]


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_it_is_ddim_with_trailing_spacing_as_the_authors_sample(n):
    torch.manual_seed(0)
    z_T, mix = torch.randn(2, 4, 3, 3), torch.randn(4, 4)

    def denoise(z, t):
        eps = torch.einsum("nchw,cd->ndhw", z, mix).tanh()
        return (z - SD.sigma(t) * eps) / SD.alpha(t), eps

    options = DDIMOptions(spacing="trailing")
    assert ddim.timesteps(SD, n, options) == timesteps(SD, n, SamplerOptions())
    theirs = ddim.sample(Sampling(denoise, lambda k: z_T, SD, n, options))
    assert torch.allclose(sample(Sampling(denoise, lambda k: z_T, SD, n, SamplerOptions())), theirs, atol=1e-6)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_eta_draws_so_much_noise_at_each_edge_but_the_last(eta):
    """On the basis (x0, eps, xi_1, xi_2, ...): what is drawn at the last edge before 0 is in the sample by the DDIM form alone."""
    basis, drawn = torch.eye(6, dtype=torch.float64).view(6, 1, 6, 1, 1), []
    zs = []

    def denoise(z, t):
        zs.append(z)
        return basis[4], basis[5]

    def noise(k):
        drawn.append(k)
        return basis[k]

    z = sample(Sampling(denoise, noise, SD, 4, SamplerOptions(eta=eta)))
    assert drawn == [0, 1, 2, 3]
    kept = math.sqrt(1 - eta**2)
    for k, t in enumerate([749, 499, 249], start=1):
        wanted = SD.alpha(t) * basis[4] + SD.sigma(t) * (kept * basis[5] + eta * basis[k])
        assert torch.allclose(zs[k], wanted, atol=1e-12)
    assert torch.allclose(z, SD.alpha(0) * basis[4] + SD.sigma(0) * basis[5], atol=1e-12)


# --- the adversary ----------------------------------------------------------------------------------------------------


def test_noising_onward_has_the_law_of_noising_at_once():
    x0, eps, noise = torch.eye(3, dtype=torch.float64).view(3, 1, 3, 1, 1)
    s, t = torch.tensor([249]), torch.tensor([400])
    z = renoised(SD, add_noise(SD, x0, s, eps), s, t, noise).flatten()
    assert float(z[0]) == pytest.approx(float(SD.alpha(400))) and float(z[1] ** 2 + z[2] ** 2) == pytest.approx(SD.sigma(400) ** 2)
    assert torch.equal(renoised(SD, x0, s, s, noise), x0)


@pytest.mark.parametrize("kind", ["heads", "lora"])
def test_a_fresh_discriminator_says_nothing(teacher, kind):
    made = of(teacher, discriminator=kind, disc_rank=2)
    (_, losses, _), (role, own, facts) = made.step(batch_of(teacher))
    assert float(losses["adversarial"].detach()) == pytest.approx(0.1), "relu(1 - 0), times its weight"
    assert role == "discriminator" and float(own["hinge"].detach()) == 2 and float(facts["accuracy"]) == 0.5


def test_the_target_is_what_the_discriminator_is_to_call_real(teacher):
    made, shown = of(teacher, discriminator="heads", adv_weight=0.0, adv_loss="hinge"), []
    for p in made.networks["student"].conv_out.parameters():
        torch.nn.init.zeros_(p)

    def discriminate(latents, levels, text, uncond, learn=True):
        shown.append(latents)
        return (torch.full((4, 1), 3.0), torch.full((4, 1), -3.0))[-len(latents) :]

    made.discriminate = discriminate
    (_, losses, _), (_, own, facts) = made.step(batch := batch_of(teacher))
    assert set(losses) == {"consistency"} and float(own["hinge"]) == 0 and float(facts["paired_accuracy"]) == 1
    t, e, _, _, _, noise, *_ = made.draws(4, batch["latents"].shape[1:], batch_of(teacher)["generator"], torch.device("cpu"))
    of_nothing = (SD.alpha(e) / SD.alpha(t)).float() * add_noise(SD, batch["latents"], t, noise)
    assert torch.allclose(shown[0][1], of_nothing, atol=1e-4), "the student, silenced above, is the fake"
    assert not torch.allclose(shown[0][0], of_nothing, atol=1e-2)
    assert float(made.generator_loss(shown[0][1], (e, t, noise), batch["text"], batch["uncond"])) == 3, "hinge: -D(fake)"


def test_heads_sit_on_every_block_and_the_teacher_stays_as_it_is(teacher):
    before = {name: p.clone() for name, p in teacher.unet.named_parameters()}
    found = FeatureDiscriminator(teacher.unet, 2)
    for head in found.heads:
        torch.nn.init.normal_(head.out.weight)
    blocks = len(teacher.unet.down_blocks) + 1 + len(teacher.unet.up_blocks)
    z, t, text = torch.randn(3, 4, 8, 8), torch.tensor([3, 400, 900]), teacher.embed(["a", "b", "c"])
    logits = found(z, t, text, text[:1])
    assert logits.shape == (3, 2 * blocks) and len(set(logits[0].tolist())) == 2 * blocks
    assert not torch.allclose(logits, found(z, t, teacher.embed(["a dog"] * 3), text[:1])), "it reads the prompt"
    found(z.requires_grad_(), t, text, text[:1], learn=False).sum().backward()
    assert z.grad.abs().sum() > 0 and all(p.grad is None and p.requires_grad for p in found.trainable), "learn=False: z alone"
    logits.sum().backward()
    assert all(p.grad is not None for p in found.trainable) and all(p.grad is None for p in teacher.unet.parameters())
    assert all(torch.equal(p, before[name]) for name, p in teacher.unet.named_parameters())


@pytest.mark.parametrize("kind", ["heads", "lora"])
@pytest.mark.parametrize("variant", ["full", "lora"])
def test_each_role_s_gradients_stay_its_own(teacher, kind, variant):
    made = of(teacher, discriminator=kind, disc_rank=2, variant=variant, lora_rank=2, adv_scale="gradient")
    student, adversary = made.networks["student"], made.networks["discriminator"]
    for p in adversary.trainable:
        torch.nn.init.normal_(p, std=0.2)
    steps = made.step(batch_of(teacher))
    own = {"student": [p for p in student.parameters() if p.requires_grad], "discriminator": adversary.trainable}
    for role, other in (("student", "discriminator"), ("discriminator", "student")):
        found, losses, _ = next(steps)
        assert found == role
        sum(losses.values()).backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in own[role])
        assert all(p.grad is None for p in own[other])
        for p in own[role]:
            p.grad = None
    assert next(steps, None) is None
    frozen = [p for network in (made.ema, teacher.unet) for p in network.parameters() if id(p) not in {id(q) for q in own["discriminator"]}]
    assert all(p.grad is None for p in frozen)


def test_the_discriminator_waits_and_takes_turns_as_asked(teacher):
    made = of(teacher, discriminator="heads", disc_warmup=1, disc_every=2)
    found = [[(role, sorted(losses)) for role, losses, _ in made.step(batch_of(teacher, step=step))] for step in range(2)]
    assert found == [[("student", ["consistency"]), ("discriminator", ["hinge"])], [("student", ["adversarial", "consistency"])]]


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_prompts_left_out_are_the_empty_prompt(teacher):
    text, uncond = teacher.embed(["a dog", "a cat"]), teacher.embed([""])
    assert torch.equal(chosen(text, uncond, torch.tensor([2, 1])).hidden, torch.cat([uncond.hidden, text.hidden[1:]]))
    made = closed(None, None, empty_prompts=0.25)
    which = made.draws(4000, torch.Size((1, 1, 1)), torch.Generator().manual_seed(0), torch.device("cpu"))[-1]
    left_out = which == 4000
    assert float(left_out.double().mean()) == pytest.approx(0.25, abs=0.02) and torch.equal(which[~left_out], torch.arange(4000)[~left_out])
    seen = []
    made = of(teacher, empty_prompts=0.999)
    note = lambda module, given, words: seen.append(words["encoder_hidden_states"])  # noqa: E731
    made.networks["student"].register_forward_pre_hook(note, with_kwargs=True)
    next(made.step(batch_of(teacher)))
    assert torch.equal(seen[0], uncond.hidden.expand(4, -1, -1))


# --- a training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, passes, evaluations", [
    ({}, 6, 4),
    ({"w_min": "0", "w_max": "0"}, 5, 3),
    ({"discriminator": "heads", "adv_scale": "gradient"}, 10, 7),
])  # fmt: skip
def test_a_few_steps_train_export_and_sample(pipeline, tmp_path, options, passes, evaluations):
    """Passes an item: teacher 2 (1 unguided), target 1, student 3; the adversarial term 2, D's own look at real and fake 2."""
    out = train(Registry(pipeline), "tiny", "pcm", tmp_path / "s", max_steps=2, options=SMALL | options)
    facts = json.loads((out / "student.json").read_text())
    assert (facts["passes"], facts["network_evaluations"]) == (8 * passes, 8 * evaluations) and facts["made_for"] == [4]
    assert facts.get("guidance") == (None if "w_max" in options else "baked") and facts.get("baked_guidance_scale", 3) == 3
    student = open_student(open_pipeline(pipeline), out, "pcm")
    text = student.encode_prompts(["a red apple"] * 2)
    for steps in (1, 2, 4):
        student.evaluations = 0
        with torch.no_grad():
            denoise = student.denoiser(text, student.encode_prompts([""]), 1.0)
            z = sample(Sampling(denoise, lambda k: torch.randn(2, 4, 8, 8), student.schedule, steps, SamplerOptions()))
        assert z.shape == (2, 4, 8, 8) and torch.isfinite(z).all() and student.evaluations == 2 * steps
    with pytest.raises(UsageError, match="student of 'pcm'"):
        open_student(open_pipeline(pipeline), out, "cd")


def test_an_interrupted_training_resumes_bit_for_bit(pipeline, tmp_path):
    options = SMALL | {"discriminator": "heads", "adv_scale": "gradient", "empty_prompts": "0.2"}
    digests = whole_and_cut(pipeline, "pcm", tmp_path, options, steps=4, at=2)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("options, said", [
    ({"phases": "0"}, "1 <= phases"), ({"skip": "0"}, "skip"), ({"w_min": "3", "w_max": "2"}, "w_min <= w_max"), ({"ema": "1"}, "ema < 1"),
    ({"empty_prompts": "1"}, "empty_prompts < 1"), ({"adv_weight": "-1"}, "at least 0"), ({"discriminator": "big"}, "one of"),
])  # fmt: skip
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        make_options(PCMOptions, options, "trainer 'pcm'")


def test_eta_beyond_one_is_refused():
    with pytest.raises(UsageError, match="eta <= 1"):
        make_options(SamplerOptions, {"eta": "1.5"}, "method 'pcm'")


def test_the_claims_are_of_the_paper_and_can_be_read():
    import scottbench_pcm

    claims = [read_claim(path) for path in scottbench_pcm.register_claims()]
    assert {claim.name for claim in claims} == {"pcm-beats-lcm", "pcm-adversarial-looks"}
    assert all("2405.18407" in claim.paper and claim.locator for claim in claims)
