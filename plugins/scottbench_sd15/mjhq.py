"""MJHQ-30K (Playground, 2023): 30,000 pictures of Midjourney with their prompts, 3,000 in each of ten categories.

`mjhq-5k` is 500 of each. The order, and which 500, is that of the sha256 of "mjhq/ID", so that the first n items are a random draw.
Pictures are read out of the published zip as it is, or out of a folder that it was unpacked to: CATEGORY/ID.jpg below either.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from scottbench.errors import DamagedAsset, MissingAsset
from scottbench.models.images import rgb, square
from scottbench_sd15.coco import UNREADABLE, chosen_place, reason
from scottbench_sd15.texts import only_evaluation, read_text

VARIABLE = "SCOTTBENCH_MJHQ"
"""The variable names the folder with meta_data.json and mjhq30k_imgs.zip, or mjhq30k_imgs/."""
SIDE = 1024
EACH = {"mjhq-5k": 500, "mjhq-30k": 3_000}
"""Dataset -> items of each category."""
CATEGORIES = ("animals", "art", "fashion", "food", "indoor", "landscape", "logo", "people", "plants", "vehicles")
LARGEST_PICTURE = 2**26
LISTED, PICTURES = "meta_data.json", "mjhq30k_imgs"


class MjhqItems:
    """Items of MJHQ, with the column "category"; pictures are decoded when they are asked for."""

    def __init__(self, dataset: str, rows: Sequence[tuple[str, str, str]], source: Files) -> None:
        self.dataset, self.source = dataset, source
        self.ids = [item for item, _, _ in rows]
        self.prompts = [prompt for _, _, prompt in rows]
        self.metadata = {"category": [category for _, category, _ in rows]}

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over id, category, prompt and picture bytes of every item."""
        total = hashlib.sha256()
        for item, category, prompt in zip(self.ids, self.metadata["category"], self.prompts, strict=True):
            own = hashlib.sha256(self.source.read(category, item)).hexdigest()
            total.update(f"{item}\t{category}\t{prompt}\t{own}\n".encode())
        return total.hexdigest()

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Decode pictures: (n,1024,1024,3) uint8, RGB 0..255, centred squares. Raises DamagedAsset for one that cannot be decoded."""
        chosen = list(indices)
        pictures = np.empty((len(chosen), SIDE, SIDE, 3), np.uint8)
        for place, index in enumerate(chosen):
            item, category = self.ids[index], self.metadata["category"][index]
            try:
                with Image.open(io.BytesIO(self.source.read(category, item))) as picture:
                    pictures[place] = np.asarray(square(rgb(picture), SIDE))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's decoders raise all of these
                raise DamagedAsset(f"{self.source.where}: {category}/{item}.jpg cannot be decoded ({error}). Put a whole one in its place."
                                   ) from None
        return pictures


class Files:
    """Picture files by category and id: members of the zip, or files of a folder. Raises MissingAsset, DamagedAsset for no zip."""

    def __init__(self, root: Path, dataset: str) -> None:
        folder, archive = root / PICTURES, root / f"{PICTURES}.zip"
        self.folder, self.names = folder, dict[tuple[str, str], str]()
        self.zip: zipfile.ZipFile | None = None
        self.where = folder if folder.is_dir() else archive
        if folder.is_dir():
            return
        if not archive.is_file():
            raise MissingAsset(f"dataset '{dataset}' cannot be used:\n  missing {archive}  fetch: scottbench fetch mjhq")
        try:
            self.zip = zipfile.ZipFile(archive)
        except (OSError, zipfile.BadZipFile) as error:
            raise DamagedAsset(f"{archive} is no whole zip ({error}). Fetch it again: scottbench fetch mjhq") from None
        for name in self.zip.namelist():
            parts = PurePosixPath(name).parts
            if len(parts) >= 2 and parts[-1].endswith(".jpg") and "__MACOSX" not in parts:
                self.names[parts[-2], parts[-1].removesuffix(".jpg")] = name

    def has(self, category: str, item: str) -> bool:
        """Say whether a picture is there."""
        return (category, item) in self.names if self.zip is not None else (self.folder / category / f"{item}.jpg").is_file()

    def read(self, category: str, item: str) -> bytes:
        """Read the bytes of a picture. Raises DamagedAsset, for each ValueError within too."""
        try:
            if self.zip is None:
                path = self.folder / category / f"{item}.jpg"
                size = path.stat().st_size
            else:
                member = self.zip.getinfo(self.names[category, item])
                size = member.file_size
            if size > LARGEST_PICTURE:
                raise ValueError(f"it has {size:,} bytes")
            return path.read_bytes() if self.zip is None else self.zip.read(member)
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise DamagedAsset(f"{self.where}: {category}/{item}.jpg cannot be read ({error}). Fetch it again: scottbench fetch mjhq"
                               ) from None


def open_mjhq(dataset: str, split: str) -> MjhqItems:
    """Open `mjhq-5k` or `mjhq-30k`. Raises UsageError for another split, MissingAsset, DamagedAsset: a list of another form, pictures
    that are not there."""
    only_evaluation(dataset, split)
    root = chosen_place(VARIABLE, "mjhq")
    rows = choose(read_rows(root / LISTED, dataset), EACH[dataset], root / LISTED)
    files = Files(root, dataset)
    absent = [f"{category}/{item}.jpg" for item, category, _ in rows if not files.has(category, item)]
    if absent:
        raise MissingAsset(f"dataset '{dataset}' cannot be used:\n  missing {len(absent):,} of {len(rows):,} pictures in {files.where}: "
                           f"{', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''}  fetch: scottbench fetch mjhq")
    return MjhqItems(dataset, rows, files)


def read_rows(path: Path, dataset: str) -> list[tuple[str, str, str]]:
    """Read (id, category, prompt) of every entry of meta_data.json, in the order of the rule. Raises MissingAsset, DamagedAsset, for
    each ValueError within too."""
    text, found = read_text(path, dataset, "mjhq"), []
    try:
        for item, entry in json.loads(text).items():
            category, prompt = entry["category"], " ".join(entry["prompt"].split())
            if category not in CATEGORIES or not prompt or not item.isalnum():
                raise ValueError(f"entry '{item[:40]}' has category {str(category)[:40]!r}, or no prompt, or an id that is no word")
            found.append((item, category, prompt))
    except UNREADABLE as error:
        raise DamagedAsset(f"{path} is not MJHQ's list ({reason(error)}). Fetch it again: scottbench fetch mjhq") from None
    return sorted(found, key=lambda row: hashlib.sha256(f"mjhq/{row[0]}".encode()).digest())


def choose(rows: Sequence[tuple[str, str, str]], each: int, where: Path) -> list[tuple[str, str, str]]:
    """Take the first `each` rows of every category, in their order. Raises DamagedAsset where one has fewer."""
    counts, chosen = dict.fromkeys(CATEGORIES, 0), []
    for row in rows:
        if counts[row[1]] < each:
            counts[row[1]] += 1
            chosen.append(row)
    if short := [name for name, count in counts.items() if count < each]:
        raise DamagedAsset(f"{where} has {counts[short[0]]:,} items of category '{short[0]}', and {each:,} are asked for. Fetch it again: "
                           "scottbench fetch mjhq")
    return chosen


def open_mjhq_5k(split: str = "evaluation") -> MjhqItems:
    """Open 500 items of each category. Raises as `open_mjhq`."""
    return open_mjhq("mjhq-5k", split)


def open_mjhq_30k(split: str = "evaluation") -> MjhqItems:
    """Open all 3,000 items of each category. Raises as `open_mjhq`."""
    return open_mjhq("mjhq-30k", split)
