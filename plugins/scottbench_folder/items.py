"""One split of a folder of pictures with captions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from scottbench.errors import DamagedAsset, UsageError
from scottbench.models.images import square
from scottbench.models.pictures import Matched, PictureSet, match, named, open_pictures
from scottbench_folder.options import FolderOptions

SPLITS = ("evaluation", "train")
LARGEST = 2**26
"""Bytes of a list of a split at most."""


class FolderItems:
    """Items of one split: ids, prompts, and pictures that are decoded when they are asked for."""

    def __init__(self, pictures: PictureSet, prompts: Sequence[str], side: int | None, remarks: Sequence[str] = ()) -> None:
        self.pictures, self.prompts, self.side = pictures, list(prompts), side
        self.ids = list(pictures.ids)
        self.remarks = list(remarks)
        """Lines for the user: what was left out."""
        total = hashlib.sha256(f"side {self.side}\n".encode())
        for name, prompt, look in zip(self.ids, self.prompts, self.pictures.looks, strict=True):
            total.update(f"{name}\t{prompt}\t{look.digest}\n".encode())
        self.digest = total.hexdigest()
        """sha256 hex over id, caption and file of every item, in order, and over the size that pictures are brought to."""

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Decode pictures: (n,H,W,3) uint8, RGB 0..255. Raises DamagedAsset for one that changed since the folder was opened."""
        found = self.pictures.images(indices)
        return found if self.side is None else np.stack([np.asarray(square(Image.fromarray(image), self.side)) for image in found])


def open_folder(split: str, options: FolderOptions) -> FolderItems:
    """Open a split of a folder, every picture read and decoded once.

    Raises UsageError or DamagedAsset, one line: an unknown split, no pictures, no captions, a picture that cannot be decoded, sizes that
    differ where none is asked for, a list that names what is not there.
    """
    if split not in SPLITS:
        raise UsageError(f"a folder of pictures has no split '{split}'. Splits: {', '.join(SPLITS)}")
    opened = open_pictures(options.path, options.captions)
    if opened.pictures.broken:
        name, why = next(iter(opened.pictures.broken.items()))
        more = f" (and {len(opened.pictures.broken) - 1} more)" if len(opened.pictures.broken) > 1 else ""
        raise DamagedAsset(f"{options.path}/{name} {why}{more}. Put a whole picture in its place, or take it away with its caption.")
    if opened.captions is None:
        raise UsageError(f"{options.path} has no captions: give captions.csv with columns file and caption, or NAME.txt beside each "
                         "picture; or name a file with --prompts FILE (in a preset: captions = FILE).")
    matched = match(opened.pictures, opened.captions, opened.where)
    pictures, prompts = _of_split(matched, split, options)
    if options.side is None and len(pictures.sizes) > 1:
        sizes = [f"{width} x {height} ({n:,})" for (width, height), n in pictures.sizes.items()]
        raise UsageError(f"{options.path}: pictures have {len(sizes)} sizes: {named(sizes)}. Say to which square they are brought: "
                         f"--dataset {options.path}@side=512 (in a preset: side = 512).")
    return FolderItems(pictures, prompts, options.side, matched.remarks())


def _of_split(matched: Matched, split: str, options: FolderOptions) -> tuple[PictureSet, list[str]]:
    """The pictures and captions of a split, in the order of its list, or of the captions where it has none. Raises UsageError."""
    lists = {name: _list(options, name) for name in SPLITS}
    everything = list(range(len(matched.pictures)))
    found = {name: None if path is None else _places(matched.pictures, path) for name, path in lists.items()}
    own, other = found[split], found["train" if split == "evaluation" else "evaluation"]
    if own is not None:
        if both := set(own) & set(other or ()):
            raise UsageError(f"{lists[split]}: '{matched.pictures.ids[min(both)]}' is in the list of the other split too.")
        chosen = own
    elif split == "train" and other is None:
        raise UsageError(f"{options.path} has no training split: list its pictures in train.txt there, an id or a file a line "
                         "(in a preset: train = FILE), or those for evaluation in evaluation.txt.")
    else:
        chosen = [index for index in everything if index not in set(other or ())]
    if not chosen:
        raise UsageError(f"{options.path}: the {split} split is empty.")
    return matched.pictures.at(chosen), [matched.prompts[index] for index in chosen]


def _list(options: FolderOptions, split: str) -> Path | None:
    """The list of a split that is named, or that lies in the folder."""
    named_one: Path | None = getattr(options, split)
    usual = options.path / f"{split}.txt"
    return named_one if named_one is not None else usual if options.path.is_dir() and usual.is_file() else None


def _places(pictures: PictureSet, path: Path) -> list[int]:
    """Indices of the pictures that a list names. Raises UsageError: unreadable, a name that is not there or stands twice."""
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} has more than {LARGEST:,} bytes: it is no list of a split.")
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a list of a split ({error}).") from None
    known: dict[str, int] = {}
    for index, entry in enumerate(pictures.entries):
        known |= {entry.name: index, entry.id: index, pictures.ids[index]: index}
    absent = [line for line in lines if line not in known]
    if absent:
        raise UsageError(f"{path}: {len(absent):,} of its {len(lines):,} pictures are not there, or have no caption: {named(absent)}.")
    places = [known[line] for line in lines]
    if len(set(places)) < len(places):
        raise UsageError(f"{path} names a picture twice.")
    return places
