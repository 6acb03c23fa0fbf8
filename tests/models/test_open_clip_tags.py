"""Weights tags of open_clip: an extractor named by model and tag computes what open_clip computes for that tag, over its whole table."""

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained
from PIL import Image
from safetensors.torch import save_file
from scottbench_extractors.open_clip import OPENAI, open_model, tag_config, tag_form

from scottbench.models.extractors import Source
from scottbench.models.images import Fit
from scottbench.models.images import open_clip as fitted


def kind_of(config: dict) -> str:
    """The architecture of a model in open_clip's table, as far as towers are built here."""
    if "multimodal_cfg" in config:
        return "coca"
    return "resnet" if isinstance(config["vision_cfg"].get("layers"), list) else "custom" if config.get("custom_text") else "clip"


def key_of(model: str, tag: str) -> tuple:
    """All that decides about preprocessing and activation, with the architecture."""
    found, config = get_pretrained_cfg(model, tag), open_clip.get_model_config(model)
    quick = bool(found.get("quick_gelu")), bool(config.get("quick_gelu"))
    return (found["mean"], found["std"], found["resize_mode"], found["interpolation"], *quick, kind_of(config))


TABLE = {key_of(model, tag): (model, tag) for model, tag in reversed(list_pretrained())}
"""One tag for each thing that tags differ in; every tag of the installed open_clip is like one of them."""


def shrunk(model: str) -> dict:
    """The config of a model with towers of one layer; its form, custom text and activation stay."""
    config = open_clip.get_model_config(model)
    vision = {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    if kind_of(config) == "resnet":
        vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    if kind_of(config) == "coca":
        vision |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        config["multimodal_cfg"] |= {"layers": 1, "width": 32, "heads": 2, "context_length": 8}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    text |= {"embed_cls": True, "output_tokens": True} if kind_of(config) == "coca" else {}
    return config | {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """open_clip's table of models with shrunk towers for all of TABLE, and its table of tags as it is; put back at the end."""
    from open_clip import factory

    folder, kept = tmp_path_factory.mktemp("configs"), (list(factory._MODEL_CONFIG_PATHS), dict(factory._MODEL_CONFIGS))
    for model in {model for model, _ in TABLE.values()}:
        (folder / f"{model}.json").write_text(json.dumps(shrunk(model)))
    open_clip.add_model_config(folder)
    yield folder
    factory._MODEL_CONFIG_PATHS[:], _ = kept[0], factory._MODEL_CONFIGS.clear()
    factory._MODEL_CONFIGS.update(kept[1])


def picture(width: int, height: int) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("model, tag", TABLE.values())
def test_features_are_open_clips_own_for_the_tag(small, tmp_path, monkeypatch, model, tag):
    """#204, #771, #915, #1068 of open_clip: weights given as a file lose mean, std, resize mode and activation of their tag."""
    quick = bool(get_pretrained_cfg(model, tag).get("quick_gelu"))
    torch.manual_seed(1)
    network = open_clip.create_model(model, load_weights=False, force_quick_gelu=quick)
    with torch.no_grad():
        for weight in network.parameters():  # large enough for the activation to matter
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda config, cache_dir=None: str(path))
    monkeypatch.setattr("open_clip.get_tokenizer", lambda name: None)  # some are on the hub only

    theirs, _, preprocess = open_clip.create_model_and_transforms(model, pretrained=tag, force_quick_gelu=quick)
    extractor = open_model(Source("open_clip", "x", "0" * 64, path, model, tag, "open_clip"), "cpu")
    tokens = torch.arange(16).view(2, 8)
    with torch.inference_mode():
        theirs.eval()
        assert torch.allclose(extractor.text_tower(tokens), theirs.encode_text(tokens), atol=1e-5)
        for size in ((100, 70), (64, 64), (50, 90)):
            wanted = theirs.encode_image(preprocess(picture(*size))[None])[0].numpy()
            found = extractor.features(np.asarray(picture(*size))[None])[0]
            assert np.linalg.norm(found - wanted) < 1e-4 * np.linalg.norm(wanted), size


def test_every_tag_of_the_table_is_read_whole():
    """A key that a later open_clip adds to its tags must not be lost in silence."""
    for model, tag in list_pretrained():
        found = get_pretrained_cfg(model, tag)
        assert found.keys() <= OPENAI.keys() | {"url", "hf_hub"}, (model, tag)
        assert tag_config(model, tag) == {**OPENAI, **{key: value for key, value in found.items() if key in OPENAI}}


def test_a_fingerprint_says_what_a_tag_has_that_is_not_usual():
    assert tag_form("ViT-g-14", "laion2b_s12b_b42k", "open_clip") == ""
    assert tag_form("ViT-L-14", "laion2b_s32b_b82k", "open_clip") == "mean 0.5 0.5 0.5, std 0.5 0.5 0.5"
    assert tag_form("ViT-H-14-378-quickgelu", "dfn5b", "open_clip") == "squash, quick_gelu"
    assert tag_form("ViT-H-14-378-quickgelu", "dfn5b", "clean") == "quick_gelu"
    assert "quick_gelu" in Source("open_clip", "x", "0" * 64, None, "ViT-B-32", "openai", form="quick_gelu").papers


@pytest.mark.parametrize("size", [(100, 70), (30, 51), (64, 64), (33, 64), (64, 31)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pictures_are_fitted_as_open_clips_transforms_fit_them(size, mode, interpolation):
    """ "longest" is of no tag, but a folder's preprocess_cfg may ask for it."""
    from open_clip.transform import image_transform

    transform = image_transform(
        64, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation, fill_color=7)
    wanted = (transform(picture(*size)) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(fitted(np.asarray(picture(*size)), 64, Fit(mode, interpolation, 7)), wanted)
