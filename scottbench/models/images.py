"""Pictures: decoded ones to RGB, and RGB ones to an extractor's input size by a rule with a name.

A rule is part of what a number is: the same images give another FID by another rule (Parmar et al. 2022). No rule goes by JPEG.
"""

from __future__ import annotations

from collections.abc import Callable

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


def resize(image: np.ndarray, size: int, rule: str) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32 0..255 by a rule of `RULES`. All but gigagan256 are the identity at size S."""
    if image.shape[:2] == (size, size) and rule != "gigagan256":
        return image.astype(np.float32)
    return RULES[rule](image, size)


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


def open_clip(image: np.ndarray, size: int) -> np.ndarray:
    """Resize (H,W,3) uint8 to (S,S,3) float32 whole numbers, as open_clip models are trained.

    The shorter side goes to S, the longer in proportion (rounded down, as torchvision does), by PIL bicubic on 8 bit; then a centre crop
    with torchvision's rounding of the offsets.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    shape = (int(size * width / short), int(size * height / short))
    left, top = (round((side - size) / 2) for side in shape)
    resized = Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + size, top + size))).astype(np.float32)


RULES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "clean": clean,
    "gigagan256": gigagan256,
    "tf1": tf1,
    "tm-aa": torchmetrics_antialiased,
    "open_clip": open_clip,
}
"""Name in a preset -> (image, size) -> resized; "open_clip" is for extractors of that kind only."""
