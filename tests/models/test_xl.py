"""Stable Diffusion XL: two text encoders, pooled text and the picture's size. Opened, sampled as diffusers does, trained, and refused where
it does not fit; other kinds of pipelines are refused in one line that says why."""

import json
import shutil

import numpy as np
import pytest
import scottbench_solvers
import tiny
import tiny_training
import torch
from tiny_xl import POOLED, TIME, tiny_xl

from scottbench.errors import DamagedAsset, MissingAsset, Unfit, UsageError
from scottbench.models import pipeline as pipelines
from scottbench.models.admission import admit_pipeline, admit_student
from scottbench.models.noise import ItemNoise
from scottbench.models.pipeline import open_pipeline, open_student
from scottbench.models.sampling import Sampler
from scottbench.registry.condition import TextCondition
from scottbench.store.weights import weights_digest
from scottbench.training.context import Context
from scottbench.training.data import Data

PROMPTS, IDS = ["a red apple", "a small blue dog on the moon"], ["x", "y"]
METHODS = {method.name: method for method in scottbench_solvers.register_methods()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_xl(tmp_path_factory.mktemp("xl") / "model")


@pytest.fixture(scope="module")
def model(folder):
    return open_pipeline(folder)


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    return tmp_path / "model"


def change(folder, name, **changes):
    """Replace keys of a JSON file; `...` takes a key out."""
    config = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return folder


def sampled(model, method="ddim", steps=4, guidance=5.0):
    """Images (2,H,W,3) of two prompts."""
    noun = METHODS[method]
    sampler = Sampler(model, noun, method, noun.options(), model.empty_prompt(), guidance, steps, seed=0)
    return sampler.images(model.encode_prompts(PROMPTS), IDS, None, 2)


def with_diffusers(folder, noise, steps=4, guidance=5.0):
    """The same images by diffusers' own pipeline and DDIM."""
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True, add_watermarker=False)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(PROMPTS, num_inference_steps=steps, guidance_scale=guidance, latents=noise, output_type="np").images
    return (made * 255).round().astype(int)


@pytest.mark.parametrize("zero_empty", [True, False])
def test_images_are_those_of_diffusers(copy, zero_empty):
    """Both text encoders, the layer before the last, the pooled vector, the size ids, and what the unconditional pass is told."""
    opened = open_pipeline(change(copy, "model_index.json", force_zeros_for_empty_prompt=zero_empty))
    wanted = with_diffusers(copy, ItemNoise(0, IDS, opened.latent_shape)(0))
    found = sampled(opened).astype(int)
    assert abs(found - wanted).max() <= 1 and wanted.std() > 10
    opened.zero_empty = not zero_empty
    assert abs(sampled(opened).astype(int) - wanted).max() > 1, "the empty prompt counts"


def test_the_condition_has_all_parts(model):
    text = model.encode_prompts(PROMPTS)
    assert text.hidden.shape == (2, tiny.CONTEXT, 48) and text.pooled.shape == (2, POOLED)
    assert text.ids.tolist() == [[64, 64, 0, 0, 64, 64]] * 2
    assert not text.hidden.isnan().any() and not torch.equal(text.pooled[0], text.pooled[1])


def test_the_second_solver_samples_it_and_a_picture_depends_on_each_part(model):
    images = sampled(model, "dpmpp")
    assert images.shape == (2, 64, 64, 3) and images.std() > 10
    text, z = model.encode_prompts(PROMPTS), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.network(z, 500, text)
        for other in (TextCondition(text.hidden, text.pooled.flip(0), text.ids), TextCondition(text.hidden, text.pooled, 2 * text.ids)):
            assert not torch.equal(model.network(z, 500, other), whole)


def test_half_precision_keeps_a_wide_decoder_beside(folder):
    half = open_pipeline(folder, dtype="float16")
    assert half.wide_vae is not None and half.encode_prompts(["a dog"]).pooled.dtype == torch.float16


def test_the_second_encoder_and_tokenizer_are_part_of_the_digest_and_missing_ones_are_named(copy):
    digest = weights_digest(copy)
    (copy / "tokenizer_2" / "merges.txt").write_text((copy / "tokenizer_2" / "merges.txt").read_text() + "z z</w>\n")
    assert weights_digest(copy) != digest
    (copy / "text_encoder_2" / "model.safetensors").rename(copy / "text_encoder_2" / "other.txt")
    with pytest.raises(MissingAsset, match=r"text_encoder_2/\*.safetensors missing"):
        open_pipeline(copy)
    shutil.rmtree(copy / "tokenizer_2")
    with pytest.raises(MissingAsset, match="tokenizer_2, text_encoder_2"):
        open_pipeline(copy)


