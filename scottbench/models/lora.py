"""A published LoRA, folded into its teacher's U-Net by diffusers' own loader, once names and shapes fit."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from scottbench.errors import DamagedAsset, Unfit, UsageError
from scottbench.models.diffusion_model import UNet
from scottbench.models.importing import importing
from scottbench.models.published import Published
from scottbench.store.files import parse_object
from scottbench.text import count, one_line

TEXT_ENCODER = ("lora_te", "text_encoder")
"""How names of tensors begin that change a text encoder."""
BEGINNINGS = ("unet.", "lora_unet_", *TEXT_ENCODER)
RECORDED = "lora_adapter_metadata"
"""Key of a safetensors header under which diffusers keeps rank and alpha."""
SETTINGS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "use_rslora")
"""What of that is used: nothing else changes what the file's tensors mean."""
NAME = "adopted"


def fold(unet: UNet, published: Published, unet_only: bool) -> list[str]:
    """Fold a LoRA into a U-Net (float32) in place and return the beginnings of what was left out.

    unet_only: leave out tensors of the text encoder; a student shares its teacher's. Raises UsageError where there are such and they were
    not left out; Unfit for names or shapes of another base; DamagedAsset where the sum is not finite.
    """
    (path,) = published.files
    tensors = {name if name.startswith(BEGINNINGS) else f"unet.{name.removeprefix('base_model.model.')}": value.float()
               for name, value in load_file(path).items()}
    left = [name for name in tensors if name.startswith(TEXT_ENCODER)]
    if left and not unet_only:
        raise UsageError(
            f"{path} changes the text encoder too ({count(len(left), 'tensor')}, the first '{one_line(left[0])}'), and a student shares "
            "its teacher's. To adopt its U-Net part alone: --unet-only; student.json says so then.")
    state, alphas = converted(path, {name: value for name, value in tensors.items() if name not in left}, unet)
    check_fit(path, state, unet)
    with _quietly():
        try:
            unet.load_lora_adapter(
                {f"unet.{name}": value for name, value in state.items()}, prefix="unet", network_alphas=alphas, adapter_name=NAME,
                metadata=None if alphas else _settings(published))
            layers = [module for module in unet.modules() if NAME in getattr(module, "lora_A", {})]
            unet.fuse_lora()
            unet.unload_lora()
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise Unfit(f"{path}: diffusers' loader does not take this LoRA ({one_line(error)}).") from None
    if len(layers) != sum(name.endswith("lora_A.weight") for name in state):
        raise Unfit(f"{path}: diffusers' loader has found a layer for {len(layers)} of its pairs of factors only.")
    bad = [name for name, weight in unet.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise DamagedAsset(f"{path}: folded into the U-Net it makes numbers that are not finite, first in '{bad[0]}'. Fetch it again.")
    return sorted({name.partition(".")[0].split("_text_model")[0] for name in left})


def converted(path: Path, tensors: dict[str, Tensor], unet: UNet) -> tuple[dict[str, Tensor], dict[str, float] | None]:
    """Rename a LoRA's tensors (any shape), kohya's or an older form of diffusers', to MODULE.lora_A.weight and MODULE.lora_B.weight; return
    them with the alphas that kohya's form has.

    Raises Unfit for names that diffusers does not know."""
    with importing():
        from diffusers.loaders import StableDiffusionLoraLoaderMixin
        from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
    try:
        with _quietly():
            state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(dict(tensors), unet_config=unet.config)
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise Unfit(f"{path}: its tensors have names that diffusers' loader does not know ({one_line(error)[:120]}). "
                    f"First tensor: '{one_line(next(iter(tensors), 'none'))}'.") from None
    state = {name.removeprefix("unet."): value for name, value in state.items()}
    if not all("lora_A" in name or "lora_B" in name for name in state):
        state = convert_unet_state_dict_to_peft(state)
    strange = [name for name in state if not name.endswith(("lora_A.weight", "lora_B.weight"))]
    if strange or not state:
        raise Unfit(f"{path}: {one_line(strange[0]) if strange else 'it'} is not a pair of LoRA factors of a U-Net.")
    return state, alphas or None


def check_fit(path: Path, state: dict[str, Tensor], unet: UNet) -> None:
    """Hold every pair of factors against the layer that it is added to. state: of `converted`, any shape. Raises Unfit: a LoRA of another
    base, with the shape that does not fit, or else the layer that is not there."""
    layers = dict(unet.named_modules())
    lacking: list[str] = []
    for name, down in state.items():
        if not name.endswith("lora_A.weight"):
            continue
        place, up = name.removesuffix(".lora_A.weight"), state.get(name.replace("lora_A", "lora_B"))
        weight = getattr(layers.get(place), "weight", None)
        if weight is None or up is None:
            lacking.append(f"the U-Net has no layer '{one_line(place)}'" if weight is None else f"'{one_line(place)}' has one factor only")
            continue
        changes = (*up.shape[:1], *down.shape[1:])
        if changes != tuple(weight.shape) or up.shape[1:2] != down.shape[:1]:
            raise Unfit(
                f"{path} is a LoRA of another base: '{one_line(place)}' changes weights of shape {changes}, and the teacher's are "
                f"{tuple(weight.shape)}. Name its own base with --teacher.")
    if lacking:
        raise Unfit(f"{path} is a LoRA of another base: {lacking[0]}. Name its own base with --teacher.")


def _settings(published: Published) -> dict[str, Any] | None:
    """Rank and alpha that diffusers keeps in the header, as its loader wants them; None where there are none. Raises DamagedAsset."""
    text = published.headers[0].metadata.get(RECORDED)
    if text is None:
        return None
    try:
        found = parse_object(text.encode())
    except ValueError as error:
        raise DamagedAsset(f"{published.files[0]}: its header's {RECORDED} cannot be read ({one_line(error)}). Fetch it again.") from None
    return {f"unet.{key}": found[f"unet.{key}"] for key in SETTINGS if f"unet.{key}" in found} or None


@contextlib.contextmanager
def _quietly() -> Any:
    """Keep the loader's remarks off the terminal: what matters of them is checked here."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)
