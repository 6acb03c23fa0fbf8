"""Costs told in words: of a training, or of a run whose weights or data are not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scottbench.run.blank import RunPrediction
    from scottbench.training.choices import TrainChoices
    from scottbench.training.memory import UpdateCost
    from scottbench.training.prediction import Prediction
    from scottbench.training.settings import Budget

GIB = 2**30


def gib(size: int) -> str:
    """Write a number of bytes as memory is sold: "9.5 GiB"; below a tenth in MiB."""
    return f"{size / GIB:.1f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.0f} MiB"


def limits_of(budget: Budget) -> str:
    """Write a budget: "40,000 steps", "30 minutes or 10 passes"."""
    limits = [] if budget.minutes is None else [f"{budget.minutes:g} minutes"]
    limits += [] if budget.max_steps is None else [f"{budget.max_steps:,} steps"]
    limits += [] if budget.passes is None else [f"{budget.passes:,} passes"]
    return " or ".join(limits)


def memory_line(update: UpdateCost | None, reason: str, where: str = "") -> str:
    """Write the memory that a training is predicted to take, and what for."""
    if update is None:
        return f"memory   not predicted: {reason}"
    parts = {"networks": update.networks, "gradients": update.gradients, "moments": update.moments, "average": update.average,
             "activations and the rest": update.activations}  # fmt: skip
    told = ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)
    return f"memory   predicted peak {gib(update.peak)}{where}: {told}"


def missing_lines(told: str) -> list[str]:
    """Write what is missing, a line each: what planning says of a file, or how to fetch it."""
    return [f"missing  {line.strip().removeprefix('missing ')}" for line in told.splitlines()]


def training_lines(choices: TrainChoices, found: Prediction) -> list[str]:
    """Write what a training would cost whose weights or data are not here. The lines of what is missing come first."""
    from scottbench.plan.inputs import model_name
    from scottbench.text import bytes_in_words, estimated
    from scottbench.training.settings import FORMATS

    preset, settings, request = choices.preset, choices.settings, choices.request
    teacher = model_name(preset, request)
    parts = f"{settings.accumulate} micro-batch{'' if settings.accumulate == 1 else 'es'} of {found.micro_batch_size}"
    each = "" if found.processes == 1 else f" on each of {found.processes} processes"
    items = "items not counted before it is here" if found.items is None else f"{found.items:,} items"
    encoding = "" if found.encoding is None else f"; about {estimated(found.encoding)} to encode them"
    recipe = [] if request.recipe is None else [f"recipe   {request.recipe}: {preset.recipes[request.recipe].get('summary', '')}"]
    disk = [] if found.encoded_bytes is None else [f"the encoded split {bytes_in_words(found.encoded_bytes)}"]
    disk += [f"a checkpoint {bytes_in_words(found.checkpoint_bytes)} (two while one is written)"] if found.checkpoint_bytes else []
    disk.append(f"a student {bytes_in_words(found.student_bytes)}")
    numbers = {} if found.update is None else found.update.trained
    lines = [
        f"training {choices.trainer.name}  preset {preset.name}  teacher {teacher} (not here)",
        *recipe,
        *missing_lines(found.missing),
        f"data     {choices.data.name}: {items}{encoding}",
        f"batch    {settings.batch_size}, {parts}{each}",
        f"trained  {', '.join(f'{role} {number:,} parameters' for role, number in numbers.items()) or 'not counted'}",
        f"budget   {limits_of(choices.budget)}",
        f"out      {choices.out}",
        memory_line(found.update, found.reason, f" a process in {FORMATS[found.mixed]}"),
        f"         encoding and points of the curve take up to {gib(found.look_bytes)} beside what is on the device then",
        f"disk     {', '.join(disk)}",
        f"speed    {found.speed.told}",
    ]
    if found.update_flops:
        steps = f"about {found.steps:,} steps" if found.steps else "steps"
        lines.append(
            f"estimate {steps} in {estimated(found.seconds)} at that speed: {found.update_flops / 1e12:.3g} TFLOP an update{each}")
    return lines


def run_lines(found: RunPrediction) -> list[str]:
    """Write what a run would cost whose weights or data are not here, but for its table of cells."""
    from scottbench.text import bytes_in_words, estimated

    return [
        *missing_lines(found.missing),
        f"memory   predicted peak {gib(found.bytes_peak)}: networks {gib(found.weights)}, {found.batch} images at once; extractors are not "
        "counted, whose files are named above",
        f"disk     about {bytes_in_words(found.disk)} of images",
        f"speed    {found.speed.told}",
        f"estimate about {estimated(found.seconds)} at that speed: {found.flops / 1e15:.3g} PFLOP; without features, metrics and storing",
    ]


def run_document(found: RunPrediction) -> dict[str, Any]:
    """Give what `run_lines` and the table say as one JSON object."""
    return {
        "plan_hash": None, "preset": found.preset, "prompts": found.n, "images": found.n * len(found.cells), "missing": found.missing,
        "cells": [vars(cell) for cell in found.cells], "seconds": found.seconds, "bytes": found.disk, "flops": found.flops,
        "memory_bytes": found.bytes_peak, "speed": found.speed.flops,
    }  # fmt: skip
