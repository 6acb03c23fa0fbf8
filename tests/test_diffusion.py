"""Schedule, conversions and the update primitive: golden numbers, inverses, diffusers' schedulers, closed forms."""

import math

import pytest
import torch

from scottbench.diffusion import (
    Schedule,
    add_noise,
    boundary_scalings,
    consistency_function,
    eps_from_v,
    eps_from_x0,
    guidance_embedding,
    guide,
    pseudo_huber,
    rho_ddim,
    skipping_grid,
    spread,
    to_x0_eps,
    update,
    x0_from_eps,
    x0_from_v,
)

SD = Schedule.scaled_linear()
SD_CONFIG = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)


def tensors(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3)]


@pytest.mark.invariant(1)
@pytest.mark.parametrize(
    "t, alpha_bar, alpha, sigma, lam",
    [
        (0, 0.999150, 0.99957, 0.029155, 0.029167),
        (19, 0.982244, 0.99108, 0.13325, 0.13445),
        (249, 0.675432, 0.82185, 0.56971, 0.69320),
        (499, 0.277670, 0.52694, 0.84990, 1.61289),
        (759, 0.052213, 0.22850, 0.97354, 4.26056),
        (975, 0.006196, 0.07871, 0.99690, 12.66483),
        (999, 0.004660, 0.068265, 0.99767, 14.61464),
    ],
)
def test_invariant_1_schedule_has_the_published_numbers(t, alpha_bar, alpha, sigma, lam):
    """The table has five or six decimals; to 1e-6 the numbers are those of the product written out."""
    ends = math.sqrt(0.00085), math.sqrt(0.012)
    product = math.prod(1 - (ends[0] + (ends[1] - ends[0]) * k / 999) ** 2 for k in range(t + 1))
    exact = product, math.sqrt(product), math.sqrt(1 - product), math.sqrt((1 - product) / product)
    ours = SD.alpha_bar(t), SD.alpha(t), SD.sigma(t), SD.lam(t)
    assert ours == pytest.approx(exact, rel=0, abs=1e-6)
    assert ours[0] == pytest.approx(alpha_bar, rel=0, abs=1e-6)
    assert ours[1:] == pytest.approx((alpha, sigma, lam), rel=0, abs=6e-6)
    assert SD.alpha(t) ** 2 + SD.sigma(t) ** 2 == pytest.approx(1, abs=1e-15)


def test_schedule_equals_diffusers_to_float32():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(**SD_CONFIG).alphas_cumprod.double()
    assert torch.allclose(SD.alphas_cumprod, theirs, rtol=2e-6)


@pytest.mark.invariant(2)
@pytest.mark.parametrize("t", [0, 19, 500, 999, torch.tensor([0, 19, 500, 999])])
def test_invariant_2_conversions_are_mutual_inverses(t):
    x0, eps, _ = tensors()
    z = add_noise(SD, x0, t, eps)
    v = SD.alpha(t) * eps - SD.sigma(t) * x0
    assert torch.allclose(x0_from_eps(SD, z, t, eps), x0, atol=1e-12)
    assert torch.allclose(eps_from_x0(SD, z, t, x0), eps, atol=1e-12)
    assert torch.allclose(x0_from_v(SD, z, t, v), x0, atol=1e-12)
    assert torch.allclose(eps_from_v(SD, z, t, v), eps, atol=1e-12)
    for prediction, output in (("epsilon", eps), ("v_prediction", v), ("sample", x0)):
        got = to_x0_eps(SD, z, t, output, prediction)
        assert torch.allclose(got[0], x0, atol=1e-12) and torch.allclose(got[1], eps, atol=1e-12), prediction


@pytest.mark.invariant(2)
def test_invariant_2_guiding_x0_is_guiding_eps_and_the_two_conventions_differ_by_one():
    cond, uncond, z = tensors()
    w, s, t = 3.0, 4.0, 600
    assert torch.allclose(guide(cond, uncond, w), uncond + s * (cond - uncond), atol=1e-12)
    through_x0 = guide(x0_from_eps(SD, z, t, cond), x0_from_eps(SD, z, t, uncond), w)
    assert torch.allclose(through_x0, x0_from_eps(SD, z, t, guide(cond, uncond, w)), atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("steps", [50, 10])
def test_primitive_equals_diffusers_ddim(eta, steps):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**SD_CONFIG)
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = SD.alphas_cumprod, SD.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    z, eps, noise = tensors()
    stride = 1000 // steps
    for s in scheduler.timesteps.tolist():
        t = s - stride
        theirs = scheduler.step(eps, s, z, eta=eta, variance_noise=noise).prev_sample
        rho = rho_ddim(SD, s, max(t, 0), eta)
        if t < 0:  # the last step goes to alpha_bar_0 in both
            t = 0
        ours = update(SD, x0_from_eps(SD, z, s, eps), eps, t, rho, noise)
        assert torch.allclose(ours, theirs, atol=1e-13), s


