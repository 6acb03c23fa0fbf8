"""Look-alikes of published weights over the tiny pipeline: random, small, of the true names."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

ENDINGS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
)
"""The layers that LCM-LoRA, TCD-SD15 and Hyper-SD15 change, convolutions among them."""


def factors(unet, rank: int = 4, seed: int = 3, endings=ENDINGS) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{layer: (down (rank, in, ...), up (out, rank, ...))} for the layers of a U-Net with these endings."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for name, layer in unet.named_modules():
        if not name.endswith(endings) or not hasattr(layer, "weight"):
            continue
        out, inside, *kernel = layer.weight.shape
        down = torch.randn(rank, inside, *kernel, generator=generator) * 0.1
        found[name] = down, torch.randn(out, rank, *[1] * len(kernel), generator=generator) * 0.1
    assert len(found) > 30
    return found


def kohya(pairs, alpha: float, extra=None) -> dict[str, torch.Tensor]:
    """As kohya's scripts name them, and lcm-lora-sdv1-5: lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight, and .alpha."""
    tensors = dict(extra or {})
    for name, (down, up) in pairs.items():
        stem = "lora_unet_" + name.replace(".", "_")
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(alpha)}
    return tensors


def diffusers_new(pairs) -> dict[str, torch.Tensor]:
    """As diffusers writes them today: unet.down_blocks.0.resnets.0.conv1.lora_A.weight."""
    return {f"unet.{name}.lora_{letter}.weight": value for name, pair in pairs.items() for letter, value in zip("AB", pair, strict=True)}


def diffusers_old(pairs) -> dict[str, torch.Tensor]:
    """As diffusers wrote them before peft: attention as ...attn1.processor.to_q_lora.down.weight, others as ....lora.down.weight."""
    tensors = {}
    for name, (down, up) in pairs.items():
        place, _, last = name.removesuffix(".0").rpartition(".")
        stem = f"unet.{place}.processor.{last}_lora" if ".attn" in name else f"unet.{name}.lora"
        tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    return tensors


def peft(pairs) -> dict[str, torch.Tensor]:
    """As peft alone writes them: base_model.model.down_blocks.0.resnets.0.conv1.lora_A.weight."""
    return {name.replace("unet.", "base_model.model.", 1): value for name, value in diffusers_new(pairs).items()}


def write(path: Path, tensors, metadata=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path, metadata=metadata)
    return path
