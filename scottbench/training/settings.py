"""Settings that every training has, and its budget. Losses and networks are the trainer's own."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scottbench.errors import UsageError
from scottbench.registry.options import make_options

MINUTES = 30.0
"""The budget where neither the user nor the preset gives one."""
WORDS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""Number format -> accelerate's word for forward passes in it."""
FORMATS = {word: name for name, word in WORDS.items()}
"""accelerate's word -> number format."""


def half_of(mixed: str) -> Any:
    """Return torch's half precision of accelerate's word; None for "no"."""
    import torch

    return None if mixed == "no" else getattr(torch, FORMATS[mixed])


@dataclass(frozen=True)
class TrainSettings:
    """Keys of a preset's [train] table; the command line's flags stand above it."""

    batch_size: int = 32
    """Items of one update, over all processes and micro-batches."""
    accumulate: int = 1
    """Micro-batches that a process makes one after another for one update; their gradients are averaged, role by role."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the forward passes (weights and optimizers stay float32). auto: float32 on a CPU, half precision on a GPU."""
    tf32: bool = False
    """Let a GPU make products in float32 in TF32 (10 bits), of matrices and of convolutions; see docs/gpu-arithmetic.md."""
    compile: Literal["off", "blocks"] = "off"
    """blocks: compile the blocks of all U-Nets (torch.compile), a minute or two at the start."""
    gradient_checkpointing: bool = False
    """Forget the student's activations and compute them again in the backward pass: less memory, a third more time."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit: moments of 8 bits in blocks of 256, by bitsandbytes: 2 bytes a trained number in place of 8. Parameters of fewer than
    4,096 numbers keep whole moments."""
    frozen: Literal["float32", "half"] = "float32"
    """Number format in which networks that are not trained are kept: the teacher, which is the base of a LoRA student and discriminator
    too. half: that of `precision`. A target network that is averaged stays in float32, as does everything on a CPU."""
    cache: Literal["auto", "both", "latents", "none"] = "auto"
    """How much of the training split is encoded before the first update and kept. both: latents and text embeddings, in float32. latents:
    those alone, in float16; texts are embedded for each batch. none: pictures are read from their shards and encoded for each batch.
    auto: none of a dataset in shards; both up to 2 GiB; else latents."""
    offload: bool = False
    """Keep text encoder and VAE in the CPU's memory while the networks train; a point of the metric curve has them back."""
    fsdp: bool = False
    """Split student and EMA over several processes (torch's FSDP2), for models that are too large to train on one device. A LoRA
    student, of which little is trained, and the discriminator are not split."""
    evaluate_every: int = 0
    """Updates between two points of the metric curve; 0 for none."""
    evaluate_steps: int | None = None
    """Sampling steps of the curve; none: the preset's first."""
    patience: int | None = None
    """Stop after so many points of the curve without a better value of its first metric; none: never."""
    export: Literal["last", "best"] = "last"
    """Which student the folder holds: that of the last update, or of the curve's best point."""
    weights: Literal["ema", "student", "both"] = "ema"
    """The averaged network, theta itself, or both: then theta is in the folder's `student/`."""
    average: float | None = None
    """Decay of an average of theta that is kept for the export, apart from the trainer's target network; none: the target network is
    exported. It starts short: (1 + u) / (10 + u) at update u, where that is less."""
    lr_schedule: Literal["cosine", "constant", "none"] = "cosine"
    """cosine: a warm-up of 20 updates, the learning rate itself, then a cosine to zero over the last 60 % of the budget. constant: the
    warm-up, then the learning rate to the end. none: the learning rate from the first update on."""
    checkpoint_minutes: float = 5.0
    """Minutes between two checkpoints; 0: none by time. The last one is always written."""
    checkpoint_steps: int | None = None
    """Steps between two checkpoints, beside `checkpoint_minutes`; none: by time alone."""
    seed: int = 0
    """Seed of data order, time steps, noise, guidance and LoRA's random start."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.accumulate < 1:
            raise ValueError("need batch_size >= 1 and accumulate >= 1")
        if self.average is not None and not 0 <= self.average < 1:
            raise ValueError("need 0 <= average < 1, or none")
        if not self.checkpoint_minutes >= 0 or (self.checkpoint_steps is not None and self.checkpoint_steps < 1):
            raise ValueError("need checkpoint_minutes >= 0 and checkpoint_steps >= 1")
        if self.evaluate_every < 0 or (self.patience is not None and self.patience < 1):
            raise ValueError("need evaluate_every >= 0 and patience >= 1")
        if not self.evaluate_every and (self.patience is not None or self.export == "best"):
            raise ValueError("patience and export best need a metric curve: --evaluate-every K")

    def what_to_lower(self) -> str:
        """Say in a line how these settings can be made to take less memory, and which of that a resumed training may change."""
        now = [flag for flag, used in (("--gradient-checkpointing", self.gradient_checkpointing), ("--offload", self.offload)) if not used]
        anew = [f"more micro-batches (--accumulate {2 * self.accumulate})"] if self.batch_size > self.accumulate else []
        anew += ["--optimizer adamw8bit"] if self.optimizer == "adamw" else []
        anew += ["--frozen half"] if self.frozen == "float32" else []
        going_on = f"Go on with --resume and {' and '.join(now)}. " if now else ""
        return f"{going_on}What a new training can lower: {', '.join([*anew, '--batch-size'])}, or all of it by a recipe (--recipe)."

    def micro_batch_size(self, processes: int) -> int:
        """Count the items of one micro-batch. Raises UsageError if the batch cannot be cut so."""
        size, rest = divmod(self.batch_size, self.accumulate * processes)
        if rest or not size:
            raise UsageError(
                f"a batch of {self.batch_size} cannot be cut into {self.accumulate * processes} equal parts "
                f"({self.accumulate} micro-batches on {processes} processes). Choose another --batch-size or --accumulate."
            )
        return size

    def mixed_precision(self, device: str) -> str:
        """Give accelerate's word for the precision. It is never below float32 on a CPU, where half precision is slower and in part
        missing. Raises UsageError where that is asked for."""
        import torch

        if device.startswith("cpu"):
            if self.precision not in ("auto", "float32"):
                raise UsageError(f"--precision {self.precision}: a CPU trains in float32 only. Leave it out, or use --device cuda.")
            return "no"
        chosen = self.precision
        if chosen == "auto":
            chosen = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return WORDS[chosen]

    def half(self, mixed: str) -> Any:
        """Return torch's number format of frozen networks; None for float32. mixed: of `mixed_precision`."""
        return half_of(mixed) if self.frozen == "half" else None


