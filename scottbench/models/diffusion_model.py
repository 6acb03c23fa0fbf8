"""A Stable Diffusion pipeline folder as a `DiffusionModel`: encode prompts, predict (x0, eps), decode to uint8.

Teacher and student have the same form: a student is a folder with `student.json` and `unet/`, opened over its teacher's
tokenizer, text encoder, VAE and schedule. Only safetensors are read; no code from a folder is ever run.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from scottbench.diffusion import Schedule, guidance_embedding, guide, to_x0_eps
from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.registry.nouns import Sampling
from scottbench.store.assets import verify_folder
from scottbench.store.weights import WEIGHTS, absent_files, pickled_weights, weights_digest

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

@dataclass
class DiffusionModel:
    """An opened model. Latents are in the U-Net's scale: the VAE's scaling factor is applied in `encode_images`/`decode`."""

    digest: str
    schedule: Schedule
    prediction: str
    """"epsilon", "v_prediction" or "sample"."""
    tokenizer: Any
    text_encoder: torch.nn.Module
    unet: torch.nn.Module
    vae: torch.nn.Module
    device: str = "cpu"
    student: dict | None = None
    """Contents of student.json; None for a teacher."""
    pickled: list[str] = field(default_factory=list)
    """Files of its folder that were read from Python's pickle format, on request."""
    evaluations: int = field(default=0, init=False)
    """Network evaluations so far, one per image and pass (NFE x images); the host resets and reads it."""

    def __post_init__(self):
        def count(module, arguments, output):
            self.evaluations += len(arguments[0])

        self._count = count
        self.unet.register_forward_hook(count)

    def count_also(self, network: torch.nn.Module) -> None:
        """Counts the evaluations of every U-Net inside `network` too: a student in training, a discriminator. A U-Net that is
        counted already (this model's own, or a deep copy of it, which keeps its hooks) is not counted twice."""
        for module in network.modules():
            if isinstance(module, type(self.unet)) and self._count not in module._forward_hooks.values():
                module.register_forward_hook(self._count)

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        size = self.unet.config.sample_size
        return (self.unet.config.in_channels, size, size)

    @property
    def takes_guidance(self) -> bool:
        """Whether the guidance scale is an input of the network (a w-conditioned student)."""
        return self.unet.config.time_cond_proj_dim is not None

    @torch.inference_mode()
    def encode_prompts(self, prompts: list[str]) -> Tensor:
        """n prompts -> (n, L, D) last hidden states, padded and truncated to the tokenizer's length."""
        return self.embed(prompts)

    def embed(self, prompts: list[str]) -> Tensor:
        """`encode_prompts` with gradients left on, for trainers that keep the text encoder trainable."""
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )
        return self.text_encoder(tokens.input_ids.to(self.device))[0]

    def network(self, z: Tensor, t: int | float | Tensor, text: Tensor, w: Tensor | None = None) -> Tensor:
        """Raw U-Net output, (N,C,h,w). text: (N,L,D). w: (N,) = s - 1 for a w-conditioned network."""
        condition = None if w is None else guidance_embedding(w, self.unet.config.time_cond_proj_dim).to(z.dtype)
        return self.unet(z, t, encoder_hidden_states=text, timestep_cond=condition, return_dict=False)[0]

    def predictor(self, text: Tensor, uncond: Tensor, guidance_scale: float):
        """predict(z, t) -> the network's raw output (N,C,h,w) float32, guided; t int, float or (N,). Two evaluations per image for
        classifier-free guidance (s != 1), one if the guidance scale is an input or s == 1. text: (N,L,D); uncond: (1,L,D)."""
        w = guidance_scale - 1.0
        n = len(text)
        if self.takes_guidance:
            scales = torch.full((n,), w, device=self.device)
            predict = lambda z, t: self.network(z, t, text, scales)  # noqa: E731
        elif w == 0:
            predict = lambda z, t: self.network(z, t, text)  # noqa: E731
        else:
            both = torch.cat([text, uncond.expand_as(text)])

            def predict(z, t):
                cond, unc = self.network(torch.cat([z, z]), t, both).chunk(2)
                return guide(cond, unc, w)

        return lambda z, t: predict(z.to(self.dtype), t).float()

    def sampling(self, text: Tensor, uncond: Tensor, guidance_scale: float, noise, steps: int, options) -> Sampling:
        """All that a method's sampler is given for one micro-batch; noise and options as `Sampling` says."""
        given = (text, uncond, guidance_scale)
        return Sampling(self.denoiser(*given), noise, self.schedule, steps, options, self.predictor(*given), self.student)

    def denoiser(self, text: Tensor, uncond: Tensor, guidance_scale: float):
        """denoise(z, t) -> (x0, eps), guided, of a network that predicts as its teacher does. Arguments as of `predictor`."""
        predict = self.predictor(text, uncond, guidance_scale)
        return lambda z, t: to_x0_eps(self.schedule, z, t, predict(z, t), self.prediction)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents (N,C,h,w) -> images (N,H,W,3) uint8, rounded (diffusers' convention; truncating would darken by half a level)."""
        images = self.pixels(latents).clamp(0, 255)
        return images.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def pixels(self, latents: Tensor) -> Tensor:
        """Latents (N,C,h,w) -> (N,3,H,W) float32, 0..255 but for what the VAE overshoots; `decode` with gradients left on."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        shift = getattr(self.vae.config, "shift_factor", None)
        images = self.vae.decode(scaled if shift is None else scaled + shift, return_dict=False)[0]
        return (images.float() / 2 + 0.5) * 255

    @torch.inference_mode()
    def encode_images(self, images: np.ndarray) -> Tensor:
        """Images (N,H,W,3) uint8 -> latents (N,C,h,w) float32, the posterior's mean."""
        x = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).to(self.vae.dtype) / 127.5 - 1
        posterior = self.vae.encode(x)
        latents = posterior.latent_dist.mean if hasattr(posterior, "latent_dist") else posterior.latents
        return latents.float() * self.vae.config.scaling_factor

    def with_student(self, folder: Path, trainer: str) -> DiffusionModel:
        """This teacher's model with the U-Net of a student folder. Raises as `scottbench.models.student.check_student`."""
        from scottbench.models.student import check_student

        facts = check_student(folder, trainer, self.digest)
        return self.with_unet(load_unet(folder / "unet", self.dtype).to(self.device), facts)

    def with_unet(self, unet: torch.nn.Module, facts: dict) -> DiffusionModel:
        """This teacher's model with another U-Net, whose evaluations are counted from zero. facts: its student.json."""
        return replace(self, unet=unet, digest=facts["weights_digest"], student=facts)


