"""The form of a teacher, for one of another kind: what the host and the trainers ask of an opened model, and of the networks in it.

`scottbench.models.diffusion_model.DiffusionModel` is such a teacher, whatever networks it is made of: a network of your own in the U-Net's
place, with the form of `Network`, needs nothing else. A class of your own with all of `Teacher` is taken in its place too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from scottbench.diffusion import Schedule
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.registry.condition import TextCondition
    from scottbench.registry.nouns import Sampling


class Teacher(Protocol):
    """An opened model: what `Model.open` returns, and `Context.teacher`. N images, latents (N,C,h,w), prompts (N,L,D)."""

    digest: str
    """sha256 hex of all its weights and configs: another digest is another teacher, and another plan."""
    schedule: Schedule
    """alpha_t and sigma_t of its time steps."""
    prediction: str
    """The meaning of the network's output: "epsilon", "v_prediction" or "sample"."""
    unet: Any
    """The network, of the form of `Network`; trainers copy it."""
    text_encoder: torch.nn.Module
    """A module: token numbers (n,L) to a tuple whose first part is (n,L,D)."""
    vae: Any
    """Images to latents and back, of the form of `ImageCoder`."""
    device: str
    """Its place, in torch's words: "cpu", "cuda"."""
    student: dict | None
    """The contents of student.json; None for a teacher."""
    pickled: list[str]
    """Files that were read from Python's pickle format; []."""
    warnings: list[str]
    """Sentences for plan and report; []."""
    evaluations: int
    """Evaluations of the network so far, one for each image and pass. The host sets it to 0 and reads it: NFE comes from here."""
    passes: int
    """The same with backward passes: forward 1, backward 2."""

    @property
    def dtype(self) -> torch.dtype:
        """Name the number format of the network."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Give (C,h,w) of a latent."""

    @property
    def takes_guidance(self) -> bool:
        """Tell whether the guidance scale is an input of the network."""

    def encode_prompts(self, prompts: list[str]) -> TextCondition:
        """Give the condition of n prompts, (n,L,D)."""

    def empty_prompt(self) -> TextCondition:
        """Give the condition of the unconditional pass, (1,L,D)."""

    def network(self, z: Tensor, t: int | float | Tensor, text: TextCondition | Tensor, w: Tensor | None = None) -> Tensor:
        """Give the network's raw output, (N,C,h,w). t: a number or (N,); w: (N,) = s - 1, for a network that takes it."""

    def predictor(self, text: TextCondition | Tensor, uncond: TextCondition | Tensor, guidance_scale: float) -> Callable[..., Tensor]:
        """Return predict(z, t) -> the raw output at guidance s, (N,C,h,w) float32."""

    def sampling(
        self, text: TextCondition | Tensor, uncond: TextCondition | Tensor, guidance_scale: float, noise: Callable[[int], Tensor],
        steps: int, options: Any,
    ) -> Sampling:  # fmt: skip
        """Gather all that a sampler is given for N images, text (N,L,D), as `Sampling` says."""

    def decode(self, latents: Tensor) -> np.ndarray:
        """Decode latents (N,C,h,w) to images (N,H,W,3) uint8."""

    def decode_checked(self, latents: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Do as `decode`, (N,C,h,w) to (N,H,W,3) uint8, and tell which images are finite, (N,) bool."""

    def encode_images(self, images: np.ndarray) -> Tensor:
        """Encode images (N,H,W,3) uint8 to latents (N,C,h,w) float32; a training asks it once for each of its items."""

    def count_also(self, network: torch.nn.Module) -> None:
        """Count the evaluations of networks in training too."""

    def uncounted(self) -> AbstractContextManager[None]:
        """Leave what is evaluated inside out of both counts."""

    def with_unet(self, unet: Any, facts: dict) -> DiffusionModel:
        """Return a model of the same parts with a student's network in the network's place. facts: its student.json."""


class Network(Protocol):
    """A network in the U-Net's place, beside what every torch.nn.Module has: `parameters`, hooks, `to`."""

    config: Any
    """An object with in_channels = C, sample_size = h = w, and time_cond_proj_dim: None, or the width of the embedding of a guidance scale.
    Students are written by diffusers' save_pretrained and read as a UNet2DConditionModel, so a network of another class can be sampled and
    can teach a student of that class, and cannot be copied into one."""
    dtype: torch.dtype
    """The number format in which it computes."""

    def forward(
        self, z: Tensor, t: Any, encoder_hidden_states: Tensor, timestep_cond: Tensor | None = None, return_dict: bool = False
    ) -> tuple[Tensor]:
        """Predict (N,C,h,w) from z (N,C,h,w) at time steps t, a number or (N,), with text (N,L,D). timestep_cond: (N,d), given where the
        config has time_cond_proj_dim."""


class ImageCoder(Protocol):
    """Images to latents and back, in the VAE's place."""

    config: Any
    """An object with scaling_factor, which latents are divided by before they are decoded, and block_out_channels: a side of an image is
    2^(len - 1) times that of its latent."""
    dtype: torch.dtype
    """The number format in which it computes."""

    def encode(self, images: Tensor) -> Any:
        """Encode images (N,3,H,W) in [-1, 1] to an object with latents (N,C,h,w). Runs of a teacher do without it, trainings do not."""

    def decode(self, latents: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """Decode latents (N,C,h,w) to images (N,3,H,W) in [-1, 1]."""


class Tokenizer(Protocol):
    """Prompts to token numbers."""

    model_max_length: int
    """Tokens L that a prompt is padded or cut to."""

    def __call__(self, prompts: list[str], **form: Any) -> Any:
        """Return an object with input_ids, (n,L) int64. form: diffusers' padding, max_length, truncation, return_tensors."""


if TYPE_CHECKING:

    def _one(model: DiffusionModel) -> Teacher:
        """Hold the class against the protocol: mypy does."""
        return model
