"""The checks of methods and metrics: each broken rule has a message of its own (test_kit.py: everything bundled conforms)."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from scottbench import Influence, Method, Metric
from scottbench.diffusion import update
from scottbench.errors import ScottbenchError
from scottbench.registry.loader import load_plugins
from scottbench.registry.nouns import NoOptions
from scottbench.testing import NotConforming, analytic_model, check_method, check_metric, made_cells
from scottbench.testing.finding import Subject
from scottbench.testing.method import Runner

METHODS = {name: found.noun for name, found in load_plugins().nouns["method"].items()}
DDIM = METHODS["ddim"]


def ddim(change):
    """DDIM whose latents are changed by change(run, latents)."""
    return replace(DDIM, sample=lambda run: change(run, DDIM.sample(run)))


def other_times(run):
    z = run.noise(0)
    x0, _ = run.denoise(z, 500)
    return x0


def adaptive(run):
    """The first item of a batch is done once more: its company decides what it costs."""
    z, (t,) = run.noise(0), DDIM.timesteps(run.schedule, 1, None)
    x0 = run.denoise(z, t)[0]
    for _ in range(int(float(z[0, 0, 0, 0] > 0))):
        run.denoise(z, t)
    return x0


def halves(run):
    """A step asks where it begins, and once more half way down."""
    z = run.noise(0)
    steps = halves_times(run.schedule, run.steps, run.options)
    for (t, middle), t_next in zip(steps, [*(step[0] for step in steps[1:]), 0]):
        half = update(run.schedule, *run.denoise(z, t), middle, 1, None)
        z = update(run.schedule, *run.denoise(half, middle), t_next, 1, None)
    return z


def halves_times(schedule, steps, options):
    stride = len(schedule) // (2 * steps)
    return [(999 - 2 * stride * k, 999 - 2 * stride * k - stride) for k in range(steps)]


def restarts(run):
    """DDIM that goes back up to the time of its step once, and down again."""
    z = run.noise(0)
    steps = restart_times(run.schedule, run.steps, run.options)
    for k, (step, t_next) in enumerate(zip(steps, [*(step[0] for step in steps[1:]), 0]), start=1):
        z = update(run.schedule, *run.denoise(z, step[0]), step[1], 1, None)
        x0, eps = run.denoise(z, step[1])
        z = update(run.schedule, x0, eps, step[0], 0, run.noise(k))
        z = update(run.schedule, *run.denoise(z, step[2]), t_next, 1, None)
    return z


def restart_times(schedule, steps, options):
    return [(t, t // 2, t) for t in DDIM.timesteps(schedule, steps, None)]


class Remembers:
    def __init__(self):
        self.calls = 0

    def __call__(self, run, latents):
        self.calls += 1
        return latents + self.calls


@dataclass
class Thawed:
    eta: float = 0.0


@dataclass(frozen=True)
class Unreadable:
    scales: tuple = (1.0, 2.0)


@dataclass(frozen=True)
class Swapped:
    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", self.scale + 1)


@dataclass(frozen=True, init=False)
class TakesAll:
    def __init__(self, **anything):
        pass


def seeded(run, latents):
    torch.manual_seed(0)
    return latents


BROKEN_METHODS = {
    "batch mean": (ddim(lambda run, x: x - x.mean(0, keepdim=True)), "change with batch size, order or company"),
    "own noise": (ddim(lambda run, x: x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))), "change with batch size"),
    "state": (ddim(Remembers()), "a second call gives other latents"),
    "global noise": (ddim(lambda run, x: x + torch.randn_like(x)), "draws from, or seeds, a global random generator"),
    "numpy's": (ddim(lambda run, x: x + np.random.normal()), "draws from, or seeds, a global random generator"),
    "Python's": (ddim(lambda run, x: x + random.random()), "draws from, or seeds, a global random generator"),
    "seeding": (ddim(seeded), "draws from, or seeds, a global random generator"),
    "no seed": (
        replace(DDIM, sample=lambda run: run.denoise(0 * run.noise(0), 1)[0], timesteps=lambda s, n, o: [1] if n == 1 else []),
        "two seeds give an item"),
    "shape": (ddim(lambda run, x: x[:, :3]), r"it returned \(16, 3, 8, 8\) torch.float32. It must return latents \(16, 4, 8, 8\)"),
    "type": (ddim(lambda run, x: x.double()), "torch.float64. It must"),
    "nothing": (ddim(lambda run, x: None), "it returned None"),
    "not finite": (ddim(lambda run, x: x / 0), "NaN or infinite"),
    "time steps": (replace(DDIM, sample=other_times), r"was evaluated at \[500.0\], and timesteps gives"),
    "no steps": (replace(DDIM, timesteps=lambda *_: []), r"gives \[\] for 1, 2, 4 steps"),
    "NFE": (replace(DDIM, sample=adaptive, timesteps=lambda s, n, o: DDIM.timesteps(s, n, o) if n == 1 else []), "NFE is"),
    "options": (replace(DDIM, options=Thawed), "must be a frozen dataclass"),
    "unreadable options": (replace(DDIM, options=Unreadable), "cannot be made from their defaults"),
    "changing options": (replace(DDIM, options=Swapped), "are read back as"),
    "any option": (replace(DDIM, options=TakesAll), "take the unknown key 'no-such-option'"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_METHODS)
def test_a_broken_method_is_told_what_is_wrong_and_what_to_do(what):
    method, message = BROKEN_METHODS[what]
    with pytest.raises(NotConforming, match=message) as caught:
        check_method(method)
    assert str(caught.value).startswith("method 'ddim'")
    assert isinstance(caught.value, ScottbenchError)


def mean_of(cell):
    return float(cell.generated["image"].astype(np.float64).mean())


def metric(compute=lambda cell, options: mean_of(cell), **more) -> Metric:
    return Metric("mine", "", compute, True, reference=False, **more)


def shifts(cell, options):
    cell.generated["image"][:] += 1
    return 0.5


def remembering():
    calls: list[int] = []

    def compute(cell, options):
        calls.append(1)
        return float(len(calls))

    return compute


def influence(generated, reference=None):
    return lambda cell, options: Influence(generated(cell), reference)


def noisy(cell, options):
    return mean_of(cell) + float(np.random.normal())


BROKEN_METRICS = {
    "order": (metric(lambda cell, options: float(cell.generated["image"][0, 0])), "with the items in another order"),
    "memory": (metric(remembering()), "when it was computed again"),
    "inputs": (metric(shifts), "changed the arrays that it was given"),
    "not finite": (metric(lambda cell, options: float("nan")), "compute returned nan. It must return a finite float"),
    "no number": (metric(lambda cell, options: None), "compute returned None"),
    "bounds": (metric(bounds=(2.0, None)), "is outside its bounds"),
    "global noise": (metric(noisy), "global random generator"),
    "influence's shape": (metric(influence=influence(lambda cell: np.zeros(3))), r"influence.generated has shape \(3,\)"),
    "influence's mean": (metric(influence=influence(lambda cell: np.ones(cell.n))), "influence.generated has mean 1. The mean must be 0"),
    "reference's influence": (
        metric(influence=influence(lambda cell: np.zeros(cell.n), np.zeros(2))), r"influence.reference has shape \(2,\)"),
    "items' shape": (metric(items=lambda cell, options: np.zeros((cell.n, 2))), r"items has shape \(64, 2\)"),
    "items' mean": (metric(items=lambda cell, options: np.zeros(cell.n)), "the mean of items is 0 and the value"),
    "options": (metric(options=Thawed), "must be a frozen dataclass"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_METRICS)
def test_a_broken_metric_is_told_what_is_wrong_and_what_to_do(what):
    broken, message = BROKEN_METRICS[what]
    with pytest.raises(NotConforming, match=message) as caught:
        check_metric(broken)
    assert str(caught.value).startswith("metric 'mine'")


def test_a_metric_that_keeps_the_rules_passes_and_may_have_no_influence():
    def none(cell, options):
        raise ScottbenchError("none for these options")

    values = lambda cell, options: cell.generated["image"].astype(np.float64).mean(1)  # noqa: E731
    check_metric(metric(items=values, influence=none))
    check_metric(metric(items=values, influence=lambda cell, options: Influence(values(cell, options) - mean_of(cell), None)))


@pytest.mark.parametrize(("sample", "timesteps", "calls"), [(halves, halves_times, 2), (restarts, restart_times, 3)])
def test_a_sampler_whose_steps_ask_several_times_passes_with_a_tuple_a_step(sample, timesteps, calls):
    method = replace(DDIM, name="several", sample=sample, timesteps=timesteps)
    check_method(method)
    with pytest.raises(NotConforming, match=r"give their tuple"):
        check_method(replace(method, timesteps=DDIM.timesteps))
    model = analytic_model()
    run = Runner(Subject("method", method), 2, NoOptions(), model)
    run([0, 1])
    assert model.evaluations == 2 * 2 * calls * (2 if method.guidance != 1 else 1)


def test_a_stochastic_sampler_on_the_items_own_noise_passes():
    def ancestral(run):
        z, times = run.noise(0), DDIM.timesteps(run.schedule, run.steps, None)
        for k, (t, t_next) in enumerate(zip(times, [*times[1:], 0]), start=1):
            x0, eps = run.denoise(z, t)
            z = update(run.schedule, x0, eps, t_next, 0.5, run.noise(k))
        return z

    check_method(Method("mine", "", ancestral, DDIM.timesteps, guidance=3.0))


def test_the_teacher_is_exact_and_counts(analytic_teacher):
    """Its flow, followed in many DDIM steps, keeps what a Gaussian's has: mean of the text, standard deviation 0.5."""
    model, n = analytic_teacher, 64
    text = model.encode_prompts(["a red apple"] * n)
    noise = lambda k: torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(k))  # noqa: E731
    latents = DDIM.sample(model.sampling(text, model.encode_prompts([""]), 1.0, noise, 100, DDIM.options()))
    mean = text.mean(1)[0].view(4, 2, 2).repeat(1, 4, 4)
    assert float((latents - mean).std()) == pytest.approx(0.5, abs=0.02)
    assert torch.allclose(latents.mean(0), mean, atol=0.3)
    assert model.evaluations == 100 * n
    assert model.decode(latents).shape == (n, 16, 16, 3)


def test_features_are_the_same_every_time(feature_cells):
    first, again = feature_cells[0], made_cells()[0]
    assert np.array_equal(first.generated["image"], again.generated["image"])
    assert first.images is not None and first.images([0, 5]).shape == (2, 192, 192, 3)
    assert analytic_model({}).takes_guidance and not analytic_model().takes_guidance
