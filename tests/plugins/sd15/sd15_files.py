"""A tiny random pipeline that looks like Stable Diffusion 1.5's hub repository of 2022, and a hand-made COCO folder.

Block types, layout, config keys and names of weights are the repository's; numbers and sizes are not. tests/tiny.py is the base.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
UNET_KEYS = re.findall(
    r"\w+",
    """_class_name _diffusers_version act_fn attention_head_dim block_out_channels center_input_sample cross_attention_dim
    down_block_types downsample_padding flip_sin_to_cos freq_shift in_channels layers_per_block mid_block_scale_factor
    norm_eps norm_num_groups out_channels sample_size up_block_types""",
)
VAE_KEYS = re.findall(
    r"\w+",
    """_class_name _diffusers_version act_fn block_out_channels down_block_types in_channels latent_channels
    layers_per_block norm_num_groups out_channels sample_size up_block_types""",
)
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
UNUSED = [
    "v1-5-pruned.safetensors",
    "v1-5-pruned-emaonly.ckpt",
    "safety_checker/model.safetensors",
    "safety_checker/config.json",
    "feature_extractor/preprocessor_config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "text_encoder/model.fp16.safetensors",
    "README.md",
]
"""Files of the repository that nothing here opens."""


def new_pipeline(folder: Path) -> Path:
    """tiny.tiny_pipeline with SD1.5's three cross-attention blocks and one without, in today's layout."""
    from diffusers import UNet2DConditionModel

    tiny.tiny_pipeline(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        unet = UNet2DConditionModel(
            sample_size=tiny.SIDE // 8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 8, 16, 16),
            layers_per_block=2,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            cross_attention_dim=32,
            attention_head_dim=4,
        )
    unet.save_pretrained(folder / "unet", safe_serialization=True)
    return folder


def make_old(folder: Path) -> Path:
    """Rewrite a pipeline of today as the hub's repository has it; what it computes stays the same."""
    unet, vae, text = (read(folder / part / "config.json") for part in ("unet", "vae", "text_encoder"))
    write(folder / "unet" / "config.json", {key: unet[key] for key in UNET_KEYS} | {"_diffusers_version": "0.6.0"})
    write(folder / "vae" / "config.json", {key: vae[key] for key in VAE_KEYS} | {"_diffusers_version": "0.6.0"})  # no scaling_factor
    text.pop("dtype", None)
    old = {"torch_dtype": "float32", "transformers_version": "4.22.0.dev0", "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    write(folder / "text_encoder" / "config.json", text | old)
    write(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    index = read(folder / "model_index.json")
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    write(folder / "model_index.json", index | checker | {"feature_extractor": ["transformers", "CLIPImageProcessor"]})
    rename(folder / VAE, old_attention)
    positions = {"text_model.embeddings.position_ids": torch.arange(tiny.CONTEXT)[None]}
    rename(folder / TEXT, lambda name: "text_model." + name.removeprefix("text_model."), positions)
    old_tokenizer(folder / "tokenizer")
    return folder


def old_attention(name: str) -> str:
    if ".attentions." in name:
        for new, old in OLD_ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name


def old_tokenizer(folder: Path) -> None:
    """Special tokens as tables, as tokenizers of 2022 wrote them, and no tokenizer.json."""
    (folder / "tokenizer.json").unlink(missing_ok=True)

    def token(text: str) -> dict:
        return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    start, end = token("<|startoftext|>"), token("<|endoftext|>")
    write(folder / "special_tokens_map.json", {"bos_token": start, "eos_token": end, "pad_token": "<|endoftext|>", "unk_token": end})
    typed = {"__type": "AddedToken"}
    write(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": typed | start,
            "do_lower_case": True,
            "eos_token": typed | end,
            "errors": "replace",
            "model_max_length": tiny.CONTEXT,
            "name_or_path": "openai/clip-vit-large-patch14",
            "pad_token": "<|endoftext|>",
            "special_tokens_map_file": "./special_tokens_map.json",
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": typed | end,
        },
    )


def add_unused(folder: Path) -> None:
    """Files that would change everything, or break the opening, if anything read them."""
    for name in UNUSED:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}" if path.suffix == ".json" else "not to be read")


def rename(path: Path, name, extra: dict | None = None) -> None:
    weights = {name(key): value for key, value in load_file(path).items()}
    save_file(weights | ({} if extra is None else extra), path, metadata={"format": "pt"})


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def write(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document, indent=2))


# --- COCO ------------------------------------------------------------------------------------------------------------

CAPTIONS = {  # (annotation id, image id, caption); the file is not grouped by image and not sorted
    "annotations": [
        (90, 42, "a dog on the grass"),
        (7, 139, "  a red apple\nand a pear \n"),
        (12, 139, "an apple"),
        (33, 42, "a small dog"),
        (3, 285, "a large cat"),
        (8, 632, "a blue house "),
        (2, 999, "a picture that is not listed"),
        (61, 724, "a star"),
        (60, 724, " \n "),
        (5, 776, "a moon"),
        (400, 776, "the moon"),
        (70, 1000, "   "),
    ],
    "images": [776, 42, 1000, 724, 139, 632, 285, 802],
}
CHOSEN = {
    "000000000042": (33, "a small dog"),
    "000000000139": (7, "a red apple and a pear"),
    "000000000285": (3, "a large cat"),
    "000000000632": (8, "a blue house"),
    "000000000724": (61, "a star"),
    "000000000776": (5, "a moon"),
}
"""Item -> annotation id and prompt. 802 has no caption and 1000 a blank one; 999 is not listed; 724's lowest is blank."""
SIZES = {42: (640, 480), 139: (480, 640), 285: (513, 512), 632: (700, 300), 724: (300, 300), 776: (512, 512)}
MODES = {285: "L", 632: "CMYK"}


def coco_folder(root: Path, name: str = "val2017") -> Path:
    """Six captioned JPEGs of several shapes and colour modes, two pictures without a caption; returns the root."""
    images = [{"id": image, "file_name": f"{image:012d}.jpg", "width": 1, "height": 1, "license": 1} for image in CAPTIONS["images"]]
    annotations = [{"id": own, "image_id": image, "caption": text} for own, image, text in CAPTIONS["annotations"]]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    write(root / "annotations" / f"captions_{name}.json", {"info": {}, "licenses": [], "images": images, "annotations": annotations})
    (root / name).mkdir(exist_ok=True)
    for image, size in SIZES.items():
        picture(image, size).convert(MODES.get(image, "RGB")).save(root / name / f"{image:012d}.jpg", quality=95)
    return root


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth random colours, a different one in every corner."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
