"""Emoji-5K: 64x64 pictures with captions, shipped in this package; numpy and Pillow only.

A caption is "<style> emoji of <concept>" ("twemoji emoji of red apple"). The evaluation split holds 5,000
(style, concept) pairs that are not in the training split; the picture bytes of the two splits differ too.
"""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scottbench.errors import DamagedAsset, UsageError
from scottbench.store.assets import Needed, require

SHIPPED = Path(__file__).parent / "assets" / "emoji5k"
SPLITS = ("evaluation", "train")
IMAGE_SHAPE = (64, 64, 3)

_FETCH = "pip install --force-reinstall scottbench (the data comes with the package)"


class Emoji5K:
    """One split of Emoji-5K. The order is shuffled and fixed, so that the first N items are a fair sample of families and concepts.

    Pictures are decoded when they are asked for. On creation, items.csv and the split's archive are compared with the sizes and SHA-256 in
    digests.json. Raises MissingAsset for an absent file, DamagedAsset for one that is not what was shipped, UsageError for another split.
    """

    def __init__(self, split: str = "evaluation", folder: Path = SHIPPED) -> None:
        if split not in SPLITS:
            raise UsageError(f"Emoji-5K has no split '{split}'. Splits: {', '.join(SPLITS)}")
        self.split, self._archive = split, Path(folder) / f"{split}.zip"
        table, expected = Path(folder) / "items.csv", _expected(Path(folder))
        require("Emoji-5K", [Needed(path, _FETCH, **expected[path.name]) for path in (table, self._archive)])
        with open(table, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        self.rows: list[dict[str, str]] = sorted(rows, key=lambda row: hashlib.sha256(f"order:{row['id']}".encode()).digest())
        self.ids = [row["id"] for row in self.rows]
        """Picture names, "<family>-<code points>" ("twemoji-1f34e"), file-name safe."""
        self.captions = [row["caption"] for row in self.rows]
        """The caption of each picture: lower-case ASCII letters, digits and spaces."""
        self.prompts = self.captions
        """The prompts for a sampler: the captions of the real pictures."""

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.rows)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over id, caption and pixel hash of every item. It names the split in a record.

        It does not depend on how the pictures are packed: any lossless re-encoding has the same digest.
        """
        lines = (f"{row['id']}\t{row['caption']}\t{row['sha256']}\n" for row in self.rows)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def images(self, indices: Iterable[int] | None = None) -> np.ndarray:
        """Decode the pictures at `indices` (all by default): (N, 64, 64, 3) uint8, RGB 0..255, on white.

        Raises DamagedAsset if the archive changed while it was in use.
        """
        chosen = list(range(len(self)) if indices is None else indices)
        pictures = np.empty((len(chosen), *IMAGE_SHAPE), np.uint8)
        try:
            with zipfile.ZipFile(self._archive) as archive:
                for position, index in enumerate(chosen):
                    data = archive.read(f"{self.ids[index]}.webp")
                    pictures[position] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
            raise DamagedAsset(f"{self._archive} changed while it was in use ({error}). Run the command again.") from error
        return pictures


def _expected(folder: Path) -> dict[str, dict[str, Any]]:
    """Read digests.json: file name -> {"bytes": int, "sha256": hex}."""
    path = folder / "digests.json"
    require("Emoji-5K", [Needed(path, _FETCH)])
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {name: {"bytes": entry["bytes"], "sha256": entry["sha256"]} for name, entry in files.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedAsset(f"Emoji-5K cannot be used:\n  damaged {path}: {error!r}  fetch: {_FETCH}") from error
