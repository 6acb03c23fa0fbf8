"""HPSv2.1: the cosine of image and prompt, of open_clip's ViT-H-14 tuned on human preferences.

The published code runs under autocast to float16 on a GPU; so does this, and in float32 on a CPU. It fits the longer side of an
image to 224 and fills up with black; for square images that is stretching. It resizes in float, this in 8 bit by PIL.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from scottbench.models.extractors import CLIP_PIXELS, OpenExtractor, Source, find_folder, normaliser
from scottbench.models.images import Fit
from scottbench.models.importing import importing
from scottbench.store.assets import Needed
from scottbench_scorers.pick_score import no_tower
from scottbench_scorers.weights import fetched, open_clip_of, side_of

FOLDER, FILE = "HPSv2.1", "HPS_v2.1.safetensors"
FETCH = fetched("hpsv2", "hf download xswu/HPSv2 HPS_v2.1_compressed.pt --local-dir {folder}", "HPS_v2.1_compressed.pt")
MODEL = "ViT-H-14"


def find(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Find the converted weights. Raises MissingAsset with the lines that fetch and convert them."""
    folder, digest = find_folder(spec, path, FOLDER, [Needed(Path(FILE), FETCH)])
    return Source("hpsv2", spec.get("label", FOLDER), digest, folder, model=spec.get("model", MODEL), pretrained="HPSv2.1")


def open_scorer(source: Source, device: str) -> OpenExtractor:
    """Open both towers. Raises DamagedAsset for weights of another model, UsageError for a model that open_clip does not know."""
    with importing():
        import open_clip

    name = source.model or MODEL
    clip = open_clip_of(name, source.path / FILE, f"HPSv2.1 is of {MODEL}").requires_grad_(False).eval().to(device)
    normal = normaliser(*CLIP_PIXELS, device)
    kind = device.partition(":")[0]

    def pair_tower(batch: Tensor, tokens: Tensor) -> Tensor:
        with torch.autocast(kind, dtype=torch.float16, enabled=kind == "cuda"):
            images, texts = normalize(clip.encode_image(normal(batch))), normalize(clip.encode_text(tokens))
            return (images * texts).sum(1)

    return OpenExtractor(source, side_of(clip.visual), no_tower, None, open_clip.get_tokenizer(name), device, Fit("longest"), pair_tower)
