"""Invariants of methods.md section 7 on teachers in closed form, through the samplers and trainers that are shipped."""

import math

import pytest
import torch
from analytic import (
    SD,
    TEXT,
    Mixture,
    Network,
    behind_the_boundary,
    cd,
    chain_slopes,
    column,
    consistency,
    fixed_point,
    gaussian,
    log_uniform,
    sampled_variance,
    scott,
)
from scottbench_cd import sampler as cd_sampler
from scottbench_cd.options import SamplerOptions as CDSampler
from scottbench_scott import sampler as scott_sampler
from scottbench_scott.noise_functions import LOG_PSI, rho_er_sde
from scottbench_scott.options import SamplerOptions as SCottSampler
from scottbench_solvers import dpmpp

from scottbench.diffusion import consistency_sample, rho_ddim, skipping_grid, spread, update
from scottbench.noise import ItemNoise
from scottbench.nouns import Sampling

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
    assert torch.allclose(ours, theirs, rtol=1e-14, atol=2e-14)
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
        assert torch.allclose(update(SD, x0, eps, t, rho, noise), theirs, rtol=1e-14, atol=2e-14)


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
    assert found == pytest.approx(list(errors), abs=1e-4)
    assert found[0] / found[1] == pytest.approx(2, abs=0.1) and found[1] / found[2] == pytest.approx(2, abs=0.06)


@pytest.mark.invariant(10)
def test_invariant_10_dpmpp_is_of_second_order_on_a_mixture_too():
    """Where x0 is returned at lambda_1, against the denoiser on the exact flow, which is the quantile map."""
    errors, start = [], torch.tensor([-20.0, -6.0, 3.0, 11.0], dtype=torch.float64)
    for n in (80, 160, 320):
        schedule = log_uniform(n)
        denoise = Network(lambda z, t, s=schedule: column(MIXTURE.mean((z / s.alpha(t)).flatten(), s.lam(t))), schedule)
        z_T = column(schedule.alpha(n) * start)
        run = Sampling(lambda z, t, d=denoise: (d.x0(z, t), d(z, t)[0]), lambda k, z=z_T: z, schedule, n, None)
        exact = MIXTURE.mean(MIXTURE.flow(start, schedule.lam(n), schedule.lam(1)), schedule.lam(1))
        errors.append(float((dpmpp.sample(run).flatten() - exact).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15) and math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.1)


@pytest.mark.invariant(13)
def test_invariant_13_the_exact_consistency_function_has_no_loss_on_the_exact_flow():
    f, s, t = consistency(0.6), torch.tensor([999, 500, 19]), torch.tensor([979, 480, 0])
    z = column([1.0, -2.0, 0.3])
    flow = SD.alpha(t) / SD.alpha(s) * ((0.36 + SD.lam(t) ** 2) / (0.36 + SD.lam(s) ** 2)) ** 0.5 * z
    assert torch.allclose(f(flow, t), f(z, s), atol=1e-12)


@pytest.mark.invariant(13)
def test_invariant_13_one_ddim_step_of_cd_leaves_an_error_of_second_order():
    """CD's own step with the exact student: its loss (c -> 0: mean |d|) falls with the square of the skipping step."""
    student, losses = Network(behind_the_boundary(consistency(1.0))), []
    for skip in (40, 20, 10):
        made = cd(Network(gaussian(1.0)), student, skip=skip, huber_c=1e-12)
        made.grid = torch.tensor([600])
        batch = {"latents": column(torch.linspace(-2, 2, 64)), "text": TEXT.expand(64, -1, -1), "uncond": TEXT}
        ((_, terms, _),) = made.step(batch | {"generator": torch.Generator().manual_seed(0), "step": 0, "fraction": 0.0})
        losses.append(float(terms["consistency"]))
    assert losses[0] > 0
    assert math.log2(losses[0] / losses[1]) == pytest.approx(2, abs=0.1) and math.log2(losses[1] / losses[2]) == pytest.approx(2, abs=0.1)


@pytest.mark.invariant(14)
@pytest.mark.parametrize("times", [[999], [999, 499], [999, 759, 499, 259], [999, 3], spread(skipping_grid(SD, 24), 8)])
@pytest.mark.parametrize("s", [1.0, 0.25])
def test_invariant_14_the_exact_consistency_function_keeps_the_data_law_at_any_times(times, s):
    """Followed on the basis of the independent noises: the sample's variance over the data's is 1."""
    basis = torch.eye(len(times), dtype=torch.float64).view(len(times), 1, -1, 1, 1)
    start = math.sqrt(SD.alpha(999) ** 2 * s**2 + SD.sigma(999) ** 2)
    x0 = behind_the_boundary(consistency(s))
    noise = lambda k: basis[k] * (start if k == 0 else 1.0)  # noqa: E731
    # eps is not looked at: consistency sampling re-noises with rho = 0
    run = Sampling(lambda z, t: (x0(z, t), torch.zeros_like(z)), noise, SD, len(times), None)
    assert float((consistency_sample(run, times) ** 2).sum()) / s**2 == pytest.approx(1, abs=1e-12)


