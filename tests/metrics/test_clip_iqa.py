"""CLIP-IQA through torchmetrics on a random CLIP of the true form: its formula, its files, its scores as a metric."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scottbench_metrics import clip_iqa as module
from scottbench_metrics import register_extractors, register_metrics

from scottbench.errors import MissingAsset
from scottbench.metrics import BadFeatures
from scottbench.models.extractors import CLIP_PIXELS, find_extractor, open_extractor
from scottbench.registry.nouns import CellFeatures, NoOptions
from scottbench.testing import check_metric, made_cells

(NOUN,) = register_extractors()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPModel

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    ends = {"eos_token_id": 49407, "bos_token_id": 49406, "pad_token_id": 49407}
    config = CLIPConfig(
        text_config={"vocab_size": 49408, **shape, **ends}, vision_config={"image_size": 32, "patch_size": 8, **shape}, projection_dim=8
    )
    place = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(place)
    return place


def test_the_score_is_the_softmax_of_a_hundred_cosines_with_good_and_bad_photo(folder):
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPModel

    source = find_extractor(NOUN, {"folder": str(folder)}, lambda text: folder / text)
    opened = open_extractor(source)
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    images[0], images[1] = 0, 255
    found = opened.features(images)
    clip = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        mean, std = (torch.tensor(values)[:, None, None] for values in CLIP_PIXELS)
        pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
        sides = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
        tokens = SimpleTokenizer(context_length=77)(["Good photo.", "Bad photo."])
        texts = clip.text_projection(clip.text_model(input_ids=tokens).pooler_output)
        cosines = torch.nn.functional.cosine_similarity(sides[:, None], texts[None], dim=2)
        wanted = torch.log_softmax(100 * cosines, dim=1)[:, :1].numpy()
    # a random network is sure of itself: the logarithms tell more
    assert found.shape == (70, 1) and np.log(found) == pytest.approx(wanted, abs=1e-3) and np.ptp(wanted) > 1
    assert opened.features(images[:1]) == pytest.approx(found[:1], abs=1e-6)
    assert source.gives_score and source.papers[0].startswith("CLIP ViT-L/14 ")


def test_absent_weights_are_named_with_the_line_that_fetches_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path))
    with pytest.raises(MissingAsset, match=r"extractor 'CLIP ViT-L/14' cannot be used:\n  missing .*model.safetensors .*fetch: hf"):
        find_extractor(NOUN, {}, lambda text: tmp_path / text)


def test_the_metric_is_the_mean_of_the_scores_and_refuses_what_are_none():
    scores = np.array([[0.2], [0.4], [0.9]], np.float32)
    cell = CellFeatures(3, {"clip_iqa": scores}, {}, {})
    assert module.clip_iqa(cell, NoOptions()) == pytest.approx(0.5)
    assert module.influence(cell, NoOptions()).generated == pytest.approx([-0.3, -0.1, 0.4])
    for wrong in (np.full((3, 1), np.nan), np.ones((3, 2)), np.ones((0, 1))):
        with pytest.raises(BadFeatures, match="one finite score an image"):
            module.items(CellFeatures(len(wrong), {"clip_iqa": wrong}, {}, {}), NoOptions())


def test_it_conforms_to_what_the_host_expects_of_a_metric():
    cells = made_cells(roles=("clip_iqa",))
    for cell in cells:
        cell.generated["clip_iqa"] = 1 / (1 + np.exp(-cell.generated["clip_iqa"][:, :1]))
        cell.reference.pop("clip_iqa", None)  # one table for all seeds
    (metric,) = (metric for metric in register_metrics() if metric.name == "clip_iqa")
    check_metric(metric, cells=cells)
