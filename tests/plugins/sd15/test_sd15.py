"""Stable Diffusion 1.5's repository as it was published in 2022, opened today: right files, right numbers, pinned digests."""

import hashlib
import shutil

import numpy as np
import pytest
import scottbench_sd15.model as sd15
import tiny
import torch
from safetensors.torch import load_file, save_file
from sd15_files import TEXT, UNET, UNUSED, VAE, add_unused, make_old, new_pipeline, read, write

from scottbench.errors import DamagedAsset, MissingAsset, Unfit, UsageError
from scottbench.models.admission import read_schedule
from scottbench.models.pipeline import open_pipeline
from scottbench.store.weights import opened_files, weights_digest

PROMPTS = ["a red apple", "a small dog on the moon and the star of the large cat on a pale house", ""]


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    return new_pipeline(tmp_path_factory.mktemp("new"))


@pytest.fixture(scope="module")
def old(new, tmp_path_factory):
    folder = tmp_path_factory.mktemp("old") / "model"
    shutil.copytree(new, folder)
    return make_old(folder)


@pytest.fixture
def copy(old, tmp_path):
    shutil.copytree(old, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def snapshot(old, tmp_path, monkeypatch):
    """The tiny pipeline in the place of the pinned snapshot of a hub cache; sizes and digests are its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("SCOTTBENCH_SD15", raising=False)
    folder = sd15.sd15_folder()
    shutil.copytree(old, folder)
    monkeypatch.setattr(sd15, "BYTES", {name: (folder / name).stat().st_size for name in sd15.BYTES})
    monkeypatch.setattr(sd15, "SHA256", {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sd15.SHA256})
    return folder


def outputs(model) -> list[np.ndarray]:
    """Text embeddings, one guided prediction, decoded images and encoded latents of a model."""
    text, uncond = model.encode_prompts(PROMPTS), model.encode_prompts([""])
    z = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x0, eps = model.denoiser(text, uncond, 7.5)(z, 981)
    images = model.decode(z)
    return [text.float().numpy(), x0.numpy(), eps.numpy(), images, model.encode_images(images).numpy()]


# --- what is computed -------------------------------------------------------------------------------------------------


def test_the_repository_of_2022_computes_what_the_same_weights_compute_in_todays_layout(new, old):
    assert "scaling_factor" not in read(old / "vae" / "config.json")
    assert any(".query." in name for name in load_file(old / VAE)) and all(name.startswith("text_model.") for name in load_file(old / TEXT))
    for left, right in zip(outputs(open_pipeline(new)), outputs(open_pipeline(old)), strict=True):
        assert np.array_equal(left, right)


def test_old_configs_get_stable_diffusions_own_values(old):
    model = open_pipeline(old)
    assert model.vae.config.scaling_factor == 0.18215 and model.prediction == "epsilon" and not model.takes_guidance
    assert model.latent_shape == (4, 8, 8) and len(model.schedule) == 1000
    assert float(model.schedule.alphas_cumprod[-1]) == pytest.approx(0.0046600, abs=1e-6)
    assert model.tokenizer.model_max_length == tiny.CONTEXT
    ids = model.tokenizer(["a cat"], padding="max_length").input_ids[0]
    assert ids[0] == model.tokenizer.bos_token_id and ids[3:] == [model.tokenizer.eos_token_id] * (tiny.CONTEXT - 3)


def test_half_precision_is_half_everywhere_and_near_full_precision(old):
    half, full = open_pipeline(old, "cpu", "float16"), open_pipeline(old)
    assert {half.unet.dtype, half.vae.dtype, half.text_encoder.dtype} == {torch.float16}
    text, x0, eps, images, latents = outputs(half)
    wanted = outputs(full)
    assert x0.dtype == eps.dtype == latents.dtype == np.float32
    assert np.abs(text - wanted[0]).max() < 0.02 and np.abs(eps - wanted[2]).max() < 0.05
    assert np.abs(images.astype(int) - wanted[3].astype(int)).max() <= 3


def test_numbers_of_a_schedule_may_be_text_and_unsupported_ones_are_refused():
    config = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "trained_betas": None,
    }
    text = config | {"beta_start": "0.00085", "beta_end": "0.012", "num_train_timesteps": "1000"}
    assert torch.equal(read_schedule(text).alphas_cumprod, read_schedule(config).alphas_cumprod)
    for change in ({"trained_betas": [0.1, 0.2]}, {"rescale_betas_zero_snr": True}, {"beta_schedule": "squaredcos_cap_v2"}):
        with pytest.raises(Unfit, match="supported: "):
            read_schedule(config | change)


# --- which files ------------------------------------------------------------------------------------------------------


def test_files_that_are_not_opened_change_neither_the_digest_nor_the_images(copy, old):
    add_unused(copy)
    assert all((copy / name).is_file() for name in UNUSED)
    model = open_pipeline(copy)
    assert model.digest == weights_digest(old)
    assert np.array_equal(outputs(model)[3], outputs(open_pipeline(old))[3])
    assert {path.relative_to(copy).as_posix() for path in opened_files(copy)} == set(sd15.BYTES)


@pytest.mark.parametrize("name", [UNET, VAE, TEXT, "tokenizer/vocab.json", "scheduler/scheduler_config.json", "model_index.json"])
def test_every_opened_file_counts_in_the_digest(copy, name):
    before = weights_digest(copy)
    with open(copy / name, "ab") as stream:
        stream.write(b" ")
    assert weights_digest(copy) != before


def test_pickled_weights_alone_are_refused_by_name(copy):
    add_unused(copy)
    (copy / UNET).unlink()
    with pytest.raises(UsageError, match=r"pickled weights \(unet/diffusion_pytorch_model.bin\)"):
        open_pipeline(copy)


@pytest.mark.parametrize("name", [UNET, VAE, TEXT])
def test_weights_that_lack_a_tensor_are_damaged_and_not_made_up(copy, name):
    weights = load_file(copy / name)
    weights.pop(next(key for key in sorted(weights) if key.endswith("weight")))
    save_file(weights, copy / name, metadata={"format": "pt"})
    with pytest.raises(DamagedAsset, match="lack 1 weights"):
        open_pipeline(copy)


# --- the pinned snapshot ----------------------------------------------------------------------------------------------


def test_the_pinned_snapshot_of_the_hub_cache_is_opened(snapshot, old):
    assert snapshot.parts[-3:-1] == ("models--stable-diffusion-v1-5--stable-diffusion-v1-5", "snapshots")
    assert snapshot.name == "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    add_unused(snapshot)
    assert sd15.open_sd15().digest == weights_digest(old)


def test_a_missing_pipeline_is_one_message_with_every_file_its_size_and_one_line_that_fetches_all(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("SCOTTBENCH_SD15", raising=False)
    with pytest.raises(MissingAsset) as caught:
        sd15.open_sd15()
    lines = str(caught.value).splitlines()
    assert lines[0] == f"model 'sd15' in {sd15.sd15_folder()} cannot be used:"
    assert [line for line in lines if line.startswith("  missing")] == [
        f"  missing {name} ({size})"
        for name, size in [
            ("model_index.json", "541 bytes"),
            ("scheduler/scheduler_config.json", "308 bytes"),
            ("text_encoder/config.json", "617 bytes"),
            ("text_encoder/model.safetensors", "492.3 MB"),
            ("tokenizer/merges.txt", "524.6 kB"),
            ("tokenizer/special_tokens_map.json", "472 bytes"),
            ("tokenizer/tokenizer_config.json", "806 bytes"),
            ("tokenizer/vocab.json", "1.1 MB"),
            ("unet/config.json", "743 bytes"),
            ("unet/diffusion_pytorch_model.safetensors", "3.4 GB"),
            ("vae/config.json", "547 bytes"),
            ("vae/diffusion_pytorch_model.safetensors", "334.6 MB"),
        ]
    ]
    fetch = "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --revision 451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    assert lines[-1].startswith(f"  fetch 4.3 GB: {fetch} model_index.json ") and lines[-1].endswith(
        " vae/diffusion_pytorch_model.safetensors"
    )
    assert not (tmp_path / "hub").exists()


def test_a_truncated_file_of_the_snapshot_is_damaged(snapshot):
    path = snapshot / UNET
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedAsset, match="(?s)damaged .*diffusion_pytorch_model.safetensors.*--force-download"):
        sd15.open_sd15()


def test_weights_of_the_right_size_but_other_bytes_are_damaged(snapshot):
    path = snapshot / UNET
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedAsset, match="(?s)has sha256 .*expected .*--force-download"):
        sd15.open_sd15()


def test_a_folder_of_the_users_is_taken_as_it_is(snapshot, copy, monkeypatch):
    config = copy / "scheduler" / "scheduler_config.json"
    write(config, read(config) | {"prediction_type": "v_prediction"})
    monkeypatch.setenv("SCOTTBENCH_SD15", str(copy))
    model = sd15.open_sd15()
    assert sd15.sd15_folder() == copy and model.prediction == "v_prediction" and model.digest == weights_digest(copy)
    monkeypatch.setenv("SCOTTBENCH_SD15", str(copy / "nowhere"))
    with pytest.raises(MissingAsset, match="nowhere/, which SCOTTBENCH_SD15 names"):
        sd15.open_sd15()
