"""Training checkpoints without pickle: networks and AdamW moments as safetensors, the rest as JSON. No generator's state is in
them: every draw of a step comes from a seed made of the training's seed and the step (`settings.micro_batch_seed`).

Written to a temporary folder that replaces the old one, so that a kill leaves the last good checkpoint.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from scottbench.errors import DamagedAsset, Incomplete, MissingAsset, UsageError
from scottbench.store.files import json_bytes, read_json, read_object, replace_file, replace_folder, restore_folder
from scottbench.training.distributed import full, like


def flatten(tensors: dict, optimizers: dict) -> dict[str, torch.Tensor]:
    """Return all tensors of a training, each of any shape and whole, under flat names: group/index, role/moments/index/key. Every
    process must ask."""
    named = {f"{group}/{i}": t.detach() for group, members in tensors.items() for i, t in members.items()}
    for role, optimizer in optimizers.items():
        for i, moments in optimizer.state_dict()["state"].items():
            named |= {f"{role}/moments/{i}/{key}": torch.as_tensor(value) for key, value in moments.items()}
    return {name: full(tensor).cpu().contiguous().clone() for name, tensor in named.items()}


def save(folder: Path, flat: dict[str, torch.Tensor], state: dict) -> None:
    """Write a checkpoint: tensors of any shape, and the state. Raises Incomplete where it cannot be written; the one before is kept."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save_file(flat, temporary / "tensors.safetensors")
        replace_file(temporary / "state.json", json_bytes(state))
        replace_folder(temporary, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = "None had been made yet" if step_of(folder) is None else f"That of step {step_of(folder)} is kept"
        raise Incomplete(f"cannot write the checkpoint {folder}: {error}. {kept}. Make room and go on with --resume.") from None


def step_of(folder: Path) -> int | None:
    """Return the step of the last checkpoint; None if there is none."""
    step = (read_json(folder / "state.json") or {}).get("step")
    return None if step is None else int(step)


@torch.no_grad()
def load(folder: Path, tensors: dict, optimizers: dict) -> dict:
    """Restore everything in place and return the state. Raises MissingAsset, DamagedAsset, or UsageError if the
    checkpoint belongs to another configuration."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    restore_folder(folder)
    if not (folder / "state.json").is_file():
        raise MissingAsset(f"nothing to resume: {folder} has no checkpoint. Start without --resume.")

    def broken(error: Exception) -> DamagedAsset:
        return DamagedAsset(f"cannot read the checkpoint {folder}: {error}. Start again without --resume.")

    state = read_object(folder / "state.json", broken)
    try:
        flat = load_file(folder / "tensors.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise broken(error) from None
    for group, members in tensors.items():
        for i, tensor in members.items():
            stored = flat.get(f"{group}/{i}")
            if stored is None or stored.shape != tensor.shape:
                raise UsageError(
                    f"the checkpoint {folder} was made with other options (its {group} network differs). "
                    "Give the same options, or another --out."
                )
            tensor.copy_(like(stored, tensor))
    for role, optimizer in optimizers.items():
        template = optimizer.state_dict()
        prefix = f"{role}/moments/"
        template["state"] = {}
        for name, value in flat.items():
            if name.startswith(prefix):
                index, key = name.removeprefix(prefix).split("/")
                if value.dim() > 0:  # else AdamW's count of steps
                    # in the parameter's memory layout: fused AdamW on a CPU reads both as they lie, without a look at their strides
                    parameter = tensors[role][int(index)]
                    value = torch.empty_like(parameter, dtype=value.dtype).copy_(like(value, parameter))
                template["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(template)
    return state
