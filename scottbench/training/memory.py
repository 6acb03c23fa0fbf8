"""What one update of a training costs, by making it on the meta device: bytes at the peak and what they are for, FLOPs.

The trainer's own `step` is run, with networks that have shapes and no numbers, and its losses are sent backwards. So a trainer of any
plug-in is counted by what it does. docs/gpu-memory.md holds what this was compared with, and by how much it was off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from scottbench.errors import ScottbenchError
from scottbench.models.blank import blank_text, bytes_of, tokens_of
from scottbench.models.cost import Meter, Stage, WithoutNumbers, metered
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.registry.nouns import Batch, Distillation, Trainer
from scottbench.training.context import Context
from scottbench.training.contract import all_networks, built
from scottbench.training.frozen import halve
from scottbench.training.optimizers import bytes_of_moments
from scottbench.training.settings import TrainSettings, half_of


@dataclass(frozen=True)
class UpdateCost:
    """The cost of one micro-batch of an update, on one process. All numbers are bytes but for the last two."""

    networks: int
    """Weights of all networks that are on the device: student, teacher, target, discriminator, text encoder and VAE."""
    moments: int
    """State of the optimizers."""
    average: int
    """The average of the student's weights, where one is kept."""
    gradients: int
    activations: int
    """The rest at the peak: what the backward pass needs, copies of weights in half precision, and what operations hold meanwhile."""
    peak: int
    trained: dict[str, int]
    """Role -> number of parameters that are trained."""
    flops: int


class NotPredicted(Exception):
    """A trainer's step asks for what only real data have; the reason is the message."""


def update_cost(context: Context, trainer: Trainer, options: Any, settings: TrainSettings, size: int, mixed: str) -> UpdateCost:
    """Count one micro-batch of `size` items. context: of a `blank_model`, which the trainer changes. mixed: accelerate's word for the
    precision ("no", "bf16", "fp16"). Raises NotPredicted."""
    half = half_of(mixed)
    with metered() as (meter, stage):
        try:
            distillation = build(context, trainer, options, settings, mixed)
            return counted((meter, stage), half, context.teacher, distillation, settings, size)
        except ScottbenchError as error:
            raise NotPredicted(str(error)) from None
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise NotPredicted(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}") from None


def build(context: Context, trainer: Trainer, options: Any, settings: TrainSettings, mixed: str) -> Distillation:
    """Make a trainer's networks as a training would, without numbers."""
    with WithoutNumbers():
        distillation = built(trainer, context, options)
    if settings.gradient_checkpointing:
        distillation.networks["student"].enable_gradient_checkpointing()
    halve(context.teacher, distillation, settings.half(mixed))
    return distillation


def counted(
    counters: tuple[Meter, Stage], half: torch.dtype | None, model: DiffusionModel, distillation: Distillation, settings: TrainSettings,
    size: int,
) -> UpdateCost:  # fmt: skip
    """Count a step of a distillation with everything that stays on the device beside it."""
    meter, stage = counters
    idle = [] if settings.offload else [model.text_encoder, model.vae]
    networks = [model.unet, *all_networks(distillation), *idle]
    trained = {role: [p for p in network.parameters() if p.requires_grad] for role, network in distillation.networks.items()}
    sizes = [bytes_of_moments(settings.optimizer, parameters) for parameters in trained.values()]
    kept = [torch.empty(size, dtype=torch.uint8, device="meta") for size in sizes]
    average = 0 if settings.average is None else 4 * sum(p.numel() for p in trained["student"])
    kept.append(torch.empty(average, dtype=torch.uint8, device="meta"))
    meter.note_all(*networks)
    meter.peak, meter.flops = meter.now, 0
    gradients, at_peak = 0, 0
    for role, losses in losses_of(stage, half, distillation, blank_batch(model, size)):
        torch.autograd.backward(sum(losses.values()), inputs=trained[role])
        present = sum(4 * p.numel() for parameters in trained.values() for p in parameters if p.grad is not None)
        if meter.peak > at_peak:
            gradients, at_peak = present, meter.peak
        for p in trained[role]:
            p.grad = None
    weights, moments = bytes_of(*networks), sum(sizes)
    rest = meter.peak - weights - moments - average - gradients
    numbers = {role: sum(p.numel() for p in parameters) for role, parameters in trained.items()}
    return UpdateCost(weights, moments, average, gradients, max(0, rest), meter.peak, numbers, meter.flops)


def losses_of(stage: Stage, half: torch.dtype | None, distillation: Distillation, batch: Batch) -> Any:
    """Yield (role, losses) of a trainer's step, which runs under autocast as the loop runs it."""
    step = iter(distillation.step(batch))
    while True:
        stage.half = half
        reached = next(step, None)
        stage.half = None
        stage.forget()
        if reached is None:
            return
        role, losses, _ = reached
        if losses:
            stage.half = half  # for blocks that are checkpointed, which run again
            yield role, losses
            stage.half = None


def blank_batch(model: DiffusionModel, size: int) -> Batch:
    """Make a batch of `size` items without numbers."""
    tokens = tokens_of(model)
    return {
        "latents": torch.empty((size, *model.latent_shape), device="meta"), "text": blank_text(model, size, tokens),
        "uncond": blank_text(model, 1, tokens), "indices": torch.arange(size), "generator": torch.Generator().manual_seed(0), "step": 0,
        "fraction": 0.5,
    }  # fmt: skip
