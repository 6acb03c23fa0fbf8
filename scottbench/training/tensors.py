"""Small files of tensors that a trainer keeps in its training's folder: written at once and synced, with a digest that is compared."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scottbench.errors import DamagedAsset, Incomplete, UsageError
from scottbench.store.files import replace_file, writing

DIGEST = "sha256"
"""Key of a file's metadata: over names, number formats, shapes and bytes of its tensors, and over the other keys."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Replace a file by tensors of any shape and facts that say which file it is. Its folder may be made, not the training's folder
    above. Raises Incomplete where it cannot be written: nothing of the training is lost but the step in hand."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = save(whole, {**facts, DIGEST: digest_of(whole, facts)})
    try:
        with writing(path, "Make room and go on with --resume."):
            for folder in (path.parent.parent, path.parent):
                folder.mkdir(exist_ok=True)
            replace_file(path, data)
    except UsageError as error:
        raise Incomplete(str(error)) from None


def read_tensors(path: Path, names: tuple[str, ...], facts: Mapping[str, str]) -> tuple[dict[str, Tensor], bool]:
    """Read the tensors `names`, of any shape, of a file that `write_tensors` wrote with the same facts; return with them whether they had
    a digest, which files of older versions lack.

    Raises DamagedAsset where it cannot be read, is not what was written, or holds a number that is not finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise damaged(path, "it is no regular file")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if set(file.keys()) != set(names):
                raise damaged(path, f"it does not hold {', '.join(names)}")
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, ValueError, SafetensorError) as error:
        raise damaged(path, error) from None
    if DIGEST in metadata:
        if {key: value for key, value in metadata.items() if key != DIGEST} != dict(facts):
            raise damaged(path, "it was written as another file")
        if metadata[DIGEST] != digest_of(tensors, facts):
            raise damaged(path, "it is not what was written")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise damaged(path, "it holds NaN or infinity")
    return tensors, DIGEST in metadata


def digest_of(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """Return the sha256 hex over facts and contiguous tensors of any shape."""
    total = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def damaged(path: Path, error: Exception | str) -> DamagedAsset:
    """Return the error for a file that cannot be used."""
    return DamagedAsset(f"cannot read {path}: {error}. Restore it from a copy, or train anew with another --out.")
