"""scottbench adopt: published U-Nets and LoRA of the true names become students; what cannot be one is refused in a line."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shlex
import shutil

import published_files as published
import pytest
import tiny
import torch
from safetensors.torch import load_file
from scottbench_cd import register_methods

from scottbench.cli import invoke
from scottbench.errors import ScottbenchError
from scottbench.models import adoption
from scottbench.models.noise import ItemNoise
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.models.published import find_published
from scottbench.models.sampling import Sampler
from scottbench.models.student import read_student

LCM = next(method for method in register_methods() if method.name == "lcm")
PROMPTS = ["a red apple", "a pale moon", "a small dog on the house"]


@pytest.fixture(scope="module")
def teacher(files):
    return open_pipeline(files / "model")


@pytest.fixture(scope="module")
def pairs(teacher):
    return published.factors(teacher.unet)


@pytest.fixture
def adopt(files, tmp_path, capsys):
    """adopt(source, flags...) -> (exit code, stdout, stderr), into tmp_path/s."""

    def run(source, *flags, method="lcm"):
        given = [] if "--teacher" in flags else ["--teacher", str(files / "model")]
        code = invoke(["adopt", str(source), "--as", method, *given, "-o", str(tmp_path / "s"), *flags])
        said = capsys.readouterr()
        lines = [line for line in said.err.splitlines() if line.startswith("error")]
        return code, said.out, "\n".join(lines)

    return run


@pytest.fixture
def directly(teacher, tmp_path):
    """directly(source, trainer) -> student.json, by the function alone: the teacher is opened once for all tests."""

    def run(source, trainer="cd", **wishes):
        copied = dataclasses.replace(teacher, unet=copy.deepcopy(teacher.unet))
        asked = adoption.Wishes("s", "lcm", trainer, **wishes)
        return adoption.adopt(find_published(str(source)), copied, "model", asked, tmp_path / "s", {"package": "test"})

    return run


def weights(folder):
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


# --- LoRA ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form, scale", [
    (lambda pairs: published.kohya(pairs, alpha=8.0), 2.0), (lambda pairs: published.kohya(pairs, alpha=1.0), 0.25),
    (published.diffusers_new, 1.0), (published.diffusers_old, 1.0), (published.peft, 1.0),
])  # fmt: skip
def test_a_lora_of_any_form_is_added_to_each_of_its_layers(directly, teacher, pairs, tmp_path, form, scale):
    """W + (alpha / rank) up down, for linear maps and convolutions, and not one weight more."""
    directly(published.write(tmp_path / "lora.safetensors", form(pairs)))
    found, before = weights(tmp_path / "s"), teacher.unet.state_dict()
    assert found.keys() == before.keys()
    for name, weight in before.items():
        pair = pairs.get(name.removesuffix(".weight"))
        if pair is None or not name.endswith(".weight"):
            assert torch.equal(found[name], weight), name
            continue
        down, up = pair
        added = scale * (up.flatten(1) @ down.flatten(1)).view(weight.shape)
        assert torch.allclose(found[name], weight + added, atol=1e-5), name


def test_the_alpha_in_a_header_of_diffusers_counts(directly, teacher, pairs, tmp_path):
    settings = json.dumps({"unet.r": 4, "unet.lora_alpha": 12, "unet.target_modules": sorted(pairs)})
    directly(published.write(tmp_path / "lora.safetensors", published.diffusers_new(pairs), {"lora_adapter_metadata": settings}))
    name, (down, up) = next(iter(pairs.items()))
    added = weights(tmp_path / "s")[f"{name}.weight"] - teacher.unet.state_dict()[f"{name}.weight"]
    assert torch.allclose(added, 3 * (up.flatten(1) @ down.flatten(1)).view(added.shape), atol=1e-5)


def test_an_adopted_lora_makes_the_images_of_diffusers_pipeline(directly, teacher, files, pairs, tmp_path, monkeypatch):
    """The same LoRA and LCMScheduler in StableDiffusionPipeline: within one grey level."""
    from diffusers import LCMScheduler, StableDiffusionPipeline

    path = published.write(tmp_path / "lora.safetensors", published.kohya(pairs, alpha=4.0))
    directly(path)
    ids, steps = [f"item-{i}" for i in range(len(PROMPTS))], 4
    noise = ItemNoise(0, ids, teacher.latent_shape, "cpu")
    pipe = StableDiffusionPipeline.from_pretrained(files / "model", safety_checker=None)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(tmp_path, weight_name=path.name)
    drawn = iter(range(1, steps))
    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *a, **k: noise(next(drawn)))
    theirs = pipe(PROMPTS, num_inference_steps=steps, guidance_scale=1.0, latents=noise(0), output_type="np").images
    student = open_student(teacher, tmp_path / "s", "cd")
    uncond = student.encode_prompts([""])
    sampler = Sampler(student, LCM, "lcm", LCM.options(), uncond, 1.0, steps, 0)
    images = sampler.images(student.encode_prompts(PROMPTS), ids, None, len(ids))
    assert abs(images.astype(float) - 255 * theirs).max() <= 1.0
    plain = Sampler(teacher, LCM, "lcm", LCM.options(), uncond, 1.0, steps, 0).images(teacher.encode_prompts(PROMPTS), ids, None, len(ids))
    assert abs(plain.astype(float) - images).mean() > 2, "without the LoRA they are others"


def test_student_json_says_whose_weights_they_are(adopt, teacher, pairs, tmp_path):
    tensors = published.kohya(pairs, alpha=4.0)
    path = published.write(tmp_path / "lora.safetensors", tensors, {"modelspec.license": "MIT", "ss_sd_model_name": "Dreamshaper v7\nx"})
    code, out, _ = adopt(path, "-O", "skip=50", "--made-for", "1,2,4", "--by", "Somebody", "--name", "quick")
    facts = read_student(tmp_path / "s")
    told = facts["published"]
    assert (facts["trainer"], facts["name"], facts["guidance"], facts["sampler"], facts["made_for"]) == (
        "cd", "quick", "baked", {"skip": 50}, [1, 2, 4])
    assert facts["teacher_digest"] == teacher.digest and facts["teacher"] == "model"
    assert (told["kind"], told["source"], told["by"], told["licence"], told["trained_from"], told["method"]) == (
        "LoRA", "lora.safetensors", "Somebody", "MIT", "Dreamshaper v7", "lcm")
    assert len(told["sha256"]) == 64 and str(tmp_path) not in json.dumps(facts)
    assert code == 0 and "published weights" in out and "scottbench run -m lcm@student=quick --student quick=" in out


def test_a_licence_that_nobody_says_is_unknown_and_the_same_adoption_is_the_same_student(directly, pairs, tmp_path):
    path = published.write(tmp_path / "lora.safetensors", published.diffusers_new(pairs))
    facts = directly(path)
    assert facts["published"]["licence"] == "unknown"
    shutil.rmtree(tmp_path / "s")
    assert directly(path)["seal"] == facts["seal"]


def test_the_text_encoder_s_part_is_refused_or_left_out_and_said(adopt, pairs, tmp_path):
    stem = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    down, up = torch.zeros(4, 32), torch.zeros(32, 4)
    extra = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(4.0)}
    path = published.write(tmp_path / "lora.safetensors", published.kohya(pairs, alpha=4.0, extra=extra))
    code, _, error = adopt(path)
    assert code == 2 and "changes the text encoder too (3 tensors" in error and "--unet-only" in error and not (tmp_path / "s").exists()
    assert adopt(path, "--unet-only")[0] == 0
    assert read_student(tmp_path / "s")["published"]["left_out"] == ["lora_te"]


# --- whole U-Nets ----------------------------------------------------------------------------------------------------


def pipeline_of(files, folder, unet, **scheduler):
    """A published pipeline: the tiny one with another U-Net and another scheduler."""
    shutil.copytree(files / "model", folder)
    unet.save_pretrained(folder / "unet", safe_serialization=True)
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text()) | scheduler
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return folder


def test_an_lcm_pipeline_gives_its_u_net_its_grid_and_its_guidance_input(adopt, files, teacher, tmp_path):
    """As LCM_Dreamshaper: time_cond_proj_dim, LCMScheduler of 50 original steps, here 20."""
    folder = pipeline_of(files, tmp_path / "lcm", tiny.tiny_unet(256), _class_name="LCMScheduler", original_inference_steps=20)
    (folder / "README.md").write_text("---\nlicense: mit\nbase_model:\n- Lykon/dreamshaper-7\n---\nHello\n")
    assert adopt(folder, "--guidance", "3..15", method="cd")[0] == 0
    facts = read_student(tmp_path / "s")
    assert (facts["w_min"], facts["w_max"], facts["sampler"]) == (2.0, 14.0, {"skip": 50}) and "guidance" not in facts
    told = facts["published"]
    assert (told["licence"], told["trained_from"], told["own_parts_not_used"]) == ("mit", "Lykon/dreamshaper-7", ["text_encoder", "vae"])
    original = (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert (tmp_path / "s" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == original
    assert open_student(teacher, tmp_path / "s", "cd").takes_guidance


def test_sd_turbo_s_pipeline_is_plain_and_trailing(adopt, files, teacher, tmp_path):
    folder = pipeline_of(files, tmp_path / "turbo", tiny.tiny_unet(), _class_name="EulerDiscreteScheduler", timestep_spacing="trailing")
    assert adopt(folder, "--made-for", "1,2,3,4", method="plain")[0] == 0
    facts = read_student(tmp_path / "s")
    assert (facts["trainer"], facts["sampler"], facts["guidance"]) == ("plain", {"spacing": "trailing"}, "baked")


def test_instaflow_s_output_is_a_velocity(directly, files, teacher, tmp_path):
    """One Euler step: X_1 = noise + U-Net(noise, 1000)."""
    from scottbench_instaflow import register_methods as of_instaflow

    (method,) = of_instaflow()
    published.write(tmp_path / "unet.safetensors", tiny.tiny_unet().state_dict())
    directly(tmp_path / "unet.safetensors", "instaflow")
    student = open_student(teacher, tmp_path / "s", "instaflow")
    text, noise = student.encode_prompts(PROMPTS), ItemNoise(0, PROMPTS, student.latent_shape, "cpu")
    made = method.sample(student.sampling(text, text[:1], 1.0, noise, 1, method.options()))
    with torch.no_grad():
        velocity = student.unet(noise(0), 1000.0, encoder_hidden_states=text, return_dict=False)[0]
    assert torch.allclose(made, noise(0) + velocity, atol=1e-5)


def test_dmd2_s_one_step_is_the_prediction_at_999(directly, teacher, tmp_path):
    from scottbench_dmd2 import register_methods as of_dmd2

    (method,) = of_dmd2()
    published.write(tmp_path / "unet.safetensors", tiny.tiny_unet().state_dict())
    directly(tmp_path / "unet.safetensors", "dmd2")
    student = open_student(teacher, tmp_path / "s", "dmd2")
    text, noise = student.encode_prompts(PROMPTS), ItemNoise(0, PROMPTS, student.latent_shape, "cpu")
    made = method.sample(student.sampling(text, text[:1], 1.0, noise, 1, method.options()))
    assert torch.allclose(made, student.denoiser(text, text[:1], 1.0)(noise(0), 999)[0], atol=1e-5)


def test_shards_and_an_fp16_variant_become_one_file(directly, files, teacher, tmp_path):
    unet = tiny.tiny_unet()
    pipeline_of(files, tmp_path / "sharded", unet)
    shutil.rmtree(tmp_path / "sharded" / "unet")
    unet.save_pretrained(tmp_path / "sharded" / "unet", safe_serialization=True, max_shard_size="100kB")
    assert len(list((tmp_path / "sharded" / "unet").glob("*.safetensors"))) > 1
    directly(tmp_path / "sharded", "ufogen")
    assert all(torch.equal(value, unet.state_dict()[name]) for name, value in weights(tmp_path / "s").items())
    shutil.rmtree(tmp_path / "s")
    unet.half().save_pretrained(tmp_path / "half", safe_serialization=True, variant="fp16")
    directly(tmp_path / "half", "ufogen")
    assert open_student(teacher, tmp_path / "s", "ufogen").dtype == torch.float32


# --- the hub's cache -------------------------------------------------------------------------------------------------


def test_a_hub_id_is_read_from_the_cache_or_its_fetch_line_is_shown(adopt, pairs, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    code, _, error = adopt("latent-consistency/lcm-lora-sdv1-5")
    assert code == 3 and error.endswith("Fetch it: hf download latent-consistency/lcm-lora-sdv1-5")
    code, _, error = adopt("ByteDance/Hyper-SD/Hyper-SD15-1step-lora.safetensors@abc", method="tcd")
    assert code == 3 and error.endswith("hf download ByteDance/Hyper-SD Hyper-SD15-1step-lora.safetensors --revision abc")
    place = tmp_path / "hub" / "models--ByteDance--Hyper-SD"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc123")
    for name in ("Hyper-SD15-1step-lora", "Hyper-SD15-4steps-lora"):
        published.write(place / "snapshots" / "abc123" / f"{name}.safetensors", published.kohya(pairs, alpha=4.0))
    (place / "snapshots" / "abc123" / "README.md").write_text("---\nlicense: openrail++\ntags:\n- lora\n---\n")
    code, _, error = adopt("ByteDance/Hyper-SD", method="tcd")
    assert code == 2 and "holds 2 safetensors files" in error and "ByteDance/Hyper-SD/Hyper-SD15-1step-lora.safetensors" in error
    assert adopt("ByteDance/Hyper-SD/Hyper-SD15-1step-lora.safetensors", "-O", "eta=1", "--made-for", "1", method="tcd")[0] == 0
    facts = read_student(tmp_path / "s")
    told = facts["published"]
    assert facts["sampler"] == {"eta": 1.0} and facts["trainer"] == "cd"
    assert (told["source"], told["revision"], told["by"], told["licence"]) == (
        "ByteDance/Hyper-SD/Hyper-SD15-1step-lora.safetensors", "abc123", "ByteDance", "openrail++")


# --- what is refused -------------------------------------------------------------------------------------------------


def wide(pairs):
    """The LoRA of a base that reads text of 64 numbers, where the tiny pipeline's has 32, and has more layers."""
    more = {"down_blocks.7.resnets.0.conv1": next(iter(pairs.values()))}
    return more | {
        name: (torch.zeros(4, 64) if name.endswith(("attn2.to_k", "attn2.to_v")) else down, up) for name, (down, up) in pairs.items()}


