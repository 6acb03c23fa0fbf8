"""A training split as latents and text embeddings: encoded once and kept on disk under the digests of what made them, or made for each
batch. --cache says how much is kept: "both" of them in float32, "latents" alone in float16, or "none".

A second training on the same model and data reads them back. They are memory-mapped, so that a set larger than the memory
costs what a batch costs. COCO's 118,000 items take 36 GB as both, 3.9 GB as latents.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypedDict, TypeGuard

import numpy as np
import torch

from scottbench.errors import DamagedAsset, UsageError
from scottbench.models.diffusion_model import DiffusionModel, Text, upscale
from scottbench.models.transfer import sent
from scottbench.registry.condition import TextCondition
from scottbench.registry.nouns import Items, StreamedItems
from scottbench.store.assets import cache_dir
from scottbench.text import one_line
from scottbench.training.encoded import (
    CHUNK,
    KINDS,
    Cache,
    Progress,
    alone,
    begin_cache,
    finish,
    keeping,
    note_what_is_lost,
    others_records,
    read_cache,
    record_of,
    refuse,
)
from scottbench.training.frozen import fetched
from scottbench.training.stream import Stream, hold_out

PIXELS = 2**18
"""Pixels that the VAE encodes in one call: 64 images of 64x64, one of 512x512 (64 of those would take 40 GiB in float32)."""
SMALL = 2 * 2**30
"""Bytes up to which latents and text are both kept where nobody says how: reading them costs less than embedding texts again."""
HELD_OUT = 256
"""Training items that are never trained on: for a trainer's `evaluate` and for the metric curve."""


class Encoded(TypedDict):
    """Rows of a training split: the part of a `Batch` that comes from the data."""

    latents: torch.Tensor
    """(N,C,h,w) float32."""
    text: TextCondition
    """(N,L,D) float32."""
    uncond: TextCondition
    """(1,L,D) float32."""
    indices: torch.Tensor
    """(N,) int64."""


@dataclass
class Rows:
    """Items as they are read, before anything is made of them on a device."""

    tensors: dict[str, torch.Tensor]
    """"latents" (N,C,h,w), "text" (N,L,D), "pooled" (N,P): those that are kept."""
    indices: torch.Tensor
    """(N,) int64."""
    prompts: list[str] | None = None
    """Prompts whose embeddings are not kept."""
    images: np.ndarray | None = None
    """(N,H,W,3) uint8, where latents are not kept."""
    spent: int = 0
    """Spares that the lane has used so far, of a stream."""
    met: int = 0
    """Broken items that were met."""


@dataclass
class Maker:
    """The networks that make what is not kept, and the prompts that they read."""

    model: DiffusionModel
    prompts: Sequence[str]
    offload: bool = False
    """The networks wait in the CPU's memory."""

    def at_hand(self) -> contextlib.AbstractContextManager[None]:
        """Have the networks on the model's device within the block."""
        return fetched(self.model, self.offload)

    def latents(self, images: np.ndarray) -> torch.Tensor:
        """Encode images (N,H,W,3) uint8: (N,C,h,w) float32, in the calls in which a cache would be encoded."""
        size = at_once(images)
        return torch.cat([self.model.encode_images(images[start : start + size]).clone() for start in range(0, len(images), size)])

    def text(self, prompts: list[str]) -> TextCondition:
        """Embed n prompts: the condition (n,L,D) in float32, with which a trainer may compute gradients."""
        return self.model.encode_prompts(prompts).map(lambda part: part.float().clone())


