"""sCM and MeanFlow on a tiny pipeline: what an update costs, how a student starts, resumes, is exported and sampled; bad input."""

import json
import os
import signal
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import scottbench_meanflow
import scottbench_scm
import torch
from scottbench_meanflow.options import MeanFlowOptions
from scottbench_meanflow.trainer import MeanFlow
from scottbench_scm.options import SCMOptions
from scottbench_scm.trainer import ContinuousConsistencyDistillation
from tiny import tiny_pipeline
from tiny_training import Registry, batch_of, train

from scottbench.errors import UsageError
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.training.context import Context
from scottbench.training.continuous import chosen_derivative, derivative, difference_behind, has_forward_mode
from scottbench.training.distillation import conditioned_output, guided_output

PLUGINS = {"scm": scottbench_scm, "meanflow": scottbench_meanflow}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def teacher(pipeline):
    return open_pipeline(pipeline)


def registry(pipeline):
    found = Registry(pipeline)
    for plugin in PLUGINS.values():
        found.add("method", plugin.register_methods()[0])
        found.add("trainer", plugin.register_trainers()[0])
    return found


def facts(folder):
    return json.loads((folder / "student.json").read_text())


# --- one update ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options", "an_image"), [
    (ContinuousConsistencyDistillation, SCMOptions(derivative="jvp"), 7),
    (ContinuousConsistencyDistillation, SCMOptions(derivative="finite"), 7),
    (ContinuousConsistencyDistillation, SCMOptions(derivative="backward"), 6),
    (MeanFlow, MeanFlowOptions(different=0.5, derivative="jvp"), 6),
    (MeanFlow, MeanFlowOptions(different=0.5, derivative="finite"), 6),
    (MeanFlow, MeanFlowOptions(different=0.5, derivative="backward"), 5.5),
    (MeanFlow, MeanFlowOptions(different=0.0), 5),
])  # fmt: skip
def test_an_update_costs_the_passes_that_the_readme_says(teacher, kind, options, an_image):
    made = kind(Context(teacher, "cpu"), options)
    teacher.count_also(made.networks["student"])
    next(made.step(batch_of(teacher, n=4)))
    assert teacher.passes == 4 * an_image


