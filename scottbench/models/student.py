"""Student folders: `unet/` (fp16 safetensors) and `student.json`, which says whose student it is and how it was made.

A student is opened over its teacher's tokenizer, text encoder, VAE and schedule (`scottbench.models.pipeline.open_student`). A student
that was trained as LoRA is stored with the LoRA folded into the U-Net, so that every student opens alike.

A student may also be made of published weights (`scottbench.models.adoption`): its table `published` says which, by whom and under which
licence. Of these the teacher is the model that they were adopted for, which need not be the one that they were distilled from.

student.json carries a seal, the digest of all its other fields, that of the weights included: what it says of prediction, guidance range
and training is part of the student. Students of older versions have none; they are used, and called unsealed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from scottbench.errors import DamagedAsset, IntegrityError, MissingAsset, UsageError
from scottbench.models.configs import CONFIG_BYTES, check_size
from scottbench.store.files import json_bytes, read_object, replace_file
from scottbench.store.weights import weights_digest
from scottbench.text import one_line

WEIGHTS = "diffusion_pytorch_model.safetensors"
SCHEMA = "scottbench.student/2"
PLAIN = "plain"
"""Stands for a trainer in student.json of an ordinary diffusion U-Net, which every sampler of the teacher can sample."""
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
        return DamagedAsset(f"{path} is not a student description ({one_line(error)}). Restore the file.")

    check_size(path, CONFIG_BYTES)
    facts = read_object(path, broken, ("trainer", "teacher_digest", "weights_digest"))
    try:
        check_facts(facts)
    except ValueError as error:
        raise broken(error) from None
    if facts.get("seal") != student_digest(facts) and not (facts.get("schema") in UNSEALED and "seal" not in facts):
        raise IntegrityError(f"{path} was changed after the training: its fields are not those that its seal is of. Restore the file.")
    return facts


def check_facts(facts: dict[str, Any]) -> None:
    """Check that the facts of a student.json are of the kinds that sampling and report take them for. Raises ValueError."""
    for key in ("teacher_digest", "weights_digest"):
        if type(facts[key]) is not str or re.fullmatch("[0-9a-f]{64}", facts[key]) is None:
            raise ValueError(f"{key} is {_shown(facts[key])}, not the 64 hex digits of a sha256")
    texts = ("trainer", "guidance", "form", "prediction", "preset", "weights", "seal", "teacher", "name")
    tables = ("options", "best_on_curve", "sampler", "published")
    kinds: dict[str, tuple[type, str]] = {**dict.fromkeys(texts, (str, "text")), **dict.fromkeys(tables, (dict, "a table"))}
    for key, (kind, word) in kinds.items():
        if facts.get(key) is not None and type(facts[key]) is not kind:
            raise ValueError(f"{key} is {_shown(facts[key])}, not {word}")
    for key in ("w_min", "w_max", "steps", "updates", "samples_seen", "minutes", "network_evaluations"):
        if key in facts and not _is_number(facts[key]):
            raise ValueError(f"{key} is {_shown(facts[key])}, not a finite number")
    if ("w_min" in facts) != ("w_max" in facts):
        raise ValueError("of w_min and w_max, the guidance that it knows, only one is there")
    if "w_min" in facts and facts["w_min"] > facts["w_max"]:
        raise ValueError(f"w_min {facts['w_min']} is above w_max {facts['w_max']}")
    for key, value in (facts.get("published") or {}).items():
        if not (value is None or type(value) is str or (isinstance(value, list) and all(type(one) is str for one in value))):
            raise ValueError(f"published.{key} is {_shown(value)}, not text or a list of texts")
    made_for = facts.get("made_for", [])
    if not isinstance(made_for, list) or not all(type(count) is int and count > 0 for count in made_for):
        raise ValueError(f"made_for is {_shown(made_for)}, not a list of numbers of steps")


def sampler_defaults(facts: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the options, of those `known` to a sampler, that a student is to be sampled with where the user names none.

    They stand in its table `sampler`. Trained students of older versions have none: an option that sampler and trainer share by name (the
    spacing of the grid) is taken as the student was trained."""
    told = facts.get("sampler")
    told = facts.get("options") if told is None and "published" not in facts else told
    return {key: value for key, value in (told or {}).items() if key in known}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300


def _shown(value: object) -> str:
    """A value in one line, short enough for a message."""
    text = one_line(value if isinstance(value, (str, int, float, bool)) or value is None else type(value).__name__)
    return text if len(text) <= 60 else text[:57] + "..."


def check_student(folder: Path, trainer: str, teacher_digest: str) -> dict:
    """Read student.json and check that trainer, teacher and weights are the expected ones; the weights are hashed, not loaded.

    Published weights may meet another teacher than they were adopted for; the plan says so. Raises UsageError: another trainer's student;
    MissingAsset: a file lacks; DamagedAsset: another teacher's, or other weights; and as `read_student`."""
    facts = read_student(folder)
    if facts["trainer"] != trainer and trainer == PLAIN:
        raise UsageError(
            f"{folder} holds a student of '{one_line(facts['trainer'])}', and a sampler of the teacher takes none but ordinary U-Nets. "
            f"Sample it by a method of its trainer; published ordinary U-Nets are made ready by: scottbench adopt FILE --as {PLAIN}")
    if facts["trainer"] != trainer:
        raise UsageError(
            f"{folder} holds a student of '{one_line(facts['trainer'])}', not of '{trainer}'. Give a folder made by: "
            f"scottbench train {trainer}"
        )
    if facts["teacher_digest"] != teacher_digest and "published" not in facts:
        raise DamagedAsset(
            f"{folder} was distilled from a teacher with digest {facts['teacher_digest'][:12]}, "
            f"but this run's model has {teacher_digest[:12]}. Name its own teacher with --model, or a student of this one; to make one: "
            f"scottbench train {trainer}"
        )
    if absent := [name for name in ("config.json", WEIGHTS) if not (folder / "unet" / name).is_file()]:
        raise MissingAsset(f"{folder}: {' and '.join(f'unet/{name}' for name in absent)} missing. Restore the folder.")
    digest = weights_digest(folder / "unet")
    if digest != facts["weights_digest"]:
        raise DamagedAsset(
            f"{folder}: weights have digest {digest[:12]}, student.json says {facts['weights_digest'][:12]}. "
            "Restore the folder."
        )
    return facts
