"""One way from prompts to images, for runs and for the validation of a training: prompts -> embeddings -> latents -> uint8.

Networks are called on micro-batches of one size, so that an image is the same bytes in whatever company it is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scottbench.errors import ScottbenchError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.noise import ItemNoise
from scottbench.registry.condition import TextCondition, joined
from scottbench.registry.nouns import Method, Sampling
from scottbench.registry.times import in_order, in_succession, stepwise

SAME_TIME = 1e-3
"""Difference of two time steps that counts as none: a schedule may be computed in float32."""


def micro_batches(n: int, fixed: int | None, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Yield positions 0..n-1 in groups for one network call each, with the number of positions in a group that count.

    fixed: the plan's micro-batch, to which the last group is filled up with its last position; None: groups of batch_size, unfilled.
    An item stands at the same place of a call of the same shape whatever the batch size, worker or number of items.
    """
    size = batch_size if fixed is None else fixed
    for start in range(0, n, size):
        group = list(range(start, min(start + size, n)))
        yield group + [group[-1]] * (0 if fixed is None else fixed - len(group)), len(group)


def embed_prompts(model: DiffusionModel, prompts: Sequence[str], fixed: int | None, batch_size: int) -> TextCondition:
    """Return (n,L,D) embeddings of the prompts. fixed, batch_size: as of `micro_batches`."""
    groups = micro_batches(len(prompts), fixed, batch_size)
    return joined([model.encode_prompts([prompts[i] for i in group])[:count] for group, count in groups])


def watched(given: Sampling, seen: list[float]) -> Sampling:
    """Return what a sampler is given, with a record of the time steps at which it asks its network."""
    predict = given.predict

    def denoise(z: Tensor, t: Any) -> tuple[Tensor, Tensor]:
        seen.append(float(t))
        return given.denoise(z, t)

    def raw(z: Tensor, t: Any, *second: float) -> Tensor:
        assert predict is not None
        seen.append(float(t))
        return predict(z, t, *second)

    return replace(given, denoise=denoise, predict=None if predict is None else raw)


def _listed(times: Sequence[float]) -> str:
    return ", ".join(f"{t:g}" for t in times[:8]) + (", ..." if len(times) > 8 else "")


@dataclass(frozen=True)
class Sampler:
    """A method that samples from one set of weights at a number of steps with a seed."""

    model: DiffusionModel
    method: Method
    label: str
    """The method with its inline options, for messages."""
    options: Any
    uncond: TextCondition
    """(1,L,D): the condition of the unconditional pass."""
    guidance: float
    steps: int
    seed: int

    def latents(self, text: TextCondition, ids: Sequence[str]) -> Tensor:
        """Sample one micro-batch: (N,L,D) embeddings to clean latents (N,C,h,w). ids: item ids, which the noise depends on.

        Raises ScottbenchError where the method returns another shape, or numbers that are not finite.
        """
        latents = self.queued(text, ids)
        if latents.device.type != "cpu":
            self.check_finite(latents)
        return latents

    @torch.inference_mode()
    def queued(self, text: TextCondition, ids: Sequence[str]) -> Tensor:
        """Do as `latents`, (N,L,D) to (N,C,h,w), without waiting for a GPU, where nobody has looked at the numbers yet. Raises
        ScottbenchError as `latents`, on a GPU only for another shape."""
        noise = ItemNoise(self.seed, ids, self.model.latent_shape, self.model.device)
        seen: list[float] = []
        given = self.model.sampling(text, self.uncond, self.guidance, noise, self.steps, self.options)
        latents = self.method.sample(watched(given, seen))
        if not isinstance(latents, Tensor):
            raise ScottbenchError(f"method '{self.label}' returned {type(latents).__name__}, not latents.")
        wanted = (len(ids), *self.model.latent_shape)
        if tuple(latents.shape) != wanted:
            raise ScottbenchError(f"method '{self.label}' returned latents of shape {tuple(latents.shape)}, not {wanted}.")
        if latents.device.type == "cpu":
            self.check_finite(latents)
        self._check_times(in_succession(seen))
        return latents

    def check_finite(self, latents: Tensor) -> None:
        """Raise ScottbenchError for latents (N,C,h,w) that are NaN or infinite."""
        if not torch.isfinite(latents).all():
            raise ScottbenchError(f"method '{self.label}' returned latents that are NaN or infinite at {self.steps} steps.")

    def _check_times(self, seen: list[float]) -> None:
        """Raise ScottbenchError unless the network was evaluated at the time steps that the method declares. seen: [] if not at all, which
        the count of evaluations tells."""
        declared = in_succession(in_order(stepwise(self.method.timesteps(self.model.schedule, self.steps, self.options))))
        if seen and (len(seen) != len(declared) or any(abs(a - b) > SAME_TIME for a, b in zip(seen, declared))):
            raise ScottbenchError(f"method '{self.label}' evaluated its network at time steps {_listed(seen)}, and declares "
                                  f"{_listed(declared)}. Both must be the same: its author can mend its timesteps or its sampler.")

    def images(self, text: TextCondition, ids: Sequence[str], fixed: int | None, batch_size: int) -> np.ndarray:
        """Sample (n,H,W,3) uint8 images from (n,L,D) embeddings. fixed, batch_size: as of `micro_batches`. Raises as `latents`."""
        parts = []
        for group, count in micro_batches(len(ids), fixed, batch_size):
            parts.append(self.model.decode(self.latents(text[group], [ids[i] for i in group]))[:count])
        return np.concatenate(parts)
