"""The folder of a training: which training it holds, whether another may begin or go on there, and its log."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from scottbench.errors import DamagedAsset, Incomplete, ScottbenchWarning, UsageError
from scottbench.store.files import append_line, as_read, identity, json_bytes, read_json, read_object, replace_file, whole_lines, writing
from scottbench.store.lock import locked

CONFIGURATION, LOG = "training.json", "log.jsonl"
SINCE = {"micro_batches": 1, "precision": "no", "optimizer": "adamw", "frozen": "float32", "tf32": False, "compile": "off",
         "cache": "both"}
"""Keys that trainings of older versions did not note, and what they were."""
UNKNOWN = ("made_by",)
"""Keys that they did not note, and that nobody knows any more."""


def is_training(folder: Path) -> bool:
    """Tell whether a folder is that of a training."""
    return (folder / CONFIGURATION).is_file()


def check_folder(out: Path, config: dict, resume: bool) -> None:
    """Refuse a folder that holds another training, and to resume where there is none or a different one. Raises UsageError, or
    DamagedAsset where the folder cannot be read; writes nothing."""
    path = out / CONFIGURATION
    try:
        path.exists()
    except OSError as error:  # such as a name that is too long
        raise unwritable(out, error) from None
    if not resume and any((out / name).exists() for name in ("checkpoint", "checkpoint.old", "student.json")):
        raise UsageError(f"{out} already holds a student. Continue its training with --resume, or give another --out.")
    if not resume and (out / "best" / "student.json").is_file():
        raise UsageError(f"{out / 'best'} holds the best student of a training that ended early. Move it away, or give another --out.")
    if resume and not path.is_file():
        raise UsageError(f"nothing to resume at {out}: no {CONFIGURATION}. Start without --resume.")
    if resume:
        check_same(out, config)


def make_folder(out: Path) -> None:
    """Make the folder of a training. Raises UsageError where it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from None


def check_same(out: Path, config: dict) -> None:
    """Raises UsageError where the folder's training has another configuration, DamagedAsset where that cannot be read."""
    path = out / CONFIGURATION
    unknown = {key: config[key] for key in UNKNOWN if key in config}
    found = unknown | read_object(
        path, lambda error: DamagedAsset(f"cannot read {path}: {error}. Restore it, or train anew with another --out."))
    if different := differences(found, as_read(config), compared(config)):
        raise UsageError(f"{out} was trained with another configuration ({different}). Give the same one, or another --out.")


def compared(config: dict) -> set[str]:
    """List the keys in which two configurations must be equal. A stream of items goes on with any number of micro-batches."""
    return set(config) - ({"micro_batches"} if config.get("cache") == "none" else set())


def differences(found: dict[str, Any], config: dict[str, Any], keys: Collection[str]) -> str:
    """Say in words which of the keys differ between two configurations as they are read: "seed was 0, now 1"; "" if none does."""
    there, here = flat(SINCE | found), flat(config)
    different = [key for key in sorted(here.keys() | there.keys()) if key.split(".")[0] in keys and there.get(key) != here.get(key)]
    listed = ", ".join(f"{key} was {shown(there, key)}, now {shown(here, key)}" for key in different[:3])
    return listed + (f" and {len(different) - 3} more" if len(different) > 3 else "")


def flat(config: dict) -> dict[str, Any]:
    """Take one level out of a table: {"options": {"lr": 1}} -> {"options.lr": 1}."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return found


def shown(values: dict, key: str) -> str:
    """Write a value for an error message; of a digest its head."""
    return str(values[key])[:16] if key in values else "not there"


@contextlib.contextmanager
def claimed(out: Path, config: dict, resume: bool) -> Iterator[None]:
    """Hold a training's folder within the block, alone; it is made where there is none. Raises as `check_folder`, and Busy where another
    process trains in it."""
    if not os.path.isdir(out):
        check_folder(out, config, resume)  # what is refused makes no folder
    make_folder(out)
    with locked(out):
        check_folder(out, config, resume)
        yield


def begin(out: Path, config: dict, resume: bool) -> None:
    """Remember the configuration, once nothing stands in the way of the first step; a new training begins a new log. Raises UsageError
    where the folder cannot be written, Incomplete where the disk is full."""
    with writing(out, "Give another folder with --out."):
        if not resume:
            (out / LOG).unlink(missing_ok=True)
        replace_file(out / CONFIGURATION, json_bytes(config, sort_keys=True))


def forget_lines_after(out: Path, step: int) -> None:
    """Take out of the log the lines that a killed training wrote after its last checkpoint: they will be written again. Lines that no
    training wrote go too, with a warning. Raises UsageError or Incomplete where the log cannot be written."""
    path = out / LOG
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path} is no regular file. Move it away, and go on.")
    lines = whole_lines(path)
    ours = [line for line in lines if type(line.get("step")) is int]
    foreign = len(lines) - len(ours)
    if foreign:
        told = f"{foreign} line{'' if foreign == 1 else 's'} of {path} without a step {'is' if foreign == 1 else 'are'} left out."
        warnings.warn(ScottbenchWarning(told), stacklevel=2)
    kept = [line for line in ours if line["step"] <= step]
    with writing(path, "Give the training another folder, or make room."):
        replace_file(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def kept_step(out: Path) -> int | None:
    """Return the step of the checkpoint in a training's folder; None where there is none."""
    step = (read_json(out / "checkpoint" / "state.json") or {}).get("step")
    return step if type(step) is int else None


class Place:
    """A training's folder while it is trained in: its log, and whether it is still there.

    A log line that cannot be written, and a folder that was moved or deleted, stop the training; but its state is saved first.
    """

    def __init__(self, out: Path):
        self.out, self.known = out, identity(out)
        self.configuration = read_json(out / CONFIGURATION)
        self.unlogged: OSError | None = None

    def append(self, line: dict[str, Any]) -> None:
        """Add a line to the log; `trouble` tells where that failed."""
        try:
            append_line(self.out / LOG, line)
        except OSError as error:
            self.unlogged = error

    def moved(self) -> bool:
        """Tell whether the folder in which the training began is not at its path any more."""
        return identity(self.out) != self.known

    def trouble(self) -> bool:
        """Tell whether the training has to end here."""
        return self.unlogged is not None or self.moved()

    def to_save_in(self) -> Path:
        """Return the folder, or, where it was moved or deleted, a new one beside it that holds the configuration. Raises UsageError or
        Incomplete where that cannot be made."""
        if not self.moved():
            return self.out
        number = 1
        while (folder := self.out.with_name(f"{self.out.name}.kept-{number}")).exists():
            number += 1
        make_folder(folder)
        if self.configuration is not None:
            begin(folder, self.configuration, resume=True)
        return folder

    def stop_if_in_trouble(self, saved_in: Path, step: int) -> None:
        """Raises Incomplete where the folder is not there or its log cannot be written: it says where the training is saved."""
        if saved_in != self.out:
            raise Incomplete(
                f"{self.out} was moved or deleted while it was trained in. The training as far as step {step} is kept in {saved_in}: go on "
                "with --resume and that folder as --out (files that the trainer keeps itself, such as pairs/, stay where they were).")
        if self.unlogged is not None:
            raise Incomplete(
                f"cannot write {self.out / LOG}: {self.unlogged.strerror}. The checkpoint of step {step} is kept in {self.out}. "
                "Make room, or mend the folder, and go on with --resume.")


def unwritable(out: Path, error: OSError) -> UsageError:
    """Return the error for a folder that cannot be written."""
    return UsageError(f"cannot write to {out}: {error.strerror}. Give another folder with --out.")
