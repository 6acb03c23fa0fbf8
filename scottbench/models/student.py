"""Student folders: `unet/` (fp16 safetensors) and `student.json`, which says whose student it is and how it was made.

A student is opened over its teacher's tokenizer, text encoder, VAE and schedule (`scottbench.models.pipeline.open_student`). A student
that was trained as LoRA is stored with the LoRA folded into the U-Net, so that every student opens alike.

student.json carries a seal, the digest of all its other fields, that of the weights included: what it says of prediction, guidance range
and training is part of the student. Students of older versions have none; they are used, and called unsealed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scottbench.errors import DamagedAsset, IntegrityError, MissingAsset, UsageError
from scottbench.store.files import json_bytes, read_object, replace_file
from scottbench.store.weights import weights_digest
from scottbench.text import one_line

WEIGHTS = "diffusion_pytorch_model.safetensors"
SCHEMA = "scottbench.student/2"
UNSEALED = ("scottbench.student/1", None)
"""Schemas of versions that wrote no seal."""


def student_digest(facts: Mapping[str, Any]) -> str:
    """Return the sha256 hex of a student: of all fields of its student.json but the seal."""
    return hashlib.sha256(json_bytes({key: value for key, value in facts.items() if key != "seal"}, sort_keys=True)).hexdigest()


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as a student.json that carries its own digest."""
    whole = {key: value for key, value in facts.items() if key != "seal"} | {"schema": SCHEMA}
    return whole | {"seal": student_digest(whole)}


def seal_again(folder: Path) -> None:
    """Seal student.json as it stands now, for builders of shipped students. Raises DamagedAsset where it cannot be read."""
    path = folder / "student.json"
    facts = read_object(path, lambda error: DamagedAsset(f"{path} cannot be read ({one_line(error)})."))
    replace_file(path, json_bytes(sealed(facts), sort_keys=True))


def is_sealed(facts: Mapping[str, Any]) -> bool:
    """Return False for a student of an older version, whose student.json nothing vouches for."""
    return "seal" in facts


def read_student(folder: Path, train: str = "scottbench train NAME") -> dict:
    """Read student.json of a student folder. train: the line that would make the student, but for --out.

    Raises MissingAsset: there is none; DamagedAsset: it says not whose student it is, or a value is of a wrong kind; IntegrityError: its
    fields are not those that were sealed."""
    path = Path(folder) / "student.json"
    if not path.is_file():
        raise MissingAsset(f"no student at {folder} (student.json is missing). Make one with: {train} --out {folder}")

    def broken(error: Exception) -> DamagedAsset:
        return DamagedAsset(f"{path} is not a student description ({one_line(error)}). Restore it or train again.")

    facts = read_object(path, broken, ("trainer", "teacher_digest", "weights_digest"))
    wrong = misfits(facts)
    if wrong:
        raise broken(ValueError(wrong[0]))
    if facts.get("seal") != student_digest(facts) and not (facts.get("schema") in UNSEALED and "seal" not in facts):
        raise IntegrityError(f"{path} was changed after the training: its fields are not those that its seal is of. Restore the file.")
    return facts


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _steps(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in value)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("trainer", "teacher_digest", "weights_digest", "prediction", "guidance", "seal"), (_text, "a text")),
    **dict.fromkeys(("w_min", "w_max", "minutes", "updates"), (_number, "a number")),
    "made_for": (_steps, "a list of numbers of steps"),
    "options": (lambda value: isinstance(value, dict), "a table"),
}  # fmt: skip
"""Fields of student.json that a run reads, with what each must be where it is there."""


def misfits(facts: Mapping[str, Any]) -> list[str]:
    """List the fields of a student.json that are of a wrong kind, and half or empty ranges of the guidance scale."""
    found = [
        f"'{name}' must be {what}, found {one_line(repr(facts[name]))[:60]}"
        for name, (fits, what) in KINDS.items() if name in facts and not fits(facts[name])]  # fmt: skip
    ends = [name for name in ("w_min", "w_max") if name in facts]
    if len(ends) == 1:
        found.append(f"it has '{ends[0]}' alone: a guidance range has both ends, w_min and w_max")
    if not found and ends and facts["w_min"] > facts["w_max"]:
        found.append("w_min is greater than w_max")
    return found


def check_student(folder: Path, trainer: str, teacher_digest: str) -> dict:
    """Read student.json and check that trainer, teacher and weights are the expected ones; the weights are hashed, not loaded.

    Raises UsageError: another trainer's student; MissingAsset: a file lacks; DamagedAsset: another teacher's, or other weights; and as
    `read_student`."""
    facts = read_student(folder)
    if facts["trainer"] != trainer:
        raise UsageError(
            f"{folder} holds a student of '{one_line(facts['trainer'])}', not of '{trainer}'. Give a folder made by: "
            f"scottbench train {trainer}"
        )
    if facts["teacher_digest"] != teacher_digest:
        raise DamagedAsset(
            f"{folder} was distilled from a teacher with digest {one_line(facts['teacher_digest'][:12])}, "
            f"but this preset's model has {teacher_digest[:12]}. Train again: scottbench train {trainer}"
        )
    if absent := [name for name in ("config.json", WEIGHTS) if not (folder / "unet" / name).is_file()]:
        raise MissingAsset(f"{folder}: {' and '.join(f'unet/{name}' for name in absent)} missing. Restore the folder or train again.")
    digest = weights_digest(folder / "unet")
    if digest != facts["weights_digest"]:
        raise DamagedAsset(
            f"{folder}: weights have digest {digest[:12]}, student.json says {one_line(facts['weights_digest'][:12])}. "
            "Restore the folder or train again."
        )
    return facts
