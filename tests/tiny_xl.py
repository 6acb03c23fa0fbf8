"""A tiny random Stable Diffusion XL pipeline folder: two text encoders and tokenizers, pooled text and size ids; made in a second."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import tiny
import torch

POOLED, TIME = 24, 8
"""Numbers of a pooled embedding, and of each size id's embedding."""


def tiny_xl(folder: Path, seed: int = 0, zero_empty: bool = True) -> Path:
    """Write a random pipeline (64x64 images, 8x8x4 latents) that diffusers opens; returns the folder."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    folder = Path(folder)
    size = tiny.write_tokenizer(folder / "tokenizer")
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    for name in ("special_tokens_map.json", "tokenizer_config.json"):  # the true one's second tokenizer pads otherwise too
        path = folder / "tokenizer_2" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "a"}))
    first, second = (CLIPTokenizer.from_pretrained(folder / name, local_files_only=True) for name in ("tokenizer", "tokenizer_2"))
    special = {name: getattr(first, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": tiny.CONTEXT, "vocab_size": size, **special}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = CLIPTextModel(CLIPTextConfig(hidden_size=16, intermediate_size=32, **shape))
        encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=32, intermediate_size=64, projection_dim=POOLED, **shape))
        unet = UNet2DConditionModel(
            sample_size=tiny.SIDE // 8, in_channels=4, out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
            cross_attention_dim=48, attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=TIME, projection_class_embeddings_input_dim=POOLED + 6 * TIME)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(8, 8, 16, 16),
            layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=tiny.SIDE, scaling_factor=0.13025)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    pipeline = StableDiffusionXLPipeline(
        vae, encoder, encoder_2, first, second, unet, scheduler, force_zeros_for_empty_prompt=zero_empty, add_watermarker=False)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
