"""DINOv2 on a small random folder of the true form: the published preprocessing, positions and feature."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scottbench_extractors.dinov2 import at_side
from tiny import find_extractor

from scottbench.errors import DamagedAsset, Unfit
from scottbench.models.extractors import open_extractor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Dinov2Model as transformers writes it: positions of 37 x 37 patches of 14 pixels, as published, two narrow layers."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("dinov2")
    network = Dinov2Model(Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=518, patch_size=14, layerscale_value=1.0))  # fmt: skip
    with torch.no_grad():
        for weight in network.parameters():  # large enough for positions to matter
            weight.mul_(5.0 if weight.ndim > 1 else 1.0)
        network.embeddings.position_embeddings.normal_()
    network.save_pretrained(path)
    return path


def opened(folder, **spec):
    return open_extractor(find_extractor({"kind": "dinov2", "folder": str(folder), **spec}, folder.joinpath))


def picture(height=300, width=200):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_positions_are_sampled_where_dinov2s_own_code_samples_them():
    """Output patch i of 16 lies at (i + 1/2) 37 / 16.1 - 1/2 of the input: a ramp, which torch's bicubic filter keeps to 0.06, says so."""
    rows, columns = torch.meshgrid(torch.arange(37.0), torch.arange(37.0), indexing="ij")
    given = torch.cat([torch.full((1, 1, 2), 7.0), torch.stack([rows, columns], -1).reshape(1, 37 * 37, 2)], 1)
    found = at_side(given, 16)
    assert found.shape == (1, 257, 2) and found[0, 0].tolist() == [7.0, 7.0]
    wanted = (torch.arange(16.0) + 0.5) * 37 / 16.1 - 0.5
    grid = found[0, 1:].reshape(16, 16, 2)
    assert torch.allclose(grid[1:-1, 3, 0], wanted[1:-1], atol=0.07) and torch.allclose(grid[3, 1:-1, 1], wanted[1:-1], atol=0.07)
    assert abs(float(wanted[8] - ((8.5 * 37 / 16) - 0.5))) > 0.1  # another grid than transformers'
    assert torch.equal(at_side(given, 37), given)


def test_features_are_the_class_token_of_the_published_preprocessing(folder):
    """dgm-eval: PIL's bicubic filter to 224 x 224 in 8 bit, ImageNet's mean and deviation, the normalised class token."""
    from transformers import Dinov2Model

    network = Dinov2Model.from_pretrained(folder).eval()
    small = np.asarray(Image.fromarray(picture()).resize((224, 224), Image.Resampling.BICUBIC)).astype(np.float32) / 255
    pixels = torch.from_numpy((small - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])).permute(2, 0, 1)[None]
    theirs = network.embeddings.position_embeddings.data
    network.embeddings.position_embeddings.data = at_side(theirs, 16)
    with torch.inference_mode():
        wanted = network(pixels).pooler_output.numpy()
        network.embeddings.position_embeddings.data = theirs
        otherwise = network(pixels).pooler_output.numpy()
    extractor = opened(folder)
    found = extractor.features(picture()[None])
    assert extractor.source.papers[-1] == "resize squash8" and extractor.text_tower is None
    assert np.allclose(found, wanted, atol=1e-4)
    assert np.abs(found - otherwise).max() > 1e-3  # positions matter
    assert np.abs(opened(folder, resize="clean").features(picture()[None]) - found).max() > 1e-5


def test_a_folder_of_another_network_is_named(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    del weights["layernorm.bias"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DamagedAsset, match="model.safetensors is not of this network: 1 tensors differ, such as layernorm.bias"):
        opened(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 1024}))
    with pytest.raises(Unfit, match="hidden_size is 1024"):
        opened(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    with pytest.raises(Unfit, match='model_type is "vit"'):
        opened(tmp_path)
