"""Shared by trainers: time steps spread over the batch, weights over time, guidance that is baked in or followed."""

import copy
import dataclasses

import pytest
import torch
from analytic import SD
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from scottbench_scott.options import SCottOptions
from scottbench_scott.trainer import StochasticConsistencyDistillation
from tiny import tiny_unet

from scottbench.diffusion import pseudo_huber
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.training.context import Context
from scottbench.training.distillation import (
    SLOPE_STEPS,
    _ode_end,
    draw_grid_times,
    draw_times,
    guidance_facts,
    guidance_slope,
    stratified,
    student_copy,
    time_weight,
    w_conditioned_copy,
)  # fmt: skip


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return DiffusionModel("0" * 64, SD, "epsilon", None, None, tiny_unet().requires_grad_(False).eval(), None)


def batch(n=4):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    tensors = {"latents": draw(n, 4, 8, 8), "text": draw(n, 3, 32), "uncond": draw(1, 3, 32)}
    return tensors | {"generator": generator, "step": 0, "fraction": 0.0}


# --- time steps and weights ------------------------------------------------------------------------------------------


def test_each_part_of_the_range_is_drawn_once():
    generator = torch.Generator().manual_seed(0)
    for n in (1, 7, 32):
        u = stratified(n, generator)
        assert sorted((u * n).long().tolist()) == list(range(n)) and u.dtype == torch.float64
    many = torch.stack([stratified(8, generator) for _ in range(4000)])
    assert many.mean(0).sub(0.5).abs().max() < 0.02  # any one draw is uniform
    assert float(many.mean(1).var()) == pytest.approx(1 / 12 / 8**3, rel=0.1)  # independent draws: 1/12/8


def test_time_steps_come_from_all_of_the_grid():
    generator, grid = torch.Generator().manual_seed(0), torch.tensor([999, 749, 499, 249])
    assert sorted(draw_grid_times(grid, 8, generator).tolist()) == [249, 249, 499, 499, 749, 749, 999, 999]
    t = draw_times(1, 1000, 999, generator)
    assert sorted(t.tolist()) == list(range(1, 1000))


def test_weights_over_time():
    t = torch.tensor([999, 500, 1])
    assert time_weight(SD, t, "one") is None
    assert time_weight(SD, t, "alpha").flatten().tolist() == [SD.alpha(999), SD.alpha(500), SD.alpha(1)]
    snr = [(SD.alpha(int(u)) / SD.sigma(int(u))) ** 2 for u in t]
    assert time_weight(SD, t, "snr-clipped").flatten().tolist() == pytest.approx([snr[0] / 5, snr[1] / 5, 1.0])
    assert snr[1] < 5 < snr[2]


@pytest.mark.parametrize("form", ["element", "norm"])
def test_a_weighted_loss_is_the_weighted_mean_of_each_samples_own(form):
    a, b = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    each = [float(pseudo_huber(x[None], y[None], form=form)) for x, y in zip(a, b)]
    found = pseudo_huber(a, b, form=form, weight=torch.tensor([1.0, 0.5, 0.0]))
    assert float(found) == pytest.approx((each[0] + each[1] / 2) / 3, rel=1e-6)


@pytest.mark.parametrize("kind, options", [(ConsistencyDistillation, CDOptions), (StochasticConsistencyDistillation, SCottOptions)])
def test_both_consistency_trainers_weigh_their_loss(teacher, kind, options):
    beside = {} if options is CDOptions else {"discriminator": "none", "h": 1}
    values = []
    for weight in ("one", "alpha", "snr-clipped"):
        ((_, losses, _),) = kind(Context(teacher, "cpu"), options(weight=weight, w_start="zero", **beside)).step(batch(16))
        values.append(float(losses["consistency"].detach()))
    assert len(set(values)) == 3 and values[1] < values[0] and values[2] < values[0]


# --- guidance --------------------------------------------------------------------------------------------------------


