"""Training checkpoints without pickle: networks and AdamW moments as safetensors, the rest as JSON. No generator's state is in
them: every draw of a step comes from a seed made of the training's seed and the step (`settings.micro_batch_seed`).

Written to a temporary folder, synced, which replaces the old one, so that a kill leaves the last good checkpoint. Of a copy in the CPU's
memory a thread writes it while the training goes on (`Writer`). `digests.json` holds
the size and sha256 of the two other files, which are compared before anything of them is used.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import stat
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_args, get_type_hints

import torch

from scottbench.errors import DamagedAsset, Incomplete, MissingAsset, ScottbenchWarning, UsageError
from scottbench.store.assets import file_digest
from scottbench.store.files import json_bytes, read_json, read_object, replace_file, replace_folder, restore_folder
from scottbench.text import one_line
from scottbench.training.distributed import full, like
from scottbench.training.folder import CONFIGURATION, compared, differences, kept_step
from scottbench.training.optimizers import is_part, moments

SCHEMA = "scottbench.checkpoint/2"
TENSORS, STATE, DIGESTS = "tensors.safetensors", "state.json", "digests.json"
LONGEST = 2**28
"""Bytes of the largest state.json that is read."""
Kept = TypeVar("Kept")
LATER = {"later": True}
"""Metadata of a field that checkpoints of older versions lack; its default stands in for it."""


def flatten(tensors: dict, optimizers: dict, main: bool = True) -> dict[str, torch.Tensor]:
    """Return a copy in the CPU's memory of all tensors of a training, each of any shape and whole, under flat names: group/index,
    role/moments/index/key. Every process must ask, since a split tensor is put together by all; main: those others get {} and copy
    nothing."""
    named = {f"{group}/{i}": t.detach() for group, members in tensors.items() for i, t in members.items()}
    for role, optimizer in optimizers.items():
        for i, found in moments(optimizer).items():
            named |= {f"{role}/moments/{i}/{key}": torch.as_tensor(value) for key, value in found.items()}
    flat = {}
    for name, tensor in named.items():
        whole = full(tensor)
        if main:
            flat[name] = whole.cpu().contiguous().clone() if whole.device.type == "cpu" else whole.contiguous().cpu()
    return flat


class Writer:
    """Writes checkpoints in a thread, one at a time, so that the training goes on meanwhile."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def begin(self, folder: Path, flat: dict[str, torch.Tensor], state: dict) -> None:
        """Begin to write a checkpoint: arguments as of `save`, tensors of any shape, which nobody else may change. Raises what the one
        before raised."""
        self.wait()
        self.thread = threading.Thread(target=self._write, args=(folder, flat, state), name="checkpoint")
        self.thread.start()

    def _write(self, folder: Path, flat: dict[str, torch.Tensor], state: dict) -> None:
        try:
            save(folder, flat, state)
        except BaseException as error:  # it is raised where the training waits for it
            self.error = error

    def join(self) -> None:
        """Wait until nothing is written any more."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def wait(self) -> None:
        """Wait for what is being written. Raises Incomplete where it could not be."""
        self.join()
        error, self.error = self.error, None
        if error is not None:
            raise error


def save(folder: Path, flat: dict[str, torch.Tensor], state: dict) -> None:
    """Write a checkpoint: tensors of any shape, and the state. Raises Incomplete where it cannot be written; the one before is kept."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save_file(flat, temporary / TENSORS)
        record = {"schema": SCHEMA, "training": read_json(folder.parent / CONFIGURATION), **state}
        replace_file(temporary / STATE, json_bytes(record))
        files = {name: {"bytes": (temporary / name).stat().st_size, "sha256": file_digest(temporary / name)} for name in (TENSORS, STATE)}
        replace_file(temporary / DIGESTS, json_bytes({"schema": SCHEMA, "files": files}))
        replace_folder(temporary, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = "None had been made yet" if (step := kept_step(folder.parent)) is None else f"That of step {step} is kept"
        raise Incomplete(f"cannot write the checkpoint {folder}: {error}. {kept}. Make room and go on with --resume.") from None


def broken(folder: Path, error: Exception | str) -> DamagedAsset:
    """Return the error for a checkpoint that cannot be used."""
    return DamagedAsset(f"cannot read the checkpoint {folder}: {error}. Restore it from a copy, or train anew with another --out.")


@torch.no_grad()
def load(
    folder: Path, kind: type[Kept], tensors: dict, optimizers: dict, frozen: Mapping[str, dict] | None = None
) -> tuple[Kept, Any]:
    """Restore everything in place and return (state, the trainer's memory or None), the state an instance of the dataclass `kind`. frozen:
    groups like those of `tensors` that a checkpoint may hold; one that it lacks is as the trainer built it.

    Raises MissingAsset; DamagedAsset where a byte is not what was written or a value cannot be; UsageError if the checkpoint belongs to
    another configuration. A checkpoint of an older version, without digests, is read with a warning.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    restore_folder(folder)
    if not (folder / STATE).exists():
        raise MissingAsset(f"nothing to resume: {folder} has no checkpoint. Start without --resume.")
    record = compare_digests(folder)
    memory = record.pop("memory", None)
    compare_training(folder, record.pop("training", None))
    try:
        state = typed(kind, record)
        flat = load_file(folder / TENSORS)
        held = {name.rpartition("/")[0] for name in flat}
        tensors = tensors | {group: members for group, members in (frozen or {}).items() if group in held}
        differing = check_tensors(flat, tensors, optimizers)
    except (OSError, ValueError, SafetensorError) as error:
        raise broken(folder, error) from None
    if differing is not None:
        raise UsageError(
            f"the checkpoint {folder} was made with other options (its {differing} network differs). "
            "Give the same options, or another --out."
        )
    for group, members in tensors.items():
        for i, tensor in members.items():
            tensor.copy_(like(flat[f"{group}/{i}"], tensor))
    for role, optimizer in optimizers.items():
        _put_moments(optimizer, f"{role}/moments/", flat, tensors[role])
    return state, memory


# --- checks ----------------------------------------------------------------------------------------------------------


def compare_digests(folder: Path) -> dict[str, Any]:
    """Return the contents of state.json once both files have proved to be those that were written. Raises DamagedAsset."""

    def fail(error: Exception | str) -> NoReturn:
        raise broken(folder, error) from None

    for name in (TENSORS, STATE, DIGESTS):
        path = folder / name
        if path.is_symlink() or (path.exists() and not stat.S_ISREG(path.stat().st_mode)):
            fail(f"{name} is no regular file")
    if (folder / STATE).stat().st_size > LONGEST:
        fail(f"{STATE} is larger than any that is written")
    digests: dict[str, Any] | None = None
    if (folder / DIGESTS).exists():
        digests = read_object(folder / DIGESTS, lambda error: broken(folder, f"{DIGESTS}: {error}"))
        files = digests.get("files")
        for name in (TENSORS, STATE):
            try:
                size, digest = (folder / name).stat().st_size, file_digest(folder / name)
            except OSError as error:
                fail(error)
            if not isinstance(files, dict) or files.get(name) != {"bytes": size, "sha256": digest}:
                fail(f"{name} is not what was written (its sha256 is {digest[:12]}...)")
    record = read_object(folder / STATE, lambda error: broken(folder, f"{STATE}: {error}"))
    schema = record.pop("schema", None)
    if schema != (None if digests is None else SCHEMA):
        fail(f"{DIGESTS} is missing" if digests is None else f"its schema is {one_line(repr(schema))[:40]}, not {SCHEMA}")
    if digests is None:
        warnings.warn(ScottbenchWarning(f"{folder} has no digests (it is of an older version): its bytes cannot be checked."), stacklevel=3)
    return record


def compare_training(folder: Path, training: object) -> None:
    """Compare the configuration noted in a checkpoint with that of the folder it lies in. Raises DamagedAsset where they differ."""
    here = read_json(folder.parent / CONFIGURATION)
    if isinstance(training, dict) and here is not None:
        different = differences(training, here, compared(training) & here.keys())
        if different:
            raise broken(folder, f"it is of another training ({different})")


def typed(kind: type[Kept], record: Mapping[str, Any]) -> Kept:
    """Make a dataclass of a record that has just its fields; those of LATER may be absent. Raises ValueError for a key too much or too few,
    or a value of another type; numbers are finite, whole ones neither negative nor above 2^53."""
    fields = dataclasses.fields(cast(Any, kind))
    hints = {item.name: get_type_hints(kind)[item.name] for item in fields}
    record = {**{item.name: item.default for item in fields if item.metadata == LATER}, **record}
    for name in record:
        if name not in hints:
            raise ValueError(f"{STATE} has an unknown key '{one_line(name)[:40]}'")
    for name, hint in hints.items():
        if name not in record:
            raise ValueError(f"{STATE} lacks '{name}'")
        if not any(is_a(record[name], one) for one in get_args(hint) or (hint,)):
            raise ValueError(f"'{name}' in {STATE} cannot be {one_line(repr(record[name]))[:40]}")
    return kind(**record)


def is_a(value: object, kind: Any) -> bool:
    """Tell whether a value from a JSON file may be one of a type."""
    if kind is int:
        return type(value) is int and 0 <= value <= 2**53
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300
    return value is None if kind is type(None) else isinstance(value, kind)


def same_memory(memory: object, fresh: dict[str, Any]) -> None:
    """Compare the memory in a checkpoint, None where it has none, with that of a trainer that has just begun, {} for one without. Raises
    ValueError."""
    if fresh and not isinstance(memory, dict):
        raise ValueError(f"{STATE} lacks the trainer's 'memory'")
    if memory is not None and not fresh:
        raise ValueError(f"{STATE} has an unknown key 'memory'")
    if fresh:
        check_memory(memory, fresh["memory"])


def check_memory(found: object, fresh: object, name: str = "memory") -> None:
    """Compare a trainer's memory that comes from a checkpoint with that of a trainer that has just begun: every number is finite, and what
    stands in both is of one kind. Raises ValueError."""
    numbers = (int, float)
    kinds = numbers if type(fresh) in numbers else type(fresh)
    if (isinstance(found, float) and not math.isfinite(found)) or not (found is None or fresh is None or isinstance(found, kinds)):
        raise ValueError(f"'{name}' in {STATE} cannot be {one_line(repr(found))[:40]}")
    if isinstance(found, dict):
        known = fresh if isinstance(fresh, dict) else {}
        if absent := [key for key in known if key not in found]:
            raise ValueError(f"'{name}' in {STATE} lacks '{absent[0]}'")
        for key, value in found.items():
            check_memory(value, known.get(key), f"{name}.{one_line(str(key))[:40]}")
    if isinstance(found, list):
        for value in found:
            check_memory(value, None, name)


def check_tensors(flat: dict[str, torch.Tensor], tensors: dict, optimizers: dict) -> str | None:
    """Compare the tensors of a checkpoint, of any shape, with those to be restored; return the first group that differs in its shapes.
    Raises ValueError where one is not finite, or is a moment of no parameter."""
    for name, tensor in flat.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"'{one_line(name)[:80]}' holds NaN or infinity")
    for group, members in tensors.items():
        for i, tensor in members.items():
            if f"{group}/{i}" not in flat or flat[f"{group}/{i}"].shape != tensor.shape:
                return str(group)
    for role in optimizers:
        for name, value in flat.items():
            if name.startswith(f"{role}/moments/"):
                index, _, key = name.removeprefix(f"{role}/moments/").partition("/")
                parameter = tensors[role].get(int(index)) if index.isdecimal() else None
                if parameter is None or "/" in key or (value.dim() > 0 and not is_part(key, value, parameter)):
                    raise ValueError(f"'{one_line(name)[:80]}' is no moment of a parameter")
    return None


def _put_moments(optimizer: torch.optim.Optimizer, prefix: str, flat: dict[str, torch.Tensor], parameters: dict) -> None:
    """Give an optimizer of a role the moments that a checkpoint holds under `prefix`."""
    template = optimizer.state_dict()
    template["state"] = {}
    for name, value in flat.items():
        if name.startswith(prefix):
            index, key = name.removeprefix(prefix).split("/")
            parameter = parameters[int(index)]
            kept: Any = value
            if value.dim() == 0:  # a count of steps; quantised moments have a plain number
                kept = value if value.is_floating_point() else int(value)
            elif value.shape == parameter.shape:
                # in the parameter's memory layout: fused AdamW on a CPU reads both as they lie, without a look at their strides
                kept = torch.empty_like(parameter, dtype=value.dtype).copy_(like(value, parameter))
            template["state"].setdefault(int(index), {})[key] = kept
    optimizer.load_state_dict(template)
