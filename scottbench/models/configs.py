"""Configs and headers of a model folder, read within limits: a file of another kind or size is named before memory is taken for it."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from scottbench.errors import DamagedAsset, Unfit
from scottbench.store.files import read_object
from scottbench.text import bytes_in_words, one_line

CONFIG_BYTES = 2**20
"""Most bytes of a config. The largest published ones have 10 kB."""
VOCABULARY_BYTES = 64 * 2**20
"""Most bytes of a file of a tokenizer."""
HEADER_BYTES = 16 * 2**20
"""Most bytes of a safetensors file's header, which is JSON. Stable Diffusion's have 100 kB."""
WIDTHS = (
    "block_out_channels", "encoder_block_out_channels", "decoder_block_out_channels", "latent_channels", "in_channels", "out_channels",
    "cross_attention_dim", "time_cond_proj_dim", "time_embedding_dim", "conv_in_kernel", "conv_out_kernel", "hidden_size",
    "intermediate_size", "vocab_size", "max_position_embeddings", "projection_class_embeddings_input_dim",
)  # fmt: skip
"""Keys of network configs whose numbers are sides of some tensor."""
REPEATS = ("layers_per_block", "transformer_layers_per_block", "num_encoder_blocks", "num_decoder_blocks", "num_hidden_layers")
"""Keys of network configs that say how often something is repeated."""


def refuse(path: Path, field: str, value: object, supported: str) -> Unfit:
    """Return the error for a value that is not supported: file, field, value, and what is, in one line."""
    try:
        shown = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        shown = type(value).__name__
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return Unfit(f"{path}: {field} is {one_line(shown)}; supported: {supported}.")


def check_size(path: Path, most: int) -> None:
    """Check that a file is a regular one of at most so many bytes, and not empty. Raises DamagedAsset."""
    try:
        found = path.stat()
    except OSError as error:
        raise DamagedAsset(f"cannot read {path}: {error.strerror}. Restore the file.") from None
    if not stat.S_ISREG(found.st_mode):
        raise DamagedAsset(f"cannot read {path}: it is no regular file. Put the file itself in its place.")
    if not 0 < found.st_size <= most:
        size = f"{bytes_in_words(found.st_size)}; at most {bytes_in_words(most)} are read" if found.st_size else "empty"
        raise DamagedAsset(f"cannot read {path}: it is {size}. Restore the file.")


def read_config(path: Path) -> dict[str, Any]:
    """Read the JSON object of a config. Raises DamagedAsset: absent, too large, no regular file, no JSON object."""
    check_size(path, CONFIG_BYTES)
    return read_object(path, lambda error: DamagedAsset(f"cannot read {path}: {one_line(error)}. Restore the file."))


def tensor_shapes(path: Path) -> list[tuple[int, ...]]:
    """Return the shapes of a safetensors file's tensors; only its header is read. Raises DamagedAsset."""
    return list(read_header(path).shapes.values())


@dataclass(frozen=True)
class Header:
    """All that a safetensors file says of its tensors."""

    shapes: dict[str, tuple[int, ...]]
    kinds: dict[str, str]
    """Number format of each tensor: "F32", "BF16", ..."""
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file; its size is limited. Raises DamagedAsset."""
    check_size(path, 2**60)
    with open(path, "rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    if not 2 <= header <= min(HEADER_BYTES, path.stat().st_size - 8):
        raise DamagedAsset(f"cannot read {path}: its header says that it has {header} bytes. Restore the file.")
    try:
        with safe_open(path, framework="pt") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
            return Header(shapes, {name: str(one.get_dtype()) for name, one in slices.items()}, weights.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedAsset(f"cannot read {path}: {one_line(error)}. Restore the file.") from None


def whole(path: Path, config: dict[str, Any], field: str, low: int, high: int) -> int:
    """Return a field that must be a whole number within limits; text that spells one will do. Raises Unfit."""
    value = config.get(field)
    try:
        number = int(value) if not isinstance(value, bool) and value is not None and float(value) == int(value) else None
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not low <= number <= high:
        raise refuse(path, field, value, f"a whole number from {low:,} to {high:,}")
    return number


def real(path: Path, config: dict[str, Any], field: str, supported: str) -> float:
    """Return a field that must be a finite number; text that spells one will do. Raises Unfit, which says what is supported."""
    value = config.get(field)
    try:
        number = float("nan") if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not math.isfinite(number):
        raise refuse(path, field, value, supported)
    return number


def one_of(path: Path, config: dict[str, Any], field: str, allowed: Sequence[object], default: object = None) -> Any:
    """Return a field that must be one of a few values; `default` where it is absent. Raises Unfit."""
    value = config.get(field, default)
    # True == 1, and a list has no hash: compare one by one, with the type
    if not any(type(value) is type(known) and value == known for known in allowed):
        raise refuse(path, field, value, " or ".join(json.dumps(known) for known in allowed))
    return value


def leaves(value: object) -> list[object]:
    """Return a number as a list, or the numbers of a list, or of a list of lists; nothing for None."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [leaf for item in items for leaf in (item if isinstance(item, list) else [item])]


def check_against_weights(path: Path, config: dict[str, Any], weights: Iterable[Path], also: Sequence[str] = ()) -> None:
    """Check that a network's config asks for no more than its weights hold, or a line of it could take all memory of the machine.

    Every width must be a side of some tensor, and nothing be repeated more often than there are tensors. also: further fields that are
    widths, in this network. Raises Unfit, or DamagedAsset.
    """
    shapes = [shape for file in weights for shape in tensor_shapes(file)]
    sides = {side for shape in shapes if math.prod(shape) for side in shape}
    for field in (*WIDTHS, *also):
        if not all(type(width) is int and width in sides for width in leaves(config.get(field))):
            raise refuse(path, field, config[field], "the widths of its weights, which have no such side")
    # the widest convolution, the tables of words and places: one tensor alone must not be larger than all weights together
    width, total = config.get("hidden_size", 0), sum(map(math.prod, shapes))
    for field in (*WIDTHS, *also):
        for side in leaves(config.get(field)):
            if isinstance(side, int) and (9 * side * side if field.endswith("block_out_channels") else side * width) > total:
                raise refuse(path, field, config[field], f"widths for which its {total:,} weights are enough")
    for field in REPEATS:
        if not all(type(count) is int and 0 <= count <= len(shapes) for count in leaves(config.get(field))):
            raise refuse(path, field, config[field], f"as many as its {len(shapes)} tensors allow")
    for field, value in config.items():
        if isinstance(value, list) and len(value) > len(shapes):
            raise refuse(path, field, value, f"as many as its {len(shapes)} tensors allow")


def variants(place: Path) -> list[Path]:
    """List the safetensors of a part that are variants of its weights: a dot in the stem, `model.fp16.safetensors`."""
    return [path for path in sorted(place.glob("*.safetensors")) if "." in path.stem]