def test_a_fixed_guidance_is_baked_into_a_plain_copy(teacher):
    student = student_copy(teacher.unet, 2.0, 2.0, "random")
    z, t, text = torch.randn(2, 4, 8, 8), torch.tensor([5, 700]), torch.randn(2, 3, 32)
    assert student.config.time_cond_proj_dim is None and student is not teacher.unet
    given = {"encoder_hidden_states": text, "return_dict": False}
    assert torch.allclose(student(z, t, **given)[0], teacher.unet(z, t, **given)[0], atol=1e-5)
    assert guidance_facts(2.0, 2.0) == {"guidance": "baked", "baked_guidance_scale": 3.0}
    assert guidance_facts(0.0, 4.0) == {"w_min": 0.0, "w_max": 4.0}
    assert student_copy(teacher.unet, 0.0, 4.0, "zero").config.time_cond_proj_dim == 256


def test_the_map_of_the_guidance_starts_as_it_is_told(teacher):
    zero, random = (w_conditioned_copy(teacher.unet, start=start).time_embedding.cond_proj.weight for start in ("zero", "random"))
    bound = 256**-0.5  # torch's own: uniform in +-1 / sqrt(inputs)
    assert not zero.any() and 0.5 * bound < random.abs().mean() * 2 < 1.1 * bound and random.abs().max() <= bound


def test_the_slope_is_1_for_the_exact_student_0_for_a_deaf_one_and_halves_with_it(teacher):
    b, scales = batch(2), (1.0, 3.0)
    noise, prompts = torch.randn(2, 4, 8, 8), (b["text"], b["uncond"])

    def exact(z, t, text, w, share=1.0):
        own = [_ode_end(teacher, z, int(t[0]), prompts, torch.full((2,), scale)) for scale in (1.0, float(w[0]))]
        return own[0] + share * (own[1] - own[0])

    found = {
        "exact": guidance_slope(teacher, exact, (b["latents"], noise), prompts, scales, times=(9, 4)),
        "half": guidance_slope(teacher, lambda *g: exact(*g, share=0.5), (b["latents"], noise), prompts, scales, times=(9, 4)),
        "deaf": guidance_slope(teacher, lambda z, t, text, w: z, (b["latents"], noise), prompts, scales, times=(9, 4)),
    }
    for name, slope in (("exact", 1.0), ("half", 0.5), ("deaf", 0.0)):
        assert found[name] == {"t9": pytest.approx(slope, abs=1e-4), "t4": pytest.approx(slope, abs=1e-4)}, name
    assert SLOPE_STEPS == 10


# --- what an update costs --------------------------------------------------------------------------------------------


def spent(kind, options, teacher, n=4):
    """Passes of one step, backward passes included."""
    teacher = dataclasses.replace(teacher, unet=copy.deepcopy(teacher.unet))  # LoRA stays in it
    trainer = kind(Context(teacher, "cpu"), options)
    for network in [trainer.ema, *trainer.networks.values()]:
        teacher.count_also(network)
    teacher.passes = 0
    for _, losses, _ in trainer.step(batch(n)):
        sum(losses.values()).backward()
    return teacher.passes / n


def test_passes_are_counted_forward_1_backward_2(teacher):
    """CD: teacher 2, target 1, student 1 + 2. SCott without D: 2 h, 1, 3; D with LoRA (most of its weights frozen): real and fake 2 x (1 +
    1), and once more for the student's loss, 1 + 1."""
    assert spent(ConsistencyDistillation, CDOptions(), teacher) == 6
    assert spent(StochasticConsistencyDistillation, SCottOptions(discriminator="none"), teacher) == 10
    assert spent(StochasticConsistencyDistillation, SCottOptions(disc_rank=2), teacher) == 16
    assert spent(StochasticConsistencyDistillation, SCottOptions(disc_rank=2, disc_every=2, reuse=2), teacher) == 6 + 2 * 4 + 4 + 2 * 2


def test_what_is_uncounted_costs_nothing(teacher):
    b = batch()
    teacher.passes = teacher.evaluations = 0
    with teacher.uncounted():
        teacher.network(b["latents"], torch.tensor([1, 2, 3, 4]), b["text"])
    assert (teacher.passes, teacher.evaluations) == (0, 0)
    teacher.network(b["latents"], torch.tensor([1, 2, 3, 4]), b["text"])
    assert (teacher.passes, teacher.evaluations) == (4, 4)
