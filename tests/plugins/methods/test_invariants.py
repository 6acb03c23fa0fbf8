"""Invariants of methods.md section 7 on teachers in closed form, through the samplers and trainers that are shipped."""

import math

import pytest
import torch
from analytic import SD, TEXT, Mixture, Network, chain_slopes, column, gaussian, log_uniform, scott
from scottbench_cd import sampler as cd_sampler
from scottbench_cd.options import SamplerOptions as CDSampler
from scottbench_scott import sampler as scott_sampler
from scottbench_scott.noise_functions import LOG_PSI, rho_er_sde
from scottbench_scott.options import SamplerOptions as SCottSampler
from scottbench_solvers import ddim, dpmpp
from scottbench_solvers.options import DDIMOptions

from scottbench.diffusion import rho_ddim, update
from scottbench.models.noise import ItemNoise
from scottbench.registry.nouns import Sampling

SDE_5 = "x(exp(x^0.3)+10)"
PAIRS = [(999, 975), (999, 0), (500, 20), (15, 0), (19, 0)]
MIXTURE = Mixture([0.3, 0.7], [-1.0, 0.8], [0.2, 0.4])


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3)]


@pytest.mark.invariant(3)
@pytest.mark.parametrize("s, t", PAIRS)
def test_invariant_3_ddim_is_first_order_dpm_solver(s, t):
    """Three forms of one step: rho = 1, ER-SDE with phi = x, and DPM-Solver++'s own formula."""
    x0, eps, noise = tensors()
    z = SD.alpha(s) * x0 + SD.sigma(s) * eps
    h = math.log(SD.lam(s) / SD.lam(t))
    theirs = SD.sigma(t) / SD.sigma(s) * z - SD.alpha(t) * math.expm1(-h) * x0
    ours = update(SD, x0, eps, t, 1, None)
    assert torch.allclose(ours, theirs, rtol=1e-14, atol=1e-14)
    assert torch.equal(update(SD, x0, eps, t, float(rho_er_sde(SD, s, t, "x")), noise), ours)
    assert torch.equal(update(SD, x0, eps, t, rho_ddim(SD, s, t, 0.0), noise), ours)


@pytest.mark.invariant(4)
@pytest.mark.parametrize("s, t", PAIRS)
def test_invariant_4_ancestral_is_first_order_sde_dpm_solver(s, t):
    x0, eps, noise = tensors()
    z = SD.alpha(s) * x0 + SD.sigma(s) * eps
    h = math.log(SD.lam(s) / SD.lam(t))
    theirs = SD.sigma(t) / SD.sigma(s) * math.exp(-h) * z - SD.alpha(t) * math.expm1(-2 * h) * x0
    theirs = theirs + SD.sigma(t) * math.sqrt(-math.expm1(-2 * h)) * noise
    for rho in (rho_ddim(SD, s, t, 1.0), float(rho_er_sde(SD, s, t, "x^2"))):
        assert torch.allclose(update(SD, x0, eps, t, rho, noise), theirs, rtol=1e-14, atol=1e-14)


@pytest.mark.invariant(7)
@pytest.mark.parametrize("s, t", [(999, 759), (759, 499), (300, 100), (100, 0)])
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.95, 1.0])
def test_invariant_7_one_step_keeps_the_mean_and_loses_a_known_part_of_the_variance(s, t, rho):
    """With the exact denoiser, for any data: E[y_t] = E[x0], Var(y_t) = true - (1 - r)^2 E[Var(x0 | y_s)]; quadrature over y_s."""
    y = torch.linspace(-14 * (1 + SD.lam(s)), 14 * (1 + SD.lam(s)), 40_001, dtype=torch.float64)
    weight = MIXTURE.density(y, SD.lam(s)) * (y[1] - y[0])
    z, x0 = column(SD.alpha(s) * y), column(MIXTURE.mean(y, SD.lam(s)))
    eps = (z - SD.alpha(s) * x0) / SD.sigma(s)
    y_t = (update(SD, x0, eps, t, rho, torch.zeros_like(z)) / SD.alpha(t)).flatten()
    spread_of_noise = float(update(SD, column([0.0]), column([0.0]), t, rho, column([1.0]))) / SD.alpha(t)
    mean = float((weight * y_t).sum())
    data_mean = float((MIXTURE.w * MIXTURE.m).sum())
    data_variance = float((MIXTURE.w * (MIXTURE.s**2 + MIXTURE.m**2)).sum()) - data_mean**2
    r = rho * SD.lam(t) / SD.lam(s)
    lost = (1 - r) ** 2 * float((weight * MIXTURE.variance(y, SD.lam(s))).sum())
    assert mean == pytest.approx(data_mean, abs=1e-10)
    variance = float((weight * (y_t - mean) ** 2).sum()) + spread_of_noise**2
    assert variance == pytest.approx(data_variance + SD.lam(t) ** 2 - lost, abs=1e-10)


