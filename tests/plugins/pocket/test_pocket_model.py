"""The shipped pocket models: costs, formats, statistics, and an evaluator that can tell captions apart. No network."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("open_clip")

from scottbench_pocket.build import autoencoder, evaluator, measure, text_encoder  # noqa: E402
from scottbench_pocket.emoji5k import Emoji5K  # noqa: E402

ASSETS = Path(evaluator.__file__).resolve().parent.parent / "assets"
pytestmark = pytest.mark.skipif(not (ASSETS / "model").exists() or not (ASSETS / "evaluator").exists(), reason="weights not built")


@pytest.fixture(scope="module")
def pipe():
    from diffusers import StableDiffusionPipeline

    result = StableDiffusionPipeline.from_pretrained(ASSETS / "model", local_files_only=True)
    result.set_progress_bar_config(disable=True)
    return result


@pytest.fixture(scope="module")
def judge():
    return evaluator.open_folder(ASSETS / "evaluator")


@pytest.fixture(scope="module")
def pairs():
    """64 pictures (64,3,64,64) uint8 spread over the evaluation split, and their captions."""
    split = Emoji5K("evaluation")
    pick = list(range(0, len(split), len(split) // 64))[:64]
    return torch.from_numpy(split.images(pick)).permute(0, 3, 1, 2), [split.captions[i] for i in pick]


def test_every_part_stays_within_its_limit_of_operations_and_parameters(pipe, judge):
    costs = measure.costs(pipe, judge[0])
    gflop, parameters = costs["gflop"], costs["parameters_m"]
    assert 0.1 < gflop["unet"] <= 0.6 and 0.1 < gflop["decode"] <= 0.7 and 0.01 < gflop["evaluator_image"] <= 0.3
    assert parameters["unet"] <= 6.2 and parameters["vae"] + parameters["text_encoder"] <= 3 and parameters["evaluator"] <= 4


def test_weights_load_in_float32_though_stored_in_half(pipe, judge):
    from safetensors.torch import load_file

    for module in (pipe.unet, pipe.vae, pipe.text_encoder, judge[0]):
        assert {p.dtype for p in module.parameters()} == {torch.float32}
    stored = [t for p in ASSETS.glob("*/**/*.safetensors") for t in load_file(p).values() if t.is_floating_point()]
    assert stored and {t.dtype for t in stored} == {torch.float16}


def test_the_pipeline_runs_and_its_default_size_is_64(pipe):
    images = [pipe("twemoji emoji of red apple", num_inference_steps=2, guidance_scale=g, output_type="np",
                   generator=torch.Generator().manual_seed(0)).images for g in (1.0, 3.0)]
    assert images[0].shape == (1, 64, 64, 3) and abs(images[0] - images[1]).max() > 0.01


def test_the_schedule_is_that_of_stable_diffusion_1_5(pipe):
    config, alphas = pipe.scheduler.config, pipe.scheduler.alphas_cumprod
    assert (config.steps_offset, config.set_alpha_to_one, config.clip_sample, config.prediction_type) == (1, False, False, "epsilon")
    assert alphas[-1].item() == pytest.approx(0.00466, abs=1e-5)  # SD 1.5's published schedule, last of 1000


def test_latents_have_zero_mean_and_unit_deviation_per_channel(pipe, pairs):
    z = autoencoder.encode(pipe.vae, pairs[0]) * pipe.vae.config.scaling_factor
    assert z.mean((0, 2, 3)).abs().max() < 0.2 and (z.std((0, 2, 3)) - 1).abs().max() < 0.2


def test_the_autoencoder_keeps_pictures_and_white_corners(pipe, pairs):
    images = autoencoder.decode(pipe.vae, autoencoder.encode(pipe.vae, pairs[0]))
    assert autoencoder.psnr(images, pairs[0]) > 24
    white = (pairs[0][..., :4, :4] == 255).all((1, 2, 3))
    assert white.sum() > 30 and images[white][..., :4, :4].float().mean() > 250


def test_a_caption_word_is_one_token_and_comes_back(pipe, pairs):
    for caption in pairs[1]:
        ids = pipe.tokenizer(caption).input_ids
        back = pipe.tokenizer.decode(ids, skip_special_tokens=True)
        assert len(ids) <= text_encoder.POSITIONS and back.replace(" ", "") == caption.replace(" ", "")  # digits stand alone
    assert len(pipe.tokenizer.tokenize("twemoji emoji of red apple")) == 5


def test_an_unknown_word_falls_into_pieces_that_spell_it(pipe):
    pieces = pipe.tokenizer.tokenize("zyxqwv")
    assert len(pieces) > 1 and "".join(pieces).replace("</w>", "") == "zyxqwv"
    assert pipe.tokenizer.unk_token not in pipe.tokenizer.tokenize("naïve ☃ 37")


def test_the_empty_prompt_is_begin_and_end_and_has_finite_features(pipe):
    ids = text_encoder.tokens(pipe.tokenizer, [""])
    assert ids.shape == (1, text_encoder.POSITIONS) and ids[0, 0] == pipe.tokenizer.bos_token_id
    assert (ids[0, 1:] == pipe.tokenizer.eos_token_id).all()
    assert pipe.text_encoder(ids).last_hidden_state.isfinite().all()


def test_merges_make_every_given_word_one_token(tmp_path):
    words = ["tree", "tee", "red", "reed", "1st", "o'clock"]
    tokenizer = text_encoder.make_tokenizer(words, tmp_path)
    assert [len(tokenizer.tokenize(w)) for w in words] == [1, 1, 1, 1, 2, 3]


def test_the_evaluator_prefers_real_captions_to_shuffled_ones(judge, pairs):
    model, tokenizer = judge
    with torch.no_grad():
        image = torch.nn.functional.normalize(evaluator.features(model, pairs[0]), dim=-1)
        text = torch.nn.functional.normalize(model.encode_text(tokenizer(pairs[1])), dim=-1)
    similar = image @ text.T
    assert image.shape == (64, 256) and similar.isfinite().all()
    assert similar.diagonal().mean() > similar[~torch.eye(64, dtype=bool)].mean() + 0.2
    assert evaluator.recall(image, text, among=64) > 0.3


def test_frechet_distance_of_two_known_gaussians():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, generator=rng, dtype=torch.float64).numpy()
    assert measure.frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert measure.frechet(x, 2 * x + 1) == pytest.approx(3 + 3, abs=0.15)  # |mean|^2 + sum (1 - 2)^2