def load_unet(folder: Path, dtype: torch.dtype, pickled: bool = False) -> torch.nn.Module:
    """A U-Net folder (config.json + safetensors) in eval mode; frozen."""
    from diffusers import UNet2DConditionModel

    unet = _load(UNet2DConditionModel, folder, dtype, pickled)
    return fast_layout(unet.requires_grad_(False).eval())


def fast_layout(network: torch.nn.Module) -> torch.nn.Module:
    """Channels-last weights: convolutions are a third faster so on CPUs, and on tensor cores too."""
    return network.to(memory_format=torch.channels_last)


def _load(cls, folder: Path, dtype: torch.dtype, pickled: bool = False):
    """cls.from_pretrained without network, pickles or remote code; a damaged file becomes a DamagedAsset, and so does one that
    lacks a weight: the libraries would go on with random numbers in its place. pickled: read a .bin, as tensors only."""
    safely = {"local_files_only": True, "use_safetensors": not pickled, "low_cpu_mem_usage": False, "output_loading_info": True}
    try:
        network, info = cls.from_pretrained(folder, torch_dtype=dtype, **safely)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DamagedAsset(f"cannot read {folder}: {line}. Restore the folder (safetensors and config.json) and try again.") from None
    if info["missing_keys"]:
        absent = sorted(info["missing_keys"])
        raise DamagedAsset(f"cannot read {folder}: its safetensors lack {len(absent)} weights, first '{absent[0]}'. Restore the folder.")
    return network


def open_pipeline(
    folder: Path, device: str = "cpu", dtype: str = "float32", expected: dict[str, str] | None = None, allow_unsafe: bool = False
) -> DiffusionModel:
    """Any Stable Diffusion 1.x / 2.x pipeline folder as a DiffusionModel. Safety checker and feature extractor are not
    loaded: black images would be counted as samples (evaluation.md 3c.5). expected: as for `weights_digest`.

    allow_unsafe: read pickled weights where a part has no safetensors; otherwise they raise UsageError."""
    import diffusers
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = Path(folder)
    verify_folder(folder, f"the model at {folder}")
    pickled = pickled_weights(folder)
    if pickled and not allow_unsafe:
        raise UsageError(
            f"{folder} holds pickled weights ({', '.join(pickled)}), which can run code when they are read. Convert them to safetensors, "
            "or, where you trust their source, add --allow-unsafe-checkpoint.")
    absent = absent_files(folder)
    if absent:
        raise MissingAsset(f"no diffusers pipeline at {folder}: {', '.join(absent)} missing.")
    kind = DTYPES[dtype]
    try:
        index = json.loads((folder / "model_index.json").read_text())
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        vae_class = getattr(diffusers, index["vae"][1])
        schedule = read_schedule(scheduler)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedAsset(f"cannot read the pipeline at {folder}: {error}. Restore the folder.") from None
    digest = weights_digest(folder, expected)
    unsafe = {part: any(name.startswith(f"{part}/") for name in pickled) for part in WEIGHTS}
    text_encoder = _load(CLIPTextModel, folder / "text_encoder", kind, unsafe["text_encoder"]).requires_grad_(False).eval().to(device)
    vae = fast_layout(_load(vae_class, folder / "vae", kind, unsafe["vae"]).requires_grad_(False).eval()).to(device)
    unet = load_unet(folder / "unet", kind, unsafe["unet"]).to(device)
    prediction = scheduler.get("prediction_type", "epsilon")
    return DiffusionModel(digest, schedule, prediction, tokenizer, text_encoder, unet, vae, device, pickled=pickled)


def read_schedule(config: dict) -> Schedule:
    """A diffusers scheduler config to a Schedule; unknown beta schedules are refused rather than guessed."""
    name = config.get("beta_schedule", "linear")
    makers = {"scaled_linear": Schedule.scaled_linear, "linear": Schedule.linear}
    if name not in makers:
        raise ValueError(f"beta_schedule '{name}' is not supported; supported: {', '.join(makers)}")
    for key in ("trained_betas", "rescale_betas_zero_snr"):
        if config.get(key) not in (None, False):
            raise ValueError(f"{key} is not supported")
    # configs written by hand or by other tools hold the numbers as text
    return makers[name](float(config["beta_start"]), float(config["beta_end"]), int(config["num_train_timesteps"]))
