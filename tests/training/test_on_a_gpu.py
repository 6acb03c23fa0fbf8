"""On a GPU, without one: every trainer and sampler keeps its tensors on one device, and an update waits for nothing and copies once."""

from __future__ import annotations

import numpy as np
import pytest
import scottbench_meanflow
import scottbench_scm
import scottbench_tcd
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from scottbench_dmd2.options import DMD2Options
from scottbench_dmd2.trainer import DistributionMatching
from scottbench_flash.options import FlashOptions
from scottbench_flash.trainer import FlashDistillation
from scottbench_instaflow.options import InstaFlowOptions
from scottbench_instaflow.trainer import RectifiedFlow
from scottbench_meanflow.options import MeanFlowOptions
from scottbench_meanflow.trainer import MeanFlow
from scottbench_pcm.options import PCMOptions
from scottbench_pcm.trainer import PhasedConsistencyDistillation
from scottbench_scm.options import SCMOptions
from scottbench_scm.trainer import ContinuousConsistencyDistillation
from scottbench_scott.noise_functions import _gauss_legendre
from scottbench_scott.options import SCottOptions
from scottbench_scott.trainer import StochasticConsistencyDistillation
from scottbench_ufogen.options import UFOGenOptions
from scottbench_ufogen.trainer import DiffusionGAN
from tiny_training import PLUGINS
from two_processes import tiny_data

from scottbench.diffusion import Schedule
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.sampling import Sampler
from scottbench.registry.condition import TextCondition
from scottbench.registry.options import make_options
from scottbench.testing.fake_gpu import backward, fake_gpu, weights_at_once
from scottbench.training.context import Context
from scottbench.training.loop import Loop
from scottbench.training.settings import TrainSettings
from scottbench.training.train import prepare

SMALL = {"disc_rank": 2, "h": 2}
WHOLE = {"adv_scale": "gradient", "adv_fade": "margin", "disc_steps": 2, "order": 2, "adv_t_min": 100}
TRAINERS = {
    "cd": (ConsistencyDistillation, CDOptions()),
    "cd, lora": (ConsistencyDistillation, CDOptions(variant="lora", lora_rank=2)),
    "cd, baked": (ConsistencyDistillation, CDOptions(w_min=1.0, w_max=1.0, weight="snr-clipped", huber="norm")),
    "scott": (StochasticConsistencyDistillation, SCottOptions(**SMALL)),
    "scott, lora": (StochasticConsistencyDistillation, SCottOptions(**SMALL, variant="lora", lora_rank=2)),
    "scott, full, target": (StochasticConsistencyDistillation, SCottOptions(**SMALL, **WHOLE, discriminator="full", disc_input="target")),
    "scott, unconditional, clean": (
        StochasticConsistencyDistillation, SCottOptions(**SMALL, discriminator="unconditional", disc_input="clean", solver="ddim")),
    "scott, none": (StochasticConsistencyDistillation, SCottOptions(**SMALL, discriminator="none", weight="alpha", t_sampling="uniform")),
    "flash": (FlashDistillation, FlashOptions(grid=4, lora_rank=2, disc_width=8)),
    "flash, full": (FlashDistillation, FlashOptions(
        grid=2, modes=2, variant="full", solver="ddim", distance="huber", weight="alpha", dm_scale="gradient", dm_form="score",
        adv_scale="gradient", adv_loss="hinge", disc_width=8)),
    "ufogen": (DiffusionGAN, UFOGenOptions(disc_every=1)),
    "ufogen, lora": (DiffusionGAN, UFOGenOptions(disc_every=1, discriminator="lora", disc_rank=2, recon="uniform", adv_scale="gradient")),
    "dmd2": (DistributionMatching, DMD2Options(gan_scale="gradient", ema=0.9)),
    "dmd2, four steps": (DistributionMatching, DMD2Options(steps=4, gan=False, weight="alpha")),
    "dmd2, four steps, data": (DistributionMatching, DMD2Options(steps=4, inputs="data", w=0.0, normalise="one")),
    "pcm": (PhasedConsistencyDistillation, PCMOptions(variant="full", w_min=2.0, w_max=2.0, weight="alpha", skip=100)),
    "pcm, heads": (PhasedConsistencyDistillation, PCMOptions(lora_rank=2, discriminator="heads", disc_heads=1, adv_scale="gradient")),
    "pcm, unguided, lora": (
        PhasedConsistencyDistillation,
        PCMOptions(variant="full", w_min=0.0, w_max=0.0, empty_prompts=0.5, discriminator="lora", disc_rank=2)),
    "instaflow": (RectifiedFlow, InstaFlowOptions(perceptual_weight=0.0, solver_steps=1)),
    "instaflow, exact": (RectifiedFlow, InstaFlowOptions(perceptual_weight=0.0, solver_steps=1, form="exact", w_min=1.0, w_max=1.0)),
    "scm": (ContinuousConsistencyDistillation, SCMOptions(derivative="jvp")),
    "meanflow, finite": (MeanFlow, MeanFlowOptions(derivative="finite", times="uniform", power=0.0, interval_start="random")),
}  # fmt: skip
MORE = (scottbench_meanflow, scottbench_scm, scottbench_tcd)
METHODS = {noun.name: noun for plugin in (*PLUGINS, *MORE) for noun in getattr(plugin, "register_methods", list)()}
SAMPLED = (*PLUGINS, scottbench_meanflow, scottbench_scm, scottbench_tcd)
METHODS = {noun.name: noun for plugin in SAMPLED for noun in getattr(plugin, "register_methods", list)()}


