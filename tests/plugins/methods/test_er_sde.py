"""ER-SDE as a sampler of the teacher, and DDIM with eta: orders, known special cases, the noise that is left."""

import math

import pytest
import torch
from scottbench_scott import er_sde
from scottbench_scott.noise_functions import LOG_PSI, second_order_weight, third_order_weight
from scottbench_scott.options import ERSDEOptions
from scottbench_solvers import ddim
from scottbench_solvers.options import DDIMOptions

from scottbench.diffusion import Schedule, update
from scottbench.registry.nouns import Sampling

SD = Schedule.scaled_linear()


def gaussian(s):
    """denoise(z, t) of data N(0, s^2): E[x0|z] = s^2 / (s^2 + lambda^2) * z / alpha."""

    def denoise(z, t):
        x0 = s**2 / (s**2 + SD.lam(t) ** 2) * z / SD.alpha(t)
        return x0, (z - SD.alpha(t) * x0) / SD.sigma(t)

    return denoise


def run(method, steps, options, n=1, s=0.5, noise=None):
    draw = torch.Generator().manual_seed(0)
    normal = lambda k: torch.randn(n, 1, 1, 1, generator=draw, dtype=torch.float64)  # noqa: E731
    return method.sample(Sampling(gaussian(s), normal if noise is None else noise, SD, steps, options))


def moved(order, coefficients, formula="x"):
    """One step 500 -> 440 of the ODE, where x0 = a + b lambda + c lambda^2 whatever z; and the exact end."""
    times, (a, b, c) = [620, 560, 500], coefficients
    x0 = lambda t: torch.tensor(a + b * SD.lam(t) + c * SD.lam(t) ** 2, dtype=torch.float64).view(1, 1, 1, 1)  # noqa: E731
    s, t, z = 500, 440, torch.ones(1, 1, 1, 1, dtype=torch.float64)
    eps = (z - SD.alpha(s) * x0(s)) / SD.sigma(s)
    found = update(SD, x0(s), eps, t, rho=1, noise=None)
    if order > 1:
        before = [(u, x0(u)) for u in times][-order:]
        found = found + er_sde.correction(SD, t, before, ERSDEOptions(noise_function=formula, order=order))
    ls, lt = SD.lam(s), SD.lam(t)
    integral = a * (1 / lt - 1 / ls) + b * math.log(ls / lt) + c * (ls - lt)
    return float(found), SD.alpha(t) * lt * (1 / SD.alpha(s) / ls + integral)


def test_a_step_of_order_p_is_exact_where_x0_is_a_polynomial_of_degree_p_minus_1():
    polynomials = {1: (0.7, 0.0, 0.0), 2: (0.7, -0.4, 0.0), 3: (0.7, -0.4, 0.9)}
    for order in (1, 2):
        for degree, coefficients in polynomials.items():
            found, exact = moved(order, coefficients)
            error = abs(found - exact)
            assert error < 1e-9 if degree <= order else error > 1e-4, (order, degree, error)


def test_the_third_order_is_the_published_one():
    """It adds the curvature, but takes the slope of the last interval for that at its end, so that of a parabola it keeps the error
    weight * c * (lambda_before - lambda_s)."""
    coefficients = (0.7, -0.4, 0.9)
    (third, exact), (second, _) = moved(3, coefficients), moved(2, coefficients)
    left = SD.alpha(440) * float(second_order_weight(SD, 500, 440, "x")) * coefficients[2] * (SD.lam(560) - SD.lam(500))
    assert third - exact == pytest.approx(left, rel=1e-6)
    assert abs(third - exact) < abs(second - exact)


def test_the_third_order_weight_of_the_ode_has_a_closed_form():
    """phi = x: (lt - ls)^2 / 2 + lt ((ls - lt) - ls ln(ls / lt))."""
    for s, t in ((999, 959), (500, 300), (300, 299)):
        ls, lt = SD.lam(s), SD.lam(t)
        exact = (lt - ls) ** 2 / 2 + lt * ((ls - lt) - ls * math.log(ls / lt))
        assert float(third_order_weight(SD, s, t, "x")) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("formula", LOG_PSI)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_samples_have_the_spread_of_the_data(formula, order):
    """Data N(0, 0.5^2), 20,000 samples: the stochastic solvers keep the law, not the path."""
    x = run(er_sde, 100, ERSDEOptions(noise_function=formula, order=order), n=20_000)
    assert float(x.std()) == pytest.approx(0.5, rel=0.08)


def test_a_stochastic_step_draws_and_an_ode_step_does_not():
    drawn = []

    def noise(k):
        drawn.append(k)
        return torch.ones(1, 1, 1, 1, dtype=torch.float64)

    for options, expected in ((ERSDEOptions(), [0, 1, 2, 3]), (ERSDEOptions(strength=0.0), [0])):
        drawn.clear()
        run(er_sde, 4, options, noise=noise)
        assert drawn == expected
    drawn.clear()
    run(ddim, 4, DDIMOptions(eta=1.0), noise=noise)
    assert drawn == [0, 1, 2, 3, 4]
    drawn.clear()
    run(ddim, 4, DDIMOptions(), noise=noise)
    assert drawn == [0]


def test_ddim_with_eta_keeps_the_spread_and_differs_from_the_ode():
    spreads = [float(run(ddim, 200, DDIMOptions(eta=eta), n=20_000).std()) for eta in (0.0, 0.3, 1.0)]
    assert all(spread == pytest.approx(0.5, rel=0.06) for spread in spreads) and len(set(spreads)) == 3


def test_ddim_with_eta_takes_diffusers_steps():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
                           steps_offset=1)  # fmt: skip
    theirs.set_timesteps(10)
    generator = torch.Generator().manual_seed(0)
    noises = [torch.randn(2, 1, 4, 4, generator=generator) for _ in range(11)]
    z = noises[0]
    for k, t in enumerate(theirs.timesteps.tolist(), start=1):
        _, eps = gaussian(0.5)(z, t)
        z = theirs.step(eps, t, z, eta=0.6, variance_noise=noises[k]).prev_sample
    ours = ddim.sample(Sampling(gaussian(0.5), lambda k: noises[k], SD, 10, DDIMOptions(eta=0.6)))
    assert torch.allclose(ours, z, atol=2e-5)