@pytest.mark.parametrize("tensors, code, words", [
    (lambda pairs: published.kohya(wide(pairs), 4.0), 3, r"LoRA of another base: '.*attn2.to_k' changes weights of shape \(32, 64\)"),
    (lambda pairs: published.diffusers_new({"down_blocks.7.resnets.0.conv1": next(iter(pairs.values()))}), 3, "no layer 'down_blocks.7"),
    (lambda pairs: {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": torch.zeros(4, 32),
                    "lora_unet_input_blocks_4_1_proj_in.lora_up.weight": torch.zeros(32, 4)}, 3, "another base|does not know"),
    (lambda pairs: {"lora_unet_mid_block_x.lora_down.weight": torch.zeros(4, 32)}, 3, "does not know"),
    (lambda pairs: {"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": torch.zeros(4, 4)}, 3, "another kind .LoHa."),
    (lambda pairs: {"model.embed.weight": torch.zeros(4, 4)}, 3, "neither a U-Net of diffusers' form nor a LoRA.*'model.embed.weight'"),
    (lambda pairs: {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4)}, 3, "original form.*from_single_file"),
    (lambda pairs: published.kohya({k: (v[0] * float("nan"), v[1]) for k, v in pairs.items()}, 4.0), 3, "not finite"),
    (lambda pairs: tiny.tiny_unet().state_dict() | {"conv_in.weight": torch.zeros(32, 9, 3, 3)}, 3, "9 input channels"),
    (lambda pairs: {k: v for k, v in tiny.tiny_unet().state_dict().items() if "mid_block" not in k}, 3, "'mid_block.* is missing"),
    (lambda pairs: tiny.tiny_unet().state_dict() | {"add_embedding.linear_1.weight": torch.zeros(4, 4)}, 3, "no 'add_embedding"),
    (lambda pairs: tiny.tiny_unet().state_dict() | {"conv_out.bias": torch.full((4,), float("inf"))}, 3, "'conv_out.bias' has numbers"),
])  # fmt: skip
def test_weights_that_cannot_be_a_student_are_refused_in_one_line(directly, pairs, tmp_path, tensors, code, words):
    with pytest.raises(ScottbenchError) as caught:
        directly(published.write(tmp_path / "x.safetensors", tensors(pairs)))
    error = str(caught.value)
    assert caught.value.exit_code == code and "\n" not in error and re.search(words, error), error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.safetensors"], "nothing half is left"


