"""What a consistency student converges to (invariants 13 to 16 of methods.md 7.2): losses, fixed points, sampling, in closed form."""

import math

import pytest
import torch
from analytic import (
    SD,
    TEXT,
    Network,
    behind_the_boundary,
    cd,
    chain_slopes,
    column,
    consistency,
    fixed_point,
    gaussian,
    sampled_variance,
    scott,
)
from scottbench_scott import sampler as scott_sampler
from scottbench_scott.options import SamplerOptions as SCottSampler

from scottbench.diffusion import consistency_sample, skipping_grid, spread
from scottbench.registry.nouns import Sampling


@pytest.mark.invariant(13)
@pytest.mark.parametrize("form", ["element", "norm"])
def test_invariant_13_the_exact_student_has_no_loss_where_the_teacher_follows_the_exact_flow(monkeypatch, form):
    """CD's own step and loss, on its whole grid, with the exact ODE flow in place of the DDIM step. The student is the flow down to
    t = 0, where the boundary condition takes over."""
    std = lambda t: (0.36 + SD.lam(t) ** 2) ** 0.5  # noqa: E731
    flow = lambda z, s, t: SD.alpha(t) / SD.alpha(s) * std(t) / std(s) * z  # noqa: E731

    def to_zero(z, t):  # at t = 0 what the network says does not count
        return behind_the_boundary(lambda z, t: flow(z, t, 0))(z, t).nan_to_num()

    def exact(teacher, z, t, *rest):
        """(x0, eps) whose DDIM step ends where the flow does."""
        t_m = (t - 20).clamp_min(0)
        return flow(z, t, t_m) / SD.alpha(t_m), torch.zeros_like(z)

    made = cd(Network(gaussian(0.6)), Network(to_zero), huber=form)
    made.grid = made.grid.repeat(3)
    batch = {"latents": column(torch.linspace(-2, 2, 600)), "text": TEXT.expand(600, -1, -1), "uncond": TEXT}
    loss = lambda: float(next(made.step(batch | {"generator": torch.Generator().manual_seed(0)}))[1]["consistency"])  # noqa: E731
    assert loss() > 1e-7, "one DDIM step is not the flow"
    monkeypatch.setattr("scottbench_cd.trainer.guided_teacher", exact)
    assert abs(loss()) < 1e-12


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
