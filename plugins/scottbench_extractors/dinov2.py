"""DINOv2 as dgm-eval runs it for FD-DINOv2: the class token of ViT-L/14 at 224 pixels, positions interpolated as torch.hub's code does.

The weights are those of transformers' form. Its own interpolation of the positions, from 37x37 to 16x16, takes another grid than
the code that the metric was published with (dinov2's `interpolate_offset`), so the positions are interpolated here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scottbench.models.configs import check_against_weights, one_of, read_config, whole
from scottbench.models.extractors import OpenExtractor, Source, find_folder, normaliser, open_pretrained
from scottbench.models.importing import importing
from scottbench.store.assets import Needed

FOLDER = "dinov2-large"
FETCH = "hf download facebook/dinov2-large config.json model.safetensors --local-dir {folder}"
SIDE = 224
OFFSET = 0.1
"""Added to the new number of patches before it is divided by the old one, as dinov2's `interpolate_offset` is."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's."""


def find(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Find the folder and check its config. Raises MissingAsset with the line that fetches it, DamagedAsset, Unfit for another network."""
    folder, digest = find_folder(spec, path, FOLDER, [Needed(Path("model.safetensors"), FETCH), Needed(Path("config.json"), FETCH)])
    config = read_config(folder / "config.json")
    one_of(folder / "config.json", config, "model_type", ("dinov2",))
    whole(folder / "config.json", config, "patch_size", 1, SIDE)
    check_against_weights(folder / "config.json", config, [folder / "model.safetensors"])
    return Source("dinov2", spec.get("label", folder.name), digest, folder)


def open_dinov2(source: Source, device: str) -> OpenExtractor:
    """Open the network in float32. Raises DamagedAsset where weights are missing or of another shape."""
    with importing():
        from transformers import Dinov2Model

    network, normal = open_pretrained(Dinov2Model, source.path), normaliser(MEAN, STD, device)
    positions = network.embeddings.position_embeddings
    positions.data = at_side(positions.data, SIDE // network.config.patch_size)
    network.to(device)

    def image_tower(batch: Tensor) -> Tensor:
        return network(pixel_values=normal(batch)).last_hidden_state[:, 0]

    return OpenExtractor(source, SIDE, image_tower, None, None, device)


def at_side(positions: Tensor, side: int) -> Tensor:
    """Interpolate position embeddings, (1,1+G*G,D) float32 with that of the class token first, to (1,1+side*side,D).

    Bicubic, with the scale (side + OFFSET) / G given rather than the size, as dinov2's own code does; the identity where G is `side`.
    """
    first, rest = positions[:, :1], positions[:, 1:]
    old, width = round(rest.shape[1] ** 0.5), rest.shape[2]
    if old == side:
        return positions
    grid, scale = rest.reshape(1, old, old, width).permute(0, 3, 1, 2), (side + OFFSET) / old
    grid = torch.nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([first, grid.permute(0, 2, 3, 1).reshape(1, side * side, width)], dim=1)
