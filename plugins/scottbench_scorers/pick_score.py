"""PickScore v1: exp(logit scale) times the cosine of image and prompt, of a CLIP ViT-H/14 that was tuned on Pick-a-Pic.

The published card runs it in float32; so does this. Prompts are cut at 77 tokens, the end token kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from scottbench.errors import DamagedAsset
from scottbench.models.configs import check_against_weights, one_of, read_config
from scottbench.models.extractors import OpenExtractor, Source, find_folder
from scottbench.models.images import USUAL
from scottbench.models.importing import importing
from scottbench.store.assets import Needed

FOLDER = "PickScore_v1"
FETCH = "hf download yuvalkirstain/PickScore_v1 config.json model.safetensors --local-dir {folder}"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, of the processor that the card names."""
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

    loaded: Any = CLIPModel.from_pretrained(
        source.path, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    clip, told = loaded
    # files of older versions keep a table of positions that is no weight
    wrong = sorted(name for name in [*told["missing_keys"], *told["unexpected_keys"]] if not name.endswith("position_ids"))
    if wrong:
        raise DamagedAsset(f"{source.path}/model.safetensors is not of this network: {len(wrong)} tensors differ, such as {wrong[0]}.")
    text = clip.config.text_config
    if text.vocab_size != LOWEST_WORDS:
        raise DamagedAsset(f"{source.path}: it knows {text.vocab_size:,} tokens, CLIP's vocabulary has {LOWEST_WORDS:,}. Fetch it again.")
    clip.requires_grad_(False).eval().to(device)
    mean, std = (255 * torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))

    def pair_tower(batch: Tensor, tokens: Tensor) -> Tensor:
        images = normalize(clip.visual_projection(clip.vision_model(pixel_values=(batch - mean) / std).pooler_output))
        texts = normalize(clip.text_projection(clip.text_model(input_ids=tokens).pooler_output))
        return clip.logit_scale.exp() * (images * texts).sum(1)

    tokenize = SimpleTokenizer(context_length=text.max_position_embeddings)
    return OpenExtractor(source, clip.config.vision_config.image_size, no_tower, None, tokenize, device, USUAL, pair_tower)


def no_tower(batch: Tensor) -> Tensor:
    """Refuse images (N,3,S,S) without prompts. Raises TypeError."""
    raise TypeError("this scorer reads each image with its prompt")
