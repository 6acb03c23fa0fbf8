"""What a training iteration costs beside the passes it cannot do without, and beside the public LCM script's (methods.md 3.7).

The pocket model, the preset's batch of 32, the least of 5 times (SCOTTBENCH_SPEED_BATCH and _REPEATS for others).
"""

import os

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from scottbench_pocket.model import open_pocket
from scottbench_scott.options import SCottOptions
from scottbench_scott.trainer import StochasticConsistencyDistillation

from scottbench.diffusion import add_noise, guide, pseudo_huber, to_x0_eps, update
from scottbench.training.context import Context
from scottbench.training.data import Data
from scottbench.training.distillation import consistency_output, guided_teacher, uniform_guidance
from scottbench.training.loop import Loop
from scottbench.training.settings import TrainSettings
from scottbench.training.train import prepare

N = int(os.environ.get("SCOTTBENCH_SPEED_BATCH", "32"))
REPEATS = int(os.environ.get("SCOTTBENCH_SPEED_REPEATS", "5"))
PROMPTS = [f"noto emoji of {thing}" for thing in ("red apple", "dog", "house", "star", "moon", "fish", "tree", "cat")]


@pytest.fixture
def teacher():
    torch.set_flush_denormal(True)
    return open_pocket()


@pytest.fixture
def data(teacher):
    generator = torch.Generator().manual_seed(0)
    text = teacher.encode_prompts([PROMPTS[i % len(PROMPTS)] for i in range(N)])
    latents = torch.randn(N, *teacher.latent_shape, generator=generator)
    return Data(latents.numpy(), text.numpy(), teacher.encode_prompts([""]).clone(), torch.arange(N), torch.arange(0))


def loop_of(trainer, teacher, data, tmp_path):
    settings = TrainSettings(batch_size=N)
    prepare(trainer, teacher, settings, 1)
    return Loop(trainer, data, Accelerator(cpu=True), tmp_path, settings, teacher)


def test_a_scott_iteration_costs_little_more_than_its_passes(teacher, data, tmp_path, side_by_side):
    options = SCottOptions(disc_rank=16, w_min=0.0, w_max=4.0)
    trainer = StochasticConsistencyDistillation(Context(teacher, "cpu"), options)
    loop = loop_of(trainer, teacher, data, tmp_path)
    discriminator, student = trainer.networks["discriminator"], trainer.networks["student"]
    torch.nn.init.normal_(discriminator.head.weight, std=1e-3)  # or its backward pass would be of zeros
    batch = data.batch(torch.arange(N), "cpu")
    z, text, uncond = batch["latents"], batch["text"], batch["uncond"]
    t, w = torch.randint(1, 1000, (N,)), torch.full((N,), 2.0)
    both = [torch.cat([x, x]) for x in (z, t, text)]

    def passes():
        with torch.no_grad():
            for _ in range(options.h):
                teacher.network(*both)
            consistency_output(teacher, trainer.ema, z, t, text, w)
        prediction = consistency_output(teacher, student, z, t, text, w)
        torch.autograd.grad(discriminator(*both, uncond).sum(), discriminator.trainable, allow_unused=True)
        leaf = prediction.detach().requires_grad_()
        torch.autograd.grad(discriminator(leaf, t, text, uncond, learn=False).sum(), leaf)
        torch.autograd.grad(prediction.sum(), loop.parameters["student"], allow_unused=True)

    seconds = side_by_side(REPEATS, iteration=lambda: loop.one_step(0.5), passes=passes)
    ratio = seconds["iteration"] / seconds["passes"]
    print(f"\nSCott, batch {N}: iteration {seconds['iteration']:.3f} s, its passes {seconds['passes']:.3f} s, ratio {ratio:.3f} (<= 1.15)")
    assert ratio <= 1.15


