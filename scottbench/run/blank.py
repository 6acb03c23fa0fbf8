"""What a run will cost whose weights or data are not here yet: counted from the configs of its model, timed by one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scottbench.errors import MissingAsset
from scottbench.models.blank import blank_of
from scottbench.models.diffusion_model import DiffusionModel, upscale
from scottbench.models.probe import Speed, needs, speed
from scottbench.plan.choices import Choices, MethodChoice, choose
from scottbench.plan.inputs import model_name
from scottbench.registry.times import in_order, stepwise

if TYPE_CHECKING:
    from scottbench.plan.request import RunRequest
    from scottbench.registry.loader import Plugins

BATCH, DECODED = 8, 4
"""Images that the networks are told for, at once, and pictures that the VAE makes in one call."""
PIXEL_BYTES = 2.0
"""Bytes of one pixel of a lossless PNG of a photograph; those of 512x512 here take 0.5 MB."""


@dataclass(frozen=True)
class BlankCell:
    """A cell of a run that was not planned to the end."""

    id: str
    guidance: float
    nfe: int
    """Network evaluations of one image, as the method's time steps say."""
    seconds_per_image: float
    """Denoising and decoding."""


@dataclass(frozen=True)
class RunPrediction:
    """The cost of a run, but for features, metrics and storing."""

    missing: str
    preset: str
    n: int
    cells: list[BlankCell]
    weights: int
    bytes_peak: int
    batch: int
    disk: int
    flops: float
    seconds: float
    speed: Speed


def predict(plugins: Plugins, request: RunRequest, missing: MissingAsset) -> RunPrediction | None:
    """Tell what a run will cost; None where nothing is known of its model, or of the number of its prompts. Raises UsageError."""
    choices = choose(plugins, request)
    model, n = blank_of(plugins, model_name(choices.preset, choices.request), choices.dtype), items_of(choices)
    if model is None or n is None:
        return None
    parts = needs(model, 2 * BATCH, DECODED)
    rate = speed(model, choices.device, choices.dtype, parts.unet_flops)
    side = model.latent_shape[1] * upscale(model.vae)
    cells, flops = [], 0.0
    for method in choices.methods:
        for steps in method.steps if method.steps else choices.steps:
            nfe = evaluations(method, model, steps)
            each = nfe * parts.unet_flops + parts.decode_flops
            flops += each * n * len(choices.seeds)
            cells += [BlankCell(f"{method.label}__s{steps}__seed{seed}", method.guidance, nfe, each / rate.flops) for seed in choices.seeds]
    disk = round(PIXEL_BYTES * side * side * n * len(cells))
    peak = parts.weights + max(parts.unet_bytes, parts.decode_bytes)
    return RunPrediction(
        str(missing), choices.preset.name, n, cells, parts.weights, peak, BATCH, disk, flops, flops / rate.flops, rate)


def items_of(choices: Choices) -> int | None:
    """Return the number of prompts: what was asked for, else what the dataset says of its evaluation split; None where it says nothing."""
    there = choices.dataset.dataset.sizes.get("evaluation")
    return choices.request.limit if choices.request.limit is not None else there


def evaluations(method: MethodChoice, model: DiffusionModel, steps: int) -> int:
    """Count the evaluations of one image: one a call, two with classifier-free guidance of a teacher; a student has its guidance as an
    input, or baked in."""
    times = in_order(stepwise(method.method.timesteps(model.schedule, steps, method.options)))
    return len(times) * (2 if method.student is None and method.guidance != 1 else 1)