ROWS = {
    "ode": ({"solver": "ode"}, (0.940, 0.937, 0.927), (0.980, 0.979, 0.975), (0.822, 0.819, 0.809), (0.941, 0.940, 0.936)),
    "0.1": ({"solver": "ddim", "eta": 0.1}, (0.896, 0.914, 0.912), (0.931, 0.953, 0.958), (0.766, 0.793, 0.793), (0.871, 0.906, 0.914)),
    "0.2": ({"solver": "ddim", "eta": 0.2}, (0.775, 0.853, 0.871), (0.797, 0.884, 0.911), (0.619, 0.719, 0.747), (0.690, 0.813, 0.852)),
    "0.3": ({"solver": "ddim", "eta": 0.3}, (0.608, 0.764, 0.809), (0.614, 0.786, 0.840), (0.432, 0.611, 0.677), (0.468, 0.679, 0.759)),
    "0.6": ({"solver": "ddim", "eta": 0.6}, (0.157, 0.478, 0.574), (0.149, 0.481, 0.582), (0.058, 0.251, 0.398), (0.056, 0.258, 0.416)),
    "1": ({"solver": "ddim", "eta": 1.0}, (0.0047, 0.204, 0.315), (0.0047, 0.204, 0.315), (0.0003, 0.024, 0.101), (0.0003, 0.024, 0.101)),
    "sde_5": ({}, (0.419, 0.738, 0.830), (0.436, 0.767, 0.871), (0.317, 0.674, 0.735), (0.363, 0.771, 0.847)),
    "x^2.5": ({"noise_function": "x^2.5"}, (0.0003, 0.114, 0.232), (0.0003, 0.110, 0.225), (0, 0.005, 0.041), (0, 0.004, 0.037)),
}


@pytest.mark.invariant(15)
@pytest.mark.parametrize("row", ROWS)
def test_invariant_15_what_scott_converges_to_on_gaussian_data(row):
    """Variance ratios of the optimal student at 1, 2, 4 steps (methods.md 3.6), from the trainer's own teacher chain."""
    options, *expected = ROWS[row]
    for (s, h), values in zip([(1.0, 1), (1.0, 3), (0.25, 1), (0.25, 3)], expected, strict=True):
        f = fixed_point(scott(Network(gaussian(s)), h=h, **options))
        for n, value in zip((1, 2, 4), values, strict=True):
            times = scott_sampler.timesteps(SD, n, SCottSampler())
            assert sampled_variance(f, times, s) == pytest.approx(value, abs=6e-4), (s, h, n)


@pytest.mark.invariant(15)
def test_invariant_15_a_student_trained_on_random_targets_gets_there():
    """A linear student, least squares on draws of the real chain, level after level: one-step variance within 2 %."""
    made, generator, n = scott(Network(gaussian(1.0)), h=3), torch.Generator().manual_seed(0), 40_000
    f = {0: 1.0}
    for t in reversed(made.grid.tolist()):
        z = torch.randn(n, 1, 1, 1, generator=generator, dtype=torch.float64)
        made.normal = lambda like, generator: torch.randn(like.shape, generator=generator, dtype=like.dtype)
        z_m, t_m = made.teacher_chain(z, torch.full((n,), t), TEXT.expand(n, -1, -1), TEXT, torch.zeros(n), generator)
        f[t] = float((z * z_m).mean() / (z * z).mean()) * f[int(t_m[0])]
    assert sampled_variance(f, [999], 1.0) == pytest.approx(0.436, rel=0.02)


@pytest.mark.invariant(16)
@pytest.mark.parametrize("h", [1, 2, 3])
def test_invariant_16_full_noise_gives_the_posterior_mean_whatever_h(h):
    """eta = 1: A(s -> t) g(t) = g(s) with g = s^2 / (s^2 + lambda^2): the product of A's does not know where it is cut."""
    made = scott(Network(gaussian(0.7)), h=h, solver="ddim", eta=1.0)
    slopes, t_m = chain_slopes(made)
    g_n, g_m = (0.49 / (0.49 + SD.lam(t).flatten() ** 2) for t in (made.grid, t_m))
    in_y = slopes * SD.alpha(made.grid).flatten() / SD.alpha(t_m).flatten()
    assert torch.allclose(in_y * g_m, g_n, rtol=1e-12, atol=0)


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
@pytest.mark.parametrize("formula", LOG_PSI)
@pytest.mark.parametrize("skip, h", [(24, 3), (20, 1), (20, 3)])
def test_invariant_30_every_chain_is_finite_down_to_t_0(formula, skip, h):
    """With and without the second-order term, on grids whose last intervals are 15 -> 0 and 19 -> 0."""
    for order in {1, min(2, h)}:
        slopes, t_m = chain_slopes(scott(Network(gaussian(1.0)), h=h, skip=skip, noise_function=formula, order=order))
        assert t_m[-1] == 0 and torch.isfinite(slopes).all() and (slopes > 0).all()
    for s, t in zip(skipping_grid(SD, skip), [*skipping_grid(SD, skip)[1:], 0]):
        for rho in (float(rho_er_sde(SD, s, t, formula)), *(rho_ddim(SD, s, t, eta) for eta in (0.0, 0.3, 1.0))):
            assert math.isfinite(rho) and 0 <= rho <= 1
