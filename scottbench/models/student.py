"""Student folders: `unet/` (fp16 safetensors) and `student.json`, which says whose student it is and how it was made.

A student is opened over its teacher's tokenizer, text encoder, VAE and schedule (`DiffusionModel.with_student`). A student
that was trained as LoRA is stored with the LoRA folded into the U-Net, so that every student opens alike.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.diffusion_model import weights_digest
from scottbench.training.sharding import gathered

WEIGHTS = "diffusion_pytorch_model.safetensors"


def read_student(folder: Path, train: str = "scottbench train NAME") -> dict:
    """student.json of a student folder, checked for presence and form. train: the line that would make it, but for --out."""
    path = Path(folder) / "student.json"
    if not path.is_file():
        raise MissingAsset(f"no student at {folder} (student.json is missing). Make one with: {train} --out {folder}")
    try:
        facts = json.loads(path.read_text())
        for key in ("trainer", "teacher_digest", "weights_digest"):
            facts[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedAsset(f"{path} is not a student description ({error}). Restore it or train again.") from None
    return facts


def check_student(folder: Path, trainer: str, teacher_digest: str) -> dict:
    """student.json of a student whose trainer, teacher and weights are the expected ones; nothing is loaded. Raises as
    `DiffusionModel.with_student`."""
    facts = read_student(folder)
    if facts["trainer"] != trainer:
        raise UsageError(
            f"{folder} holds a student of '{facts['trainer']}', not of '{trainer}'. Give a folder made by: scottbench train {trainer}"
        )
    if facts["teacher_digest"] != teacher_digest:
        raise DamagedAsset(
            f"{folder} was distilled from a teacher with digest {facts['teacher_digest'][:12]}, "
            f"but this preset's model has {teacher_digest[:12]}. Train again: scottbench train {trainer}"
        )
    if absent := [name for name in ("config.json", WEIGHTS) if not (folder / "unet" / name).is_file()]:
        raise MissingAsset(f"{folder}: {' and '.join(f'unet/{name}' for name in absent)} missing. Restore the folder or train again.")
    digest = weights_digest(folder / "unet")
    if digest != facts["weights_digest"]:
        raise DamagedAsset(
            f"{folder}: weights have digest {digest[:12]}, student.json says {facts['weights_digest'][:12]}. "
            "Restore the folder or train again."
        )
    return facts


def plain_unet(network: torch.nn.Module) -> torch.nn.Module:
    """The U-Net of a student as a user will run it: itself, or, where it carries LoRA adapters (which it may share with its
    teacher), a copy with the adapters folded into the weights."""
    if not getattr(network, "peft_config", None):
        return gathered(network)
    folded = copy.deepcopy(network)
    folded.fuse_lora()
    folded.unload_lora()
    return folded.requires_grad_(False)


def write_student(folder: Path, unet: torch.nn.Module, facts: dict) -> dict:
    """Writes a student folder, weights in fp16, and returns the contents of its student.json. unet: of `plain_unet`."""
    # safetensors refuses the channels-last layout of training
    half = copy.deepcopy(unet).half().to(memory_format=torch.contiguous_format)
    half.save_pretrained(folder / "unet", safe_serialization=True)
    _forget_origin(folder / "unet" / "config.json")
    facts = {"schema": "scottbench.student/1", **facts, "weights_digest": weights_digest(folder / "unet")}
    (folder / "student.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return facts


def _forget_origin(path: Path) -> None:
    """Drops the folder that the teacher was opened from, which diffusers notes in a config: it says nothing to others, and equal
    trainings in two places would have two digests."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