@pytest.fixture
def gpu(monkeypatch):
    weights_at_once(monkeypatch)
    with fake_gpu(monkeypatch) as mode:
        yield mode
    _gauss_legendre.cache_clear()


def on_gpu(w_conditioned=False) -> DiffusionModel:
    """A U-Net of as few operations as there can be with attention to text, residual blocks and a decoder: each takes its time here."""
    with torch.device("cuda"):
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D",),
            mid_block_type=None,
            up_block_types=("UpBlock2D",),
            block_out_channels=(8,),
            layers_per_block=1,
            norm_num_groups=2,
            cross_attention_dim=32,
            attention_head_dim=4,
            time_cond_proj_dim=16 if w_conditioned else None,
        )
    return DiffusionModel("0" * 64, Schedule.scaled_linear(), "epsilon", None, None, unet.requires_grad_(False).eval(), None, "cuda:0")


def loop_of(kind, options, out, **settings) -> Loop:
    teacher, data = on_gpu(), tiny_data()
    made = kind(Context(teacher, "cuda:0", None, data, METHODS.__getitem__), options)
    prepare(made, teacher, chosen := TrainSettings(batch_size=4, **settings), 1)
    accelerator = Accelerator(cpu=True)
    loop = Loop(made, data, accelerator, out, chosen, teacher)
    accelerator.backward = backward(lambda: [p for each in loop.parameters.values() for p in each])
    return loop


@pytest.mark.parametrize("name", TRAINERS)
def test_an_update_stays_on_the_gpu_waits_for_nothing_and_copies_little(gpu, tmp_path, name):
    kind, options = TRAINERS[name]
    loop = loop_of(kind, options, tmp_path)
    loop.model.schedule.table(torch.device("cuda:0"))  # the few copies of a whole training
    loop.data.on("cuda:0")
    _gauss_legendre(torch.device("cuda:0"))
    fractions = [0.5]
    if kind is RectifiedFlow:  # a stage that makes pairs, then an update of each kind
        loop.queue_step(0.0)
        loop.state.step, fractions = 1, [0.5, 0.95]
    for fraction in fractions:
        gpu.copies.clear()
        gpu.syncs.clear()
        loop.queue_step(fraction)
        assert gpu.syncs == [], "numbers are looked at together, every few steps"
        assert len(gpu.copies) <= 3, gpu.copies  # the batch, and all that is drawn
    loop.feed.close()
    loop.ledger.settle()
    assert len(gpu.syncs) == 1


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_sampler_stays_on_the_gpu_and_waits_for_nothing(gpu, name):
    method = METHODS[name]
    model = on_gpu(w_conditioned=method.trainer not in (None, "flash", "ufogen"))
    model = on_gpu(w_conditioned=method.trainer is not None and name not in ("dmd2", "ufogen"))
    if method.trainer is not None:
        model.student = {}
    options = make_options(method.options, {}, name)
    uncond, text = (TextCondition(torch.zeros(n, 3, 32, device="cuda")) for n in (1, 2))
    sampler = Sampler(model, method, name, options, uncond, 2.0, 3, seed=0)
    draws = 3  # of noise, at most one a step
    model.schedule.table(torch.device("cuda:0"))
    gpu.copies.clear()
    latents = sampler.queued(text, ["a", "b"])
    assert latents.device.type == "cuda" and gpu.syncs == []
    assert len(gpu.copies) <= draws, gpu.copies


def test_tensors_of_two_devices_are_found(gpu):
    with pytest.raises(Exception, match="two devices"):
        torch.zeros(3, device="cuda") + torch.zeros(3)
    float(torch.zeros(3, device="cuda")[0])
    torch.tensor([1.0]).to("cuda")
    assert (len(gpu.syncs), len(gpu.copies)) == (1, 1)
    assert np.allclose((torch.ones(3) * 2).numpy(), 2)  # a CPU's tensors are real
