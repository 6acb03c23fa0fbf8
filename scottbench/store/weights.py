"""Which files of a folder with weights are opened, which are missing, and the digest that names them all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scottbench.errors import DamagedAsset
from scottbench.store.assets import file_digest, walked

PARTS = ("model_index.json", "tokenizer", "text_encoder", "unet", "vae", "scheduler")
"""The parts of a pipeline folder that are opened."""
WEIGHTS = ("text_encoder", "unet", "vae")
"""The parts of it that hold weights."""
SECOND = ("text_encoder_2", "tokenizer_2")
"""The further parts of a pipeline with two text encoders, the first of which holds weights."""
SUFFIXES = {".safetensors", ".json", ".txt"}
"""Weights, configs, vocabularies."""


def parts_with_weights(folder: Path) -> tuple[str, ...]:
    """List the parts of a pipeline folder that hold weights."""
    return (*WEIGHTS, SECOND[0]) if (folder / SECOND[0]).is_dir() else WEIGHTS


def weights_digest(folder: Path, expected: dict[str, str] | None = None, known: dict[Path, str] | None = None) -> str:
    """Return the sha256 hex over names and bytes of everything in `folder` (a pipeline, a U-Net, an evaluator) that is opened.

    That is all that can change an image: weights, configs, vocabulary. READMEs and the file of measured quality do not count.
    expected: relative name -> the sha256 hex that the file must have. known: digests of files that were hashed just now; those are
    not read again. Raises DamagedAsset if a file has another digest than expected.
    """
    known, total = {} if known is None else known, hashlib.sha256()
    for path in opened_files(folder):
        name, digest = path.relative_to(folder).as_posix(), known[path] if path in known else file_digest(path)
        if expected is not None and expected.get(name, digest) != digest:
            raise DamagedAsset(f"{path} has sha256 {digest[:12]}..., expected {expected[name][:12]}... Fetch it again.")
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()


def hashed_beside(folder: Path) -> Callable[[], dict[Path, str]]:
    """Begin to hash the opened files of `folder` in a thread, and return a function that waits for it and gives {path: sha256 hex}.

    Hashing leaves the interpreter free, so it costs an import beside it next to nothing. From the first file on
    that cannot be read there are no digests: whoever needs one reads the file again, and meets the error.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="hashing")

    def digests() -> dict[Path, str]:
        found = {}
        with contextlib.suppress(OSError):
            for path in opened_files(folder):
                found[path] = file_digest(path)
        return found

    result = pool.submit(digests).result
    pool.shutdown(wait=False)
    return result


def opened_files(folder: Path) -> list[Path]:
    """List the weights, configs and vocabularies below `folder` that are opened, sorted; links are followed, dot names left out.

    Left out are the gigabytes that published pipelines hold beside them: whole checkpoints in the first folder, a safety checker,
    variants of weights (a dot in the stem: `model.fp16.safetensors`). Pickled weights count where a part of a pipeline has no others.
    """
    pipeline = (folder / "model_index.json").is_file()
    pickled = {folder / name for name in pickled_weights(folder)}

    def is_opened(path: Path) -> bool:
        variant = path.suffix == ".safetensors" and "." in path.stem
        known = (path.suffix in SUFFIXES and path.name != "quality.json") or path in pickled
        return known and not variant and (not pipeline or _of_pipeline(path.relative_to(folder)))

    return [path for path in walked(folder) if is_opened(path)]


def _of_pipeline(name: Path) -> bool:
    """A file that lies where a part of a pipeline is read from: the libraries look into no folder of a part."""
    part = name.parts[0]
    if len(name.parts) == 1:
        return part == "model_index.json"
    if len(name.parts) > 2 or part not in (*PARTS, *SECOND):
        return False
    if part == "scheduler":
        return name.name == "scheduler_config.json"
    return name.suffix == ".json" or (name.suffix != ".txt" if part in (*WEIGHTS, SECOND[0]) else name.suffix == ".txt")


def pickled_weights(folder: Path) -> list[str]:
    """List the .bin files, by relative name, that the parts of a pipeline folder would be read from for want of safetensors."""
    found = []
    for part in parts_with_weights(folder) if (folder / "model_index.json").is_file() else ():
        if not any("." not in path.stem for path in (folder / part).glob("*.safetensors")):
            found += [path.relative_to(folder).as_posix() for path in sorted((folder / part).glob("*.bin")) if "." not in path.stem]
    return found


def absent_files(folder: Path) -> list[str]:
    """List what a pipeline folder lacks. Weights in other formats, or as a variant only (fp16), are as good as none."""
    needed = parts_with_weights(folder)
    absent = [name for name in (*PARTS, *(SECOND[1:] if SECOND[0] in needed else ())) if not (folder / name).exists()]
    weights = {path.relative_to(folder).parts[0] for path in opened_files(folder) if path.suffix in {".safetensors", ".bin"}}
    return absent + [f"{part}/*.safetensors" for part in needed if part not in {*absent, *weights}]