UNET, TEXT = "unet/config.json", "text_encoder_2/config.json"
REFUSED = {
    "no second encoder": ("model_index.json", {"text_encoder_2": None}, "text_encoder_2 is null; supported: CLIPTextModelWithProjection"),
    "a second encoder without projection": ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "CLIPTextModel"),
    "text that is no flag": ("model_index.json", {"force_zeros_for_empty_prompt": "yes"}, 'force_zeros_for_empty_prompt is "yes"'),
    "no further inputs": (UNET, {"addition_embed_type": None}, 'addition_embed_type is null; supported: "text_time"'),
    "sums that differ": (UNET, {"addition_time_embed_dim": TIME + 1}, f"is {POOLED + 6 * TIME}; supported: {POOLED + 6 * TIME + 6}: "),
    "a projection that would fill the memory": (TEXT, {"projection_dim": 10**9}, "projection_dim is 1000000000; supported: the widths of"),
    "text of another width": (UNET, {"cross_attention_dim": 32}, "cross_attention_dim is 32; supported: 48, the width of its text"),
    "class labels": (UNET, {"num_class_embeds": 4}, "num_class_embeds is 4; supported: null"),
    "prompts of two lengths": ("tokenizer_2/tokenizer_config.json", {"model_max_length": 8}, "model_max_length is 8; supported: 16, the"),
    "latents with a mean": ("vae/config.json", {"latents_mean": [0.0] * 4}, "latents_mean is .*; supported: null"),
}  # fmt: skip


@pytest.mark.parametrize("name, changes, words", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_one_sentence(copy, name, changes, words):
    with pytest.raises(Unfit, match=words) as caught:
        admit_pipeline(change(copy, name, **changes))
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(copy / name))


