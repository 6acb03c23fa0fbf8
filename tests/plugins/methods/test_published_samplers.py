"""Samplers of published students beside the public schedulers, on random tensors: the same time steps, the same latents."""

import pytest
import torch
from scottbench_cd import register_methods as of_cd
from scottbench_solvers import register_methods as of_solvers
from scottbench_tcd import register_methods as of_tcd
from scottbench_ufogen import sampler as ufogen

from scottbench.diffusion import Schedule, to_x0_eps
from scottbench.registry.nouns import Sampling
from scottbench.registry.options import make_options

SD = Schedule.scaled_linear()
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
METHODS = {method.name: method for method in [*of_cd(), *of_solvers(), *of_tcd()]}
SHAPE = (2, 4, 8, 8)


def noise(k: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(k))


def network(z: torch.Tensor, t: float) -> torch.Tensor:
    """A raw output that depends on z and t as no closed form does."""
    return torch.tanh(1.3 * z.roll(1, 3) + 0.4 * z.roll(2, 2) + float(t) / 700) + 0.1 * z


def ours(name: str, steps: int, **options) -> torch.Tensor:
    method = METHODS[name]

    def denoise(z, t):
        return to_x0_eps(SD, z, t, network(z, t), "epsilon")

    made = make_options(method.options, {key: str(value) for key, value in options.items()}, name)
    return method.sample(Sampling(denoise, noise, SD, steps, made))


def theirs(scheduler, steps: int, monkeypatch, module: str, **more) -> torch.Tensor:
    """What a pipeline's loop makes with a public scheduler that is given our noises."""
    drawn = iter(range(1, steps + 1))
    monkeypatch.setattr(f"diffusers.schedulers.{module}.randn_tensor", lambda *a, **k: noise(next(drawn)))
    scheduler.set_timesteps(steps)
    z = noise(0) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(z, t), t)
        found = scheduler.step(output, t, z, **more)
        z = found.prev_sample
    return found.denoised if hasattr(found, "denoised") else z


def timesteps(name: str, steps: int, **options) -> list[float]:
    method = METHODS[name]
    return list(method.timesteps(SD, steps, make_options(method.options, {key: str(value) for key, value in options.items()}, name)))


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
@pytest.mark.parametrize("eta", [0.0, 0.2, 0.3, 1.0])
def test_tcd_is_tcdscheduler(steps, eta, monkeypatch):
    from diffusers import TCDScheduler

    scheduler = TCDScheduler(**BETAS, set_alpha_to_one=False, steps_offset=1)
    expected = theirs(scheduler, steps, monkeypatch, "scheduling_tcd", eta=eta)
    assert timesteps("tcd", steps, eta=eta) == scheduler.timesteps.tolist()
    assert torch.allclose(ours("tcd", steps, eta=eta), expected, rtol=1e-5, atol=1e-5)


def test_tcd_of_another_grid_is_the_scheduler_with_other_original_steps(monkeypatch):
    from diffusers import TCDScheduler

    expected = theirs(TCDScheduler(**BETAS, original_inference_steps=20), 4, monkeypatch, "scheduling_tcd", eta=0.3)
    assert torch.allclose(ours("tcd", 4, skip=50), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours("tcd", 4), expected, atol=1e-2)


def test_tcd_s_middle_time_is_rounded_as_the_scheduler_s():
    """floor((1 - eta) t) at all times of the schedule, whole products among them, which float32 and float64 may round apart."""
    times = torch.arange(1000)
    for eta in (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0):
        public = torch.floor((1 - eta) * times).long()
        own = torch.tensor([int((1 - eta) * t + 1e-6) for t in range(1000)])
        assert int((public - own).abs().sum()) <= 2, eta


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
@pytest.mark.parametrize("name", ["lcm", "cd"])
def test_lcm_and_cd_are_lcmscheduler(name, steps, monkeypatch):
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(**BETAS)
    expected = theirs(scheduler, steps, monkeypatch, "scheduling_lcm")
    assert timesteps(name, steps) == scheduler.timesteps.tolist()
    assert torch.allclose(ours(name, steps), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_euler_is_eulerdiscretescheduler(spacing, steps, monkeypatch):
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing=spacing, steps_offset=1)
    expected = theirs(scheduler, steps, monkeypatch, "scheduling_euler_discrete")
    assert timesteps("euler", steps, spacing=spacing) == [int(t) for t in scheduler.timesteps]
    assert torch.allclose(ours("euler", steps, spacing=spacing), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_ddim_s_spacings_are_ddimscheduler_s(spacing, steps, monkeypatch):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing=spacing)
    expected = theirs(scheduler, steps, monkeypatch, "scheduling_ddim")
    assert timesteps("ddim", steps, spacing=spacing) == scheduler.timesteps.tolist()
    assert torch.allclose(ours("ddim", steps, spacing=spacing), expected, rtol=1e-5, atol=1e-5)


def test_dmd2_s_times_are_ufogen_s():
    """One step at 999, as its one-step U-Net was trained; four steps as its pipelines name them."""
    assert ufogen.timesteps(SD, 1) == [999] and ufogen.timesteps(SD, 4) == [999, 749, 499, 249]
