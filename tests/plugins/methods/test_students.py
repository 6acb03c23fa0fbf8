"""From training to sampling: LoRA students, EMA and student, the metric curve, and folders that must be refused."""

import copy
import json
import shutil

import pytest
import tiny_plugin
import torch
from scottbench_cd import register_methods, register_trainers
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from tiny_training import train

from scottbench.diffusion import to_x0_eps
from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.models.student import sealed
from scottbench.plan.choices import check_guidance
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Metric
from scottbench.training.context import Context
from scottbench.training.distillation import adapters_off, guided_teacher
from scottbench.training.export import plain_unet
from scottbench.training.lora import TARGETS, add_lora

FAST = {"lr": "1e-3", "w_min": "0.0", "w_max": "4.0"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_plugin.make_files(tmp_path_factory.mktemp("files"))


def plugins_of(files):
    """The tiny plug-in with CD's method and trainer beside its own."""
    text = tiny_plugin.PRESET + '\n[train]\nbatch_size = 4\nmetrics = ["agreement", "gap"]\n'
    found = tiny_plugin.tiny_plugins(files, preset=text)
    for kind, nouns in (("method", register_methods()), ("trainer", register_trainers())):
        found.nouns[kind] |= {noun.name: tiny_plugin.registered(kind, noun) for noun in nouns}
    found.nouns["preset"]["tiny"].noun.guidance["cd"] = 2.5
    return found


@pytest.fixture
def plugins(files):
    return plugins_of(files)


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """A student of one step; copied, not used."""
    return train(plugins_of(files), "tiny", "cd", tmp_path_factory.mktemp("trained") / "s", max_steps=1, options=FAST)


@pytest.fixture
def out(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "s")


@pytest.fixture
def teacher(files):
    return open_pipeline(files / "model")


def batch(teacher, n=4):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(n, 4, 8, 8, generator=generator)
    text = teacher.embed(["a red apple", "a blue fish", "a green star", "the dark moon"][:n])
    return {"latents": latents, "text": text, "uncond": teacher.embed([""]), "generator": generator, "step": 0, "fraction": 0.0}


# --- LoRA ------------------------------------------------------------------------------------------------------------


def test_a_lora_student_shares_the_teacher_s_u_net_and_starts_as_it(teacher):
    b = batch(teacher)
    z, t = b["latents"], torch.tensor([19, 300, 759, 999])
    expected = teacher.unet(z, t, encoder_hidden_states=b["text"]).sample
    trainer = ConsistencyDistillation(Context(teacher, "cpu"), CDOptions(variant="lora", lora_rank=4))
    student = trainer.networks["student"]
    assert student is teacher.unet and trainer.ema is None
    assert torch.equal(student(z, t, encoder_hidden_states=b["text"]).sample, expected), "B = 0"
    learned = [name for name, p in student.named_parameters() if p.requires_grad]
    assert learned and all("lora_" in name for name in learned)
    for p in student.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.1)
    assert not torch.allclose(student(z, t, encoder_hidden_states=b["text"]).sample, expected, atol=1e-3)
    with adapters_off(student):
        assert torch.equal(student(z, t, encoder_hidden_states=b["text"]).sample, expected), "adapters off = teacher"
    assert [name for name, p in student.named_parameters() if p.requires_grad] == learned


def test_a_lora_step_asks_the_teacher_without_and_the_target_with_adapters(teacher):
    trainer = ConsistencyDistillation(Context(teacher, "cpu"), CDOptions(variant="lora", lora_rank=2, w_min=1.0, w_max=1.0))
    for p in trainer.networks["student"].parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.1)
    plain, b = copy.deepcopy(teacher), batch(teacher)
    plain.unet.disable_adapters()
    asked, outputs, original = [], [], trainer.f
    trainer.f = lambda network, z, t, text, w: asked.append((z, t)) or outputs.append(original(network, z, t, text, w)) or outputs[-1]
    ((_, losses, _),) = trainer.step(b)
    (z_n, t_n), (z_m, t_m) = asked  # with gradients first: autocast keeps the casts of the first call
    x0, eps = guided_teacher(plain, z_n, t_n, b["text"], b["uncond"], torch.ones(4))
    schedule = teacher.schedule
    assert torch.allclose(z_m, (schedule.alpha(t_m) * x0 + schedule.sigma(t_m) * eps).float(), atol=1e-4)
    assert outputs[0].requires_grad and not outputs[1].requires_grad
    adapted = to_x0_eps(schedule, z_m, t_m, trainer.networks["student"](z_m, t_m, encoder_hidden_states=b["text"]).sample, "epsilon")[0]
    assert torch.allclose(outputs[1], adapted, atol=1e-2)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in trainer.networks["student"].parameters() if p.requires_grad)


