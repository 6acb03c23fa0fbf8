"""MeanFlow: the line beside the schedule, the identity and its fixed point, two times, and the sampler."""

import math

import pytest
import torch
from analytic import SD, TEXT, column
from continuous import Continuous, between, gaussian, teacher_of
from scottbench_meanflow import register_claims
from scottbench_meanflow.line import LineVelocity, Point, last_time
from scottbench_meanflow.options import MeanFlowOptions, SamplerOptions
from scottbench_meanflow.sampler import sample, timesteps
from scottbench_meanflow.trainer import MeanFlow

from scottbench.diffusion import to_x0_eps
from scottbench.registry.claims import read_claim
from scottbench.registry.nouns import Sampling

LAST = last_time(SD.lam(999))
S = 0.6


def deviation(t):
    """Of X_t on the line, for data N(0, S^2)."""
    return ((1 - t) ** 2 * S**2 + t**2) ** 0.5


def average(x, r, t):
    """The exact average velocity of that data's flow between r and t; the velocity itself where r = t."""
    rate = (t - (1 - t) * S**2) / deviation(t) ** 2
    span = t - r
    return torch.where(span > 1e-9, x * (1 - deviation(r) / deviation(t)) / span.clamp_min(1e-9), x * rate)


def exact(z, lam, second):
    """The prediction x0 of a network of u: u = eps - x0 at z. second: the interval, as it was embedded."""
    t = lam / (1 + lam)
    n = (t**2 + (1 - t) ** 2).sqrt()
    interval = torch.zeros_like(t) if second is None else second * 1000 / MeanFlowOptions().interval_scale
    x = z * n
    return x - t * average(x, (t - interval).clamp_min(0), t)  # X = x0 + t (eps - x0)


def trainer(student, **options):
    made = object.__new__(MeanFlow)
    made.options, made.teacher = MeanFlowOptions(**{"w": 0.0} | options), teacher_of(gaussian(S))
    made.networks, made.how, made.last = {"student": student}, "", LAST
    return made


def points(n=60, count=40):
    """X, t and r < t for the first `count`, r = t for the rest."""
    t = torch.sigmoid(between(n)).flip(0)  # t / (1 - t) = lambda
    r = torch.where(torch.arange(n) < count, t * torch.linspace(0, 0.95, n, dtype=torch.float64), t)
    return column(torch.linspace(-2, 2, n)), t, r


def average_and_target(made, n=60, count=40):
    x, t, r = points(n, count)
    return made.average_and_target(x, t, r, TEXT.expand(n, -1, -1), TEXT, count)


@pytest.mark.parametrize("how", ["jvp", "finite"])
def test_the_exact_average_velocity_is_its_own_target(how):
    u, target, moved = average_and_target(trainer(Continuous(exact, 256), derivative=how, width=1e-3))
    x, t, r = points()
    assert torch.allclose(u, average(x, r.view_as(x), t.view_as(x)), atol=1e-4), "the interval comes through"
    assert (u - target).abs().max() < 2e-2 and moved.abs().max() > 0.1
    off, target, _ = average_and_target(trainer(Continuous(lambda z, lam, second: 0.8 * exact(z, lam, second), 256), derivative=how))
    assert (off - target).abs().max() > 0.1


@pytest.mark.parametrize("options", [
    {}, {"power": 0.5, "weight": "alpha"}, {"power": 0.0, "times": "uniform", "derivative": "finite", "different": 1.0}])  # fmt: skip
def test_the_loss_pulls_a_student_between_velocity_and_average_to_the_latter(options):
    """The second time is heard k times as much as it should: the gradient raises k below 1, lowers it above, and is nothing at 1."""
    slopes = {}
    for k in (0.3, 0.7, 1.0, 1.3):
        gain = torch.tensor(k, dtype=torch.float64, requires_grad=True)
        made = trainer(Continuous(lambda z, lam, second, gain=gain: exact(z, lam, gain * second), 256), **options)
        batch = {"latents": column(torch.randn(256, generator=torch.Generator().manual_seed(1)) * S), "text": TEXT.expand(256, -1, -1)}
        batch |= {"uncond": TEXT, "generator": torch.Generator().manual_seed(0), "step": 5, "fraction": 0.0}
        ((role, losses, _),) = made.step(batch)
        losses["meanflow"].backward()
        slopes[k] = float(gain.grad)
    assert role == "student" and slopes[0.3] < -1e-3 and slopes[0.7] < -1e-3 and slopes[1.3] > 1e-3
    assert abs(slopes[1.0]) < 0.1 * abs(slopes[0.7])


def test_where_r_is_t_the_target_is_the_teacher_s_velocity():
    x, t, _ = points()
    made = trainer(Continuous(lambda z, lam, second: torch.zeros_like(z), 256))
    _, target, _ = made.average_and_target(x, t, t, TEXT.expand(60, -1, -1), TEXT, 0)
    assert torch.allclose(target, average(x, t.view_as(x), t.view_as(x)), atol=1e-9)
    assert made.teacher.passes == 0, "no derivative is taken"


