"""sCM: TrigFlow on the schedule, the tangent and its fixed point, and what a JVP costs."""

import math

import pytest
import torch
from analytic import SD, TEXT, column
from continuous import Continuous, between, gaussian, lam_of, teacher_of
from scottbench_scm import register_claims
from scottbench_scm.options import SamplerOptions, SCMOptions
from scottbench_scm.sampler import sample, timesteps
from scottbench_scm.trainer import ContinuousConsistencyDistillation, TimeWeight
from scottbench_scm.trigflow import Velocity, normalised

from scottbench.diffusion import to_x0_eps
from scottbench.registry.claims import read_claim
from scottbench.registry.nouns import Sampling
from scottbench.training.continuous import angles, time_of_angle


def exact(s, mean=0.0):
    """The consistency function of Gaussian data, followed to lambda = 0: mean + s (y - mean) / sqrt(s^2 + lambda^2)."""
    return lambda z, lam, second=None: mean + s * (z * (1 + lam**2).sqrt() - mean) / (s**2 + lam**2).sqrt()


def trainer(teacher, student, **options):
    made = object.__new__(ContinuousConsistencyDistillation)
    made.options = SCMOptions(**{"w_min": 0.0, "w_max": 0.0, "adaptive": False} | options)
    made.teacher, made.networks, made.how = teacher, {"student": student}, ""
    made.range = tuple(math.log(math.tan(end)) for end in angles(SD))
    return made


def tangents(made, n=64, share=1.0):
    """cos(t) df/dt on n points of the path, all over the schedule."""
    log_lam = between(n)
    x = column(torch.linspace(-2, 2, n)).flip(0)
    return made.velocity_and_tangent(x, log_lam.exp().atan(), TEXT.expand(n, -1, -1), TEXT, torch.zeros(n), share)[1]


@pytest.mark.parametrize("how", ["jvp", "finite"])
@pytest.mark.parametrize(("s", "mean"), [(0.6, 0.3), (1.0, 0.0), (0.0, 0.7)], ids=["gaussian", "unit", "one point"])
def test_the_exact_consistency_function_has_no_tangent(how, s, mean):
    teacher = teacher_of(gaussian(s, mean))
    still = tangents(trainer(teacher, Continuous(exact(s, mean)), derivative=how, width=1e-3))
    assert still.abs().max() < 2e-5
    if s:  # the teacher itself is the consistency function of data at one point alone
        assert tangents(trainer(teacher, Continuous(gaussian(s, mean)), derivative=how)).abs().max() > 0.01


@pytest.mark.parametrize("options", [{}, {"weight": "alpha", "normalise": "l2"}, {"adaptive": True, "derivative": "finite"}])
def test_the_loss_pulls_a_student_between_teacher_and_consistency_function_to_the_latter(options):
    """x0 = (1 - k) teacher + k exact: the gradient raises k below 1, lowers it above, and is nothing at 1."""
    slopes = {}
    for k in (0.3, 0.7, 1.0, 1.3):
        gain = torch.tensor(k, dtype=torch.float64, requires_grad=True)
        mixed = lambda z, lam, second=None, gain=gain: (1 - gain) * gaussian(0.6)(z, lam) + gain * exact(0.6)(z, lam)  # noqa: E731
        made = trainer(teacher_of(gaussian(0.6)), Continuous(mixed), warmup=1, **options)
        made.networks["weight"] = TimeWeight()
        batch = {"latents": column(torch.randn(256, generator=torch.Generator().manual_seed(1)) * 0.6), "text": TEXT.expand(256, -1, -1)}
        batch |= {"uncond": TEXT, "generator": torch.Generator().manual_seed(0), "step": 5, "fraction": 0.0}
        losses = {role: terms for role, terms, _ in made.step(batch)}
        losses["student"]["consistency"].backward()
        slopes[k] = float(gain.grad)
        assert ("weight" in losses) == made.options.adaptive
    assert slopes[0.3] < -1e-3 and slopes[0.7] < -1e-3 and slopes[1.3] > 1e-3
    assert abs(slopes[1.0]) < 0.02 * abs(slopes[0.7])


def test_differences_come_to_the_jvp_with_the_square_of_their_width():
    teacher, student = teacher_of(gaussian(0.6)), Continuous(gaussian(0.4))
    right = tangents(trainer(teacher, student, derivative="jvp"))
    errors = [float((tangents(trainer(teacher, student, derivative="finite", width=width)) - right).norm()) for width in (2e-3, 1e-3)]
    assert 1.8 < math.log2(errors[0] / errors[1]) < 2.2


