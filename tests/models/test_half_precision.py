"""Arithmetic around networks in half precision is float32: what a schedule's coefficients meet, and what is decoded."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from analytic import SD, Network, gaussian, scott
from tiny import tiny_pipeline, tiny_unet

from scottbench.diffusion import add_noise, guide, to_x0_eps, update, wide
from scottbench.errors import ScottbenchError
from scottbench.models.diffusion_model import DiffusionModel, run_unet
from scottbench.models.pipeline import open_pipeline
from scottbench.training.discriminator import Discriminator
from scottbench.training.distillation import consistency_output, guided_teacher

BF16 = torch.bfloat16


@pytest.mark.parametrize("within", [contextlib.nullcontext, lambda: torch.autocast("cpu", BF16)])
def test_the_teachers_target_of_a_network_in_bfloat16_is_off_by_little_of_its_step(within):
    """20 time steps of the ODE, the exact eps rounded to bfloat16 as a network gives it: what is wrong is at most 3 % of the way."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 2048, 1, 1, 1, generator=generator)
    for t in range(499, 1000, 20):
        at = torch.full((len(x0),), t)
        z, ends = add_noise(SD, x0, at, eps), []
        for output in (eps, eps.to(BF16)):
            with within():
                x, e = to_x0_eps(SD, z, at, guide(output, output, torch.ones(len(z), 1, 1, 1, dtype=output.dtype)), "epsilon")
                ends.append(update(SD, x, e, at - 20, rho=1, noise=None))
        assert ends[1].dtype == torch.float32
        error, way = (ends[1] - ends[0]).square().mean().sqrt(), (ends[0] - z).square().mean().sqrt()
        assert float(error / way) <= 0.03, (t, float(error / way))


@pytest.mark.parametrize("kind", [torch.float32, BF16, torch.float16])
def test_the_noise_that_is_injected_has_the_variance_that_is_asked_for(kind):
    """SDE_5 from 103 to 95, the least noise of all steps: what half precision adds to it is below 0.2 % of its variance."""
    n = 200_000
    teacher = Network(gaussian(1.0))
    rho = scott(teacher).rho(torch.tensor([103]), torch.tensor([95]))
    z = torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    s, t = torch.full((n,), 103), torch.full((n,), 95)
    eps = (SD.sigma(s) * z.double()).to(kind)  # exact, of unit Gaussian data
    noise = torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", BF16, enabled=kind == BF16):
        x, e = to_x0_eps(SD, z, s, eps, "epsilon")
        found = update(SD, x, e, t, rho, noise) - update(SD, x, e, t, rho, torch.zeros_like(noise))
    wanted = float(SD.sigma(95)) ** 2 * (1 - float(rho) ** 2) * float(noise.double().var())
    assert float(found.double().var()) == pytest.approx(wanted, rel=2e-3)


def test_the_primitives_widen_half_precision_and_leave_the_rest():
    z, t = torch.ones(2, 4, 2, 2), torch.tensor([15, 999])
    for kind, expected in ((BF16, torch.float32), (torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        x = z.to(kind)
        for prediction in ("epsilon", "v_prediction", "sample"):
            assert all(part.dtype == expected for part in to_x0_eps(SD, x, t, x, prediction))
        assert add_noise(SD, x, t, x).dtype == guide(x, x, 3.0).dtype == wide(x).dtype == expected


@pytest.fixture(scope="module")
def half_teacher():
    torch.manual_seed(0)
    unet = tiny_unet().requires_grad_(False).eval()
    teachers = [DiffusionModel("0" * 64, SD, "epsilon", None, None, copy.deepcopy(unet).to(kind), None) for kind in (BF16, torch.float32)]
    return teachers


@pytest.mark.parametrize("within", [contextlib.nullcontext, lambda: torch.autocast("cpu", BF16)])
def test_half_weights_take_float32_latents_and_what_comes_out_is_float32(half_teacher, within):
    half, full = half_teacher
    z, t = torch.randn(2, 4, 8, 8), torch.tensor([999, 499])
    text, uncond, w = torch.randn(2, 3, 32), torch.zeros(1, 3, 32), torch.tensor([2.0, 6.0])
    with within():
        x, eps = guided_teacher(half, z, t, text, uncond, w)
        f = consistency_output(half, half.unet, z, t, text, w)
        disc = Discriminator(copy.deepcopy(half.unet), "lora", 2)
        logits = disc(z, t, text, uncond)
        predicted = half.predictor(text, uncond, 8.0)(z, 999)
    assert {x.dtype, eps.dtype, f.dtype, logits.dtype, predicted.dtype} == {torch.float32}
    assert run_unet(half.unet, z, t, text).dtype == BF16
    exact = guided_teacher(full, z, t, text, uncond, w)[1]
    assert float((eps - exact).norm() / exact.norm()) < 0.1


# --- decoding ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("half"))


def test_an_image_that_overflows_in_bfloat16_is_decoded_in_float32(pipeline):
    model, full = open_pipeline(pipeline, dtype="bfloat16"), open_pipeline(pipeline)
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    model.vae.decoder.register_forward_hook(
        lambda module, given, made: torch.full_like(made, torch.nan) if made.dtype == BF16 else None)
    images, good = model.decode_checked(z)
    assert good.all() and images.std() > 1
    assert np.abs(images.astype(int) - full.decode(z)).mean() < 4  # its weights were rounded to bfloat16


def test_pixels_that_are_nan_in_float32_are_an_error_and_no_black_image(pipeline):
    model = open_pipeline(pipeline)
    original = model.vae.decode

    def broken(latents, **words):
        images = original(latents, **words)[0].clone()
        images[1, 0, 3, 3] = torch.inf
        return (images,)

    model.vae.decode = broken
    for decode in (model.decode, model.decode_checked):
        with pytest.raises(ScottbenchError, match="NaN or infinite of 1 of 3 latents .* in float32.* no image is stored"):
            decode(torch.randn(3, 4, 8, 8))