def test_folding_the_lora_in_changes_nothing_but_the_form(teacher):
    b, unet = batch(teacher), add_lora(teacher.unet, 4)
    for p in unet.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.05)
    names = {name.replace(".base_layer", "") for name in unet.state_dict() if "lora_" not in name}
    folded = plain_unet(unet)
    t = torch.tensor([19, 300, 759, 999])
    arguments = (b["latents"], t)
    expected = unet(*arguments, encoder_hidden_states=b["text"]).sample
    assert torch.allclose(folded(*arguments, encoder_hidden_states=b["text"]).sample, expected, atol=1e-4)
    assert set(folded.state_dict()) == names and plain_unet(folded) is folded
    assert torch.equal(unet(*arguments, encoder_hidden_states=b["text"]).sample, expected), "the training goes on unharmed"


def test_lcm_lora_s_targets_are_7_8_percent_of_sd15():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768,
            block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8).requires_grad_(False)  # fmt: skip
        total = sum(p.numel() for p in unet.parameters())
        add_lora(unet, 64)
    trained = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    assert total / 1e6 == pytest.approx(859.52, abs=0.01) and trained / 1e6 == pytest.approx(67.25, abs=0.01)
    assert len(TARGETS) == 14


def test_a_lora_student_is_trained_exported_and_sampled_with_guidance_1_only(plugins, files, tmp_path):
    out = train(plugins, "tiny", "cd", tmp_path / "s", max_steps=2, options={**FAST, "variant": "lora", "lora_rank": "2"})
    facts = json.loads((out / "student.json").read_text())
    assert (facts["guidance"], facts["weights"]) == ("baked", "student") and "w_min" not in facts
    assert facts["network_evaluations"] == 2 * 4 * (2 + 1 + 1)
    student = open_student(open_pipeline(files / "model"), out, "cd")
    assert not student.takes_guidance and not getattr(student.unet, "peft_config", None)
    request = {"preset": "tiny", "methods": ["cd"], "students": {"cd": str(out)}}
    with pytest.raises(UsageError, match="guidance scale 2.5 of method 'cd@guidance=2.5': guidance is baked in.*cd@guidance=1"):
        make_plan(plugins, RunRequest(**request | {"methods": ["cd@guidance=2.5"]}))
    for methods in (["cd"], ["cd@guidance=1"]):  # the preset's 2.5 is for students that take it as an input
        assert make_plan(plugins, RunRequest(**request | {"methods": methods})).cells[0].method.guidance == 1.0
    resumed = train(plugins, "tiny", "cd", out, max_steps=3, options={**FAST, "variant": "lora", "lora_rank": "2"}, resume=True)
    assert json.loads((resumed / "student.json").read_text())["steps"] == 3


# --- curve, EMA and student ------------------------------------------------------------------------------------------


def test_a_curve_by_a_metric_over_several_seeds_is_refused(plugins, tmp_path):
    spread = Metric("spread", "", lambda cells, options: 0.0, higher_is_better=True, scope="seeds")
    plugins.nouns["metric"]["spread"] = tiny_plugin.registered("metric", spread)
    plugins.nouns["preset"]["tiny"].noun.train["metrics"] = ["gap", "spread"]
    with pytest.raises(UsageError, match="metric 'spread' compares several seeds of a method; a training is watched at one"):
        train(plugins, "tiny", "cd", tmp_path / "s", max_steps=1, options=FAST, evaluate_every=2)


