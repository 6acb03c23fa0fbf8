"""A Stable Diffusion pipeline folder as a `DiffusionModel`: encode prompts, predict (x0, eps), decode to uint8.

Teacher and student have the same form: a student is a folder with `student.json` and `unet/`, opened over its teacher's
tokenizer, text encoder, VAE and schedule. Only safetensors are read; no code from a folder is ever run.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from scottbench.diffusion import Schedule, guidance_embedding, guide, to_x0_eps
from scottbench.errors import ScottbenchError, UsageError
from scottbench.registry.condition import TextCondition, joined
from scottbench.registry.nouns import Sampling

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Name of a number format -> torch's."""
DECODED = 2**20
"""Pixels that a VAE makes in one call in float32, twice as many in half precision: 4 pictures of 512x512, which take 3 GiB."""
Time = int | float | Tensor
UNet: TypeAlias = Any
"""A diffusers `UNet2DConditionModel`, or a network of its form. Type checkers see none of the methods that its mixins add at run time."""
Text: TypeAlias = TextCondition | Tensor
"""A condition, or hidden states (N,L,D) alone, as plug-ins wrote them before there were conditions."""
VAE: TypeAlias = Any
"""A diffusers `AutoencoderKL` or `AutoencoderTiny`, or a network of their form; see `UNet`."""


