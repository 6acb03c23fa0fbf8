"""A random model in Stable Diffusion's shape, opened in a moment: U-Net and VAE of diffusers with few channels, and data for it."""

from __future__ import annotations

import copy
import functools
import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from scottbench.diffusion import Schedule
from scottbench.models.diffusion_model import VAE, DiffusionModel, UNet
from scottbench.models.extractors import OpenExtractor, Source
from scottbench.models.importing import importing
from scottbench.models.pipeline import fast_layout
from scottbench.registry.nouns import Extractor
from scottbench.testing.analytic import WIDTH, Text, Tokens
from scottbench.testing.made import MadeItems
from scottbench.training.data import Data, empty_prompt

SIDE = 64
"""Height and width of images; latents are (4,8,8)."""
POOLED = 4
"""Squares along a side of which the features of `pixels` are the means."""


def tiny_unet(time_cond_proj_dim: int | None = None, seed: int = 0) -> UNet:
    """Make a random U-Net of Stable Diffusion's block types; with `time_cond_proj_dim` the guidance scale is an input."""
    with importing():
        from diffusers import UNet2DConditionModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=SIDE // 8, in_channels=4, out_channels=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(16, 16), layers_per_block=1, norm_num_groups=4,
            cross_attention_dim=WIDTH, attention_head_dim=4, time_cond_proj_dim=time_cond_proj_dim)  # fmt: skip


def tiny_vae(seed: int = 0) -> VAE:
    """Make a random VAE that shrinks images by 8."""
    with importing():
        from diffusers import AutoencoderKL
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4, 4, 8, 8),
            layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=SIDE, scaling_factor=0.18215)  # fmt: skip


@functools.lru_cache(maxsize=4)
def _parts(seed: int) -> tuple[UNet, VAE, str]:
    """Networks to be copied, and the digest of their weights."""
    unet, vae = (fast_layout(network).requires_grad_(False).eval() for network in (tiny_unet(seed=seed), tiny_vae(seed)))
    total = hashlib.sha256()
    for network in (unet, vae):
        for tensor in network.state_dict().values():
            total.update(tensor.contiguous().numpy().tobytes())
    return unet, vae, total.hexdigest()


def tiny_model(seed: int = 0, schedule: Schedule | None = None, prediction: str = "epsilon") -> DiffusionModel:
    """Open a random teacher of its own: images of 64x64, latents (4,8,8), any words for a prompt. prediction: of `to_x0_eps`."""
    unet, vae, digest = _parts(seed)
    chosen = Schedule.scaled_linear() if schedule is None else schedule
    return DiffusionModel(digest, chosen, prediction, Tokens(), Text(), copy.deepcopy(unet), copy.deepcopy(vae))


def encoded(model: DiffusionModel, items: MadeItems, held_out: int = 4) -> Data:
    """Encode items as a training split does, the last `held_out` of them never trained on."""
    latents = model.encode_images(items.images(range(len(items)))).numpy()
    text = model.encode_prompts(list(items.prompts)).hidden.numpy()
    everything = torch.arange(len(items))
    return Data(latents, text, empty_prompt(model), everything[: len(items) - held_out], everything[len(items) - held_out :])


# --- an extractor without weights ------------------------------------------------------------------------------------


def pixels(images: Tensor) -> Tensor:
    """Give features (N,48) of images (N,3,S,S) 0..255: mean colours of 16 squares, in units of 255."""
    return adaptive_avg_pool2d(images.float(), POOLED).flatten(1) / 255


def _words(prompts: list[str]) -> Tensor:
    return Tokens()(prompts).input_ids


def _text_features(tokens: Tensor) -> Tensor:
    return torch.cos(tokens[:, :1] * torch.arange(1, 3 * POOLED**2 + 1)).float()


def find_pixels(spec: dict[str, Any], path: Any) -> Source:
    """Find the extractor: there is nothing to be found."""
    return Source("sb-pixels", spec.get("label", "mean colours"), hashlib.sha256(b"sb-pixels").hexdigest(), path("."))


def open_pixels(source: Source, device: str) -> OpenExtractor:
    """Open the extractor."""
    return OpenExtractor(source, SIDE, pixels, _text_features, _words, device)


PIXELS = Extractor("sb-pixels", "mean colours of 16 squares, without weights", find_pixels, open_pixels, reads="images+prompts")
"""An extractor that needs no weights, for runs and trainings of tests."""


def tiny_extractor(role: str = "image") -> OpenExtractor:
    """Open the extractor without weights, for any role."""
    from pathlib import Path

    source = Source("sb-pixels", role, "0" * 64, Path("."), noun=PIXELS)
    return open_pixels(source, "cpu")
