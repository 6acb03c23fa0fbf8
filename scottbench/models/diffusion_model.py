"""A Stable Diffusion pipeline folder as a `DiffusionModel`: encode prompts, predict (x0, eps), decode to uint8.

Teacher and student have the same form: a student is a folder with `student.json` and `unet/`, opened over its teacher's
tokenizer, text encoder, VAE and schedule. Only safetensors are read; no code from a folder is ever run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from scottbench.diffusion import Schedule, guidance_embedding, guide, to_x0_eps
from scottbench.registry.nouns import Sampling

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Name of a number format -> torch's."""
Time = int | float | Tensor
UNet: TypeAlias = Any
"""A diffusers `UNet2DConditionModel`, or a network of its form. Type checkers see none of the methods that its mixins add at run time."""
VAE: TypeAlias = Any
"""A diffusers `AutoencoderKL` or `AutoencoderTiny`, or a network of their form; see `UNet`."""


@dataclass
class DiffusionModel:
    """An opened model. Latents are in the U-Net's scale: the VAE's scaling factor is applied in `encode_images`/`decode`."""

    digest: str
    schedule: Schedule
    prediction: str
    """"epsilon", "v_prediction" or "sample"."""
    tokenizer: Any
    text_encoder: torch.nn.Module
    unet: UNet
    vae: VAE
    device: str = "cpu"
    student: dict | None = None
    """The contents of student.json; None for a teacher."""
    pickled: list[str] = field(default_factory=list)
    """Files of its folder that were read from Python's pickle format, on request."""
    side: int | None = None
    """Height and width of a latent; None: the U-Net's config says it."""
    wide_vae: VAE | None = None
    """The VAE in float32, where `vae` is in float16: images that overflow in half precision are decoded by it."""
    warnings: list[str] = field(default_factory=list)
    """Sentences for plan and report: things about its folder that can be run and should be known."""
    evaluations: int = field(default=0, init=False)
    """Network evaluations so far, one per image and pass (NFE x images); the host resets and reads it."""
    passes: int = field(default=0, init=False)
    """The same with backward passes counted in: forward 1, backward 2, or 1 where most of the network's weights are frozen (their
    gradients are then not computed)."""

    def __post_init__(self) -> None:
        def count(module: torch.nn.Module, arguments: tuple, output: Any) -> None:
            n = len(arguments[0])
            self.evaluations += n
            self.passes += n * (1 + backward_passes(module, output[0]))

        self._count = count
        self.unet.register_forward_hook(count)

    def count_also(self, network: torch.nn.Module) -> None:
        """Count the evaluations of every U-Net inside `network` too: a student in training, a discriminator.

        A U-Net that is counted already (this model's own, or a deep copy of it, which keeps its hooks) is not counted twice.
        """
        for module in network.modules():
            if isinstance(module, type(self.unet)) and self._count not in module._forward_hooks.values():
                module.register_forward_hook(self._count)

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave what is evaluated inside out of both counts."""
        before = self.evaluations, self.passes
        try:
            yield
        finally:
            self.evaluations, self.passes = before

    @property
    def dtype(self) -> torch.dtype:
        """Name the number format in which the U-Net computes."""
        return self.unet.dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Give (C, h, w) of a latent."""
        size = self.unet.config.sample_size if self.side is None else self.side
        return (self.unet.config.in_channels, size, size)

    @property
    def takes_guidance(self) -> bool:
        """Tell whether the guidance scale is an input of the network (a w-conditioned student)."""
        return self.unet.config.time_cond_proj_dim is not None

    @torch.inference_mode()
    def encode_prompts(self, prompts: list[str]) -> Tensor:
        """Give the last hidden states (n, L, D) of n prompts, padded and truncated to the tokenizer's length."""
        return self.embed(prompts)

    def embed(self, prompts: list[str]) -> Tensor:
        """Do as `encode_prompts`, (n, L, D), with gradients left on, for trainers that keep the text encoder trainable."""
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )
        return self.text_encoder(tokens.input_ids.to(self.device))[0]

    def network(self, z: Tensor, t: int | float | Tensor, text: Tensor, w: Tensor | None = None) -> Tensor:
        """Give the raw U-Net output, (N,C,h,w). text: (N,L,D). w: (N,) = s - 1 for a w-conditioned network."""
        condition = None if w is None else guidance_embedding(w, self.unet.config.time_cond_proj_dim).to(z.dtype)
        return self.unet(z, t, encoder_hidden_states=text, timestep_cond=condition, return_dict=False)[0]

    def predictor(self, text: Tensor, uncond: Tensor, guidance_scale: float) -> Callable[..., Tensor]:
        """Return predict(z, t) -> the network's raw output (N,C,h,w) float32, guided; t int, float or (N,).

        Two evaluations per image for classifier-free guidance (s != 1), one if the guidance scale is an input or s == 1.
        text: (N,L,D); uncond: (1,L,D).
        """
        w = guidance_scale - 1.0
        n = len(text)
        if self.takes_guidance:
            scales = torch.full((n,), w, device=self.device)
            predict = lambda z, t: self.network(z, t, text, scales)  # noqa: E731
        elif w == 0:
            predict = lambda z, t: self.network(z, t, text)  # noqa: E731
        else:
            both = torch.cat([text, uncond.expand_as(text)])

            def predict(z: Tensor, t: Time) -> Tensor:
                cond, unc = self.network(torch.cat([z, z]), t, both).chunk(2)
                return guide(cond, unc, w)

        return lambda z, t: predict(z.to(self.dtype), t).float()

    def sampling(
        self, text: Tensor, uncond: Tensor, guidance_scale: float, noise: Callable[[int], Tensor], steps: int, options: Any
    ) -> Sampling:
        """Gather all that a method's sampler is given for one micro-batch. text: (N,L,D); uncond: (1,L,D); the rest as in `Sampling`."""
        given = (text, uncond, guidance_scale)
        return Sampling(self.denoiser(*given), noise, self.schedule, steps, options, self.predictor(*given), self.student)

    def denoiser(self, text: Tensor, uncond: Tensor, guidance_scale: float) -> Callable[..., tuple[Tensor, Tensor]]:
        """Return denoise(z, t) -> (x0, eps), both (N,C,h,w), guided, for a network that predicts as its teacher does; see `predictor`."""
        predict = self.predictor(text, uncond, guidance_scale)
        return lambda z, t: to_x0_eps(self.schedule, z, t, predict(z, t), self.prediction)

    def decode(self, latents: Tensor) -> np.ndarray:
        """Decode latents (N,C,h,w) to images (N,H,W,3) uint8, rounded (diffusers' convention; truncating would darken by half a level)."""
        return self.decode_checked(latents)[0]

    @torch.inference_mode()
    def decode_checked(self, latents: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Do as `decode`, and tell which images are good: (N,) bool, false for one with a pixel that is NaN or infinite.

        An image that overflows in float16 is decoded in float32 instead; the others keep their bytes. Pixels that are NaN become 0.
        """
        images = self.pixels(latents)
        good = torch.isfinite(images).flatten(1).all(1)
        if not good.all() and self.wide_vae is not None:
            # all of them, so that a call has one shape; only those that overflowed are taken
            images = torch.where(good[:, None, None, None], images, self._pixels_of(self.wide_vae, latents))
            good = torch.isfinite(images).flatten(1).all(1)
        images = images.nan_to_num(0.0).clamp(0, 255)
        return images.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy(), good.cpu().numpy()

    def pixels(self, latents: Tensor) -> Tensor:
        """Decode latents (N,C,h,w) to (N,3,H,W) float32, 0..255 but for what the VAE overshoots, with gradients left on."""
        return self._pixels_of(self.vae, latents)

    @staticmethod
    def _pixels_of(vae: VAE, latents: Tensor) -> Tensor:
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor
        shift = getattr(vae.config, "shift_factor", None)
        images = vae.decode(scaled if shift is None else scaled + shift, return_dict=False)[0]
        return (images.float() / 2 + 0.5) * 255

    @torch.inference_mode()
    def encode_images(self, images: np.ndarray) -> Tensor:
        """Encode images (N,H,W,3) uint8 to latents (N,C,h,w) float32, the posterior's mean."""
        x = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).to(self.vae.dtype) / 127.5 - 1
        posterior = self.vae.encode(x)
        latents = posterior.latent_dist.mean if hasattr(posterior, "latent_dist") else posterior.latents
        return latents.float() * self.vae.config.scaling_factor

    def with_unet(self, unet: UNet, facts: dict) -> DiffusionModel:
        """Return this teacher's model with another U-Net, whose evaluations are counted from zero. facts: its student.json."""
        return replace(self, unet=unet, digest=facts["weights_digest"], student=facts)


def backward_passes(network: torch.nn.Module, output: Tensor) -> int:
    """Count what the backward pass of an output (N,C,h,w) will cost, in forward passes: 0 without a graph, 2 with gradients of inputs
    and weights, 1 where most weights are frozen."""
    if not output.requires_grad:
        return 0
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return 2 if 2 * sum(size for size, trained in sizes if trained) > sum(size for size, _ in sizes) else 1