def test_primitive_with_rho_0_equals_diffusers_lcm_but_for_c_skip():
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(**SD_CONFIG, original_inference_steps=50, timestep_scaling=10.0)
    scheduler.alphas_cumprod = SD.alphas_cumprod
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == spread(skipping_grid(SD, 20), 4)
    z, eps, _ = tensors()
    state = torch.Generator().manual_seed(3)
    theirs = scheduler.step(eps, 999, z, generator=state)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3), dtype=z.dtype)
    x = consistency_function(z, 999, x0_from_eps(SD, z, 999, eps))
    assert torch.allclose(x, theirs.denoised, atol=1e-12)
    assert torch.allclose(update(SD, x, eps, 759, 0, noise), theirs.prev_sample, atol=1e-12)


@pytest.mark.invariant(4)
def test_invariant_4_eta_1_is_ancestral():
    for s, t in ((999, 759), (999, 0), (40, 19)):
        assert rho_ddim(SD, s, t, 1.0) == pytest.approx(SD.lam(t) / SD.lam(s), rel=1e-12)


@pytest.mark.invariant(6)
@pytest.mark.parametrize("schedule", [SD, Schedule.linear()], ids=["scaled_linear", "linear"])
@pytest.mark.parametrize("s, t", [(999, 975), (999, 0), (500, 20), (15, 0)])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.999, 1.0])
def test_invariant_6_oracle_marginals_hold_for_every_rho(rho, s, t, schedule):
    """With the true x0 and eps, z_t ~ q(z_t | x0): mean alpha_t x0, variance sigma_t^2. z_t is linear in x0, in the noise of z_s and
    in the step's own, each of which is given a coordinate."""
    x0, eps, noise = torch.eye(3, dtype=torch.float64).view(3, 1, 3, 1, 1)
    z = schedule.alpha(s) * x0 + schedule.sigma(s) * eps
    z_t = update(schedule, x0, eps_from_x0(schedule, z, s, x0), t, rho, noise).flatten()
    assert float(z_t[0]) == pytest.approx(schedule.alpha(t), rel=0, abs=1e-15)
    assert float((z_t[1:] ** 2).sum()) == pytest.approx(schedule.sigma(t) ** 2, rel=0, abs=1e-15)
    assert float(z_t[1]) == pytest.approx(schedule.sigma(t) * rho, rel=0, abs=1e-15), "rho of the noise that was there is kept"


def test_a_stochastic_step_without_noise_is_refused():
    x0, eps, _ = tensors()
    with pytest.raises(AssertionError):
        update(SD, x0, eps, 300, 0.5, None)


@pytest.mark.invariant(9)
def test_invariant_9_gaussian_teacher_in_closed_form():
    """Unit Gaussian data, D(y, lambda) = y / (1 + lambda^2): relative variance error of DDIM(eta) chains on a log-uniform
    lambda grid, -.0744/-.0379 at eta 0, -.1404/-.0738 at eta 1 for N = 40/80 (methods.md 7.2)."""
    expected = {0.0: (-0.0744, -0.0379), 0.6: (-0.0970, -0.0506), 1.0: (-0.1404, -0.0738)}
    for eta, values in expected.items():
        for n, value in zip((40, 80), values, strict=True):
            lam = torch.logspace(math.log10(14.61464), math.log10(0.029167), n + 1, dtype=torch.float64)
            alpha_bar = 1 / (1 + lam**2)
            schedule = Schedule(alpha_bar)
            variance = 1 + lam[0] ** 2
            for i in range(n):
                rho = rho_ddim(schedule, i, i + 1, eta)
                # one step as the primitive does it, on the basis vectors (y, noise) of the affine map
                y, noise = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
                z = y * schedule.alpha(i)
                x0 = y / (1 + float(lam[i]) ** 2)
                eps = (z - schedule.alpha(i) * x0) / schedule.sigma(i)
                coefficients = update(schedule, x0, eps, i + 1, rho, noise) / schedule.alpha(i + 1)
                variance = coefficients[0] ** 2 * variance + coefficients[1] ** 2
            assert float(variance / (1 + lam[-1] ** 2) - 1) == pytest.approx(value, abs=1.5e-4), (eta, n)


