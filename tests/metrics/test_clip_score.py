"""CLIP score in closed form, per item and beside open_clip."""

from __future__ import annotations

import numpy as np
import pytest
from scottbench_metrics.clip_score import clip_score, items
from scottbench_metrics.options import ClipOptions

from scottbench import metrics
from scottbench.metrics import BadFeatures
from scottbench.registry.nouns import CellFeatures


def mean_cosine(images, texts):
    return metrics.clip_score(images, texts).value


def test_parallel_opposite_and_orthogonal_pairs_give_one_minus_one_and_zero():
    images = np.array([[1.0, 2, 3], [1, 0, 0], [0, 1, 1]], np.float32)
    assert mean_cosine(images[:1], 7 * images[:1]) == pytest.approx(1, abs=1e-15)
    assert mean_cosine(images[:1], -images[:1]) == pytest.approx(-1, abs=1e-15)
    assert mean_cosine(images[1:2], images[2:]) == 0
    # raw cosines: a negative one is not clamped before the mean
    assert mean_cosine(images[[0, 0, 1]], np.stack([images[0], -images[0], images[2]])) == pytest.approx(0, abs=1e-15)


def test_lengths_do_not_matter_and_pairs_are_taken_in_item_order():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 50, 16))
    expected = np.mean([i @ t / np.sqrt((i @ i) * (t @ t)) for i, t in zip(images, texts)])
    assert mean_cosine(images, texts) == pytest.approx(expected, rel=1e-12)
    assert mean_cosine(1e-30 * images, texts * rng.uniform(1, 1e30, size=(50, 1))) == pytest.approx(expected, rel=1e-12)
    assert mean_cosine(images, texts[::-1]) != pytest.approx(expected, rel=1e-3)


def test_it_takes_the_clip_features_of_the_cell_and_one_image_is_enough():
    cell = CellFeatures(1, {"clip": np.array([[3.0, 4.0]])}, {}, {"clip": np.array([[1.0, 0.0]])})
    assert clip_score(cell, ClipOptions()) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        (np.zeros((2, 3)), np.ones((2, 3)), "2 image feature vectors are all zero"),
        (np.ones((2, 3)), np.ones((3, 3)), "image features have shape \\(2, 3\\), prompt features \\(3, 3\\)"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "2 of 2 image images are NaN|features of 2 of 2 image"),
    ],
)
def test_features_without_a_cosine_are_refused(images, texts, message):
    with pytest.raises(BadFeatures, match=message):
        mean_cosine(images, texts)


def test_an_extractor_without_a_text_tower_is_refused():
    with pytest.raises(BadFeatures, match="no text tower"):
        clip_score(CellFeatures(1, {"clip": np.ones((1, 2))}, {}, {}), ClipOptions())


def test_items_are_the_cosines_and_the_scale_multiplies_them():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 6, 4))
    cell = CellFeatures(6, {"clip": images}, {}, {"clip": texts})
    found = metrics.clip_score(images, texts)
    assert found.items == pytest.approx([i @ t / np.sqrt((i @ i) * (t @ t)) for i, t in zip(images, texts)])
    assert found.value == found.items.mean()
    assert items(cell, ClipOptions(100)) == pytest.approx(100 * found.items)
    assert clip_score(cell, ClipOptions(scale=100)) == pytest.approx(100 * found.value)


def test_it_equals_open_clips_own_normalised_product_of_the_same_tensors(tmp_path):
    import open_clip
    import tiny
    import torch

    folder = tiny.tiny_evaluator(tmp_path)
    clip = open_clip.create_model(f"local-dir:{folder}", precision="fp32").eval()
    texts = open_clip.get_tokenizer(f"local-dir:{folder}")(["a cat", "a red apple", "the moon and the house"])
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        peer = (clip.encode_image(images, normalize=True) * clip.encode_text(texts, normalize=True)).sum(1).numpy()
        ours = metrics.clip_score(clip.encode_image(images).numpy(), clip.encode_text(texts).numpy()).items
    assert ours == pytest.approx(peer, abs=1e-5)


def test_one_caption_of_the_wrong_image_lowers_that_item_alone():
    features = np.eye(4)
    swapped = features.copy()
    swapped[[0, 1]] = features[[1, 0]]
    assert metrics.clip_score(features, swapped).items.tolist() == [0, 0, 1, 1]