@dataclass
class Data:
    """A training split: (n,C,h,w) and (n,L,D) arrays (memory-mapped), (1,L,D) float32. None in place of an array: `maker` makes it."""

    latents: np.ndarray | None
    text: np.ndarray | None
    uncond: Text
    train: torch.Tensor
    """(m,) int64 indices trained on; none where a stream has the order."""
    held_out: torch.Tensor
    """(n - m,) int64 indices never trained on."""
    pooled: np.ndarray | None = None
    """(n,P) float32, where the model takes one vector a prompt too."""
    maker: Maker | None = None
    stream: Stream | None = None
    """The order and the pictures of a split of which nothing is kept."""

    def __post_init__(self) -> None:
        self.empty: dict[str, TextCondition] = {}
        """The condition of the unconditional pass by device: sent there once."""
        self.seen: dict[tuple[int, ...], Encoded] = {}
        """Held-out items of a stream, made once."""

    def __len__(self) -> int:
        return len(self.made_of.prompts) if self.text is None else len(self.text)

    @property
    def made_of(self) -> Maker:
        """Return the maker. Raises AssertionError where all is kept."""
        assert self.maker is not None
        return self.maker

    @property
    def size(self) -> tuple[int, ...]:
        """Return the height and width of latents."""
        return self.made_of.model.latent_shape[1:] if self.latents is None else self.latents.shape[2:]

    def batch(self, indices: torch.Tensor, device: str) -> Encoded:
        """Return the rows of indices (N,) int64, on `device`; the indices themselves stay as given."""
        if self.stream is None:
            return self.batches([indices], device)[0]
        key = tuple(indices.tolist())
        if key not in self.seen:
            self.seen[key] = self.batches([indices], device)[0]
        return self.seen[key]

    def batches(self, parts: Sequence[torch.Tensor], device: str) -> list[Encoded]:
        """Return the rows of each of several (N,) int64 indices, on `device`, in one copy."""
        read = self.read(parts)
        return self.placed(sent([rows.tensors for rows in read], device), read, device)

    def rows(self, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        """Read what is kept of indices (N,) int64: latents (N,C,h,w), text (N,L,D) and, where there is, pooled (N,P)."""
        rows = indices.numpy()
        arrays = {"latents": self.latents, "text": self.text, "pooled": self.pooled}
        return {name: torch.from_numpy(array[rows]) for name, array in arrays.items() if array is not None}

    def read(self, parts: Sequence[torch.Tensor], step: int | None = None) -> list[Rows]:
        """Read the rows of micro-batches, (N,) int64 indices each. step: of the training; of a stream, spares take the place of broken
        items then. Raises DamagedAsset as `Stream.read`, and for an item without a step that cannot be read."""
        found = []
        for number, indices in enumerate(parts):
            rows = Rows(self.rows(indices), indices)
            if self.stream is not None and step is not None:
                rows.indices, rows.images, rows.spent, rows.met = self.stream.read(step, number, indices)
            elif self.stream is not None:
                pictures = self.stream.items.readable(indices.tolist())
                if any(picture is None for picture in pictures):
                    raise self.stream.too_many(int(indices[0]))
                rows.images = np.stack([picture for picture in pictures if picture is not None])
            if self.text is None:
                rows.prompts = [self.made_of.prompts[item] for item in rows.indices.tolist()]
            found.append(rows)
        return found

    def note(self, step: int, read: Sequence[Rows]) -> None:
        """Note that a step is trained on rows that were read for it."""
        if self.stream is not None:
            self.stream.note(step, [rows.spent for rows in read], sum(rows.met for rows in read))

    def placed(self, tensors: Sequence[dict[str, torch.Tensor]], read: Sequence[Rows], device: str) -> list[Encoded]:
        """Make batches of what is on `device`, (N,...) each, and of what is still to be encoded."""
        uncond = self.on(device)
        made: list[Encoded] = []
        with contextlib.nullcontext() if self.maker is None else self.maker.at_hand():
            for one, rows in zip(tensors, read, strict=True):
                latents = one["latents"].float() if rows.images is None else self.made_of.latents(rows.images)
                text = self.condition(one, uncond) if rows.prompts is None else self.made_of.text(rows.prompts)
                made.append({"latents": latents, "text": text, "uncond": uncond, "indices": rows.indices})
        return made

    def condition(self, rows: dict[str, torch.Tensor], uncond: TextCondition) -> TextCondition:
        """Return the (N,L,D) condition of rows, with the sizes that `uncond`, (1,L,D), has."""
        if "pooled" not in rows or uncond.ids is None:
            return TextCondition(rows["text"])
        # all pictures of a model have one size
        return TextCondition(rows["text"], rows["pooled"], uncond.ids.expand(len(rows["text"]), -1))

    def on(self, device: str) -> TextCondition:
        """Return the (1,L,D) condition of the unconditional pass on a device."""
        if device not in self.empty:
            self.empty[device] = TextCondition.of(self.uncond).to(device)
        return self.empty[device]

    def texts(self, indices: torch.Tensor, device: str) -> TextCondition:
        """Return the (N,L,D) condition of the prompts of indices (N,) int64, on `device`."""
        if self.text is None:
            with self.made_of.at_hand():
                return self.made_of.text([self.made_of.prompts[item] for item in indices.tolist()]).to(device)
        rows = {name: tensor for name, tensor in self.rows(indices).items() if name != "latents"}
        return self.condition(sent(rows, device), self.on(device))


@dataclass(frozen=True)
class Encoding:
    """How a training split is kept, and the processes that encode it together."""

    kind: str = "both"
    """"both", "latents" or "none"; see `TrainSettings.cache`."""
    rank: int = 0
    processes: int = 1
    wait: Callable[[], None] = lambda: None
    """Return when all processes have come here."""
    offload: bool = False
    """Networks that make batches wait in the CPU's memory."""


def held_out_of(n: int, batch_size: int) -> int:
    """Count the items of a training split of n that are held out. Raises UsageError where those left are fewer than one batch."""
    held = min(HELD_OUT, n // 10)
    if n - held < batch_size:
        raise UsageError(
            f"the training split has {n} items ({n - held} after {held} held out), "
            f"fewer than one batch of {batch_size}. Use --batch-size {max(1, n - held)} or less."
        )
    return held


def open_data(
    model: DiffusionModel, items: Items, batch_size: int, seed: int, progress: Progress, encoding: Encoding | None = None
) -> Data:
    """Open the training split, encoded, read back, or to be made batch by batch. Raises UsageError when it is smaller than one batch, its
    pictures are of another size than the model's, or the cache cannot be written; Incomplete when the disk is full; DamagedAsset for an
    image without latents, or more broken ones than the dataset allows.
    """
    how = Encoding() if encoding is None else encoding
    held = held_out_of(len(items.ids), batch_size)
    if how.kind == "none":
        return open_stream(model, items, held, seed, how.offload)
    encode_what_is_missing(model, items, encoded_folder(model, items, how.kind), progress, how)
    return read_back(model, items, held, seed, how)


def read_back(model: DiffusionModel, items: Items, held: int, seed: int, how: Encoding) -> Data:
    """Open a training split that is encoded, `held` of its items held out. Raises DamagedAsset where it is not whole, or more items are
    broken than the dataset allows."""
    n, folder = len(items.ids), encoded_folder(model, items, how.kind)
    cache = read_cache(folder, n, how.kind)
    try:
        if cache is None or not cache.is_whole():
            raise refuse(folder)
        arrays = cache.arrays()
    except (OSError, ValueError):
        raise refuse(folder) from None
    check_broken(items, cache)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    if left_out := cache.left_out():
        order = order[~torch.isin(order, torch.tensor(left_out))]
    maker = Maker(model, items.prompts, how.offload) if how.kind == "latents" else None
    return Data(
        arrays["latents"], arrays.get("text"), empty_prompt(model), order[held:], order[:held], arrays.get("pooled"), maker)


def open_stream(model: DiffusionModel, items: Items, held: int, seed: int, offload: bool) -> Data:
    """Open a split of which nothing is kept. Raises UsageError for a dataset that is not made for it, and for pictures of another size than
    the model's; DamagedAsset where held-out pictures cannot be read."""
    if not is_streamed(items):
        raise UsageError("--cache none is for datasets that are read from shards (scottbench show dataset stream); this one is not. Use "
                         "--cache latents or both.")
    held_out = hold_out(items, held, seed)
    picture = items.readable(held_out[:1].tolist() or [0])[0]
    side = model.latent_shape[1] * upscale(model.vae)
    if picture is not None and picture.shape[:2] != (side, side):
        raise UsageError(f"the pictures are brought to {picture.shape[1]} x {picture.shape[0]} and the model makes {side} x {side}: give "
                         f"the dataset's option side={side}.")
    return Data(
        None, None, empty_prompt(model), torch.arange(0), held_out, maker=Maker(model, items.prompts, offload),
        stream=Stream(items, held_out, seed))


def is_streamed(items: Items) -> TypeGuard[StreamedItems]:
    """Tell whether a split is in shards that can be read one behind the other."""
    return hasattr(items, "readable")


def chosen_kind(asked: str, model: DiffusionModel, items: Items) -> str:
    """Return what is kept of a training split: what was asked for; of "auto" nothing of a stream, both where they are small, else
    latents."""
    if asked != "auto":
        return asked
    if is_streamed(items):
        return "none"
    return "both" if size_needed(model, len(items.ids)) <= SMALL else "latents"


def check_broken(items: Items, cache: Cache) -> None:
    """Raises DamagedAsset where more items of a stream could not be read than its bound."""
    broken = cache.left_out()
    if broken and is_streamed(items) and len(broken) > items.broken * cache.n:
        raise DamagedAsset(
            f"{len(broken):,} of {cache.n:,} items could not be read, '{one_line(items.ids[broken[0]])}' among them. Fetch those shards "
            "again, or allow more with the dataset's option broken.")


def encoded_folder(model: DiffusionModel, items: Items, kind: str = "both") -> Path:
    """Name the folder of a training split encoded by a model."""
    version = "1" if kind == "both" else kind
    return cache_dir() / "latents" / hashlib.sha256(f"{version}/{model.digest}/{items.digest}/{model.dtype}".encode()).hexdigest()[:24]


def empty_prompt(model: DiffusionModel) -> TextCondition:
    """Return the (1,L,D) float32 condition of the unconditional pass."""
    return model.empty_prompt().map(lambda part: part.float().cpu().clone())  # an inference tensor cannot be saved for backward


def is_whole(folder: Path, n: int, kind: str = "both") -> bool:
    """Tell whether the folder holds n encoded items; their digests are compared when a training begins."""
    cache = read_cache(folder, n, kind)
    return cache is not None and cache.is_whole()


def encode_what_is_missing(
    model: DiffusionModel, items: Items, folder: Path, progress: Progress, how: Encoding
) -> None:
    """Encode every chunk that is not there, or whose bytes are not what was written. A killed training has kept all but the chunk that each
    process was at. Of several processes the first looks what is missing, then all encode. Raises UsageError, Incomplete or DamagedAsset as
    `open_data`."""
    n = len(items.ids)
    if how.rank > 0:
        how.wait()
        share_chunks(model, items, folder, progress, how)
        how.wait()
        how.wait()
        return
    cache = read_cache(folder, n, how.kind)
    if cache is not None and not cache.damaged(progress) and not others_records(folder):
        for _ in range(3):
            how.wait()
        return  # nothing is written, so that a cache that is read only serves as well
    with keeping(folder, size_needed(model, n, how.kind)):
        folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        prepare(model, items, folder, progress, how)
        how.wait()
        share_chunks(model, items, folder, progress, how)
        how.wait()
        whole = read_cache(folder, n, how.kind)
        if whole is None or not whole.is_whole():
            raise refuse(folder)
        with keeping(folder, size_needed(model, n, how.kind)):
            finish(whole)
        progress("encode", n, n)
    how.wait()


def prepare(model: DiffusionModel, items: Items, folder: Path, progress: Progress, how: Encoding) -> None:
    """Begin or mend the cache of a split, so that its record names all chunks that are whole. A new one has its first chunk then, which
    says the shapes of rows. Raises as `open_data`."""
    n, needed = len(items.ids), size_needed(model, len(items.ids), how.kind)
    cache = read_cache(folder, n, how.kind)
    missing = list(range(0, n, CHUNK)) if cache is None else cache.damaged(progress)
    note_what_is_lost(folder, cache, missing)
    if cache is not None and len(missing) < len(cache.chunks()):
        cache.forget(missing)
        with keeping(folder, needed):
            cache.keep()
        if not missing:
            return
    first = missing[0]
    rows, broken = encode_rows(model, items, range(first, min(first + CHUNK, n)), how.kind)
    shapes = {name: array.shape[1:] for name, array in rows.items()}
    with keeping(folder, needed):
        # nothing is left of it, or a file is no such array: begin anew
        if cache is None or len(missing) == len(cache.chunks()) or cache.shapes != shapes:
            cache = begin_cache(folder, n, shapes, how.kind)
        cache.write(first, rows, broken)
    progress("encode", sum(map(cache.rows, cache.digests)), n)


def share_chunks(model: DiffusionModel, items: Items, folder: Path, progress: Progress, how: Encoding) -> None:
    """Encode this process's share of the chunks that the record does not name. Raises as `open_data`."""
    n = len(items.ids)
    cache = read_cache(folder, n, how.kind)
    if cache is None:
        raise refuse(folder)
    missing = [first for first in cache.chunks() if first not in cache.digests]
    done, lacking = n - sum(map(cache.rows, missing)), sum(map(cache.rows, missing))
    for number, first in enumerate(missing[how.rank :: how.processes]):
        rows, broken = encode_rows(model, items, range(first, min(first + CHUNK, n)), how.kind)
        with keeping(folder, size_needed(model, n, how.kind)):
            cache.write(first, rows, broken, record_of(how.rank))
        # the others are taken to be as far
        progress("encode", min(n - 1, done + min(lacking, (number + 1) * how.processes * CHUNK)), n)


def at_once(images: np.ndarray) -> int:
    """Return how many of images (N,H,W,3) the VAE gets in one call."""
    return max(1, min(CHUNK, PIXELS // (images.shape[1] * images.shape[2])))


def readable(items: Items, index: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Decode pictures (k,H,W,3) uint8, and list the items that cannot be read, where the dataset allows some: they are black. Raises as the
    dataset, and DamagedAsset where none of them can be read."""
    if not is_streamed(items):
        return items.images(index), []
    pictures = items.readable(index)
    found = [picture for picture in pictures if picture is not None]
    if not found:
        raise DamagedAsset(f"none of {len(index)} items from '{one_line(items.ids[index[0]])}' on can be read. Fetch that shard again.")
    black = np.zeros_like(found[0])
    return (np.stack([black if picture is None else picture for picture in pictures]),
            [item for item, picture in zip(index, pictures, strict=True) if picture is None])


def encode_rows(
    model: DiffusionModel, items: Items, index: Sequence[int], kind: str = "both"
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Encode items: {"latents": (k,C,h,w), "text": (k,L,D)}, and "pooled" (k,P) where there is, those that a kind of cache has, in its
    number format; and the items that could not be read. The VAE gets `PIXELS` at once, or one image. Raises DamagedAsset where an item's
    latents are not finite."""
    images, broken = readable(items, index)
    size, form = at_once(images), KINDS[kind]
    latents = torch.cat([model.encode_images(images[start : start + size]).float().cpu() for start in range(0, len(images), size)])
    rows = {"latents": latents}
    if "text" in form.names:
        text = model.encode_prompts([items.prompts[i] for i in index])
        rows["text"] = text.hidden.float().cpu()
        if text.pooled is not None:
            rows["pooled"] = text.pooled.float().cpu()
    made = {name: np.ascontiguousarray(tensor.numpy(), dtype=form.format) for name, tensor in rows.items()}
    for i, row in zip(index, made["latents"], strict=True):
        if not np.isfinite(row).all():
            raise DamagedAsset(
                f"the model's VAE gives NaN or infinite latents for item '{one_line(items.ids[i])}' of the training split. Check the VAE.")
    if broken:
        made["latents"][[list(index).index(item) for item in broken]] = 0
    return made, broken


def size_needed(model: DiffusionModel, n: int, kind: str = "both") -> int:
    """Count the bytes of n items' latents and, where they are kept, text embeddings."""
    channels, height, width = model.latent_shape
    if kind != "both":
        return 2 * n * channels * height * width
    return 4 * n * channels * height * width + n * TextCondition(*model.empty_prompt().parts[:2]).to(torch.float32).nbytes


def epoch_batch(train: torch.Tensor, step: int, batch_size: int, seed: int) -> torch.Tensor:
    """Return the (N,) indices of one step out of train (m,). Each epoch is a permutation that depends on (seed, epoch) only, so that
    a resumed training sees the same order."""
    per_epoch = len(train) // batch_size
    epoch, position = divmod(step, per_epoch)
    return train[epoch_order(len(train), epoch, seed)[position * batch_size : (position + 1) * batch_size]]


@lru_cache(maxsize=2)
def epoch_order(n: int, epoch: int, seed: int) -> torch.Tensor:
    """Return the (n,) permutation of an epoch; of 118,000 items it takes as long as a small network's step."""
    return torch.randperm(n, generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63))