@pytest.mark.invariant(11)
def test_invariant_11_boundary_condition_is_exact():
    assert boundary_scalings(0) == (1.0, 0.0)
    z, x0, _ = tensors()
    assert torch.equal(consistency_function(z, torch.zeros(4, dtype=torch.int64), x0), z)
    c_skip, c_out = boundary_scalings(19)
    assert c_skip == pytest.approx(6.925e-6, rel=1e-3) and c_out == pytest.approx(0.9999965, abs=1e-7)
    assert boundary_scalings(1)[0] == pytest.approx(2.4938e-3, rel=1e-4)


@pytest.mark.invariant(12)
def test_invariant_12_guidance_embedding_is_diffusers_and_on_the_circle():
    from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import LatentConsistencyModelPipeline

    w = torch.tensor([0.0, 1.5, 7.0])
    ours = guidance_embedding(w, 256)
    theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, 256)
    assert ours.shape == (3, 256) and torch.allclose(ours[:, :128] ** 2 + ours[:, 128:] ** 2, torch.ones(3, 128), atol=1e-6)
    assert torch.allclose(ours, theirs, atol=2e-3)  # theirs takes sines of 7000 rad in float32


@pytest.mark.invariant(18)
@pytest.mark.parametrize("form", ["element", "norm"])
def test_invariant_18_pseudo_huber_limits(form):
    """Of one element both forms are sqrt(d^2 + c^2) - c; float64 in, float64 out."""
    one = lambda d: torch.tensor([[d]], dtype=torch.float64)  # noqa: E731
    huber = lambda d, c: float(pseudo_huber(one(1.0 + d), one(1.0), c, form))  # noqa: E731
    for d in (0.0, 1e-7, -3e-4, 1.0, -40.0):
        for c in (1e-6, 1e-3, 2.0):
            assert huber(d, c) == pytest.approx(math.hypot(d, c) - c, rel=0, abs=1e-12)
            assert (huber(d, c) == 0 if d == 0 else huber(d, c) > 0), (d, c)
    for d in (2.0, -0.5):
        assert huber(d, 1e-13) == pytest.approx(abs(d), rel=0, abs=1e-12), "c -> 0"
    assert huber(1e-3, 1.0) == pytest.approx(1e-6 / 2, rel=0, abs=1e-12), "small d"


@pytest.mark.invariant(18)
def test_invariant_18_element_and_norm_differ_in_what_they_take_the_root_of():
    a, b = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    root = lambda d: math.hypot(d, 0.1) - 0.1  # noqa: E731
    assert float(pseudo_huber(a, b, 0.1)) == pytest.approx((root(3) + root(4)) / 4, abs=1e-12)
    assert float(pseudo_huber(a, b, 0.1, "norm")) == pytest.approx(root(5) / 2, abs=1e-12)
    half = torch.full((1, 4), 1e-3, dtype=torch.float16)
    assert float(pseudo_huber(half, 0 * half)) == pytest.approx(1e-3 * (math.sqrt(2) - 1), rel=2e-3), "no underflow in half precision"


@pytest.mark.invariant(22)
def test_invariant_22_time_steps():
    grid = skipping_grid(SD, 20)
    assert (len(grid), grid[0], grid[-1]) == (50, 999, 19)
    assert [spread(grid, n) for n in (1, 2, 4)] == [[999], [999, 499], [999, 759, 499, 259]]
    assert spread(grid, 8) == [999, 879, 759, 639, 499, 379, 259, 139]
    grid = skipping_grid(SD, 24)
    assert (len(grid), grid[-1]) == (42, 15)
    assert [spread(grid, n) for n in (1, 2, 4)] == [[999], [999, 495], [999, 759, 495, 255]]


def test_float32_latents_stay_float32():
    z = torch.zeros(2, 4, 8, 8)
    t = torch.tensor([3, 900])
    assert update(SD, z, z, t, rho_ddim(SD, t, t - 3, 0.5), z).dtype == torch.float32
    assert consistency_function(z, t, z).dtype == torch.float32
