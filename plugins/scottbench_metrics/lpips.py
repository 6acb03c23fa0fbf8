"""LPIPS within a prompt: the mean learned perceptual distance of one prompt's images at two seeds (Zhang et al. 2018), as in DMD2.

torchmetrics brings network and linear heads; torchvision's AlexNet file is neither shipped nor fetched here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence, NoOptions
from scottbench.errors import DamagedAsset
from scottbench.metrics import BadFeatures
from scottbench.metrics.diversity import check_seeds, mean_over_pairs
from scottbench.models.importing import importing
from scottbench.stats.intervals import of_mean
from scottbench.store.assets import Needed, file_digest, require
from scottbench_metrics.once import once

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

ALEXNET = "alexnet-owt-7be5be79.pth"
"""torchvision's AlexNet (233 MB); the name ends in the first digits of its sha256."""
BATCH = 16
"""Prompts whose images are held at a time."""
LEAST = 64
"""Height and width from which AlexNet's five stages have something to see."""


def lpips(cells: list[CellFeatures], options: NoOptions) -> float:
    """Average the distance over prompts and pairs of seeds, 0 = alike. cells: one per seed, of the same items in the same order."""
    return float(items(cells, options).mean())


def items(cells: list[CellFeatures], options: NoOptions) -> np.ndarray:
    """Compute the mean distance over pairs of seeds for each prompt, (n,) float64.

    Raises BadFeatures for one seed, no images or images that are too small, and MissingAsset where the weights are absent.
    """
    import numpy as np

    check_seeds(len(cells))
    readers = [cell.images for cell in cells if cell.images is not None]
    if len(readers) < len(cells):
        raise BadFeatures("LPIPS needs the generated images, and only features are at hand.")
    parts = [range(start, min(start + BATCH, cells[0].n)) for start in range(0, cells[0].n, BATCH)]

    def distances() -> np.ndarray:
        distance = compare(open_network())
        return np.concatenate([mean_over_pairs([images(part) for images in readers], distance).items for part in parts])

    return once(cells, "lpips", distances)


def influence(cells: list[CellFeatures], options: NoOptions) -> Influence:
    """Compute the influence of every prompt: the items are independent."""
    return of_mean(items(cells, options))


def compare(network: Callable[[Tensor, Tensor], Tensor]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Let a network of (N,3,H,W) float32 pairs in -1..1, which gives (N,1,1,1), compare (N,H,W,3) uint8 pairs and give (N,) float64.

    The function that is returned raises BadFeatures for images under 64 pixels.
    """
    import torch

    @torch.inference_mode()
    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if min(a.shape[1:3]) < LEAST:
            raise BadFeatures(f"images are {a.shape[2]}x{a.shape[1]}; LPIPS needs at least {LEAST}x{LEAST} pixels.")
        pair = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1 for images in (a, b))
        return network(*pair).flatten().double().numpy()

    return distance


def open_network() -> Callable[[Tensor, Tensor], Tensor]:
    """Open LPIPS 0.1 on AlexNet, from local files only: (N,3,H,W) float32 pairs in -1..1 -> (N,1,1,1).

    Raises MissingAsset where AlexNet's file is absent, DamagedAsset for another file.
    """
    import torch

    weights = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET
    fetch = f"curl -L --create-dirs -o {weights} https://download.pytorch.org/models/{ALEXNET}"
    require("metric 'lpips'", [Needed(weights, fetch)])
    if not file_digest(weights).startswith(ALEXNET.rpartition("-")[2].removesuffix(".pth")):
        raise DamagedAsset(f"metric 'lpips' cannot be used:\n  damaged {weights}  fetch: {fetch}")
    with importing():
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    return LearnedPerceptualImagePatchSimilarity(net_type="alex").net
