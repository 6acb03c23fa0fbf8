"""The training split of a folder of shards: an index of every shard, made once, and pictures that are decoded when they are asked for."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image

from scottbench.errors import DamagedAsset, ScottbenchWarning, UsageError
from scottbench.models.images import rgb
from scottbench.store.assets import cache_dir
from scottbench_streams.options import StreamOptions
from scottbench_streams.shards import FORMATS, LEFT_OUT, MOST_PIXELS, Held, Shard

KINDS = (".tar", ".zip", ".parquet", ".arrow")
"""Suffixes of shards; the first kind that a folder has is read."""
VERSION = 1
"""Rises when an index means something else."""
MANY = 50
"""Shards that are looked through without a word."""
SHOWN = 5
"""Broken items whose reasons are remembered."""


class Lazy(Sequence[str]):
    """n texts, each of which is made when it is asked for."""

    def __init__(self, n: int, make: Callable[[int], str]):
        self.n, self.make = n, make

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Make one text, or those of a slice. Raises IndexError behind the last."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(self.n))]
        if not -self.n <= index < self.n:
            raise IndexError(index)
        return self.make(index % self.n)

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(self.n))


class StreamItems:
    """Items of all shards, one shard behind the other. files: the shards; indices: of each (1 + n, 5) int64, as `Shard.index` makes it."""

    def __init__(self, files: Sequence[Shard], indices: Sequence[np.ndarray], options: StreamOptions):
        kept = [number for number, index in enumerate(indices) if len(index) > 1]
        self.files, self.indices = [files[number] for number in kept], [indices[number] for number in kept]
        self.options, self.buffer, self.broken = options, options.buffer, options.broken
        self.shards = [len(index) - 1 for index in self.indices]
        self.ends = np.cumsum(self.shards)
        self.ids = Lazy(len(self), self.name)
        self.prompts = Lazy(len(self), self.caption)
        self.reasons: dict[str, str] = {}
        counts = np.sum([index[0] for index in indices], axis=0).tolist()
        left_out = [f"{count:,} {reason}" for count, reason in zip(counts, LEFT_OUT, strict=True) if count]
        self.remarks = [f"{options.path}: {len(self):,} items; left out: {', '.join(left_out)}"] if left_out else []
        """A line for the user: how many items were left out, and why."""

    def __len__(self) -> int:
        """Number of items."""
        return int(sum(self.shards))

    @cached_property
    def digest(self) -> str:
        """The sha256 hex over names of the shards, all indices (places and sizes of what they hold), and the options that choose items and
        pixels. Pictures are not read for it."""
        o = self.options
        total = hashlib.sha256(f"{VERSION} {o.side} {o.caption} {o.image}\n".encode())
        for file, index in zip(self.files, self.indices, strict=True):
            total.update(f"{file.path.name}\n".encode() + np.ascontiguousarray(index).tobytes())
        return total.hexdigest()

    def full_digest(self) -> str:
        """Look through every shard again, whatever is kept, and make `digest` of that."""
        return StreamItems(self.files, [file.index(self.options) for file in self.files], self.options).digest

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads that decode: PIL leaves the interpreter to others meanwhile."""
        return ThreadPoolExecutor(self.options.workers or min(16, len(os.sched_getaffinity(0))), "decode")

    def place(self, item: int) -> tuple[Shard, np.ndarray, int, int]:
        """Find an item: (its shard, its row (5,) of the index, number of the shard, number in it)."""
        shard = int(np.searchsorted(self.ends, item, side="right"))
        number = item - int(self.ends[shard]) + self.shards[shard]
        return self.files[shard], self.indices[shard][1 + number], shard, number

    def name(self, item: int) -> str:
        """Return the id of an item: shard and number in it."""
        file, _, shard, number = self.place(item)
        return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', file.path.stem)[:60]}-{shard:05d}-{number:06d}"

    def caption(self, item: int) -> str:
        """Read the caption of an item. Raises DamagedAsset where its shard cannot be read any more."""
        file, row, _, _ = self.place(item)
        try:
            return " ".join(file.caption(row).split())
        except (OSError, ValueError, KeyError) as error:
            raise DamagedAsset(f"{file.path} changed since it was looked through ({str(error)[:80]}). Go on with --resume.") from None

    def readable(self, indices: Sequence[int]) -> list[np.ndarray | None]:
        """Decode pictures, several at once: (side,side,3) uint8 each, RGB 0..255; None for one that cannot be decoded. Raises DamagedAsset
        for a shard that is not there any more."""
        return list(self.pool.map(self.picture, indices))

    def picture(self, item: int) -> np.ndarray | None:
        """Decode a picture: (side,side,3) uint8, or None. Raises DamagedAsset as `readable`."""
        file, row, _, _ = self.place(item)
        try:
            return decode(file.picture(row), self.options.side)
        except FileNotFoundError:
            raise DamagedAsset(f"{file.path} is not there any more. Put it back, and go on with --resume.") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's decoders raise all of these
            if len(self.reasons) < SHOWN:
                self.reasons[self.ids[item]] = " ".join(str(error).split())[:120]
            return None

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Decode pictures: (n,side,side,3) uint8. Raises DamagedAsset for one that cannot be decoded."""
        found = self.readable(indices)
        for item, picture in zip(indices, found, strict=True):
            if picture is None:
                raise DamagedAsset(f"item '{self.ids[item]}' of {self.options.path} cannot be decoded. Fetch its shard again.")
        return np.stack([picture for picture in found if picture is not None])


def decode(data: bytes, side: int) -> np.ndarray:
    """Decode a picture and bring it to (side,side,3) uint8: the centred square, resized by torch's antialiased bicubic filter, which is
    PIL's to one level and takes a third of the time. A JPEG that is more than twice as large is decoded at a half, a quarter or an eighth
    of its size. Raises OSError, ValueError or SyntaxError as PIL does."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"has {picture.width} x {picture.height} pixels")
        if picture.format == "JPEG":
            picture.draft("RGB", (2 * side, 2 * side))
        short = min(picture.size)
        left, top = (picture.width - short) // 2, (picture.height - short) // 2
        pixels = np.array(rgb(picture).crop((left, top, left + short, top + short)))
    if short == side:
        return pixels
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    planes = torch.nn.functional.interpolate(planes, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    found = np.empty((side, side, 3), np.uint8)
    for channel, plane in enumerate(planes[0].numpy()):  # four times as fast as a transposed copy
        found[..., channel] = plane
    return found


def open_stream(split: str, options: StreamOptions) -> StreamItems:
    """Open a folder of shards. Each is looked through once; its index is kept in scottbench's cache folder under its path, size and time.

    Raises UsageError or DamagedAsset, one line: another split than training, no shards, a shard of another schema, a tar that leads out, a
    shard that is cut off, nothing left by the filters.
    """
    if split != "train":
        raise UsageError("dataset 'stream' has a training split alone. Evaluate on another one: scottbench list datasets.")
    held = Held()
    files = [open_shard(path, options, held) for path in listed(options.path)]
    indices = indexed(files, options)
    items = StreamItems(files, indices, options)
    if not len(items):
        reasons = "; ".join(items.remarks) or "its shards are empty"
        raise UsageError(f"{options.path} has no item to train on ({reasons}). A sample is a picture with a caption, KEY.jpg and KEY.txt.")
    return items


def listed(path: Path) -> list[Path]:
    """List the shards of a folder, of the first kind of `KINDS` that it has, in the order of their names. Raises UsageError for none."""
    if path.is_file() and path.suffix.lower() in KINDS:
        return [path]
    if not path.is_dir():
        raise UsageError(f"no folder {path}: name a folder of {', '.join(KINDS)} shards, stream@path=FOLDER.")
    # the cache of a Hugging Face hub holds links to its files
    there = sorted(one for one in path.rglob("*") if one.suffix.lower() in KINDS and not one.name.startswith(".") and one.is_file())
    for kind in KINDS:
        found = [one for one in there if one.suffix.lower() == kind]
        if found:
            return found
    raise UsageError(f"{path} holds no shards ({', '.join(KINDS)}). Single pictures are the dataset folder: --dataset {path}.")


def open_shard(path: Path, options: StreamOptions, held: Held) -> Shard:
    """Make the reader of a shard; those of one dataset hold what they read together."""
    kind = path.suffix.lower()
    if kind == ".tar":
        from scottbench_streams.tars import Tar

        return Tar(path, options)
    if kind == ".zip":
        from scottbench_streams.zips import Zip

        return Zip(path, options, held)
    from scottbench_streams.columns import Arrow, Parquet

    return (Parquet if kind == ".parquet" else Arrow)(path, options, held)


def indexed(files: Sequence[Shard], options: StreamOptions) -> list[np.ndarray]:
    """Return the index of each shard, (1 + n, 5) int64, memory-mapped: read back, or made and kept. Raises as `open_stream`."""
    folder = cache_dir() / "shards"
    new = [file for file in files if not (folder / key_of(file.path, options)).is_file()]
    if len(new) > MANY:
        warnings.warn(ScottbenchWarning(
            f"{len(new):,} of {len(files):,} shards in {options.path} are looked through once. Shards that are done stay so when this is "
            f"stopped ({folder})."), stacklevel=2)
    for file in new:
        keep(folder / key_of(file.path, options), file.index(options))
    return [read_index(folder / key_of(file.path, options), file, options) for file in files]


def key_of(path: Path, options: StreamOptions) -> str:
    """Name the file of a shard's index: by path, size and time of the shard, and the options that choose items."""
    found, o = path.stat(), options
    chosen = (o.image, o.caption, o.min_size, o.min_aesthetic, o.aesthetic)
    text = f"{VERSION}/{path.resolve()}/{found.st_size}/{found.st_mtime_ns}/{chosen}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32] + ".npy"


def keep(path: Path, index: np.ndarray) -> None:
    """Write an index (1 + n, 5). Raises UsageError where the cache folder cannot be written."""
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.new.npy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(temporary, index)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}. Set SCOTTBENCH_CACHE to a folder with room.") from None


def read_index(path: Path, file: Shard, options: StreamOptions) -> np.ndarray:
    """Map an index, (1 + n, 5) int64; one that is no such array is made again. Raises as `open_stream`."""
    for _ in range(2):
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.dtype == np.int64 and found.ndim == 2 and found.shape[1] == 5 and len(found):
                return found
        except (OSError, ValueError, EOFError):
            pass
        keep(path, file.index(options))
    raise UsageError(f"{path} cannot be read back. Set SCOTTBENCH_CACHE to another folder.")
