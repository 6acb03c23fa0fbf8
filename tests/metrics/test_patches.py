"""Patch FID: all crops in one Gaussian, items are images; FD-DINOv2 by dgm-eval's formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from scipy import linalg
from scottbench_metrics import fd_dinov2, patch_fid
from scottbench_metrics.fid import fid

from scottbench.errors import UsageError
from scottbench.metrics import BadFeatures, frechet_distance, frechet_influence, patch_distance, patch_influence
from scottbench.models.extractors import OpenExtractor, Source
from scottbench.models.images import patches, resize
from scottbench.registry.nouns import CellFeatures, NoOptions


def crops(n: int, k: int = 4, d: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 1, d)) + rng.normal(size=(n, k, d)) * 0.5 + 0.2 * seed).astype(np.float32)


def test_it_is_the_frechet_distance_of_all_crops_and_the_influence_of_an_image_the_mean_of_its_crops():
    real, generated = crops(20), crops(15, seed=1)
    flat = [rows.reshape(-1, 5) for rows in (real, generated)]
    assert patch_distance(real, generated).value == frechet_distance(*flat).value
    found, wanted = patch_influence(real, generated), frechet_influence(*flat)
    assert found.generated == pytest.approx([wanted.generated[4 * i : 4 * i + 4].mean() for i in range(15)])
    assert found.reference == pytest.approx([wanted.reference[4 * i : 4 * i + 4].mean() for i in range(20)])
    assert found.generated.mean() == pytest.approx(0, abs=1e-12)


def test_an_image_more_or_less_moves_the_value_as_its_influence_says():
    """The derivative in the weight of an image, all of its crops together."""
    real, generated = crops(60), crops(60, seed=1)
    found = patch_influence(real, generated).generated
    value = patch_distance(real, generated).value
    for i in (0, 17, 41):
        many = np.concatenate([generated] * 40 + [generated[i : i + 1]])
        step = 1 / len(many)
        moved = (patch_distance(real, many).value - patch_distance(real, np.concatenate([generated] * 40)).value) / step
        assert moved == pytest.approx(found[i], rel=0.05, abs=0.02 * np.abs(found).max())
    assert value > 0


def test_one_crop_of_every_image_is_fid():
    real, generated = crops(20, 1), crops(15, 1, seed=2)
    assert patch_distance(real[:, 0], generated[:, 0]).value == patch_distance(real, generated).value
    cell = CellFeatures(15, {"patch": generated, "image": generated[:, 0]}, {"patch": real, "image": real[:, 0]}, {})
    assert patch_fid.patch_fid(cell, NoOptions()) == fid(cell, NoOptions())
    assert patch_fid.influence(cell, NoOptions()).generated == pytest.approx(frechet_influence(real[:, 0], generated[:, 0]).generated)


def test_order_of_images_and_of_crops_changes_nothing_equal_sets_are_at_no_distance_and_nothing_is_written():
    real, generated = crops(20), crops(15, seed=1)
    for rows in (real, generated):
        rows.flags.writeable = False
    rng, value = np.random.default_rng(0), patch_distance(real, generated).value
    assert patch_distance(rng.permutation(real), generated[:, ::-1]).value == pytest.approx(value, rel=1e-9)
    assert patch_distance(real, rng.permutation(real)).value == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("generated", "message"),
    [
        (np.ones(5), r"expected \(images, crops, dimensions\), of a resize rule of crops"),
        (np.ones((5, 0, 5)), r"expected \(images, crops, dimensions\), of a resize rule of crops"),
        (crops(1), "found 1 generated images; this statistic needs at least 2"),
        (np.full((5, 4, 5), np.nan), "5 of 5 generated images are NaN"),
        (crops(5, d=4), "reference features have 5 dimensions, generated ones 4"),
    ],
)
def test_features_that_are_not_of_crops_are_refused(generated, message):
    with pytest.raises(BadFeatures, match=message):
        patch_distance(crops(8), generated)


def test_features_of_crops_are_refused_where_one_row_an_image_is_wanted():
    with pytest.raises(BadFeatures, match="reference features are of 4 crops of every image"):
        frechet_distance(crops(8), crops(8))


@pytest.mark.parametrize(("m", "n", "d"), [(200, 150, 16), (40, 40, 64)])
def test_fd_dinov2_is_the_value_of_dgm_evals_formulas_on_the_same_arrays(m, n, d):
    """Both of its forms: the matrix root, and the eigenvalues of S1 S2; the second pair of sets is rank limited."""
    rng = np.random.default_rng(0)
    real, generated = (rng.normal(size=(rows, d)) @ rng.normal(size=(d, d)) + shift for rows, shift in ((m, 0.0), (n, 0.3)))
    mean = ((real.mean(0) - generated.mean(0)) ** 2).sum()
    s1, s2 = (np.cov(rows, rowvar=False) for rows in (real, generated))
    by_values = mean + s1.trace() + s2.trace() - 2 * np.sqrt(linalg.eigvals(s1 @ s2) + 0j).real.sum()
    cell = CellFeatures(n, {"dinov2": generated}, {"dinov2": real}, {})
    if min(m, n) <= d:
        with pytest.warns(Warning, match="rank limited"):
            found = fd_dinov2.fd_dinov2(cell, NoOptions())
        assert found == pytest.approx(by_values, rel=1e-5)  # its own route loses digits to the null directions
        return
    by_root = mean + s1.trace() + s2.trace() - 2 * linalg.sqrtm(s1 @ s2).real.trace()
    assert fd_dinov2.fd_dinov2(cell, NoOptions()) == pytest.approx(by_root, rel=1e-8)
    assert fd_dinov2.fd_dinov2(cell, NoOptions()) == pytest.approx(by_values, rel=1e-8)
    assert fd_dinov2.influence(cell, NoOptions()).generated == pytest.approx(frechet_influence(real, generated).generated)


# --- crops ------------------------------------------------------------------------------------------------------------


def picture(height: int, width: int) -> np.ndarray:
    """Every pixel says where it is: red its row, green its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows * 0], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "grid", "places"),
    [
        (100, 150, 1, [(34, 59)]),
        (100, 100, 2, [(0, 0), (0, 68), (68, 0), (68, 68)]),
        (40, 33, 3, [(r, c) for r in (0, 4, 8) for c in (0, 0, 1)]),
    ],
)
def test_crops_of_a_large_image_are_its_own_pixels_in_the_middle_or_from_border_to_border(height, width, grid, places):
    found = patches(picture(height, width), 32, grid)
    assert found.shape == (grid * grid, 32, 32, 3) and found.dtype == np.float32
    assert [tuple(crop[0, 0, :2]) for crop in found] == places
    assert all((crop == picture(height, width)[r : r + 32, c : c + 32]).all() for crop, (r, c) in zip(found, places))