@pytest.mark.invariant(8)
@pytest.mark.parametrize("options", [
    *({"solver": "ddim", "eta": eta} for eta in (0.0, 0.2, 0.6, 1.0)), *({"noise_function": formula} for formula in LOG_PSI),
])  # fmt: skip
@pytest.mark.parametrize("h", [1, 2, 3])
def test_invariant_8_point_mass_data_have_exact_marginals(options, h):
    """z_m of data at mu is alpha mu + sigma (unit normal): followed on the basis (mu, z's noise, each sub-step's noise)."""
    made = scott(Network(lambda z, t: torch.eye(5, dtype=torch.float64)[0].view(1, 5, 1, 1).expand_as(z)), h=h, **options)
    basis, drawn = torch.eye(5, dtype=torch.float64).view(5, 1, 5, 1, 1), iter(range(2, 5))
    made.normal = lambda like, generator: basis[next(drawn)].expand_as(like)
    t = made.grid
    z = SD.alpha(t) * basis[0] + SD.sigma(t) * basis[1]
    z_m, t_m = made.teacher_chain(z, t, TEXT.expand(len(t), -1, -1), TEXT, torch.zeros(len(t)), None)
    assert torch.allclose(z_m[:, 0, 0, 0], SD.alpha(t_m).flatten(), atol=1e-13)
    assert torch.allclose((z_m[:, 1:, 0, 0] ** 2).sum(1), SD.sigma(t_m).flatten() ** 2, atol=1e-13)


def log_uniform_variance(n: int, name: float | str) -> float:
    """The same error by methods.md 7.1 alone: y_t = A y_s + lambda_t sqrt(1 - rho^2) xi, A = r + (1 - r) / (1 + lambda_s^2)."""
    lam = [0.029167 * (14.61464 / 0.029167) ** (k / n) for k in range(n + 1)]
    psi = lambda x: math.exp(x**0.3) + 10  # noqa: E731
    variance = lam[n] ** 2 + 1
    for s, t in zip(lam[:0:-1], lam[-2::-1], strict=True):
        squared = (psi(t) / psi(s)) ** 2 if isinstance(name, str) else 1 - name**2 * (1 - t**2 / s**2)
        r = math.sqrt(squared) * t / s
        variance = (r + (1 - r) / (1 + s**2)) ** 2 * variance + t**2 * (1 - squared)
    return variance / (1 + lam[0] ** 2) - 1


@pytest.mark.invariant(9)
@pytest.mark.parametrize("name, errors", [
    (0.0, (-0.0744, -0.0379, -0.0191)), (0.6, (-0.0970, -0.0506, -0.0258)), (1.0, (-0.1404, -0.0738, -0.0378)),
    (SDE_5, (-0.0795, -0.0406, -0.0205)),
])  # fmt: skip
def test_invariant_9_the_error_of_the_marginal_halves_with_the_step(name, errors):
    """Unit Gaussian, log-uniform lambda: relative variance error after N = 40, 80, 160 steps; weak order 1 for every noise."""
    found = []
    for n in (40, 80, 160):
        schedule, denoise = log_uniform(n), gaussian(1.0, log_uniform(n))
        variance = float(schedule.lam(n)) ** 2 + 1
        for s in range(n, 0, -1):
            rho = float(rho_er_sde(schedule, s, s - 1, name)) if isinstance(name, str) else rho_ddim(schedule, s, s - 1, name)
            z = column([schedule.alpha(s)])
            x0 = denoise(z, s)
            eps = (z - schedule.alpha(s) * x0) / schedule.sigma(s)
            kept, added = (float(update(schedule, *parts, s - 1, rho, noise)) / schedule.alpha(s - 1) for parts, noise in (
                ((x0, eps), column([0.0])), ((column([0.0]), column([0.0])), column([1.0]))))
            variance = kept**2 * variance + added**2
        found.append(variance / (1 + float(schedule.lam(0)) ** 2) - 1)
        closed = log_uniform_variance(n, name)
        assert found[-1] == pytest.approx(closed, rel=1e-9)
    assert found == pytest.approx(list(errors), rel=0, abs=5.1e-5), "the table's four decimals"
    assert found[0] / found[1] == pytest.approx(2, abs=0.1) and found[1] / found[2] == pytest.approx(2, abs=0.06)


