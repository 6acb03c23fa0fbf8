"""PickScore v1: exp(logit scale) times the cosine of image and prompt, of a CLIP ViT-H/14 that was tuned on Pick-a-Pic.

The published card runs it in float32; so does this. Prompts are cut at 77 tokens, the end token kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from scottbench.errors import DamagedAsset
from scottbench.models.configs import check_against_weights, one_of, read_config
from scottbench.models.extractors import CLIP_PIXELS, POSITIONS, OpenExtractor, Source, find_folder, normaliser, open_pretrained
from scottbench.models.images import USUAL
from scottbench.models.importing import importing
from scottbench.store.assets import Needed

FOLDER = "PickScore_v1"
FETCH = "hf download yuvalkirstain/PickScore_v1 config.json model.safetensors --local-dir {folder}"
LOWEST_WORDS = 49_408
"""Tokens of CLIP's vocabulary."""


def find(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Find the folder and check its config. Raises MissingAsset with the line that fetches it, DamagedAsset, Unfit for another network."""
    folder, digest = find_folder(spec, path, FOLDER, [Needed(Path("model.safetensors"), FETCH), Needed(Path("config.json"), FETCH)])
    file = folder / "config.json"
    config = read_config(file)
    one_of(file, config, "model_type", ("clip",))
    for part in ("text_config", "vision_config"):
        inner = config.get(part)
        if isinstance(inner, dict):
            check_against_weights(file, inner, [folder / "model.safetensors"])
    return Source("pick_score", spec.get("label", folder.name), digest, folder)


def open_scorer(source: Source, device: str) -> OpenExtractor:
    """Open both towers in float32. Raises DamagedAsset where weights are missing, of another shape, or know other tokens."""
    with importing():
        from open_clip.tokenizer import SimpleTokenizer
        from transformers import CLIPModel

    clip = open_pretrained(CLIPModel, source.path, POSITIONS)
    text = clip.config.text_config
    if text.vocab_size != LOWEST_WORDS:
        raise DamagedAsset(f"{source.path}: it knows {text.vocab_size:,} tokens, CLIP's vocabulary has {LOWEST_WORDS:,}. Fetch it again.")
    clip.to(device)
    normal = normaliser(*CLIP_PIXELS, device)

    def pair_tower(batch: Tensor, tokens: Tensor) -> Tensor:
        images = normalize(clip.visual_projection(clip.vision_model(pixel_values=normal(batch)).pooler_output))
        texts = normalize(clip.text_projection(clip.text_model(input_ids=tokens).pooler_output))
        return clip.logit_scale.exp() * (images * texts).sum(1)

    tokenize = SimpleTokenizer(context_length=text.max_position_embeddings)
    return OpenExtractor(source, clip.config.vision_config.image_size, no_tower, None, tokenize, device, USUAL, pair_tower)


def no_tower(batch: Tensor) -> Tensor:
    """Refuse images (N,3,S,S) without prompts. Raises TypeError."""
    raise TypeError("this scorer reads each image with its prompt")