def test_curve_best_and_both_weights_end_up_in_the_folder(plugins, files, tmp_path):
    flags = {"evaluate_every": 2, "weights": "both", "export": "best"}
    out = train(plugins, "tiny", "cd", tmp_path / "s", max_steps=4, options={**FAST, "lr": "1e-2"}, **flags)
    points = [line for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "curve/gap" in line]
    assert [point["step"] for point in points] == [2, 4]
    assert all({"curve/agreement", "curve/student/agreement", "curve/student/gap"} <= set(point) for point in points)
    assert points[0]["curve/gap"] != points[0]["curve/student/gap"]
    best = max(points, key=lambda point: point["curve/agreement"])
    facts = json.loads((out / "student.json").read_text())
    assert facts["best_on_curve"]["value"] == pytest.approx(best["curve/agreement"], abs=1e-6)
    assert facts["steps"] == facts["best_on_curve"]["step"] == best["step"]
    assert facts["network_evaluations"] == best["step"] * 4 * 4, "the curve's passes are no part of the training's"
    teacher = open_pipeline(files / "model")
    ema, student = open_student(teacher, out, "cd"), open_student(teacher, out / "student", "cd")
    assert (ema.student["weights"], student.student["weights"]) == ("ema", "student") and ema.digest != student.digest


def test_gradient_checkpointing_is_on_and_changes_no_gradient(plugins, files, tmp_path, monkeypatch):
    from torch.utils import checkpoint

    digests, again, original = {}, [], checkpoint.checkpoint
    monkeypatch.setattr(checkpoint, "checkpoint", lambda *a, **k: again.append(1) or original(*a, **k))
    for asked in (False, True):
        again.clear()
        out = train(plugins, "tiny", "cd", tmp_path / str(asked), max_steps=2, options=FAST, gradient_checkpointing=asked)
        digests[asked] = json.loads((out / "student.json").read_text())["weights_digest"]
        assert bool(again) == asked, "blocks are computed again in the backward pass"
    assert digests[False] == digests[True]


# --- bad input -------------------------------------------------------------------------------------------------------


def test_guidance_outside_a_student_s_range_is_refused():
    check_guidance("cd", 3.0, {"w_min": 0.0, "w_max": 4.0})
    check_guidance("cd", 1.0, {"guidance": "baked"})
    with pytest.raises(UsageError, match="guidance scale 5.5 of method 'cd' is outside the range .*: 1 to 5"):
        check_guidance("cd", 5.5, {"w_min": 0.0, "w_max": 4.0})
    with pytest.raises(UsageError, match="Use cd@skip=20,guidance=1"):
        check_guidance("cd@skip=20", 2.0, {"guidance": "baked"})


def test_a_student_of_another_model_is_refused(plugins, out):
    facts = json.loads((out / "student.json").read_text())
    (out / "student.json").write_text(json.dumps(sealed(facts | {"teacher_digest": "f" * 64})))
    with pytest.raises(DamagedAsset, match="was distilled from a teacher with digest ffffffffffff.*Name its own teacher with --model"):
        make_plan(plugins, RunRequest("tiny", methods=["cd"], students={"cd": str(out)}))


def test_a_student_without_its_weights_or_with_others_is_refused(plugins, out):
    request = RunRequest("tiny", methods=["cd"], students={"cd": str(out)})
    weights = out / "unet" / "diffusion_pytorch_model.safetensors"
    data = weights.read_bytes()
    weights.unlink()
    with pytest.raises(MissingAsset, match="unet/diffusion_pytorch_model.safetensors missing. Restore the folder"):
        make_plan(plugins, request)
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedAsset, match="weights have digest .*, student.json says"):
        make_plan(plugins, request)
    weights.write_bytes(data)
    make_plan(plugins, request)


def test_a_number_of_steps_that_it_was_not_made_for_is_told(plugins, out):
    request = {"preset": "tiny", "methods": ["cd"], "students": {"cd": str(out)}}
    assert make_plan(plugins, RunRequest(**request, steps=[1, 8])).warnings == []
    assert make_plan(plugins, RunRequest(**request, steps=[2, 9])).warnings == ["method 'cd' was made for 1 to 8 steps, not for 9."]
    with pytest.raises(UsageError, match="--steps 51: method 'cd' cannot do that. It can do 1 to 50 steps"):
        make_plan(plugins, RunRequest(**request, steps=[51]))
