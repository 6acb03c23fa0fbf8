"""In-prompt diversity and structural similarity: closed forms, torchmetrics, sizes, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scottbench_metrics.diversity import diversity
from scottbench_metrics.ms_ssim import items as ms_ssim_items
from scottbench_metrics.ms_ssim import ms_ssim as ms_ssim_metric
from scottbench_metrics.options import DistanceOptions

from scottbench.metrics import BadFeatures, ms_ssim, ms_ssim_diversity, pairwise_distance
from scottbench.metrics.ssim import WEIGHTS, scales
from scottbench.registry.nouns import CellFeatures, NoOptions


def test_distances_are_means_over_pairs_of_seeds_then_over_prompts():
    features = np.random.default_rng(0).normal(size=(3, 5, 4))
    unit = features / np.linalg.norm(features, axis=2, keepdims=True)
    pairs = [(0, 1), (0, 2), (1, 2)]
    found = pairwise_distance(features.astype(np.float32))
    assert found.items == pytest.approx(np.mean([1 - (unit[a] * unit[b]).sum(1) for a, b in pairs], axis=0), rel=1e-5)
    assert found.value == pytest.approx(found.items.mean()) and found.seeds == 3
    found = pairwise_distance(features, "euclidean")
    assert found.items == pytest.approx(np.mean([np.linalg.norm(features[a] - features[b], axis=1) for a, b in pairs], axis=0))


def test_equal_seeds_have_no_diversity_and_opposite_features_the_most():
    rows = np.random.default_rng(1).normal(size=(6, 9)).astype(np.float32)
    assert pairwise_distance(np.stack([rows, rows, rows])).value == 0.0
    assert pairwise_distance(np.stack([rows, -3 * rows])).value == pytest.approx(2)


@pytest.mark.parametrize(
    ("features", "distance", "message"),
    [
        (np.ones((1, 5, 3)), "cosine", "found 1, needed at least 2"),
        (np.ones((5, 3)), "cosine", r"expected \(seeds, prompts, dimensions\)"),
        (np.ones((2, 0, 3)), "cosine", "found 0 generated images"),
        (np.zeros((2, 4, 3)), "cosine", "4 generated feature vectors are all zero"),
        (np.full((2, 4, 3), np.nan), "euclidean", "NaN"),
        (np.ones((2, 4, 3)), "manhattan", "known: cosine, euclidean"),
    ],
)
def test_what_has_no_pairwise_distance_is_refused(features, distance, message):
    with pytest.raises(BadFeatures, match=message):
        pairwise_distance(features, distance)


# --- structural similarity --------------------------------------------------------------------------------------------


def pictures(n: int, side: int, seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (n, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(picture).resize((side, side), Image.BICUBIC)) for picture in small])


def noisy(images: np.ndarray, seed: int, width: float = 40.0) -> np.ndarray:
    return (images + np.random.default_rng(seed).normal(size=images.shape) * width).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", [64, 100, 176, 200])
def test_ms_ssim_equals_torchmetrics_on_the_same_images(side):
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as peer

    a = pictures(3, side, 1)
    b = np.stack([noisy(a, 2)[0], noisy(a, 3, 5.0)[1], pictures(1, side, 4)[0]])
    betas = WEIGHTS[: scales(side, side)]
    betas = betas if len(betas) == 5 else tuple(beta / sum(betas) for beta in betas)
    tensors = [torch.from_numpy(images).permute(0, 3, 1, 2).float() for images in (a, b)]
    wanted = [float(peer(x[None], y[None], data_range=255.0, betas=betas)) for x, y in zip(*tensors)]
    assert ms_ssim(a, b) == pytest.approx(wanted, abs=1e-5)
    assert max(wanted) - min(wanted) > 0.1


def test_the_coarsest_scale_is_never_smaller_than_the_window():
    assert [scales(side, 999) for side in (11, 21, 22, 43, 44, 64, 88, 175, 176, 512)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    with pytest.raises(BadFeatures, match="images are 512x10; structural similarity needs at least 11x11"):
        scales(10, 512)


def test_equal_images_are_alike_and_noise_lowers_similarity():
    images = pictures(2, 64, 5)
    assert ms_ssim(images, images) == pytest.approx([1, 1], abs=1e-6)
    means = [ms_ssim(images, noisy(images, 6, width)).mean() for width in (1, 10, 40, 120)]
    assert means == sorted(means, reverse=True) and means[0] > 0.99 and means[-1] < 0.8
    assert ms_ssim(images, 255 - images).min() >= 0
    flat = np.full((1, 64, 64, 3), 7, np.uint8)
    assert ms_ssim(flat, flat) == pytest.approx([1.0])


def test_batches_change_nothing_and_order_of_the_pair_neither():
    a, b = pictures(20, 24, 7), pictures(20, 24, 8)
    whole = ms_ssim(a, b)
    assert whole == pytest.approx(np.concatenate([ms_ssim(a[i : i + 1], b[i : i + 1]) for i in range(20)]), abs=1e-6)
    assert whole == pytest.approx(ms_ssim(b, a), abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 64, 64, 3)), np.zeros((1, 64, 64, 3)), "uint8"),
        (np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 32, 32, 3), np.uint8), "both alike"),
        (np.zeros((1, 64, 64), np.uint8), np.zeros((1, 64, 64), np.uint8), r"\(n, H, W, 3\)"),
        (np.zeros((1, 1, 1, 3), np.uint8), np.zeros((1, 1, 1, 3), np.uint8), "images are 1x1"),
    ],
)
def test_images_without_a_structural_similarity_are_refused(a, b, message):
    with pytest.raises(BadFeatures, match=message):
        ms_ssim(a, b)


# --- as metrics over seeds --------------------------------------------------------------------------------------------


def seeds(count: int, n: int = 5) -> list[CellFeatures]:
    images = [pictures(n, 24, seed) for seed in range(count)]
    features = [np.random.default_rng(seed).normal(size=(n, 4)) for seed in range(count)]
    return [
        CellFeatures(n, {"image": f}, {}, {}, images=lambda indices, i=i: i[list(indices)]) for i, f in zip(images, features)
    ]


def test_the_registered_metrics_take_one_cell_per_seed():
    cells = seeds(3)
    features = np.stack([cell.generated["image"] for cell in cells])
    assert diversity(cells, DistanceOptions("euclidean")) == pairwise_distance(features, "euclidean").value
    wanted = ms_ssim_diversity(np.stack([cell.images(range(5)) for cell in cells]))
    assert ms_ssim_metric(cells, NoOptions()) == pytest.approx(wanted.value, rel=1e-6)
    assert ms_ssim_items(cells, NoOptions()) == pytest.approx(wanted.items, rel=1e-6) and wanted.items.shape == (5,)


def test_images_are_read_once_for_value_items_and_influence_and_again_for_another_list():
    cells, reads = seeds(3), []
    for number, cell in enumerate(cells):
        cell.images = lambda indices, number=number, images=cell.images: [reads.append(number), images(indices)][1]
    assert ms_ssim_metric(cells, NoOptions()) == ms_ssim_items(cells, NoOptions()).mean() and reads == [0, 1, 2]
    fewer = cells[:2]
    assert ms_ssim_metric(fewer, NoOptions()) != ms_ssim_metric(cells, NoOptions()) and reads[3:5] == [0, 1]


def test_one_seed_or_no_images_are_refused():
    for metric, options in ((diversity, DistanceOptions()), (ms_ssim_metric, NoOptions())):
        with pytest.raises(BadFeatures, match="found 1, needed at least 2"):
            metric(seeds(1), options)
    with pytest.raises(BadFeatures, match="only features are at hand"):
        ms_ssim_metric([CellFeatures(2, {}, {}, {})] * 2, NoOptions())