@dataclass
class DiffusionModel:
    """An opened model. Latents are in the U-Net's scale: the VAE's scaling factor is applied in `encode_images`/`decode`."""

    digest: str
    """sha256 hex of all its weights and configs."""
    schedule: Schedule
    """alpha_t and sigma_t of its time steps."""
    prediction: str
    """"epsilon", "v_prediction" or "sample"."""
    tokenizer: Any
    """Prompts to token numbers (n,L)."""
    text_encoder: torch.nn.Module
    """Tokens (n,L) to hidden states (n,L,D); of Stable Diffusion XL `scottbench.models.text_encoders.TwoEncoders`."""
    unet: UNet
    """The network; any of the form that `scottbench.models.teacher.Network` has."""
    vae: VAE
    """Images to latents and back; any of the form of `ImageCoder` there."""
    device: str = "cpu"
    """Its place, in torch's words."""
    student: dict | None = None
    """The contents of student.json; None for a teacher."""
    pickled: list[str] = field(default_factory=list)
    """Files of its folder that were read from Python's pickle format, on request."""
    side: int | None = None
    """Height and width of a latent; None: the U-Net's config says it."""
    wide_vae: VAE | None = None
    """The VAE in float32, where `vae` is in float16: images that overflow in half precision are decoded by it."""
    tokenizer_2: Any = None
    """The second encoder's tokenizer, where there are two."""
    zero_empty: bool = False
    """The unconditional pass is told zeros in place of the empty prompt (model_index.json: force_zeros_for_empty_prompt)."""
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
        self._watch(self.unet)

    def _watch(self, unet: UNet) -> None:
        """Count a U-Net's evaluations; one that takes more than hidden states is not run without the rest."""
        unet.register_forward_hook(self._count)
        if takes_pooled(unet):
            unet.register_forward_pre_hook(_check_added, with_kwargs=True)

    def count_also(self, network: torch.nn.Module) -> None:
        """Count the evaluations of every U-Net inside `network` too: a student in training, a discriminator.

        A U-Net that is counted already (this model's own, or a deep copy of it, which keeps its hooks) is not counted twice.
        """
        for module in network.modules():
            if isinstance(module, type(self.unet)) and self._count not in module._forward_hooks.values():
                self._watch(module)

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
    def encode_prompts(self, prompts: list[str]) -> TextCondition:
        """Give the condition of n prompts: hidden states (n,L,D), padded and truncated to the tokenizer's length, and the rest."""
        return self.embed(prompts)

    def embed(self, prompts: list[str]) -> TextCondition:
        """Do as `encode_prompts`, (n,L,D), with gradients left on, for trainers that keep the text encoder trainable."""
        found = self.text_encoder(*(self._tokens(tokenizer, prompts) for tokenizer in self.tokenizers))
        if self.tokenizer_2 is None:
            return TextCondition(found[0])
        hidden, pooled = found
        return TextCondition(hidden, pooled, self.size_ids().expand(len(prompts), -1))

    @property
    def tokenizers(self) -> list[Any]:
        """List the tokenizers, one an encoder."""
        return [self.tokenizer] if self.tokenizer_2 is None else [self.tokenizer, self.tokenizer_2]

    def _tokens(self, tokenizer: Any, prompts: list[str]) -> Tensor:
        tokens = tokenizer(prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt")
        return tokens.input_ids.to(self.device)

    def size_ids(self) -> Tensor:
        """Give (1,6) float32: a whole picture of the size that the model makes, in the order of `TextCondition.ids`."""
        side = self.latent_shape[1] * upscale(self.vae)
        return torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32, device=self.device)

    def empty_prompt(self) -> TextCondition:
        """Give the condition of the unconditional pass, (1,L,D): of the empty prompt, or zeros where the model was trained so."""
        empty = self.encode_prompts([""])
        if not self.zero_empty or empty.pooled is None:
            return empty
        return TextCondition(torch.zeros_like(empty.hidden), torch.zeros_like(empty.pooled), empty.ids)

    def network(self, z: Tensor, t: int | float | Tensor, text: Text, w: Tensor | None = None) -> Tensor:
        """Give the raw U-Net output, (N,C,h,w). text: (N,L,D). w: (N,) = s - 1 for a w-conditioned network."""
        condition = None if w is None else guidance_embedding(w, self.unet.config.time_cond_proj_dim).to(z.dtype)
        return run_unet(self.unet, z, t, text, condition)

    def predictor(self, text: Text, uncond: Text, guidance_scale: float) -> Callable[..., Tensor]:
        """Return predict(z, t) -> the network's raw output (N,C,h,w) float32, guided; t int, float or (N,).

        Two evaluations per image for classifier-free guidance (s != 1), one if the guidance scale is an input or s == 1.
        text: (N,L,D); uncond: (1,L,D). predict(z, t, second) gives a network of two inputs a number in the guidance scale's place; predict
        raises UsageError where the network has no such input.
        """
        w = guidance_scale - 1.0
        n, kind = len(text), self.dtype
        if self.takes_guidance:
            scales = torch.full((n,), w, device=self.device)

            def with_second(z: Tensor, t: Time, second: float | None = None) -> Tensor:
                given = scales if second is None else torch.full((n,), second, device=self.device)
                return self.network(z.to(kind), t, text, given).float()

            return with_second
        if w == 0:
            predict = lambda z, t: self.network(z, t, text)  # noqa: E731
        else:
            both = joined([text, TextCondition.of(uncond).expand(n)])

            def predict(z: Tensor, t: Time) -> Tensor:
                cond, unc = self.network(torch.cat([z, z]), t, both).chunk(2)
                return guide(cond, unc, w)

        def without_second(z: Tensor, t: Time, second: float | None = None) -> Tensor:
            if second is not None:
                raise UsageError("the sampler gives the network a second input, and its U-Net takes none (time_cond_proj_dim is null in "
                                 "unet/config.json). Give a student of the method's own trainer.")
            return predict(z.to(kind), t).float()

        return without_second

    def sampling(
        self, text: Text, uncond: Text, guidance_scale: float, noise: Callable[[int], Tensor], steps: int, options: Any
    ) -> Sampling:
        """Gather all that a method's sampler is given for one micro-batch. text: (N,L,D); uncond: (1,L,D); the rest as in `Sampling`."""
        given = (text, uncond, guidance_scale)
        return Sampling(self.denoiser(*given), noise, self.schedule, steps, options, self.predictor(*given), self.student)

    def denoiser(self, text: Text, uncond: Text, guidance_scale: float) -> Callable[..., tuple[Tensor, Tensor]]:
        """Return denoise(z, t) -> (x0, eps), both (N,C,h,w), guided, for a network that predicts as its teacher does; see `predictor`."""
        predict = self.predictor(text, uncond, guidance_scale)
        return lambda z, t: to_x0_eps(self.schedule, z, t, predict(z, t), self.prediction)

    def decode(self, latents: Tensor) -> np.ndarray:
        """Decode latents (N,C,h,w) to images (N,H,W,3) uint8, rounded (diffusers' convention; truncating would darken by half a level).
        Raises ScottbenchError as `decode_checked`."""
        return self.decode_checked(latents)[0]

    @torch.inference_mode()
    def decode_checked(self, latents: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Do as `decode`, and tell which images are good: (N,) bool, all of them.

        An image with a pixel that is NaN or infinite in half precision is decoded in float32 instead; the others keep their bytes. Raises
        ScottbenchError where it is so in float32 too: it would be stored as a black image.
        """
        images = self.by_part(self.vae, latents)
        good = torch.isfinite(images).flatten(1).all(1)
        if not good.all() and self.vae.dtype != torch.float32:
            # all of them, so that a call has one shape; only those that overflowed are taken
            images = torch.where(good[:, None, None, None], images, self.by_part(self._vae_in_float32(), latents))
            good = torch.isfinite(images).flatten(1).all(1)
        if not good.all():
            raise ScottbenchError(
                f"the VAE makes pixels that are NaN or infinite of {int((~good).sum())} of {len(good)} latents (largest number "
                f"{float(latents.abs().max()):.3g}), in float32. Check the VAE's weights and the method; no image is stored.")
        images = images.clamp(0, 255)
        return images.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy(), good.cpu().numpy()

    def _vae_in_float32(self) -> VAE:
        """The VAE in float32: read so, or its weights of half precision made wider, once."""
        if self.wide_vae is None:
            with torch.inference_mode(False):  # weights made within it could not be moved outside of it
                self.wide_vae = copy.deepcopy(self.vae).float()
        return self.wide_vae

    def by_part(self, vae: VAE, latents: Tensor) -> Tensor:
        """Do as `pixels`, (N,C,h,w) to (N,3,H,W), a part after another where they are too many pixels for one call."""
        pixels = latents.shape[2] * latents.shape[3] * upscale(vae) ** 2
        each = max(1, DECODED * 32 // torch.finfo(vae.dtype).bits // pixels)
        return torch.cat([self._pixels_of(vae, part) for part in latents.split(each)])

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


def upscale(vae: VAE) -> int:
    """Return how many pixels along a side a VAE makes of one place of a latent."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def takes_pooled(unet: UNet) -> bool:
    """Tell whether a U-Net takes a pooled embedding and the sizes of its picture, as Stable Diffusion XL's does."""
    return getattr(getattr(unet, "config", None), "addition_embed_type", None) == "text_time"


def run_unet(unet: UNet, z: Tensor, t: Time, text: Text, condition: Tensor | None = None) -> Tensor:
    """Return a U-Net's raw output, (N,C,h,w), with all parts of a text condition, (N,L,D), where they belong. condition: (N,d), the
    embedding of the guidance scale, for a network that takes one. Raises UsageError for a condition that lacks what the network takes."""
    whole, half = TextCondition.of(text), half_of(unet)
    if half is not None:  # a network in half precision takes nothing else; where autocast is on, it would do the same
        z, whole = z.to(half), whole.to(half)
        condition = None if condition is None else condition.to(half)
    if not isinstance(t, Tensor) and z.device.type != "cpu":
        # diffusers would make it on the CPU and wait for its copy
        t = torch.full((1,), t, dtype=torch.int64 if isinstance(t, int) else torch.float64, device=z.device)
    more: dict[str, Any] = {} if condition is None else {"timestep_cond": condition}
    if takes_pooled(unet) and whole.pooled is not None:
        more["added_cond_kwargs"] = {"text_embeds": whole.pooled, "time_ids": whole.ids}
    return unet(z, t, encoder_hidden_states=whole.hidden, return_dict=False, **more)[0]


def half_of(unet: UNet) -> torch.dtype | None:
    """Return the half precision that a U-Net's first layer is in; None for float32, and for a network of another form."""
    weight = getattr(getattr(unet, "conv_in", None), "weight", None)
    return weight.dtype if isinstance(weight, Tensor) and weight.dtype in (torch.float16, torch.bfloat16) else None


def _check_added(unet: UNet, arguments: tuple, words: dict[str, Any]) -> None:
    """Raise UsageError where a U-Net of Stable Diffusion XL is run without its pooled embedding: diffusers would raise a TypeError."""
    if words.get("added_cond_kwargs") is None:
        raise UsageError(
            "this model's network takes a pooled text embedding and the picture's sizes beside the hidden states, and was given hidden "
            "states alone. Run it with the whole TextCondition: network(), predictor() or run_unet(); see plugins/README.md.")


def backward_passes(network: torch.nn.Module, output: Tensor) -> int:
    """Count what the backward pass of an output (N,C,h,w) will cost, in forward passes: 0 without a graph, 2 with gradients of inputs
    and weights, 1 where most weights are frozen."""
    if not output.requires_grad:
        return 0
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return 2 if 2 * sum(size for size, trained in sizes if trained) > sum(size for size, _ in sizes) else 1