def test_a_u_net_folder_for_inpainting_is_refused_by_its_config(directly, tmp_path):
    from diffusers import UNet2DConditionModel

    config = dict(tiny.tiny_unet().config) | {"in_channels": 9}
    UNet2DConditionModel.from_config(config).save_pretrained(tmp_path / "inpaint", safe_serialization=True)
    with pytest.raises(ScottbenchError, match="in_channels is 9; supported: 4"):
        directly(tmp_path / "inpaint", "plain")


@pytest.mark.parametrize("name", ["model.ckpt", "pytorch_lora_weights.bin", "unet.PT"])
def test_pickles_are_refused_with_the_line_that_converts_them(adopt, tmp_path, name):
    """The line is run: what it writes can be adopted."""
    torch.save({"state_dict": tiny.tiny_unet().state_dict()}, tmp_path / name)
    code, _, error = adopt(tmp_path / name, method="ufogen")
    assert code == 2 and "pickle" in error and "\n" not in error
    if name.endswith("ckpt"):
        python, flag, program = shlex.split(error.partition("convert it: ")[2])
        assert (python, flag) == ("python", "-c")
        exec(program)
        assert adopt(tmp_path / "model.safetensors", method="ufogen")[0] == 0


@pytest.mark.parametrize("flags, words", [
    (["-O", "skip=0"], "skip must be at least 1"), (["-O", "eta=1"], "no sampler of these weights has this option. Options: lcm: skip"),
    (["--guidance", "3..15"], "take no guidance scale as an input"), (["--guidance", "some"], "must be baked, free or a range"),
    (["--guidance", "9..3"], "the lower end comes first"), (["--name", "a b"], "a student's name has letters"),
    (["--made-for", "two"], "--made-for"), (["--teacher", "sd51"], "unknown model 'sd51'"),
])  # fmt: skip
def test_flags_that_cannot_be_meant(adopt, pairs, tmp_path, flags, words):
    code, _, error = adopt(published.write(tmp_path / "x.safetensors", published.diffusers_new(pairs)), *flags)
    assert code == 2 and words in error and not (tmp_path / "s").exists(), error