def test_an_image_no_larger_than_the_input_gives_squares_of_half_its_side_enlarged():
    image = picture(32, 32)
    found = patches(image, 32, 2)
    for crop, (row, column) in zip(found, [(0, 0), (0, 16), (16, 0), (16, 16)]):
        assert (crop == resize(image[row : row + 16, column : column + 16], 32, "clean")).all()
    assert patches(picture(1, 1), 8, 2).shape == (4, 8, 8, 3)


def test_an_extractor_puts_the_features_of_crops_side_by_side_image_by_image():
    seen = []

    def tower(batch):
        seen.append(len(batch))
        return torch.cat([batch.mean((2, 3)), batch.std((2, 3))], dim=1)

    crops, plain = (
        OpenExtractor(Source("toy", "toy", "0" * 64, Path("toy"), resize=rule), 32, tower, None, None) for rule in ("crop3x3", "clean")
    )
    images = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 3), dtype=np.uint8)
    found = crops.features(images)
    assert found.shape == (20, 9 * 6) and "resize crop3x3" in crops.source.papers
    assert max(seen) <= 64 and sum(seen) == 20 * 9
    taken_apart = crops.source.by_crop(found)
    assert taken_apart.shape == (20, 9, 6)
    for number, (row, column) in enumerate([(r, c) for r in (0, 8, 16) for c in (0, 8, 16)]):
        wanted = plain.features(images[:, row : row + 32, column : column + 32])
        assert taken_apart[:, number] == pytest.approx(wanted, rel=1e-5)
    assert plain.source.by_crop(wanted) is wanted


def test_a_rule_with_crops_that_nobody_has_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"resize rule 'crop9x9'.*unknown; known: clean, .*crop, crop2x2, crop3x3, crop4x4"):
        tiny.find_extractor({"kind": "open_clip", "folder": str(tmp_path), "resize": "crop9x9"}, lambda text: tmp_path / text)
