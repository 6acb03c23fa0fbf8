"""A model without weights: networks made of configs on torch's meta device, with shapes and no numbers, to count what they will cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scottbench.models.admission import Admission, admit_pipeline, pooled_width
from scottbench.models.configs import leaves, read_config
from scottbench.models.diffusion_model import DTYPES, DiffusionModel
from scottbench.models.importing import importing
from scottbench.models.text_encoders import TwoEncoders
from scottbench.registry.condition import TextCondition

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Model


def configs_of(model: Model) -> Path | None:
    """Return a folder with a registered model's configs, whether or not its weights are here; None where nobody knows any."""
    for place in (model.configs, model.folder):
        folder = None if place is None else place()
        if folder is not None and (folder / "model_index.json").is_file():
            return folder
    return None


def blank_of(plugins: Plugins, name: str, dtype: str = "float32") -> DiffusionModel | None:
    """Make the networks of a model, a registered name or a pipeline folder, without numbers; None where its configs are not known."""
    folder: Path | None = Path(name).expanduser()
    if (registered := plugins.named("model", name)) is not None:
        folder = configs_of(registered.noun)
    return None if folder is None or not (folder / "model_index.json").is_file() else blank_model(folder, dtype)


def blank_model(folder: Path, dtype: str = "float32") -> DiffusionModel:
    """Make the networks of a folder of configs, without numbers. Raises Unfit or DamagedAsset as `admit_pipeline`."""
    with importing():
        from diffusers import UNet2DConditionModel
    found = admit_pipeline(folder)
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(read_config(folder / "unet" / "config.json"))
        vae, text = _vae(folder, found), _text(folder, found)
    for network in (unet, vae, text):
        network.requires_grad_(False).eval()
        for p in network.parameters():  # diffusers' own `to` has remarks to make
            p.data = p.data.to(DTYPES[dtype])
    return DiffusionModel("", found.schedule, found.prediction, None, text, unet, vae, "meta", side=found.side)


def _vae(folder: Path, found: Admission) -> Any:
    with importing():
        from diffusers import AutoencoderKL, AutoencoderTiny
    kind: Any = AutoencoderTiny if found.vae == "AutoencoderTiny" else AutoencoderKL
    return kind.from_config(read_config(folder / "vae" / "config.json"))


def _text(folder: Path, found: Admission) -> torch.nn.Module:
    with importing():
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    first = CLIPTextModel(CLIPTextConfig(**read_config(folder / "text_encoder" / "config.json")))
    if not found.two_encoders:
        return first
    second = CLIPTextModelWithProjection(CLIPTextConfig(**read_config(folder / "text_encoder_2" / "config.json")))
    return TwoEncoders(first, second)


def blank_text(model: DiffusionModel, n: int, tokens: int, dtype: torch.dtype = torch.float32) -> TextCondition:
    """Make the condition of n prompts without numbers, hidden states (n,L,D), as a model's U-Net takes it."""
    width, pooled = text_width(model), pooled_width(model.unet.config)
    hidden = torch.empty((n, tokens, width), device="meta", dtype=dtype)
    if pooled is None:
        return TextCondition(hidden)
    ids = torch.empty((n, 6), device="meta")
    return TextCondition(hidden, torch.empty((n, pooled), device="meta", dtype=dtype), ids)


def text_width(model: DiffusionModel) -> int:
    """Return the numbers of a token's hidden state, as a model's U-Net takes them."""
    width: Any = leaves(model.unet.config.cross_attention_dim)[0]
    return int(width)


def tokens_of(model: DiffusionModel) -> int:
    """Return the length of a prompt in tokens, which is the positions of its (first) text encoder."""
    text: Any = model.text_encoder
    first = text if hasattr(text, "config") else next(module for module in text.modules() if hasattr(module, "config"))
    return int(first.config.max_position_embeddings)


def bytes_of(*modules: torch.nn.Module | None) -> int:
    """Count the bytes of parameters and buffers of networks; each tensor once."""
    tensors = {id(t): t for module in modules if module is not None for t in (*module.parameters(), *module.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())