def test_without_the_share_the_tangent_is_the_pull_to_the_teacher_alone():
    s, student = 0.6, 0.4
    made = trainer(teacher_of(gaussian(s)), Continuous(gaussian(student)))
    log_lam = between(64)
    x, angle = column(torch.linspace(-2, 2, 64)).flip(0), log_lam.exp().atan()
    lam, cos = log_lam.exp().view(-1, 1, 1, 1), angle.cos().view(-1, 1, 1, 1)
    # v = (x - cos x0 / ...) in one line: F - dx/dt = (x0 of the teacher - x0 of the student) / sin
    gap = (gaussian(s)(x, lam) - gaussian(student)(x, lam)) / angle.sin().view(-1, 1, 1, 1)
    assert torch.allclose(tangents(made, share=0.0), -(cos**2) * gap, atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_velocity_is_cos_eps_minus_sin_x0_and_its_change_is_its_derivative(prediction):
    generator = torch.Generator().manual_seed(0)
    z, out, dz, d_out = torch.randn(4, 5, 1, 1, 1, generator=generator, dtype=torch.float64)
    t = torch.tensor([5, 200, 500, 700, 999])
    angle = torch.as_tensor(SD.lam(t)).flatten().atan()
    x0, eps = to_x0_eps(SD, z, t, out, prediction)
    of = Velocity.of(angle, prediction)
    assert torch.allclose(of(out, z), angle.cos().view(-1, 1, 1, 1) * eps - angle.sin().view(-1, 1, 1, 1) * x0)
    at = lambda h: Velocity.of(angle + h, prediction)(out + h * d_out, z + h * dz)  # noqa: E731
    one = torch.ones(5, 1, 1, 1, dtype=torch.float64)
    assert torch.allclose(of.change(out, z, d_out, dz, one), (at(1e-6) - at(-1e-6)) / 2e-6, rtol=1e-5, atol=1e-5)


def test_the_fractional_time_has_the_angle_s_noise_to_signal_ratio_and_stops_at_the_ends():
    low, high = angles(SD)
    angle = torch.tensor([0.0, low / 2, low + 1e-9, 0.7, 1.1, high - 1e-9, 1.55], dtype=torch.float64)
    tau, rate = time_of_angle(SD, angle)
    assert tau[:2].tolist() == [0, 0] and rate[:2].tolist() == [0, 0] and (float(tau[-1]), float(rate[-1])) == (999, 0)
    assert torch.allclose(lam_of(tau[2:6]).flatten(), angle[2:6].tan(), rtol=1e-7)
    ahead = time_of_angle(SD, angle[3:5] + 1e-7)[0] - time_of_angle(SD, angle[3:5] - 1e-7)[0]
    assert torch.allclose(rate[3:5], ahead / 2e-7, rtol=1e-5)
    # a time that a trainer draws beyond the schedule, brought to its end: one-step sampling asks there, and the time moves
    ends = torch.tensor([-9.0, 9.0], dtype=torch.float64).clamp(math.log(math.tan(low)), math.log(math.tan(high))).exp().atan()
    tau, rate = time_of_angle(SD, ends)
    within = time_of_angle(SD, torch.tensor([low + 1e-6, high - 1e-6], dtype=torch.float64))[1]
    assert torch.allclose(tau, torch.tensor([0.0, 999.0], dtype=torch.float64), atol=1e-6) and torch.allclose(rate, within, rtol=1e-3)


def test_a_normalised_tangent_has_length_one_where_it_is_large():
    g = torch.randn(3, 4, 8, 8, dtype=torch.float64) * column([1e3, 1.0, 1e-4])
    for norm, size in (("rms", 16.0), ("l2", 1.0)):
        lengths = normalised(g, 0.1, norm).flatten(1).norm(dim=1) / size
        assert float(lengths[0]) == pytest.approx(1, abs=1e-3) and float(lengths[2]) < 2e-2
    assert torch.isfinite(normalised(torch.zeros(1, 4, 8, 8), 0.0, "l2")).all()


def test_time_steps_of_the_paper_s_angles():
    assert timesteps(SD, 1, SamplerOptions()) == [999]
    two, four = timesteps(SD, 2, SamplerOptions()), timesteps(SD, 4, SamplerOptions())
    assert math.atan(SD.lam(two[1])) == pytest.approx(1.1, abs=2e-3) and four[:2] == two
    assert [math.atan(SD.lam(t)) for t in four[1:]] == pytest.approx([1.1, 1.1 * 2 / 3, 1.1 / 3], abs=2e-3)
    assert timesteps(SD, 900, SamplerOptions()) == [], "the schedule has no so many angles"


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_with_the_exact_function_sampling_keeps_the_data_s_law(steps):
    s = 0.7
    basis = torch.eye(steps, dtype=torch.float64).view(steps, 1, -1, 1, 1)
    start = math.sqrt(SD.alpha(999) ** 2 * s**2 + SD.sigma(999) ** 2)
    denoise = lambda z, t: (exact(s)(z, torch.tensor(SD.lam(t), dtype=torch.float64)), torch.zeros_like(z))  # noqa: E731
    run = Sampling(denoise, lambda k: basis[k] * (start if k == 0 else 1.0), SD, steps, SamplerOptions())
    assert float((sample(run) ** 2).sum()) / s**2 == pytest.approx(1, abs=1e-12)


def test_the_claims_are_of_the_paper_and_can_be_read():
    claims = [read_claim(path) for path in register_claims()]
    assert {claim.name for claim in claims} == {"scm-beats-cd", "scm-improves-with-steps"}
    assert all("2410.11081" in claim.paper and claim.locator for claim in claims)
