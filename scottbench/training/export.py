"""The student folder that a training leaves."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from scottbench.errors import DamagedAsset, Incomplete
from scottbench.models.diffusion_model import UNet
from scottbench.models.student import sealed
from scottbench.store.files import json_bytes, read_object, replace_file
from scottbench.store.weights import weights_digest
from scottbench.training.distillation import SLOPE_ITEMS, guidance_slope
from scottbench.training.distributed import gathered
from scottbench.training.loop import Loop


def plain_unet(network: UNet) -> UNet:
    """Return the U-Net of a student as a user will run it: itself, or, where it carries LoRA adapters (which it may share with its
    teacher), a copy with the adapters folded into the weights."""
    if not getattr(network, "peft_config", None):
        return gathered(network)
    # a sum in half precision would round what was trained
    folded = copy.deepcopy(network).float()
    folded.fuse_lora()
    folded.unload_lora()
    return folded.requires_grad_(False)


def write_student(folder: Path, unet: UNet, facts: dict) -> dict:
    """Write a student folder, weights in fp16, and return the contents of its student.json. unet: of `plain_unet`."""
    # safetensors refuses the channels-last layout of training
    half = copy.deepcopy(unet).half().to(memory_format=torch.contiguous_format)
    half.save_pretrained(folder / "unet", safe_serialization=True)
    _forget_origin(folder / "unet" / "config.json")
    facts = sealed({**facts, "weights_digest": weights_digest(folder / "unet")})
    replace_file(folder / "student.json", json_bytes(facts, sort_keys=True))
    return facts


def _forget_origin(path: Path) -> None:
    """Drop the folder that the teacher was opened from, which diffusers notes in a config: it says nothing to others, and equal
    trainings in two places would have two digests."""
    config = read_object(path, lambda error: DamagedAsset(f"cannot read {path}, just written: {error}."))
    config.pop("_name_or_path", None)
    replace_file(path, json_bytes(config, indent=2, sort_keys=True))


def export(loop: Loop, config: dict, folder: Path) -> None:
    """Write the student as it is now: the average, else theta-minus, unless `weights` or the trainer (no EMA) says otherwise. One
    process writes. Raises Incomplete where it cannot."""
    state = loop.state
    facts = {
        **config,
        **loop.distillation.student_config(),
        "steps": state.step,
        "updates": state.updates,
        "samples_seen": state.updates * loop.settings.batch_size,
        "minutes": round(state.seconds / 60, 2),
        "network_evaluations": state.evaluations,
        "passes": state.passes,
        "held_out_items": len(loop.data.held_out),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if state.place is not None:
        facts["skipped_items"] = state.place["skipped"]
    if state.best is not None:
        facts["best_on_curve"] = {"value": state.best, "step": state.best_step}
    for number, name in enumerate(loop.kept()):
        target = folder if number == 0 else folder / name
        with loop.weights(name) as network:
            unet = plain_unet(network)
            facts |= slope_facts(loop, unet)
            if loop.accelerator.is_main_process:
                try:
                    write_student(target, unet, {**facts, "weights": name})
                except (OSError, SafetensorError) as error:
                    raise Incomplete(
                        f"cannot write the student to {target}: {error}. Its training is kept: make room and go on with --resume."
                    ) from None


def slope_facts(loop: Loop, unet: UNet) -> dict[str, dict[str, float]]:
    """Measure how far a student follows its guidance input, on held-out items, between the quarter points of its range; {} where the
    guidance is no input or the trainer has no function f. Costs nothing of the budget."""
    facts, f = loop.distillation.student_config(), getattr(loop.distillation, "f", None)
    if f is None or "w_min" not in facts or len(loop.data.held_out) == 0:
        return {}
    batch = loop.batch(loop.data.held_out[:SLOPE_ITEMS], 0, 0.0)
    noise = torch.randn(batch["latents"].shape, generator=batch["generator"]).to(loop.device)
    low, high = facts["w_min"], facts["w_max"]
    scales = (low + (high - low) / 4, high - (high - low) / 4)
    with loop.accelerator.autocast(), loop.model.uncounted():  # the teacher may be in half precision
        found = guidance_slope(
            loop.model, lambda *given: f(unet, *given), (batch["latents"], noise), (batch["text"], batch["uncond"]), scales)
    return {"guidance_slope": {name: round(value, 4) for name, value in found.items()}}


def export_best(out: Path) -> None:
    """Make the curve's best student, kept in best/ when it was met, the folder's own."""
    for name in ("unet", "student", "student.json"):
        source, target = out / "best" / name, out / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, target)