def test_a_folder_that_is_taken_an_unknown_method_and_a_missing_file(adopt, pairs, tmp_path):
    path = published.write(tmp_path / "x.safetensors", published.diffusers_new(pairs))
    assert adopt(path, method="lmc")[2].startswith("error: unknown method 'lmc'. Did you mean 'lcm'?")
    assert "no such file or folder" in adopt(tmp_path / "none.safetensors")[2]
    assert adopt(path)[0] == 0
    code, _, error = adopt(path)
    assert code == 2 and "is there already" in error


def test_without_a_teacher_the_one_model_that_reads_such_text_is_taken_and_show_tells(files, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCOTTBENCH_SD15", str(tmp_path / "nothing"))
    path = published.write(tmp_path / "x.safetensors", published.diffusers_new(pairs))
    line = ["adopt", str(path), "--as", "lcm", "-o", str(tmp_path / "s"), "--trained-from", "Dreamshaper v7"]
    assert invoke(line) == 2
    assert "no model that is here fits (text of width 32). Say whose student it is: --teacher NAME|FOLDER" in capsys.readouterr().err
    monkeypatch.setenv("SCOTTBENCH_SD15", str(files / "model"))
    assert invoke(line) == 0
    assert read_student(tmp_path / "s")["teacher"] == "sd15"
    capsys.readouterr()
    assert invoke(["show", "student", str(tmp_path / "s")]) == 0
    shown = capsys.readouterr().out
    assert "published weights" in shown and "Dreamshaper v7" in shown and "licence unknown" in shown
