"""Tiny random models in the true shape, made in a second: a Stable Diffusion pipeline folder and an open_clip evaluator folder.

Seeds are fixed, so two calls give equal bytes. The U-Net has SD1.5's block types and cross-attention, the VAE shrinks by 8.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = [
    "a", "red", "green", "blue", "dark", "pale", "small", "large", "round", "flat", "apple", "pear", "cat", "dog",
    "house", "tree", "star", "moon", "sun", "fish", "of", "and", "the", "on",
]
CONTEXT = 16
"""Tokens of a prompt, start and end included."""
SIDE = 64
"""Height and width of the pipeline's images."""


def write_tokenizer(folder: Path) -> int:
    """A CLIP tokenizer: single letters and the words of WORDS, end-of-text the highest id. Returns its vocabulary size."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-,."
    vocabulary, merges = [*letters, *(f"{letter}</w>" for letter in letters)], []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merge = (pieces[0], pieces[1])
            pieces = ["".join(merge), *pieces[2:]]
            if merge not in merges:
                merges.append(merge)
                vocabulary.append(pieces[0])
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    end = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(end))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT, **end}))
    return len(ids)


def tiny_pipeline(folder: Path, seed: int = 0) -> Path:
    """Write a random Stable Diffusion pipeline (64x64 images, 8x8x4 latents) that diffusers opens; returns the folder."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = Path(folder)
    size = write_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 32}
        special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        text_encoder = CLIPTextModel(CLIPTextConfig(vocab_size=size, max_position_embeddings=CONTEXT, **shape, **special))
        unet = tiny_unet()
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(8, 8, 16, 16),
            layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=SIDE, scaling_factor=0.18215)
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, skip_prk_steps=True,
        set_alpha_to_one=False, steps_offset=1)
    pipeline = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_unet(time_cond_proj_dim: int | None = None):
    """A random U-Net of the pipeline's shape; with `time_cond_proj_dim` the guidance scale is an input, as in LCM students."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // 8, in_channels=4, out_channels=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=32, attention_head_dim=4, time_cond_proj_dim=time_cond_proj_dim)


def tiny_student(folder: Path, trainer: str, teacher_digest: str, seed: int = 1) -> Path:
    """Write a student folder (student.json, unet/) that `trainer` might have made from a tiny pipeline."""
    from scottbench.models.student import sealed
    from scottbench.store.weights import weights_digest

    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tiny_unet(time_cond_proj_dim=256).save_pretrained(folder / "unet", safe_serialization=True)
    facts = {"trainer": trainer, "teacher_digest": teacher_digest, "weights_digest": weights_digest(folder / "unet"), "updates": 0}
    (folder / "student.json").write_text(json.dumps(sealed(facts)))
    return folder


def tiny_evaluator(folder: Path, side: int = 32, width: int = 16, seed: int = 0) -> Path:
    """Write a random open_clip model (ViT, `side` x `side` input, `width` features) with its tokenizer; returns the folder."""
    import open_clip
    from safetensors.torch import save_file

    folder = Path(folder)
    size = write_tokenizer(folder)
    config = {
        "model_cfg": {
            "embed_dim": width,
            "vision_cfg": {"image_size": side, "layers": 1, "width": 32, "head_width": 16, "patch_size": side // 4},
            "text_cfg": {"context_length": CONTEXT, "vocab_size": size, "width": 32, "heads": 2, "layers": 1, "hf_tokenizer_name": "here"},
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.6], "std": [0.25, 0.3, 0.2]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def find_extractor(spec, path):
    """The Source of a preset's table [extractors.ROLE], of a bundled kind. path: of `scottbench.models.extractors.find_extractor`."""
    from scottbench.models.extractors import find_extractor as find
    from scottbench.registry.loader import load_plugins

    return find(load_plugins().find("extractor", spec["kind"]).noun, {key: value for key, value in spec.items() if key != "kind"}, path)
