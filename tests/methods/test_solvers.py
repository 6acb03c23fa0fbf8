"""Teacher samplers on a Gaussian teacher whose exact map is known, their time steps, and diffusers' own schedulers."""

import math

import pytest
import torch
from scottbench.diffusion import Schedule
from scottbench.nouns import Sampling
from scottbench_solvers import ddim, dpmpp

SD = Schedule.scaled_linear()


def gaussian(s):
    """denoise(z, t) of data N(0, s^2): E[x0|z] = s^2 / (s^2 + lambda^2) * z / alpha."""

    def denoise(z, t):
        x0 = s**2 / (s**2 + SD.lam(t) ** 2) * z / SD.alpha(t)
        return x0, (z - SD.alpha(t) * x0) / SD.sigma(t)

    return denoise


def sampled(method, steps, s, schedule=SD):
    """What the sampler makes of z_T = 1, float64."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return float(method.sample(Sampling(gaussian(s), lambda k: one, schedule, steps, None)))


def exact(s, t):
    """PF-ODE map of z_t = 1 to its data value: s y / sqrt(s^2 + lambda^2) (methods.md 7.1)."""
    return s / SD.alpha(t) / math.sqrt(s**2 + SD.lam(t) ** 2)


@pytest.mark.parametrize("s, error", [(1.0, -0.02639), (0.5, -0.04614), (0.3, -0.07753)])
def test_ddim_50_has_the_published_error(s, error):
    """Its last step goes to alpha_bar_0, so the exact flow is followed to t = 0 too."""
    flow = SD.alpha(0) / SD.alpha(981) * math.sqrt((s**2 + SD.lam(0) ** 2) / (s**2 + SD.lam(981) ** 2))
    assert sampled(ddim, 50, s) / flow - 1 == pytest.approx(error, abs=5e-5)


@pytest.mark.parametrize("s, error", [(1.0, -0.01546), (0.5, -0.06708), (0.3, -0.16679)])
def test_dpmpp_25_has_the_published_error(s, error):
    assert sampled(dpmpp, 25, s) / exact(s, 999) - 1 == pytest.approx(error, abs=5e-5)


def test_invariant_22_time_steps():
    assert ddim.timesteps(SD, 50)[:2] == [981, 961] and ddim.timesteps(SD, 50)[-2:] == [21, 1]
    times = dpmpp.timesteps(SD, 25)
    assert len(times) == 25 and times[:2] == [999, 959] and times[-2:] == [80, 40]


def test_time_steps_and_samples_equal_diffusers():
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    config = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
    theirs = DDIMScheduler(**config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    theirs.set_timesteps(20)
    assert ddim.timesteps(SD, 20) == theirs.timesteps.tolist()
    solver = DPMSolverMultistepScheduler(**config, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero")
    solver.set_timesteps(25)
    assert dpmpp.timesteps(SD, 25) == solver.timesteps.tolist()
    z = torch.ones(1, 1, 1, 1)
    for t in solver.timesteps.tolist():
        z = solver.step(gaussian(0.5)(z, t)[1], t, z).prev_sample
    assert float(z) == pytest.approx(sampled(dpmpp, 25, 0.5), rel=2e-4)  # theirs runs in float32


def test_invariant_10_orders_one_and_two():
    """Error of the map down to the last t > 0 falls as 1/N for DDIM; 2M's, without its first-order last step, as 1/N^2."""
    from scottbench.diffusion import update

    def fine(n):
        lam = torch.logspace(math.log10(14.61464), math.log10(0.029167), n + 1, dtype=torch.float64)
        return Schedule(1 / (1 + lam**2))

    errors = {"ddim": [], "2m": []}
    for n in (80, 160, 320):
        schedule, s = fine(n), 1.0
        z_ddim = z = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        before = None
        for i in range(n):
            def predict(z):
                x0 = s**2 / (s**2 + schedule.lam(i) ** 2) * z / schedule.alpha(i)  # noqa: B023
                return x0, (z - schedule.alpha(i) * x0) / schedule.sigma(i)  # noqa: B023

            z_ddim = update(schedule, *predict(z_ddim), i + 1, 1, None)
            x0, eps = predict(z)
            h = math.log(schedule.lam(i) / schedule.lam(i + 1))
            x_bar = x0 if before is None else x0 + 0.5 * (x0 - before)
            z = schedule.sigma(i + 1) / schedule.sigma(i) * z - schedule.alpha(i + 1) * math.expm1(-h) * x_bar
            before = x0
        true = schedule.alpha(n) / schedule.alpha(0) * math.sqrt((s**2 + schedule.lam(n) ** 2) / (s**2 + schedule.lam(0) ** 2))
        errors["ddim"].append(abs(float(z_ddim) / true - 1))
        errors["2m"].append(abs(float(z) / true - 1))
    for name, order in (("ddim", 1), ("2m", 2)):
        a, b, c = errors[name]
        assert math.log2(a / b) == pytest.approx(order, abs=0.1) and math.log2(b / c) == pytest.approx(order, abs=0.1), errors
