"""Which files of a folder with weights are opened, which are missing, and the digest that names them all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from scottbench.errors import DamagedAsset
from scottbench.store.assets import file_digest

PARTS = ("model_index.json", "tokenizer", "text_encoder", "unet", "vae", "scheduler")
"""What is opened of a pipeline folder."""
WEIGHTS = ("text_encoder", "unet", "vae")
"""The parts of it that hold weights."""


def weights_digest(folder: Path, expected: dict[str, str] | None = None) -> str:
    """Return the sha256, in hex, over the relative names and bytes of everything in `folder` that is opened and can change an image.

    folder: a pipeline, a U-Net, an evaluator. Weights, configs and vocabulary count; READMEs and the file of measured quality do not.
    expected: relative name -> sha256 hex, where it is known. Raises DamagedAsset if a file has another.
    """
    total = hashlib.sha256()
    for path in opened_files(folder):
        name, digest = path.relative_to(folder).as_posix(), file_digest(path)
        if expected is not None and expected.get(name, digest) != digest:
            raise DamagedAsset(f"{path} has sha256 {digest[:12]}..., expected {expected[name][:12]}... Fetch it again.")
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()


def opened_files(folder: Path) -> list[Path]:
    """List weights, configs and vocabularies below `folder`, sorted, without the gigabytes that published pipelines hold beside them:
    whole checkpoints in the first folder, a safety checker, variants of weights (a dot in the stem: `model.fp16.safetensors`).
    Pickled weights count where a part of a pipeline has no others."""
    pipeline = (folder / "model_index.json").is_file()
    pickled = {folder / name for name in pickled_weights(folder)}

    def is_opened(path: Path) -> bool:
        variant = path.suffix == ".safetensors" and "." in path.stem
        known = (path.suffix in {".safetensors", ".json", ".txt"} and path.name != "quality.json") or path in pickled
        return known and not variant and path.is_file() and (not pipeline or path.relative_to(folder).parts[0] in PARTS)

    return [path for path in sorted(folder.rglob("*")) if is_opened(path)]


def pickled_weights(folder: Path) -> list[str]:
    """List the relative names of the .bin files that the parts of a pipeline folder would be read from for want of safetensors."""
    found = []
    for part in WEIGHTS if (folder / "model_index.json").is_file() else ():
        if not any("." not in path.stem for path in (folder / part).glob("*.safetensors")):
            found += [path.relative_to(folder).as_posix() for path in sorted((folder / part).glob("*.bin")) if "." not in path.stem]
    return found


def absent_files(folder: Path) -> list[str]:
    """List what a pipeline folder lacks. Weights in other formats, or as a variant only (fp16), do not count."""
    absent = [name for name in PARTS if not (folder / name).exists()]
    weights = {path.relative_to(folder).parts[0] for path in opened_files(folder) if path.suffix in {".safetensors", ".bin"}}
    return absent + [f"{part}/*.safetensors" for part in WEIGHTS if part not in {*absent, *weights}]