def test_a_tokenizer_that_knows_more_than_the_second_encoder_is_refused(copy):
    change(copy, "tokenizer_2/tokenizer_config.json", extra_special_tokens=["<new>"])
    vocabulary = json.loads((copy / "tokenizer_2" / "tokenizer.json").read_text())
    vocabulary["added_tokens"].append(vocabulary["added_tokens"][0] | {"id": 10**4, "content": "<new>"})
    (copy / "tokenizer_2" / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(DamagedAsset, match="they are of different models"):
        open_pipeline(copy)


OTHERS = {
    "StableDiffusion3Pipeline": "flow matching", "FluxPipeline": "flow matching", "SanaPipeline": "flow matching",
    "PixArtSigmaPipeline": "in place of the U-Net", "StableDiffusionXLImg2ImgPipeline": "text to image by a U-Net",
}  # fmt: skip


@pytest.mark.parametrize("kind, why", OTHERS.items())
def test_another_kind_of_pipeline_is_refused_in_one_line_before_it_is_hashed(tmp_path, monkeypatch, kind, why):
    """Such a folder has no U-Net, and that must not be what is said of it."""
    monkeypatch.setattr(pipelines, "hashed_beside", lambda folder: pytest.fail("it is hashed"))
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(Unfit, match=f'_class_name is "{kind}".*{why}.*scottbench score DIR --prompts FILE') as caught:
        open_pipeline(tmp_path)
    assert "\n" not in str(caught.value)


# --- training --------------------------------------------------------------------------------------------------------


def test_a_student_is_trained_exported_and_sampled(folder, model, tmp_path):
    """Three steps of CD."""
    registry = tiny_training.Registry(folder)
    tiny_training.train(registry, "tiny", "cd", tmp_path, max_steps=3, seed=1)
    facts = json.loads((tmp_path / "student.json").read_text())
    assert facts["updates"] == 3 and facts["teacher_digest"] == model.digest
    student, method = open_student(model, tmp_path, "cd"), registry.find("method", "cd").noun
    sampler = Sampler(student, method, "cd", method.options(), student.empty_prompt(), 2.0, 2, seed=0)
    images = sampler.images(student.encode_prompts(PROMPTS), IDS, None, 2)
    assert images.shape == (2, 64, 64, 3) and images.std() > 10


OPTIONS = {
    "scott": {"disc_warmup": 0, "disc_rank": 2}, "ufogen": {"disc_warmup": 0, "disc_rank": 2}, "cd": {"variant": "lora"},
    "dmd2": {"steps": 2}, "pcm": {"variant": "full", "discriminator": "heads", "disc_heads": 1, "empty_prompts": 0.5},
    "instaflow": {"solver_steps": 1, "student_steps": 1},
    "flash": {"grid": 2, "modes": 2, "ramp": "none", "lora_rank": 2, "disc_width": 8},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_every_trainer_hands_the_whole_condition_on(folder, name):
    """One step of each, its adversary included; pairs of a flow remember which prompt they are of."""
    teacher, registry = open_pipeline(folder), tiny_training.Registry(folder)
    rows, text = torch.randn(4, 4, 8, 8).numpy(), teacher.encode_prompts(tiny_training.Items.prompts[:4])
    data = Data(rows, text.hidden.numpy(), teacher.empty_prompt(), torch.arange(4), torch.arange(0), text.pooled.numpy())
    trainer = registry.find("trainer", name).noun
    context = Context(teacher, "cpu", data=data, find_method=lambda method: registry.find("method", method).noun)
    made = trainer.build(context, trainer.options(**OPTIONS[name]))
    for step, fraction in enumerate((0.0, 0.99, 0.99, 0.99) if name == "instaflow" else (0.0,)):
        batch = data.batch(torch.arange(4), "cpu") | {"generator": torch.Generator().manual_seed(0), "step": step, "fraction": fraction}
        losses = {f"{role}/{term}": float(loss.detach()) for role, terms, _ in made.step(batch) for term, loss in terms.items()}
        assert all(np.isfinite(loss) for loss in losses.values())
    assert losses


def test_a_student_of_stable_diffusion_1_is_not_one_of_xl(model, tmp_path):
    tiny.tiny_student(tmp_path, "cd", model.digest)
    with pytest.raises(Unfit, match='addition_embed_type is null; supported: "text_time"'):
        admit_student(tmp_path, model)


def test_the_encoded_split_keeps_pooled_text_beside(folder, model, tmp_path, monkeypatch):
    from scottbench.training.data import encoded_folder, open_data

    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    items = tiny_training.Items()
    first = open_data(model, items, 4, 0, lambda *event: None)
    monkeypatch.setattr(type(model), "encode_images", lambda *given: pytest.fail("encoded again"))
    again = open_data(model, items, 4, 0, lambda *event: None)
    text = again.batch(torch.tensor([7, 2]), "cpu")["text"]
    wanted = model.encode_prompts([items.prompts[7], items.prompts[2]])
    assert torch.allclose(text.hidden, wanted.hidden, atol=1e-5) and torch.allclose(text.pooled, wanted.pooled, atol=1e-5)
    assert torch.equal(text.ids, wanted.ids) and np.array_equal(first.pooled, again.pooled)
    (encoded_folder(model, items) / "pooled.npy").write_bytes(b"")
    with pytest.raises(BaseException, match="encoded again"), pytest.warns(match="not what was written"):
        open_data(model, items, 4, 0, lambda *event: None)


def test_hidden_states_alone_are_refused_in_one_line(model):
    """Trainers of the old contract: by the host's functions, by the U-Net itself, and by torch's functions."""
    text, z = model.encode_prompts(PROMPTS), torch.zeros(2, 4, 8, 8)
    alone = "takes a pooled text embedding .*whole TextCondition"
    with pytest.raises(UsageError, match=alone):
        model.network(z, 5, text.hidden)
    with pytest.raises(UsageError, match=alone):
        model.unet(z, 5, encoder_hidden_states=text, return_dict=False)
    for take in (lambda: torch.nn.functional.linear(text, torch.eye(48)), lambda: text.float(), lambda: text[0], lambda: text[:, 0]):
        with pytest.raises(UsageError, match="more than one tensor .*See plugins/README.md"):
            take()


def old_step(teacher, batch):
    """A loss as trainers wrote it when text was a Tensor (N,L,D): U-Net called directly, text joined, indexed, dropped and scaled."""
    z, text, uncond = batch["latents"], batch["text"], batch["uncond"]
    assert text.shape == (4, tiny.CONTEXT, 32) and text.device.type == "cpu"
    dropped = torch.where(torch.tensor([True, False, True, True]).view(4, 1, 1), text, uncond.expand_as(text))
    both = torch.cat([dropped, uncond.expand(4, -1, -1)])
    t = torch.tensor([5, 100, 500, 999])
    cond, unc = teacher.unet(torch.cat([z, z]), torch.cat([t, t]), encoder_hidden_states=both, return_dict=False)[0].chunk(2)
    chosen = text[torch.tensor([0, 2])].repeat(2, 1, 1) * 0.5
    return (cond + 2 * (cond - unc)).square().mean() + teacher.network(z, t, chosen).mean() + teacher.network(z, t, text.float()).mean()


def test_a_trainer_of_the_old_contract_computes_what_it_did(files):
    teacher = open_pipeline(files / "model")
    batch = tiny_training.batch_of(teacher)
    with torch.no_grad():
        found = old_step(teacher, batch)
        assert torch.equal(found, old_step(teacher, batch | {name: batch[name].hidden for name in ("text", "uncond")}))


def test_a_trainer_of_the_old_contract_is_told_in_one_line_on_xl(model):
    with pytest.raises(UsageError, match="more than one tensor .*See plugins/README.md"):
        old_step(model, tiny_training.batch_of(model))
