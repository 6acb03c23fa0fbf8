"""The LAION aesthetic predictor: a head on the normalised image features of OpenAI's CLIP ViT-L/14; prompts are not read.

Version 2 (sac+logos+ava1-l14-linearMSE) is five linear layers without anything between them but dropout, which does nothing here;
version 1 (sa_0_4_vit_l_14_linear) is one. The names in the file say which it is. In float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from scottbench.errors import DamagedAsset
from scottbench.models.extractors import CLIP_PIXELS, OpenExtractor, Source, find_folder, normaliser
from scottbench.models.images import USUAL
from scottbench.store.assets import Needed
from scottbench_scorers.weights import fetched, linears, load_exactly, open_clip_of, read, side_of

FOLDER, HEAD, CLIP = "aesthetic", "sac+logos+ava1-l14-linearMSE.safetensors", "open_clip_model.safetensors"
HEAD_FETCH = fetched(
    "aesthetic", "curl -L --create-dirs -o {folder}/sac+logos+ava1-l14-linearMSE.pth https://raw.githubusercontent.com/christophschuhmann/"
    "improved-aesthetic-predictor/main/sac%2Blogos%2Bava1-l14-linearMSE.pth", "sac+logos+ava1-l14-linearMSE.pth")  # fmt: skip
CLIP_FETCH = "hf download timm/vit_large_patch14_clip_224.openai open_clip_model.safetensors --local-dir {folder}"
MODEL = "ViT-L-14"
WIDTHS = (1024, 128, 64, 16, 1)
"""Outputs of the layers of version 2."""


def find(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Find head and CLIP in one folder. Raises MissingAsset with the lines that fetch and convert them."""
    folder, digest = find_folder(spec, path, FOLDER, [Needed(Path(HEAD), HEAD_FETCH), Needed(Path(CLIP), CLIP_FETCH)])
    return Source("aesthetic", spec.get("label", FOLDER), digest, folder, model=spec.get("model", MODEL), pretrained="openai")


def open_scorer(source: Source, device: str) -> OpenExtractor:
    """Open CLIP with its quick GELU, and the head. Raises DamagedAsset for weights of another model, UsageError for an unknown one."""
    clip = open_clip_of(source.model or MODEL, source.path / CLIP, f"The predictor is of {MODEL}", force_quick_gelu=True)
    visual, width = clip.visual.requires_grad_(False).eval().to(device), clip.text_projection.shape[1]
    head = head_of(read(source.path / HEAD), width, source.path / HEAD).requires_grad_(False).eval().to(device)
    normal = normaliser(*CLIP_PIXELS, device)

    def image_tower(batch: Tensor) -> Tensor:
        return head(normalize(visual(normal(batch))))

    return OpenExtractor(source, side_of(visual), image_tower, None, None, device, USUAL)


def head_of(weights: Mapping[str, Tensor], width: int, path: Path) -> torch.nn.Module:
    """Make the head that a file holds, of either version: features (N,width) -> (N,1). weights: of any shape, (1,width) in version 1.

    Raises DamagedAsset for a file of something else.
    """
    if "weight" in weights:
        head: torch.nn.Module = torch.nn.Linear(width, 1)
        load_exactly(head, weights, path, "version 1 of the predictor")
        return head
    if not any(name.startswith("layers.") for name in weights):
        raise DamagedAsset(f"{path} is no aesthetic predictor: it has {min(weights, default='nothing')}. Fetch it again.")
    head = torch.nn.Module()
    head.layers = linears(width, WIDTHS)
    load_exactly(head, weights, path, "version 2 of the predictor")
    return head.layers
