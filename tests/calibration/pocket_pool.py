"""A pool of real features: the pocket preset's evaluator on its evaluation images, their prompts, and two stand-ins for methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scottbench_pocket
from PIL import Image, ImageFilter
from scottbench_pocket.emoji5k import Emoji5K

from scottbench.models.extractors import find_extractor, open_extractor
from scottbench.registry.loader import load_plugins
from scottbench.registry.presets import read_preset

BATCH = 64


def features(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(real, text, a, b), each (count, 256) float32: prompts spread over the evaluation split.

    A: training images chosen at random and blurred by one pixel: other pictures of the right kind that lack detail. B: others, blurred
    by one and a half. (The evaluation images themselves, blurred, would leave no ball empty: a coverage of 1 is no test.)
    """
    preset = read_preset(Path(scottbench_pocket.__file__).with_name("pocket.toml"))
    extractor = open_extractor(find_extractor(load_plugins().find("extractor", "open_clip").noun, preset.extractors["image"], preset.path))
    items, train = Emoji5K("evaluation"), Emoji5K("train")
    rng = np.random.default_rng(0)
    chosen, *others = (rng.permutation(len(split.ids))[:count] for split in (items, train, train))
    real, a, b = [], [], []
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        real.append(extractor.features(items.images([int(i) for i in chosen[part]])))
        for other, radius, made in zip(others, (1.0, 1.5), (a, b), strict=True):
            made.append(extractor.features(blurred(train.images([int(i) for i in other[part]]), radius)))
    text = extractor.text_features([items.prompts[i] for i in chosen])
    return np.concatenate(real), text, np.concatenate(a), np.concatenate(b)


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    """(n, H, W, 3) uint8, smoothed by a Gaussian of `radius` pixels."""
    return np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))) for image in images])


def reduced(parts: tuple[np.ndarray, ...], d: int) -> tuple[np.ndarray, ...]:
    """The d leading principal directions of the first part, for all parts: (count, d) float32."""
    centre = parts[0].mean(axis=0, dtype=np.float64)
    directions = np.linalg.svd(parts[0] - centre, full_matrices=False)[2][:d]
    return tuple(((part - centre) @ directions.T).astype(np.float32) for part in parts)