def test_jvp_and_differences_agree_on_a_real_u_net_in_half_precision_too(teacher):
    made = MeanFlow(Context(teacher, "cpu"), MeanFlowOptions(interval_start="random"))
    b, generator = batch_of(teacher, n=2), torch.Generator().manual_seed(0)
    z, dz = b["latents"], torch.randn(b["latents"].shape, generator=generator)
    tau, span = torch.tensor([[200.3, 700.6], [0.2, 0.5]], dtype=torch.float64)
    at, along = (z, tau, span), (dz, torch.tensor([30.0, 300.0], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    network = lambda z, tau, span: made.output(made.networks["student"], z, tau, span, b["text"])  # noqa: E731
    exact, near = (derivative(teacher, network, at, along, how, 1e-3) for how in ("jvp", "finite"))
    assert (exact - near).norm() < 0.03 * exact.norm() and not exact.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(derivative(teacher, network, at, along, "jvp", 1e-3), exact), "taken in float32"


def test_a_backward_difference_errs_by_its_width_and_takes_a_value_that_is_given_but_not_one_of_autocast(teacher):
    asked = []

    def network(x, t):
        asked.append(float(t[0]))
        return x * (3 * t).sin().view(-1, 1, 1, 1).to(x.dtype)

    x, t, d = torch.ones(1, 4, 2, 2, dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    exact = derivative(teacher, network, (x, t), (x, d), "jvp", 0.0)
    errors = [float((derivative(teacher, network, (x, t), (x, d), "backward", width) - exact).norm()) for width in (2e-3, 1e-3)]
    assert errors[0] == pytest.approx(2 * errors[1], rel=0.01) and errors[0] < 0.05 * float(exact.norm())
    asked.clear()
    given = difference_behind(network, (x, t), (x, d), 0.1, network(x, t))
    assert asked == [0.4, pytest.approx(0.3)]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(difference_behind(network, (x, t), (x, d), 0.1, 0 * x), given)
    assert not torch.equal(difference_behind(network, (x, t), (x, d), 0.1, 0 * x), given)


@pytest.mark.parametrize(("how", "steady"), [("backward", True), ("finite", False)])
def test_a_function_pulled_along_its_derivative_settles_by_backward_differences_and_not_by_central_ones(teacher, how, steady):
    """f(t) <- f(t) - df/dt / 32 on 17 times, f(0) = 0: what the update says of a consistency function, without a network."""
    times = torch.arange(17, dtype=torch.float64) / 16
    f = torch.randn(17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f[0] = 0.0

    def network(x, t):
        place = (16 * t).clamp(0, 16)
        below = place.floor().clamp(max=15).long()
        return (f[below] + (place - below) * (f[below + 1] - f[below])).view(-1, 1, 1, 1)

    still, one = torch.zeros(17, 1, 1, 1, dtype=torch.float64), torch.ones(17, dtype=torch.float64)
    for _ in range(100):
        change = derivative(teacher, network, (still, times), (still, one), how, 1 / 16).flatten()
        f = torch.cat([f[:1], (f - change / 32)[1:]])
    assert (float(f.abs().max()) < 1e-3) == steady
    assert steady or float(f.abs().max()) > 100, "it grows"


def test_meanflow_s_backward_difference_does_not_go_beyond_the_other_time(teacher):
    made, spans = MeanFlow(Context(teacher, "cpu"), MeanFlowOptions(derivative="backward", width=1.0)), []
    original = made.output
    made.output = lambda network, z, tau, interval, text: spans.append(interval) or original(network, z, tau, interval, text)
    b = batch_of(teacher, n=3)
    t, r = torch.tensor([[0.5, 0.5, 0.9], [0.1, 0.49, 0.2]], dtype=torch.float64)
    _, target, moved = made.average_and_target(b["latents"], t, r, b["text"], b["uncond"], 3)
    assert torch.allclose(spans[0], t - r) and len(spans) == 2
    assert torch.allclose(spans[1], (t - r - t * (1 - t)).clamp_min(0), atol=1e-12), "a whole step, or to r"
    assert torch.isfinite(target).all() and torch.isfinite(moved).all()


def test_meanflow_s_target_by_a_backward_difference_hardly_holds_the_student_s_own_value(teacher):
    """Else an update at a late time asks for many times what is missing: (t - r) / step, 156 at the end of Stable Diffusion's schedule."""
    found = []
    t, r = torch.tensor([[0.93, 0.5, 0.9], [0.01, 0.3, 0.85]], dtype=torch.float64)
    b = batch_of(teacher, n=3)
    for more in (0.0, 1.0):
        made = MeanFlow(Context(teacher, "cpu"), MeanFlowOptions(derivative="backward", width=0.1))
        original, asked = made.output, []
        made.output = lambda *a, original=original, asked=asked, more=more: original(*a) + (0 if asked else more * (asked.append(a) or 1))
        u, target, _ = made.average_and_target(b["latents"], t, r, b["text"], b["uncond"], 3)
        found.append((u.detach(), target))
    own, change = found[1][0] - found[0][0], found[1][1] - found[0][1]
    assert (own.abs().amin((1, 2, 3)) > 1).all() and (change.abs().amax((1, 2, 3)) < 0.15 * own.abs().amin((1, 2, 3))).all()


def test_a_meanflow_student_starts_as_its_teacher_whatever_the_second_time_and_then_hears_it(teacher):
    made, b = MeanFlow(Context(teacher, "cpu"), MeanFlowOptions()), batch_of(teacher, n=3)
    tau, nothing = torch.tensor([100.5, 500.0, 900.25], dtype=torch.float64), torch.zeros(3)
    student, wanted = made.networks["student"], guided_output(teacher, b["latents"], tau, b["text"], b["uncond"], nothing)
    output = lambda span: made.output(student, b["latents"], tau, torch.full((3,), span, dtype=torch.float64), b["text"])  # noqa: E731
    for span in (0.0, 0.7):
        assert torch.allclose(output(span), wanted, atol=1e-6)
    torch.nn.init.normal_(student.time_embedding.cond_proj.weight)
    assert not torch.allclose(output(0.0), output(0.7), atol=1e-3)


def test_an_scm_student_s_f_is_its_prediction_of_the_clean_latent(teacher):
    made, b = ContinuousConsistencyDistillation(Context(teacher, "cpu"), SCMOptions(w_min=1.0, w_max=1.0)), batch_of(teacher, n=3)
    t, w = torch.tensor([0, 400, 999]), torch.ones(3)
    student, z = made.networks["student"], b["latents"]
    eps = conditioned_output(student, z, t, b["text"], w)
    schedule = teacher.schedule
    wanted = (z - schedule.sigma(t).float() * eps) / schedule.alpha(t).float()
    assert torch.allclose(made.f(student, z, t, b["text"], w), wanted, rtol=1e-3, atol=1e-4)


def test_differences_are_taken_where_the_attention_has_no_forward_mode(teacher):
    unet = teacher.unet
    assert has_forward_mode(unet) and chosen_derivative("auto", unet) == "jvp" and chosen_derivative("finite", unet) == "finite"
    other = SimpleNamespace(attn_processors={"a": object()}, modules=list)
    assert chosen_derivative("auto", other) == "finite" and chosen_derivative("jvp", other) == "jvp"
    compiled = SimpleNamespace(attn_processors={}, modules=lambda: [SimpleNamespace(_compiled_call_impl=print)])
    assert chosen_derivative("auto", compiled) == "finite"

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

    z = torch.ones(1, 4, 2, 2)
    with pytest.raises(UsageError, match="-O derivative=finite"):
        derivative(teacher, Backward.apply, (z,), (z,), "jvp", 0.1)
    for how in ("finite", "backward"):
        assert torch.allclose(derivative(teacher, Backward.apply, (z,), (z,), how, 0.1), z)


# --- a training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["scm", "meanflow"])
def trained(request, pipeline, tmp_path_factory):
    """A student after three updates, with the training interrupted after the first."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    options = {"scm": {"w_min": 2.0, "w_max": 2.0, "warmup": 2}, "meanflow": {"w": 2.0, "different": 0.5}}[name] | {"lr": 1e-3}
    whole = train(registry(pipeline), "tiny", name, folder / "whole", max_steps=3, options=options)

    def interrupt(event, step, *rest):
        if event == "train" and step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(registry(pipeline), "tiny", name, folder / "cut", max_steps=3, options=options, progress=interrupt)
    cut = train(registry(pipeline), "tiny", name, folder / "cut", max_steps=3, options=options, resume=True)
    return name, whole, cut


def test_an_interrupted_training_resumes_bit_for_bit(trained):
    _, whole, cut = trained
    assert facts(whole)["weights_digest"] == facts(cut)["weights_digest"]
    assert facts(whole)["passes"] == facts(cut)["passes"] == 3 * 4 * {"scm": 7, "meanflow": 6}[trained[0]]


def test_an_exported_student_is_sampled_at_one_two_and_four_steps(trained, pipeline):
    name, folder, _ = trained
    told = facts(folder)
    assert (told["guidance"], told["baked_guidance_scale"]) == ("baked", 3.0)
    assert name != "meanflow" or (told["second_input"], told["sampler"]) == ("t - r", {"interval_scale": 10.0})
    student = open_student(open_pipeline(pipeline), folder, name)
    method = PLUGINS[name].register_methods()[0]
    text, seen = student.encode_prompts(["a red apple", "a blue fish"]), []
    noise = lambda k: torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(k))  # noqa: E731
    for steps in (1, 2, 4):
        student.evaluations = 0
        with torch.no_grad():
            run = student.sampling(text, student.encode_prompts([""]), 1.0, noise, steps, method.options())
            seen.append(method.sample(run))
        assert torch.isfinite(seen[-1]).all() and student.evaluations == 2 * steps
    assert not torch.allclose(seen[0], seen[1]) and not torch.allclose(seen[1], seen[2])


def test_a_second_input_for_a_network_without_one_is_a_usage_error(teacher):
    predict = teacher.predictor(teacher.embed(["a red apple"]), teacher.embed([""]), 1.0)
    with pytest.raises(UsageError, match="takes none"):
        predict(torch.zeros(1, 4, 8, 8), 999, 0.1)


@pytest.mark.parametrize("name", PLUGINS)
def test_every_option_is_in_a_table_of_the_readme(name):
    text = (Path(PLUGINS[name].__file__).parent / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    trainer = PLUGINS[name].register_trainers()[0]
    assert [one.name for one in fields(trainer.options) if not any(f"`{one.name}`" in row for row in rows)] == []


@pytest.mark.parametrize(("options", "wrong"), [
    (SCMOptions, {"w_min": 2.0, "w_max": 1.0}), (SCMOptions, {"p_std": 0.0}), (SCMOptions, {"width": 0.0}), (SCMOptions, {"warmup": -1}),
    (SCMOptions, {"lr": 0.0}), (SCMOptions, {"p_mean": float("nan")}), (MeanFlowOptions, {"w": -1.0}),
    (MeanFlowOptions, {"different": 1.5}), (MeanFlowOptions, {"p_std": float("inf")}), (MeanFlowOptions, {"interval_scale": 0.0}),
    (MeanFlowOptions, {"power_c": 0.0}), (MeanFlowOptions, {"beta2": 1.0}), (scottbench_scm.SamplerOptions, {"middle": 2.0}),
    (scottbench_meanflow.SamplerOptions, {"interval_scale": 0.0}),
])  # fmt: skip
def test_options_out_of_range_are_refused(options, wrong):
    with pytest.raises(ValueError):
        options(**wrong)