SETTINGS = tuple(item.name for item in dataclasses.fields(TrainSettings))


def make_settings(table: Mapping[str, Any], given: Mapping[str, Any]) -> TrainSettings:
    """Lay the values that were given (not None) over a preset's [train] table. Raises UsageError."""
    values = {key: value for key, value in table.items() if key in SETTINGS} | {k: v for k, v in given.items() if v is not None}
    return make_options(TrainSettings, values, "training")


@dataclass
class Budget:
    """The end of a training: after `minutes` of it (resumed time counted in), after `max_steps`, or after `passes`, whichever is first.

    passes: U-Net passes per image, counted: forward 1, backward 2 (1 where most weights are frozen); of student, target, teacher and
    discriminator. They are the same on every machine and under every load, so that trainings with equal passes had equal budgets.
    """

    minutes: float | None
    max_steps: int | None
    passes: int | None = None

    def fraction(self, seconds: float, step: int, passes: int) -> float:
        """Return the part of the budget that is spent: 0 at the start, 1 at the end."""
        by_time = 0.0 if self.minutes is None else seconds / (60 * self.minutes)
        by_step = 0.0 if self.max_steps is None else step / self.max_steps
        by_pass = 0.0 if self.passes is None else passes / self.passes
        return max(by_time, by_step, by_pass)


def learning_rate_scale(schedule: str, fraction: float, step: int, warmup: int = 20, decay_from: float = 0.4) -> float:
    """Return the factor of the learning rate at a step when `fraction` of the budget is spent; see `TrainSettings.lr_schedule`."""
    rise = 1.0 if schedule == "none" else min(1.0, (step + 1) / warmup)
    if schedule != "cosine" or fraction <= decay_from:
        return rise
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - decay_from) / (1 - decay_from))))


def micro_batch_seed(seed: int, step: int, number: int) -> int:
    """Return the 63-bit seed of one micro-batch's draws. `number` counts the micro-batches of all processes, so that two processes
    draw what one process with two micro-batches draws, and a resumed training what an uninterrupted one does."""
    digest = hashlib.sha256(f"train/{seed}/{step}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
