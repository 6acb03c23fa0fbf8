"""ImageReward 1.0: BLIP's image encoder, its text encoder with cross-attention to the image, and a head on the first token.

The file keeps the published names of its weights; they are mapped to transformers' BLIP, which has the same layers. The sizes are read
off the weights. Prompts are cut at 35 tokens, as published. In float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scottbench.errors import DamagedAsset
from scottbench.models.configs import VOCABULARY_BYTES, check_size
from scottbench.models.extractors import CLIP_PIXELS, OpenExtractor, Source, find_folder, normaliser
from scottbench.models.images import USUAL
from scottbench.models.importing import importing
from scottbench.store.assets import Needed
from scottbench_scorers.pick_score import no_tower
from scottbench_scorers.weights import fetched, linears, load_exactly, read

FOLDER, FILE, WORDS = "ImageReward", "ImageReward.safetensors", "vocab.txt"
FETCH = fetched("image_reward", "hf download THUDM/ImageReward ImageReward.pt --local-dir {folder}", "ImageReward.pt")
WORDS_FETCH = "hf download google-bert/bert-base-uncased vocab.txt --local-dir {folder}"
TOKENS = 35
"""Length that prompts are cut and filled up to."""
SHIFT, SCALE = 0.16717362830052426, 1.0333394966054072
"""Mean and standard deviation of the reward on the authors' data, which the published score is normalised by."""
HEAD_WIDTH = 64
"""Width of an attention head of both encoders."""
HEADS = (1024, 128, 64, 16, 1)
"""Outputs of the linear layers of the head."""
UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")
"""Beginnings of names in the file that the score does not use."""
VISION = (
    ("cls_token", "embeddings.class_embedding"), ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj", "embeddings.patch_embedding"), ("blocks.", "encoder.layers."), ("norm1", "layer_norm1"), ("norm2", "layer_norm2"),
    ("attn.qkv", "self_attn.qkv"), ("attn.proj", "self_attn.projection"),
)  # fmt: skip
"""Published parts of names -> transformers'."""


def find(spec: dict[str, Any], path: Callable[[str], Path]) -> Source:
    """Find weights and vocabulary. Raises MissingAsset with the lines that fetch and convert them."""
    folder, digest = find_folder(spec, path, FOLDER, [Needed(Path(FILE), FETCH), Needed(Path(WORDS), WORDS_FETCH)])
    check_size(folder / WORDS, VOCABULARY_BYTES)
    return Source("image_reward", spec.get("label", FOLDER), digest, folder)


def open_scorer(source: Source, device: str) -> OpenExtractor:
    """Open encoders, head and tokenizer. Raises DamagedAsset for a file of another model or a vocabulary that is too large."""
    with importing():
        import transformers as _transformers  # noqa: F401

    path = source.path / FILE
    weights = {name: tensor for name, tensor in read(path).items() if not name.startswith(UNUSED)}
    vision, text, head = networks(weights, path)
    for network in (vision, text, head):
        network.requires_grad_(False).eval().to(device)
    normal = normaliser(*CLIP_PIXELS, device)

    def pair_tower(batch: Tensor, tokens: Tensor) -> Tensor:
        images = vision(pixel_values=normal(batch)).last_hidden_state
        ids, mask = tokens[:, 0], tokens[:, 1]
        found = text(input_ids=ids, attention_mask=mask, encoder_hidden_states=images, is_decoder=False).last_hidden_state[:, 0]
        return (head(found)[:, 0] - SHIFT) / SCALE

    tokenize = tokenizer_of(source.path / WORDS, weights["blip.text_encoder.embeddings.word_embeddings.weight"].shape[0])
    return OpenExtractor(source, vision.config.image_size, no_tower, None, tokenize, device, USUAL, pair_tower)


def networks(weights: Mapping[str, Tensor], path: Path) -> tuple[Any, Any, torch.nn.Module]:
    """Make image encoder, text encoder and head of the sizes of the published weights, and load them. Raises DamagedAsset.

    The sizes are those of the patches (width,3,patch,patch), the positions (1,1+patches,width) and the words (words,width).
    """
    from transformers.models.blip.configuration_blip import BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    seen, words = part(weights, "blip.visual_encoder."), part(weights, "blip.text_encoder.")
    try:
        width, patch = seen["patch_embed.proj.weight"].shape[0], seen["patch_embed.proj.weight"].shape[-1]
        side = patch * round((seen["pos_embed"].shape[1] - 1) ** 0.5)
        vision_config = BlipVisionConfig(
            hidden_size=width, intermediate_size=seen["blocks.0.mlp.fc1.weight"].shape[0], num_hidden_layers=layers(seen, "blocks."),
            num_attention_heads=width // HEAD_WIDTH, image_size=side, patch_size=patch, hidden_act="gelu", layer_norm_eps=1e-6)
        table, places = words["embeddings.word_embeddings.weight"], words["embeddings.position_embeddings.weight"]
        text_config = BlipTextConfig(
            vocab_size=table.shape[0], hidden_size=table.shape[1], encoder_hidden_size=width, is_decoder=True,
            intermediate_size=words["encoder.layer.0.intermediate.dense.weight"].shape[0], hidden_act="gelu", layer_norm_eps=1e-12,
            num_hidden_layers=layers(words, "encoder.layer."), num_attention_heads=table.shape[1] // HEAD_WIDTH,
            max_position_embeddings=places.shape[0])
    except (KeyError, IndexError) as error:
        raise DamagedAsset(f"{path} is no ImageReward: it lacks {error}. Fetch the weights again.") from None
    text_config._attn_implementation = "eager"  # its attention adds the mask
    vision, text = BlipVisionModel(vision_config), BlipTextModel(text_config, add_pooling_layer=False)
    load_exactly(vision, {vision_name(name): tensor for name, tensor in seen.items()}, path, "BLIP's image encoder")
    load_exactly(text, words, path, "BLIP's text encoder")
    head = linears(table.shape[1], HEADS)
    load_exactly(head, part(weights, "mlp.layers."), path, "its head")
    return vision, text, head


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights, of any shape each, whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Count the layers "<prefix>0", "<prefix>1", ... among the names of weights, of any shape each."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in weights if name.startswith(prefix)})


def vision_name(name: str) -> str:
    """Translate a published name of the image encoder to transformers'."""
    if name.startswith("norm."):
        return f"post_layernorm.{name.removeprefix('norm.')}"
    for published, ours in VISION:
        name = name.replace(published, ours)
    return name


def tokenizer_of(path: Path, most: int) -> Callable[[list[str]], Tensor]:
    """Return a tokenizer, n texts -> (n,2,TOKENS) int64: ids, and 1 where one is no filling. Raises DamagedAsset for over `most` words."""
    from tokenizers import BertWordPieceTokenizer

    found = BertWordPieceTokenizer(str(path), lowercase=True)
    if found.get_vocab_size() > most:
        raise DamagedAsset(f"{path} has {found.get_vocab_size():,} words, ImageReward knows {most:,}. Fetch bert-base-uncased's.")
    found.enable_truncation(TOKENS)
    found.enable_padding(length=TOKENS)

    def tokenize(texts: list[str]) -> Tensor:
        coded = found.encode_batch(list(texts))
        return torch.tensor([[one.ids, one.attention_mask] for one in coded], dtype=torch.int64)

    return tokenize
