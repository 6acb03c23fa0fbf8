"""ER-SDE's noise functions against the published table and the identities of methods.md 7.2."""

import math

import pytest
import torch
from scottbench_scott.noise_functions import LOG_PSI, rho_er_sde

from scottbench.diffusion import Schedule, rho_ddim, update

SD = Schedule.scaled_linear()
SDE_5 = "x(exp(x^0.3)+10)"


def noise_std(s, t, rho):
    return SD.sigma(t) * math.sqrt(1 - float(rho) ** 2)


@pytest.mark.parametrize(
    "s, t, sde_5, power", [(999, 975, 0.2904, 0.5891), (999, 991, 0.1738, 0.3663), (503, 479, 0.0952, 0.3847), (103, 79, 0.0314, 0.1793)]
)
def test_noise_of_one_step_has_the_published_size(s, t, sde_5, power):
    assert noise_std(s, t, rho_er_sde(SD, s, t, SDE_5)) == pytest.approx(sde_5, abs=6e-5)
    assert noise_std(s, t, rho_er_sde(SD, s, t, "x^2.5")) == pytest.approx(power, abs=6e-5)


@pytest.mark.parametrize("eta, std", [(0.1, 0.0498), (0.2, 0.0995), (0.3, 0.1492), (0.6, 0.2985), (1.0, 0.4975)])
def test_noise_of_ddim_eta_has_the_published_size(eta, std):
    assert noise_std(999, 975, rho_ddim(SD, 999, 975, eta)) == pytest.approx(std, abs=6e-5)


@pytest.mark.invariant(3)
@pytest.mark.invariant(4)
@pytest.mark.parametrize("s, t", [(999, 975), (500, 20), (15, 0)])
def test_invariants_3_and_4_named_functions_are_known_solvers(s, t):
    assert float(rho_er_sde(SD, s, t, "x")) == 1.0
    assert float(rho_er_sde(SD, s, t, "x^2")) == pytest.approx(rho_ddim(SD, s, t, 1.0), rel=1e-13)
    assert float(rho_er_sde(SD, s, t, SDE_5, strength=0.0)) == 1.0


@pytest.mark.invariant(5)
def test_invariant_5_er_sde_telescopes_and_ddim_does_not():
    """With a frozen x0, three sub-steps of ER-SDE inject what one step does; DDIM(eta) injects 9.28 % / 6.13 % more."""
    times = [999, 991, 983, 975]
    for formula in LOG_PSI:
        steps = [float(rho_er_sde(SD, s, t, formula)) for s, t in zip(times, times[1:])]
        assert math.prod(steps) == pytest.approx(float(rho_er_sde(SD, 999, 975, formula)), rel=1e-13)
    for eta, more in ((0.2, 1.0928), (0.6, 1.0613)):
        steps = [rho_ddim(SD, s, t, eta) for s, t in zip(times, times[1:])]
        assert (1 - math.prod(steps) ** 2) / (1 - rho_ddim(SD, 999, 975, eta) ** 2) == pytest.approx(more, abs=1e-4)


@pytest.mark.invariant(5)
@pytest.mark.parametrize("formula", LOG_PSI)
def test_invariant_5_three_sub_steps_with_a_frozen_x0_are_one_step(formula):
    """Through the primitive: what is kept of z's own noise, and the variance added, followed on the basis of the four noises."""
    basis = torch.eye(4, dtype=torch.float64).view(4, 1, 4, 1, 1)

    def walk(times):
        direction, frozen = basis[0], torch.zeros(1, 4, 1, 1, dtype=torch.float64)
        for k, (s, t) in enumerate(zip(times, times[1:])):
            direction = update(SD, frozen, direction, t, float(rho_er_sde(SD, s, t, formula)), basis[k + 1]) / SD.sigma(t)
        return direction.flatten()

    three, one = walk([999, 991, 983, 975]), walk([999, 975])
    assert float(three[0]) == pytest.approx(float(one[0]), rel=0, abs=1e-13)
    assert float((three[1:] ** 2).sum()) == pytest.approx(float(one[1] ** 2), rel=0, abs=1e-13)
    assert float((three**2).sum()) == pytest.approx(1, abs=1e-13)
    assert formula == "x" or float(one[1]) > 0.01


@pytest.mark.invariant(30)
@pytest.mark.parametrize("formula", LOG_PSI)
def test_invariant_30_rho_stays_in_the_unit_interval_down_to_t_0(formula):
    s = torch.arange(999, 0, -24)
    rho = rho_er_sde(SD, s, (s - 24).clamp_min(0), formula)
    assert torch.isfinite(rho).all() and (rho >= 0).all() and (rho <= 1 + 1e-12).all()


def test_sde_5_has_the_published_local_noise_level():
    """kappa = d ln phi / d ln x - 1 = d ln psi / d ln x: 0.324 at lambda_999, 0.064 at 1, 0.021 at 0.1."""
    for x, kappa in ((14.61464, 0.324), (5.0, 0.163), (1.0, 0.064), (0.3, 0.035), (0.1, 0.021)):
        at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(LOG_PSI[SDE_5](at), at)
        assert float(slope) * x == pytest.approx(kappa, abs=6e-4)