@pytest.mark.invariant(10)
def test_invariant_10_dpmpp_is_of_second_order_on_a_mixture_too():
    """Where x0 is returned at lambda_1, against the denoiser on the exact flow, which is the quantile map."""
    errors, start = [], torch.tensor([-20.0, -6.0, 3.0, 11.0], dtype=torch.float64)
    for n in (80, 160, 320):
        schedule = log_uniform(n)
        denoise = Network(lambda z, t, s=schedule: column(MIXTURE.mean((z / s.alpha(t)).flatten(), s.lam(t))), schedule)
        z_T = column(schedule.alpha(n) * start)
        run = Sampling(lambda z, t, d=denoise: (d.x0(z, t), d(z, t)[0]), lambda k, z=z_T: z, schedule, n, DDIMOptions())
        exact = MIXTURE.mean(MIXTURE.flow(start, schedule.lam(n), schedule.lam(1)), schedule.lam(1))
        errors.append(float((dpmpp.sample(run).flatten() - exact).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1) and math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.1)


@pytest.mark.invariant(22)
def test_invariant_22_time_steps_of_the_samplers():
    assert [cd_sampler.timesteps(SD, n, CDSampler()) for n in (1, 2, 4)] == [[999], [999, 499], [999, 759, 499, 259]]
    assert cd_sampler.timesteps(SD, 8, CDSampler()) == [999, 879, 759, 639, 499, 379, 259, 139]
    assert [scott_sampler.timesteps(SD, n, SCottSampler()) for n in (1, 2, 4)] == [[999], [999, 495], [999, 759, 495, 255]]
    assert scott_sampler.timesteps(SD, 4, SCottSampler(skip=20)) == [999, 759, 499, 259]


@pytest.mark.invariant(29)
def test_invariant_29_an_item_s_noise_knows_nothing_of_its_batch():
    ids, shape = [f"item-{i}" for i in range(5)], (4, 8, 8)
    whole = ItemNoise(3, ids, shape)
    parts = [ItemNoise(3, ids[:2], shape), ItemNoise(3, ids[2:], shape)]
    for draw in (0, 1, 7):
        assert torch.equal(whole(draw), torch.cat([part(draw) for part in parts]))
    assert torch.equal(whole(1), ItemNoise(3, ids, shape)(1)) and not torch.equal(whole(1), whole(2))
    denoise = Network(gaussian(0.5))

    def sample(noise):
        run = Sampling(lambda z, t: (denoise.x0(z, t).to(z.dtype), denoise(z, t)[0].to(z.dtype)), noise, SD, 4, CDSampler())
        return cd_sampler.sample(run)

    assert torch.equal(sample(whole), sample(ItemNoise(3, ids, shape)))
    assert torch.allclose(sample(whole), torch.cat([sample(part) for part in parts]), atol=1e-6)


@pytest.mark.invariant(30)
@pytest.mark.parametrize("options", [{"noise_function": formula} for formula in LOG_PSI] + [
    {"solver": "ode"}, *({"solver": "ddim", "eta": eta} for eta in (0.0, 0.3, 1.0))])  # fmt: skip
@pytest.mark.parametrize("skip, h", [(24, 3), (20, 1), (20, 3)])
def test_invariant_30_every_chain_is_finite_down_to_t_0(options, skip, h):
    """With and without the second-order term, on grids whose last intervals are 15 -> 0 and 19 -> 0."""
    for order in {1, min(2, h)} - ({2} if options.get("solver") == "ddim" else set()):
        made = scott(Network(gaussian(1.0)), h=h, skip=skip, order=order, **options)
        slopes, t_m = chain_slopes(made)
        assert t_m[-1] == 0 and torch.isfinite(slopes).all() and (slopes > 0).all()
        rho = torch.as_tensor(made.rho(made.grid, t_m), dtype=torch.float64)
        assert torch.isfinite(rho).all() and (rho >= 0).all() and (rho <= 1).all()


@pytest.mark.invariant(30)
@pytest.mark.parametrize("steps", [1, 2, 25, 50])
def test_invariant_30_every_sampler_is_finite_at_its_last_step(steps):
    network = Network(gaussian(0.5))
    denoise = lambda z, t: (network.x0(z, t), network(z, t)[0])  # noqa: E731
    for sampler, options in ((ddim, DDIMOptions()), (dpmpp, None), (cd_sampler, CDSampler()), (scott_sampler, SCottSampler())):
        if sampler is scott_sampler and steps > 42:
            continue
        times = sampler.timesteps(SD, steps, options)
        run = Sampling(denoise, lambda k: column([1.0, -3.0]), SD, steps, options)
        assert len(times) == steps and torch.isfinite(sampler.sample(run)).all()
