"""Resize rules against closed forms and the libraries that are named after them; decoded pictures of every mode to RGB."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from scottbench.models.images import RULES, resize, rgb


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def gray(rows) -> np.ndarray:
    return np.repeat(np.array(rows, np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(64, 64), (300, 40), (1, 1), (256, 256), (31, 33)])
def test_every_rule_gives_the_asked_size_in_range_and_keeps_flat_pictures(rule, shape):
    found = resize(picture(*shape), 48, rule)
    # bicubic rules of 8 bit and of clean-fid are clipped by their libraries
    assert found.shape == (48, 48, 3) and found.dtype == np.float32 and found.min() >= 0 and found.max() <= 255
    flat = np.full((*shape, 3), 77, np.uint8)
    assert resize(flat, 48, rule) == pytest.approx(np.full((48, 48, 3), 77), abs=1e-3)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "gigagan256"])
def test_a_picture_of_the_extractors_size_is_left_as_it_is(rule):
    image = picture(40, 40)
    assert (resize(image, 40, rule) == image).all()


def test_rules_differ():
    image = picture(100, 80)  # of a square some are the same
    found = [resize(image, 32, rule) for rule in RULES]
    assert all(np.abs(a - b).max() > 0.1 for i, a in enumerate(found) for b in found[:i])


# --- tf1 --------------------------------------------------------------------------------------------------------------


def test_tf1_doubles_by_places_at_halves_and_repeats_the_end():
    image = gray([[0, 100], [200, 40]])
    wanted = [[0, 50, 100, 100], [100, 85, 70, 70], [200, 120, 40, 40], [200, 120, 40, 40]]
    assert RULES["tf1"](image, 4)[..., 0].tolist() == wanted


def test_tf1_shrinks_by_taking_pixels_without_averaging():
    image = gray([[0, 10, 20, 30, 40, 50]] * 6)
    assert RULES["tf1"](image, 2)[0, :, 0].tolist() == [0, 30]
    # 6 / 4 = 1.5: places 0, 1.5, 3, 4.5
    assert RULES["tf1"](image, 4)[0, :, 0].tolist() == [0, 15, 30, 45]


def test_tf1_is_the_formula_at_every_pixel():
    image, size = picture(17, 23, 3), 29
    for i, j in [(0, 0), (28, 28), (7, 20), (28, 3)]:
        y, x = i * 17 / size, j * 23 / size
        top, left = int(y), int(x)
        bottom, right = min(top + 1, 16), min(left + 1, 22)
        corners = [image[a, b].astype(float) for a in (top, bottom) for b in (left, right)]
        upper, lower = (one + (other - one) * (x - left) for one, other in (corners[:2], corners[2:]))
        assert RULES["tf1"](image, size)[i, j] == pytest.approx(upper + (lower - upper) * (y - top), abs=1e-3)


# --- the others -------------------------------------------------------------------------------------------------------


def test_tm_aa_is_the_first_step_of_torchmetrics_inception():
    image = picture(80, 60, 1)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].to(torch.float), size=(32, 32), mode="bilinear", align_corners=False, antialias=True
    )
    assert (RULES["tm-aa"](image, 32) == wanted[0].permute(1, 2, 0).numpy()).all()
    # antialiased: halving a chessboard gives gray, which tf1 does not
    board = gray(np.indices((64, 64)).sum(0) % 2 * 255)
    assert np.ptp(RULES["tm-aa"](board, 32)[2:-2, 2:-2]) < 1 and set(RULES["tf1"](board, 32).ravel()) == {0.0}


def test_gigagan256_goes_by_the_centred_square_and_8_bit_256():
    image = picture(300, 400, 2)
    square = Image.fromarray(image[:, 50:350]).resize((256, 256), Image.LANCZOS)
    assert (resize(image, 64, "gigagan256") == RULES["clean"](np.asarray(square), 64)).all()
    # even at the extractor's own size
    image = picture(299, 299, 2)
    assert np.abs(resize(image, 299, "gigagan256") - image).max() > 1
    square = picture(256, 256, 4)
    assert (resize(square, 64, "gigagan256") == resize(square, 64, "clean")).all()


# --- modes ------------------------------------------------------------------------------------------------------------


def decoded(image: Image.Image, form: str = "PNG") -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, form)
    found = rgb(Image.open(io.BytesIO(buffer.getvalue())))
    assert found.mode == "RGB"
    return np.asarray(found)


def test_gray_is_repeated_and_black_and_white_and_palettes_are_looked_up():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (decoded(Image.fromarray(values)) == values[..., None]).all()
    assert set(decoded(Image.fromarray(values).convert("1")).ravel()) == {0, 255}
    colours = picture(8, 8)
    palette = Image.fromarray(colours).quantize(64)
    assert (decoded(palette) == np.asarray(palette.convert("RGB"))).all()


def test_sixteen_bits_become_eight_and_not_white():
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    found = decoded(Image.fromarray(values))
    assert found[0, :, 0].tolist() == [0, 1, 128, 255]
    # a dark picture stays dark
    assert decoded(Image.fromarray(np.full((2, 2), 200, np.uint16))).max() == 1


def test_transparency_is_laid_on_white():
    image = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    assert decoded(Image.fromarray(image)).tolist() == [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]
    both = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert decoded(Image.fromarray(both, "LA"))[0, :, 0].tolist() == [10, 255]


def test_cmyk_is_converted_and_one_pixel_is_a_picture():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    found = decoded(red, "JPEG")
    assert found[..., 0].min() > 240 and found[..., 1:].max() < 15
    assert decoded(Image.new("RGB", (1, 1), (1, 2, 3))).tolist() == [[[1, 2, 3]]]