def test_differences_come_to_the_jvp():
    student = Continuous(lambda z, lam, second: exact(z, lam, 0.5 * second), 256)
    right, near = (average_and_target(trainer(student, derivative=how, width=1e-3))[2] for how in ("jvp", "finite"))
    assert torch.allclose(right, near, atol=5e-2, rtol=1e-2) and right.abs().max() > 1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_velocity_on_the_line_is_eps_minus_x0_and_its_change_is_its_derivative(prediction):
    generator = torch.Generator().manual_seed(0)
    z, out, dz, d_out = torch.randn(4, 5, 1, 1, 1, generator=generator, dtype=torch.float64)
    steps = torch.tensor([5, 200, 500, 700, 999])
    lam = torch.as_tensor(SD.lam(steps)).flatten()
    t = lam / (1 + lam)
    x0, eps = to_x0_eps(SD, z, steps, out, prediction)
    of = LineVelocity.of(Point.at(t), prediction)
    assert torch.allclose(of(out, z), eps - x0)
    at = lambda h: LineVelocity.of(Point.at(t + h), prediction)(out + h * d_out, z + h * dz)  # noqa: E731
    assert torch.allclose(of.change(out, z, d_out, dz), (at(1e-6) - at(-1e-6)) / 2e-6, rtol=1e-5, atol=1e-5)


def test_the_line_and_the_schedule_are_one_path():
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 5, 1, 1, 1, generator=generator, dtype=torch.float64)
    steps = torch.tensor([0, 200, 500, 700, 999])
    lam = torch.as_tensor(SD.lam(steps)).flatten()
    t = lam / (1 + lam)
    at = Point.at(t)
    x = (1 - at.t) * x0 + at.t * eps
    assert torch.allclose(at.from_line(x), SD.alpha(steps) * x0 + SD.sigma(steps) * eps)
    assert torch.allclose(at.angle.tan(), lam)
    ahead, behind = (Point.at(t + h).from_line(x + h * (eps - x0)) for h in (1e-6, -1e-6))
    assert torch.allclose(at.direction(x, eps - x0), (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("times", ["lognorm", "uniform"])
def test_r_is_below_t_for_the_share_that_is_asked_for_and_both_stay_within_the_schedule(times):
    made = trainer(None, different=0.25, times=times)
    t, r = made.draw_times(64, torch.Generator().manual_seed(0))
    assert (r < t).sum() == 16 and (r < t)[:16].all() and torch.equal(r[16:], t[16:])
    assert r.min() > 0 and t.max() <= LAST
    many = torch.cat([made.draw_times(64, torch.Generator().manual_seed(i))[0][16:] for i in range(50)])
    wanted = 1 / (1 + math.exp(0.4)) if times == "lognorm" else LAST / 2
    assert float(many.median()) == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("times", ["lognorm", "uniform"])
def test_a_share_of_the_intervals_reaches_the_data(times):
    made = trainer(Continuous(exact, 256), different=0.5, to_data=0.25, times=times, derivative="jvp")
    t, r = made.draw_times(64, torch.Generator().manual_seed(0))
    assert (r[:8] == 0).all() and (r[8:] > 0).all() and (r < t).sum() == 32
    plain = trainer(None, different=0.5, times=times).draw_times(64, torch.Generator().manual_seed(0))
    assert torch.equal(t, plain[0]) and torch.equal(r[8:], plain[1][8:]), "nothing else is drawn another way"
    x = column(torch.linspace(-2, 2, 64))
    errors = []
    for gain in (1.0, 0.7):  # the exact average velocity of Gaussian data, and one that hears less of the interval
        made.networks["student"] = Continuous(lambda z, lam, second, gain=gain: exact(z, lam, gain * second), 256)
        u, target, _ = made.average_and_target(x, t, r, TEXT.expand(64, -1, -1), TEXT, 32)
        errors.append(float((u - target)[:8].detach().abs().max()))
    assert errors[0] < 2e-2 and errors[1] > 0.1, errors
    with pytest.raises(ValueError, match="0 <= to_data <= 1"):
        MeanFlowOptions(to_data=1.5)


def test_the_claims_are_of_the_paper_and_can_be_read():
    claims = [read_claim(path) for path in register_claims()]
    assert {claim.name for claim in claims} == {"meanflow-beats-cd", "meanflow-improves-with-steps"}
    assert all("2505.13447" in claim.paper and claim.locator for claim in claims)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_with_the_exact_average_velocity_any_number_of_steps_is_the_flow(steps):
    z = column([-1.5, 0.3, 2.0])
    network = Continuous(exact, 256).requires_grad_(False)

    def predict(z, t, second):
        from scottbench.diffusion import guidance_embedding

        return network(
            z,
            torch.full((len(z),), float(t), dtype=torch.float64),
            timestep_cond=guidance_embedding(torch.full((len(z),), second, dtype=torch.float64), 256),
        )[0]

    options = SamplerOptions()
    found = sample(Sampling(None, lambda k: z, SD, steps, options, predict, {"prediction": "epsilon"}))
    start = z * (LAST**2 + (1 - LAST) ** 2) ** 0.5
    assert torch.allclose(found, start * S / deviation(LAST), atol=1e-4)


def test_time_steps_are_even_on_the_line():
    assert timesteps(SD, 1, SamplerOptions()) == [999]
    line = [last_time(SD.lam(t)) for t in timesteps(SD, 4, SamplerOptions())]
    assert line == pytest.approx([LAST, LAST * 3 / 4, LAST / 2, LAST / 4], abs=2e-3)
    assert timesteps(SD, 900, SamplerOptions()) == []
