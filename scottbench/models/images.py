"""Pictures: decoded ones to RGB, and RGB ones to an extractor's input size by a rule with a name.

A rule is part of what a number is: the same images give another FID by another rule (Parmar et al. 2022). No rule goes by JPEG.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image


def rgb(picture: Image.Image) -> Image.Image:
    """Turn any decoded picture into 8-bit RGB: gray repeated, CMYK converted, 16-bit gray divided by 257, transparency laid on white."""
    if picture.mode.startswith("I"):  # 16-bit gray, "I" in some versions of PIL, whose own conversion would clip it to white
        picture = Image.fromarray(np.rint(np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


MODES = ("shortest", "longest", "squash")
"""Resize modes of open_clip; see `Fit`."""


def square(picture: Image.Image, side: int) -> Image.Image:
    """Cut out the centred square of the short side's length and resize it to `side` x `side` by LANCZOS; orientation tags are ignored."""
    short = min(picture.size)
    left, top = (picture.width - short) // 2, (picture.height - short) // 2
    return picture.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Fit:
    """How open_clip fits pictures to one of its models: by its tag in open_clip's table, or by its folder's preprocess_cfg."""

    mode: str = "shortest"
    """"shortest": the shorter side to S, then a centre crop; "longest": the longer side to S, then filled up; "squash": both sides to S."""
    interpolation: str = "bicubic"
    """"bicubic" or "bilinear", of PIL on 8 bit."""
    fill: int = 0
    """Value of the pixels that "longest" fills up with."""


USUAL = Fit()


def resize(image: np.ndarray, size: int, rule: str, fit: Fit = USUAL) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32 0..255 by a rule of `RULES`. All but gigagan256 are the identity at size S.

    fit: how the rule "open_clip" fits pictures; of no matter to the others.
    """
    if image.shape[:2] == (size, size) and rule != "gigagan256":
        return image.astype(np.float32)
    return open_clip(image, size, fit) if rule == "open_clip" else RULES[rule](image, size)


def clean(image: np.ndarray, size: int) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32 by clean-fid's rule (Parmar et al. 2022): PIL bicubic on float channels, sides stretched."""
    from cleanfid.resize import make_resizer

    return make_resizer("PIL", False, "bicubic", (size, size))(image)


def gigagan256(image: np.ndarray, size: int) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32 as the evaluator of GigaGAN, DMD2 and SiD-LSG does: the centred square of the short side,
    LANCZOS to 256 in 8 bit, then "clean"."""
    height, width = image.shape[:2]
    short = min(height, width)
    left, top = (round((side - short) / 2) for side in (width, height))
    square = Image.fromarray(image).crop((left, top, left + short, top + short))
    return clean(np.asarray(square.resize((256, 256), Image.Resampling.LANCZOS)), size)


def tf1(image: np.ndarray, size: int) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32, bilinear without antialiasing, as TensorFlow 1 does (torch-fidelity; the first FID).

    Output pixel i lies at i * in / out of the input, in float32, and the last row and column are repeated.
    """
    rows, columns = (_tf1_places(side, size) for side in image.shape[:2])
    values = image.astype(np.float32)
    low, high, share = rows
    lines = values[low], values[high]
    (left, right, across), down = columns, share[:, None, None]
    across = across[:, None]
    upper, lower = (line[:, left] + (line[:, right] - line[:, left]) * across for line in lines)
    return upper + (lower - upper) * down


def _tf1_places(side: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of `size` outputs: the pixel at or before its place, the next one, and how far it lies between them (float32)."""
    place = np.arange(size, dtype=np.float32) * (np.float32(side) / np.float32(size))
    low = place.astype(np.int64)
    return low, np.minimum(low + 1, side - 1), place - low.astype(np.float32)


def torchmetrics_antialiased(image: np.ndarray, size: int) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32 by torchmetrics' default since 1.9: torch's antialiased bilinear interpolation of float32
    pixels, sides stretched."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(tensor, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def open_clip(image: np.ndarray, size: int, fit: Fit = USUAL) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32 whole numbers, as open_clip does for a model.

    Sides and offsets are rounded as its transforms round them: a side down for "shortest" (torchvision), to the nearest for "longest".
    """
    height, width = image.shape[:2]
    if fit.mode == "squash":
        shape = (size, size)
    elif fit.mode == "longest":
        ratio = max(height / size, width / size)
        shape = (round(width / ratio), round(height / ratio))
    else:
        short = min(height, width)
        shape = (int(size * width / short), int(size * height / short))
    by = Image.Resampling.BILINEAR if fit.interpolation == "bilinear" else Image.Resampling.BICUBIC
    resized = Image.fromarray(image).resize(shape, by)
    if fit.mode == "longest":
        whole = Image.new("RGB", (size, size), (fit.fill,) * 3)
        whole.paste(resized, ((size - shape[0]) // 2, (size - shape[1]) // 2))
        return np.asarray(whole).astype(np.float32)
    left, top = (round((side - size) / 2) for side in shape)
    return np.asarray(resized.crop((left, top, left + size, top + size))).astype(np.float32)


PATCHES = {"crop": 1, "crop2x2": 2, "crop3x3": 3, "crop4x4": 4}
"""Names of the rules that take crops instead of resizing, and how many crops stand side by side; 1 is the centre."""


def patches(image: np.ndarray, size: int, grid: int) -> np.ndarray:
    """Cut (H,W,3) uint8 into grid x grid squares, row by row: (grid * grid,S,S,3) float32 0..255.

    A crop has the S pixels of the extractor's input and is not scaled. Of an image with a side of S or less it has half of the shorter
    side, and "clean" enlarges it to S. One crop is the centre; several lie evenly from border to border, and may overlap.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    side = size if short > size else max(1, short // 2)
    tops, lefts = (_offsets(length - side, grid) for length in (height, width))
    crops = [image[top : top + side, left : left + side] for top in tops for left in lefts]
    return np.stack([resize(crop, size, "clean") for crop in crops])


def _offsets(room: int, grid: int) -> list[int]:
    """Where crops begin that have `room` pixels to move in: in the middle, or evenly from 0 to the end."""
    return [room // 2] if grid == 1 else [round(i * room / (grid - 1)) for i in range(grid)]


def squashed(image: np.ndarray, size: int) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32 whole numbers by PIL's bicubic filter on 8 bit, sides stretched, as dgm-eval does by
    default (torchvision's Resize((S, S)))."""
    return open_clip(image, size, Fit("squash"))


RULES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "clean": clean,
    "gigagan256": gigagan256,
    "tf1": tf1,
    "tm-aa": torchmetrics_antialiased,
    "open_clip": open_clip,
    "squash8": squashed,
}
"""Name in a preset -> (image, size) -> resized; "open_clip" is for CLIP models, which say how they fit pictures."""
