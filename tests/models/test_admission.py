"""One admission check per folder: what does not fit is one sentence with file, field, value and what is supported, before anything is
loaded. A folder from elsewhere chooses no class, no code and no memory.

Public reports behind the cases: huggingface/diffusers #4649, #4324, #6996 (SDXL), #1070, #6964 (inpainting), #6037 (rectified flow),
#10139 and #1408 (sample_size), #10928, #6652 (fp16 only); CompVis/stable-diffusion#860 (a tokenizer without a length).
"""

import json
import shutil
import struct

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from scottbench.errors import DamagedAsset, MissingAsset, Unfit
from scottbench.models.admission import admit_pipeline, admit_student
from scottbench.models.configs import tensor_shapes
from scottbench.models.pipeline import open_pipeline
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest

INDEX, UNET, VAE, TEXT = "model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"
TOKENIZER, SCHEDULER = "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json"


@pytest.fixture
def model(files, tmp_path):
    shutil.copytree(files / "model", tmp_path / "model")
    return tmp_path / "model"


def change(folder, name, **changes):
    """Replace keys of a JSON file; None is null, `...` takes a key out."""
    path = folder / name
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return folder


REFUSED = {
    "SDXL": (INDEX, {"_class_name": "StableDiffusionXLPipeline"}, "text_encoder_2 is null; supported: CLIPTextModelWithProj"),
    "no class": (INDEX, {"_class_name": ...}, "_class_name is null"),
    "a class that is a list": (INDEX, {"_class_name": ["x"]}, '_class_name is \\["x"\\]'),
    "a module for a class": (INDEX, {"vae": ["diffusers", "utils"]}, "vae is .*utils.*; supported: AutoencoderKL or AutoencoderTiny"),
    "a text for a class": (INDEX, {"vae": ["diffusers", "__version__"]}, "vae is .*__version__"),
    "a class that loads code": (INDEX, {"vae": ["diffusers", "DiffusionPipeline"]}, "vae is .*DiffusionPipeline"),
    "a library of its own": (INDEX, {"unet": ["evil", "UNet2DConditionModel"]}, "unet is .*evil"),
    "another text encoder": (INDEX, {"text_encoder": ["transformers", "T5EncoderModel"]}, "T5EncoderModel.*CLIPTextModel of transformers"),
    "a part that is null": (INDEX, {"tokenizer": None}, "tokenizer is null"),
    "a flow's scheduler": (INDEX, {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}, "FlowMatch.*schedulers with betas"),
    "inpainting": (UNET, {"in_channels": 9}, "unet/config.json: in_channels is 9"),
    "learned variance": (UNET, {"out_channels": 8}, "out_channels is 8"),
    "latents of another VAE": (VAE, {"latent_channels": 5}, "latent_channels is 5; supported: the widths of its weights"),
    "further inputs": (UNET, {"addition_embed_type": "text_time"}, 'addition_embed_type is "text_time"; supported: null'),
    "another class of U-Net": (UNET, {"_class_name": "UNet3DConditionModel"}, "UNet3DConditionModel.*supported: UNet2DConditionModel"),
    "text of another width": (UNET, {"cross_attention_dim": 64}, "cross_attention_dim is 64; supported: 32, the width of its text encoder"),
    "no groups": (UNET, {"norm_num_groups": 0}, "norm_num_groups is 0; supported: a whole number from 1"),
    "no size": (UNET, {"sample_size": ...}, 'sample_size is null; supported: the side of a square latent.*write "sample_size": 64'),
    "an oblong": (UNET, {"sample_size": [16, 24]}, "sample_size is \\[16, 24\\]"),
    "a giant": (UNET, {"sample_size": 10**9}, "sample_size is 1000000000; supported: the side of a square latent, 1 to 512"),
    "widths that would fill the memory": (UNET, {"block_out_channels": [2**22, 2**22]}, "block_out_channels is .*4194304.*its weights"),
    "depths that would": (UNET, {"layers_per_block": 10**7}, "layers_per_block is 10000000; supported: as many as its"),
    "blocks that would": (UNET, {"down_block_types": ["DownBlock2D"] * 10**4}, "down_block_types is .*\\.\\.\\.; supported: as many"),
    "an embedding that would": (UNET, {"time_cond_proj_dim": 10**9}, "time_cond_proj_dim is 1000000000"),
    "a vocabulary that would": (TEXT, {"vocab_size": 10**10}, "vocab_size is 10000000000"),
    "layers that would": (TEXT, {"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
    "bitsandbytes": (UNET, {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config is .bitsandbytes"),
    "gptq": (TEXT, {"quantization_config": {"quant_method": "gptq", "bits": 4}}, 'quantization_config is "gptq"'),
    "code of its own": (TEXT, {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map is .*no code of its own"),
    "attention from elsewhere": (TEXT, {"_attn_implementation": "someone/kernel"}, "someone/kernel"),
    "an attention mask": (TEXT, {"use_attention_mask": True}, "use_attention_mask is true; supported: false or null"),
    "another text model": (TEXT, {"model_type": "xlm-roberta"}, 'model_type is "xlm-roberta"'),
    "a VAE of 6 channels": (VAE, {"out_channels": 6}, "out_channels is 6"),
    "a VAE that scales by 0": (VAE, {"scaling_factor": 0}, "scaling_factor is 0; supported: a number above 0"),
    "a VAE that scales by NaN": (VAE, {"scaling_factor": float("nan")}, "scaling_factor is NaN"),
    "another VAE than named": (VAE, {"_class_name": "AutoencoderTiny"}, "AutoencoderTiny.*AutoencoderKL, which model_index.json names"),
    "a prompt too long for the text encoder": (TOKENIZER, {"model_max_length": 10**9}, "model_max_length is 10+; supported: .* to 16"),
    "a vocabulary from elsewhere": (TOKENIZER, {"vocab_file": "/etc/passwd"}, "vocab_file is .*/etc/passwd"),
    "a flow": (SCHEDULER, {"prediction_type": "flow_prediction"}, 'prediction_type is "flow_prediction"; supported: "epsilon" or'),
    "zero SNR": (SCHEDULER, {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is true; supported: null or false"),
    "betas below 0": (SCHEDULER, {"beta_start": -5}, "beta_end is \\[-5.0, 0.012\\]; supported: 0 < beta_start <="),
    "betas that are NaN": (SCHEDULER, {"beta_end": float("nan")}, "beta_end is NaN"),
    "no betas": (SCHEDULER, {"beta_start": ...}, "beta_start is null"),
    "a schedule that would fill the memory": (SCHEDULER, {"num_train_timesteps": 10**11}, "num_train_timesteps is 100000000000"),
    "an unknown schedule": (SCHEDULER, {"beta_schedule": ["linear"]}, "beta_schedule is"),
}  # fmt: skip


@pytest.mark.parametrize("name, changes, words", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_one_sentence_with_field_value_and_what_is_supported(model, name, changes, words):
    with pytest.raises(Unfit, match=words) as caught:
        admit_pipeline(change(model, name, **changes))
    said = str(caught.value)
    assert "\n" not in said and len(said) < 400 and said.startswith(str(model / name)) and "supported: " in said
    assert not any(word in said for word in ("elete", "rain again", "estore")), "none of them is the cure"


def test_a_folder_that_fits_says_what_it_is(model):
    found = admit_pipeline(model)
    assert (found.vae, found.prediction, found.tokens, found.side) == ("AutoencoderKL", "epsilon", tiny.CONTEXT, 8)
    assert len(found.schedule) == 1000 and found.warnings == ()


def test_a_stray_file_with_a_large_side_does_not_lend_it_to_the_config(model):
    """One long, thin tensor beside the weights, and a config that squares its side."""
    save_file({"x": torch.zeros(2**16, 1)}, model / "unet" / "more.safetensors")
    with pytest.raises(Unfit, match=r"block_out_channels is \[65536, 65536\]; supported: widths for which its [\d,]+ weights are enough"):
        admit_pipeline(change(model, UNET, block_out_channels=[2**16, 2**16]))


HEADERS = {
    "a header longer than the file": struct.pack("<Q", 10**6) + b"{}",
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}" * 100,
    "a header of 50 MB": struct.pack("<Q", 50 * 2**20) + b"[" * (50 * 2**20 + 1),
    "a header that nests": struct.pack("<Q", 10**5) + b"[" * 10**5,
    "a tensor larger than the file": (lambda text: struct.pack("<Q", len(text)) + text)(
        b'{"x":{"dtype":"F32","shape":[100000,100000],"data_offsets":[0,40000000000]}}'),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_a_header_of_weights_is_checked_before_memory_is_taken_for_it(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(DamagedAsset, match="cannot read .*model.safetensors: .*Restore the file"):
        tensor_shapes(path)


@pytest.mark.parametrize("name", [INDEX, UNET, SCHEDULER])
def test_configs_are_small_regular_files(model, name):
    (model / name).write_text("[" * 50 * 2**20)
    with pytest.raises(DamagedAsset, match=r"config|index.*52.4 MB; at most 1.0 MB are read"):
        admit_pipeline(model)
    (model / name).write_text("[" * 10**5)
    with pytest.raises(DamagedAsset, match="nested too deeply"):
        admit_pipeline(model)
    (model / name).unlink()
    (model / name).symlink_to("/dev/zero")
    with pytest.raises(DamagedAsset, match="no regular file"):
        admit_pipeline(model)


def test_a_tokenizer_that_does_not_name_its_length_has_the_text_encoders(model):
    wanted = open_pipeline(model).encode_prompts(["a red apple", ""])
    for length in (..., 10**30):
        found = open_pipeline(change(model, TOKENIZER, model_max_length=length))
        assert found.tokenizer.model_max_length == tiny.CONTEXT and torch.equal(found.encode_prompts(["a red apple", ""]), wanted)


@pytest.mark.parametrize("damage", [lambda data: data[:5], lambda data: b'{"<|endoftext|>": "x"}', lambda data: b"[" * 10**6])
def test_a_vocabulary_that_is_none_is_one_line(model, damage):
    (model / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    path = model / "tokenizer" / "vocab.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedAsset, match="cannot read .*tokenizer: ") as caught:
        open_pipeline(model)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(model):
    path = model / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if key.endswith("token_embedding.weight"))
    weights[name] = weights[name][:-5].clone()
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(DamagedAsset, match=r"knows \d+ tokens, its text encoder \d+ \(vocab_size\)"):
        open_pipeline(change(model, TEXT, vocab_size=len(weights[name])))


def test_sizes_of_latents_that_are_pairs_or_of_old_conversions(model):
    assert open_pipeline(change(model, UNET, sample_size=[8, 8])).latent_shape == (4, 8, 8)
    old = open_pipeline(change(model, UNET, sample_size=32, _diffusers_version="0.6.0"))
    assert old.latent_shape == (4, 64, 64) and "sample_size is 32 in a conversion by diffusers 0.6" in old.warnings[0]
    new = open_pipeline(change(model, UNET, sample_size=32, _diffusers_version="0.9.0"))
    assert new.latent_shape == (4, 32, 32) and new.warnings == []


def test_weights_of_which_only_a_variant_is_there_are_named(model):
    for part in ("unet", "vae", "text_encoder"):
        for path in (model / part).glob("*.safetensors"):
            path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    with pytest.raises(MissingAsset, match=r"only a variant of some weights \(text_encoder/model.fp16.safetensors, .*rename its files"):
        open_pipeline(model)
    for path in list(model.glob("*/*.fp16.safetensors")):
        path.rename(path.with_name(path.name.replace(".fp16", "")))
    open_pipeline(model)


def test_lists_of_shards_and_adapters_open_nothing_from_elsewhere(model):
    path = model / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"conv_in.weight": "../../secret.safetensors"}}))
    with pytest.raises(DamagedAsset, match="weight_map names no files beside it"):
        admit_pipeline(model)
    path.unlink()
    (model / "text_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(Unfit, match="holds an adapter"):
        admit_pipeline(model)


# --- plans: warned of, or refused ---------------------------------------------------------------------------------------


def planned(plugins, **asked):
    return make_plan(plugins, RunRequest("tiny", steps=[2], **asked))


def test_a_consistency_model_under_a_teachers_sampler_is_told(plugins, model):
    change(model, SCHEDULER, _class_name="LCMScheduler")
    change(model, INDEX, _class_name="LatentConsistencyModelPipeline", scheduler=["diffusers", "LCMScheduler"])
    found = planned(plugins, methods=["ode"], model=str(model)).warnings
    assert len(found) == 2 and all("latent consistency model" in line and "own sampler" in line for line in found)
    assert planned(plugins, methods=["ode"]).warnings == []


def test_guidance_below_one_of_a_guided_teacher_is_told(plugins):
    found = planned(plugins, methods=["ode@guidance=0", "ode"]).warnings
    assert len(found) == 1 and found[0].startswith("guidance scale 0 of method 'ode@guidance=0': s = 1 is unguided")


def test_methods_that_sample_one_student_with_other_guidance_are_told(files):
    import dataclasses

    import tiny_plugin

    other = dataclasses.replace(tiny_plugin.METHODS[1], name="skip", guidance=4.0)
    plugins = tiny_plugin.tiny_plugins(files, methods=[other])
    asked = {"students": {"hop": str(files / "student")}}
    found = planned(plugins, methods=["hop", "skip"], **asked).warnings
    assert found == [
        "one student is sampled with several guidance scales ('hop' with 2.5, 'skip' with 4): metrics compare the scales too."]
    assert planned(plugins, methods=["hop", "skip@guidance=2.5"], **asked).warnings == []
    assert planned(plugins, methods=["hop", "hop@guidance=4"], **asked).warnings == [], "that was asked for"


@pytest.fixture
def student(files, tmp_path):
    shutil.copytree(files / "student", tmp_path / "student")
    return tmp_path / "student"


def test_a_student_whose_network_does_not_fit_its_teacher_is_refused_when_planning(plugins, files, student):
    teacher = open_pipeline(files / "model")
    admit_student(student, teacher)
    for changes, words in ({"in_channels": 9}, "in_channels is 9"), ({"quantization_config": {"quant_method": "gptq"}}, "gptq"):
        kept = (student / UNET).read_bytes()
        with pytest.raises(Unfit, match=words):
            admit_student(change(student, UNET, **changes), teacher)
        (student / UNET).write_bytes(kept)


FACTS = {
    "a digest that is a number": {"teacher_digest": 7},
    "a digest that is null": {"weights_digest": None},
    "a digest of another kind": {"weights_digest": "x" * 64},
    "a range that is text": {"w_min": "low", "w_max": 4.0},
    "half a range": {"w_min": 0.0},
    "a range that is NaN": {"w_min": float("nan"), "w_max": 4.0},
    "a range that falls": {"w_min": 5, "w_max": 4},
    "a number of minutes that is a list": {"minutes": [1]},
    "made for no steps": {"made_for": [0]},
    "made for text": {"made_for": "1"},
    "options that are a list": {"options": []},
    "a trainer that is none": {"trainer": {}},
}


@pytest.mark.parametrize("changes", FACTS.values(), ids=FACTS)
def test_facts_of_a_student_that_are_of_another_kind_are_one_line(plugins, student, changes):
    change(student, "student.json", **changes)
    field = next(iter(changes))
    with pytest.raises(DamagedAsset, match=f"student.json is not a student description .*{field}.*Restore the file") as caught:
        planned(plugins, methods=["hop"], students={"hop": str(student)})
    assert "\n" not in str(caught.value) and "rain again" not in str(caught.value)


def test_a_student_json_that_nests_is_one_line(plugins, student):
    (student / "student.json").write_text("[" * 10**5)
    with pytest.raises(DamagedAsset, match="nested too deeply"):
        planned(plugins, methods=["hop"], students={"hop": str(student)})


# --- half precision ----------------------------------------------------------------------------------------------------


def test_images_that_overflow_in_half_precision_are_decoded_in_full_and_the_others_keep_their_bytes(model):
    """huggingface/diffusers#4325, #6815, #2153: a VAE that overflows in float16 gives black images."""
    z = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    half, full = open_pipeline(model, dtype="float16"), open_pipeline(model)
    wanted, exact = half.decode(z), full.decode(z)
    original = half.vae.decode

    def overflowing(latents, **words):
        images = original(latents, **words)[0]
        images[1, 0, 5, 5] = float("inf")
        return (images,)

    half.vae.decode = overflowing
    images, finite = half.decode_checked(z)
    assert finite.all() and np.array_equal(images[[0, 2]], wanted[[0, 2]]) and np.abs(images[1].astype(int) - exact[1]).max() <= 1