class PublicScript:
    """One iteration as diffusers' train_lcm_distill_sd_wds.py has it: images through the VAE's encoder and prompts through the text
    encoder in every step, two separate teacher passes, EMA parameter by parameter, torch's default memory layout. Reading and
    resizing images is left out, and denormals are flushed here too."""

    def __init__(self, options, layout):
        self.teacher = open_pocket()
        self.options, self.trainer = options, ConsistencyDistillation(Context(self.teacher, "cpu"), options)
        self.student, self.target = self.trainer.networks["student"], self.trainer.ema
        for network in (self.teacher.unet, self.teacher.vae, self.student, self.target):
            network.to(memory_format=layout)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=options.lr, weight_decay=0.0)
        side = self.teacher.latent_shape[1] * 2 ** (len(self.teacher.vae.config.block_out_channels) - 1)
        self.images = np.random.default_rng(0).integers(0, 256, (N, side, side, 3), dtype=np.uint8)
        self.prompts, self.uncond = [PROMPTS[i % len(PROMPTS)] for i in range(N)], self.teacher.encode_prompts([""]).clone()

    def __call__(self):
        options, teacher, schedule = self.options, self.teacher, self.teacher.schedule
        x0, text = teacher.encode_images(self.images).clone(), teacher.encode_prompts(self.prompts).clone()
        t_n = self.trainer.grid[torch.randint(len(self.trainer.grid), (N,))]
        t_m = (t_n - options.skip).clamp_min(0)
        w = uniform_guidance(N, options.w_min, options.w_max, torch.default_generator)
        z_n = add_noise(schedule, x0, t_n, torch.randn_like(x0))
        predicted = consistency_output(teacher, self.student, z_n, t_n, text, w)
        with torch.no_grad():
            cond, unc = teacher.network(z_n, t_n, text), teacher.network(z_n, t_n, self.uncond.expand_as(text))
            x, eps = to_x0_eps(schedule, z_n, t_n, guide(cond, unc, w.view(-1, 1, 1, 1)), teacher.prediction)
            target = consistency_output(teacher, self.target, update(schedule, x, eps, t_m, 1, None), t_m, text, w)
        pseudo_huber(predicted, target).backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for kept, new in zip(self.target.parameters(), self.student.parameters(), strict=True):
                kept.mul_(options.ema).add_(new, alpha=1 - options.ema)


def test_a_cd_iteration_beats_the_public_script_s(teacher, data, tmp_path, side_by_side):
    options = CDOptions(w_min=0.0, w_max=4.0)
    loop = loop_of(ConsistencyDistillation(Context(teacher, "cpu"), options), teacher, data, tmp_path)
    scripts = {"script": torch.contiguous_format, "same_layout": torch.channels_last}
    scripts = {name: PublicScript(options, layout) for name, layout in scripts.items()}
    seconds = side_by_side(REPEATS, ours=lambda: loop.one_step(0.5), **scripts)
    ratios = {name: seconds[name] / seconds["ours"] for name in scripts}
    print(f"\nCD, batch {N}: ours {seconds['ours']:.3f} s, the public script {seconds['script']:.3f} s, {ratios['script']:.2f}x (>= 1.2)")
    print(f"the script in our memory layout {seconds['same_layout']:.3f} s, ratio {ratios['same_layout']:.2f}")
    assert ratios["script"] >= 1.2


def test_one_batched_teacher_pass_is_not_slower_than_two(teacher, data, side_by_side):
    """Why there is no option for it: conditional and unconditional passes in one call, against one after the other."""
    batch = data.batch(torch.arange(N), "cpu")
    z, text, uncond, t = batch["latents"], batch["text"], batch["uncond"], torch.randint(1, 1000, (N,))

    def one():
        with torch.no_grad():
            guided_teacher(teacher, z, t, text, uncond, torch.ones(N))

    def two():
        with torch.no_grad():
            cond, unc = teacher.network(z, t, text), teacher.network(z, t, uncond.expand_as(text))
            to_x0_eps(teacher.schedule, z, t, guide(cond, unc, 1.0), teacher.prediction)

    seconds = side_by_side(REPEATS, one=one, two=two)
    print(f"\nguided teacher, batch {N}: one call {seconds['one']:.3f} s, two calls {seconds['two']:.3f} s")
    assert seconds["one"] <= 1.1 * seconds["two"]
