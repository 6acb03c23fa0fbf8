"""Teacher samplers on a Gaussian teacher whose exact map is known, their time steps, and diffusers' own schedulers."""

import math

import pytest
import torch
from scottbench_solvers import ddim, dpmpp
from scottbench_solvers.options import DDIMOptions

from scottbench.diffusion import Schedule
from scottbench.registry.nouns import Sampling

SD = Schedule.scaled_linear()


def gaussian(s, schedule=SD):
    """denoise(z, t) of data N(0, s^2): E[x0|z] = s^2 / (s^2 + lambda^2) * z / alpha."""

    def denoise(z, t):
        x0 = s**2 / (s**2 + schedule.lam(t) ** 2) * z / schedule.alpha(t)
        return x0, (z - schedule.alpha(t) * x0) / schedule.sigma(t)

    return denoise


def sampled(method, steps, s):
    """What the sampler makes of z_T = 1, float64."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return float(method.sample(Sampling(gaussian(s), lambda k: one, SD, steps, DDIMOptions())))


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


@pytest.mark.invariant(22)
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


@pytest.mark.invariant(10)
def test_invariant_10_orders_one_and_two():
    """On n log-uniform steps the error of DDIM's map falls as 1/n, that of 2M's (before its last step to 0) as 1/n^2."""

    def error(method, n, first, last):
        lam = torch.logspace(math.log10(0.029167), math.log10(14.61464), n + 1, dtype=torch.float64)
        schedule = Schedule(1 / (1 + lam**2))
        start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        got = float(method.sample(Sampling(gaussian(1.0, schedule), lambda k: start, schedule, n, DDIMOptions())))
        z = schedule.alpha(last) / schedule.alpha(first) * math.sqrt((1 + schedule.lam(last) ** 2) / (1 + schedule.lam(first) ** 2))
        return abs(got / (z if method is ddim else float(gaussian(1.0, schedule)(torch.tensor(z), last)[0])) - 1)

    for method, order in ((ddim, 1), (dpmpp, 2)):
        # ddim walks n - 1, ..., 0; dpmpp walks n, ..., 1 and returns x0 there
        ends = (lambda n: (n - 1, 0)) if method is ddim else (lambda n: (n, 1))
        coarse, a, b, c = (error(method, n, *ends(n)) for n in (40, 80, 160, 320))
        # the published values are at t = 0, ours one end short of the whole way: DDIM's first step, 2M's last
        if method is ddim:
            assert (a, b) == pytest.approx((0.01913, 0.00961), rel=1e-3)
        else:
            assert (coarse, a, b) == pytest.approx((1.459e-3, 3.673e-4, 9.202e-5), rel=3e-3)
        assert math.log2(a / b) == pytest.approx(order, abs=0.1) and math.log2(b / c) == pytest.approx(order, abs=0.1), (a, b, c)
