"""Student folders: `unet/` (fp16 safetensors) and `student.json`, which says whose student it is and how it was made.

A student is opened over its teacher's tokenizer, text encoder, VAE and schedule (`scottbench.models.pipeline.open_student`). A student
that was trained as LoRA is stored with the LoRA folded into the U-Net, so that every student opens alike.
"""

from __future__ import annotations

from pathlib import Path

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.store.files import read_object
from scottbench.store.weights import weights_digest

WEIGHTS = "diffusion_pytorch_model.safetensors"


def read_student(folder: Path, train: str = "scottbench train NAME") -> dict:
    """Read student.json of a student folder. train: the line that would make the student, but for --out.

    Raises MissingAsset: there is none; DamagedAsset: it says not whose student it is."""
    path = Path(folder) / "student.json"
    if not path.is_file():
        raise MissingAsset(f"no student at {folder} (student.json is missing). Make one with: {train} --out {folder}")
    return read_object(
        path, lambda error: DamagedAsset(f"{path} is not a student description ({error}). Restore it or train again."),
        ("trainer", "teacher_digest", "weights_digest"))


def check_student(folder: Path, trainer: str, teacher_digest: str) -> dict:
    """Read student.json and check that trainer, teacher and weights are the expected ones; the weights are hashed, not loaded.

    Raises UsageError: another trainer's student; MissingAsset: a file lacks; DamagedAsset: another teacher's, or other weights."""
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


