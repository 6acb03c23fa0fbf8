"""MSCOCO captions, and any data in their form: a JSON file with `images` and `annotations`, and a folder of pictures.

Protocol of the 5,000 (evaluation.md 3b): every captioned entry of `images`, in the order of the image ids; its prompt is the
caption with the lowest annotation id, since the file is not grouped by image; its reference picture is the centred square, 512x512 by
LANCZOS, and is never made a JPEG again.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.images import rgb, square
from scottbench.store.assets import bytes_in_words, cache_dir, file_digest, listing_digest, remembered_digest

VARIABLE = "SCOTTBENCH_COCO2017"
"""The variable names the folder with annotations/, val2017/ and train2017/."""
SIDE = 512
SPLITS = {"evaluation": "val2017", "train": "train2017"}
ARCHIVES = {"val2017": (5_000, 815_585_330), "train2017": (118_287, 19_336_861_798), "annotations_trainval2017": (0, 252_907_541)}
"""Archive -> pictures in it, bytes of the zip."""
LARGEST = 2**30
"""Most bytes of a JSON file of captions. COCO's largest has 92 MB."""
Made = TypeVar("Made")
UNREADABLE = (RecursionError, OSError, ValueError, KeyError, TypeError, AttributeError)
"""All that reading a JSON file of another form raises."""
SHOWN = 3
"""How many missing pictures a message names."""


class Row(NamedTuple):
    """One captioned picture. Ids are whole numbers, or text in data that is not COCO's own."""

    image: int | str
    file_name: str
    annotation: int | str
    caption: str


class CocoFolder:
    """One split of captioned pictures, which are decoded when they are asked for.

    captions: the JSON file. pictures: the folder to which its file names are relative. what: the name in messages. side: pixels of the
    reference pictures. most: keep only the first so many items. hints: words for a message where captions or pictures are missing.
    Raises MissingAsset for absent files, DamagedAsset for a JSON file of another form.
    """

    def __init__(
        self, captions: Path, pictures: Path, what: str, side: int = SIDE, most: int | None = None, hints: tuple[str, str] = ("", "")
    ) -> None:
        self.remembers = False
        """The digest is made once for each listing of names, sizes and times."""
        self.what, self.folder, self.side = what, Path(pictures), side
        absent = [f"missing {captions}{hints[0]}"] if not Path(captions).is_file() else []
        absent += [f"missing {pictures}/{hints[1]}"] if not self.folder.is_dir() else []
        if absent:
            raise self._missing(absent)
        rows, self.uncaptioned = read_captions(Path(captions))
        """The number of images that are left out because they have no caption, or blank ones only."""
        self.rows = rows if most is None else rows[:most]
        self._check_pictures(hints[1])
        self.ids = [f"{row.image:012d}" if isinstance(row.image, int) else row.image for row in self.rows]
        """Image ids: numbers with leading zeros ("000000000139"), ascending, then text as it is."""
        self.prompts = [row.caption for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def _missing(self, lines: Iterable[str]) -> MissingAsset:
        return MissingAsset("\n".join([f"{self.what} cannot be used:", *(f"  {line}" for line in lines)]))

    def _check_pictures(self, hint: str) -> None:
        absent = [row.file_name for row in self.rows if not (self.folder / row.file_name).is_file()]
        if absent:
            names = ", ".join(absent[:SHOWN]) + (", ..." if len(absent) > SHOWN else "")
            raise self._missing([f"missing {len(absent)} of {len(self.rows)} pictures in {self.folder}: {names}{hint}"])

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over image id, annotation id, caption and picture bytes of every item.

        To evaluate, the bytes are read each time: sizes or dates would let a picture change unseen. 5,000 pictures (0.8 GB) take seconds,
        less than it takes to decode them. The 118,000 pictures of a training (19 GB) are read once for each listing of their names,
        sizes and times; `scottbench verify` reads them again.
        """
        if not self.remembers:
            return self.full_digest()
        words = ((f"{item}\t{row.annotation}\t{row.caption}", row) for row, item in zip(self.rows, self.ids, strict=True))
        return remembered_digest(listing_digest((text, self.folder / row.file_name) for text, row in words), self.full_digest)

    def full_digest(self) -> str:
        """Make `digest` out of the pictures' bytes."""
        total = hashlib.sha256()
        for row, item in zip(self.rows, self.ids, strict=True):
            total.update(f"{item}\t{row.annotation}\t{row.caption}\t{file_digest(self.folder / row.file_name)}\n".encode())
        return total.hexdigest()

    def images(self, indices: Iterable[int]) -> np.ndarray:
        """Decode pictures: (n, side, side, 3) uint8, RGB 0..255. Raises DamagedAsset for a picture that cannot be decoded."""
        chosen = list(indices)
        pictures = np.empty((len(chosen), self.side, self.side, 3), np.uint8)
        for position, index in enumerate(chosen):
            path = self.folder / self.rows[index].file_name
            try:
                with Image.open(path) as picture:
                    pictures[position] = np.asarray(square(rgb(picture), self.side))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's decoders raise all of these
                raise DamagedAsset(f"{path} cannot be decoded ({error}). Put a whole picture in its place.") from None
        return pictures


def read_captions(path: Path) -> tuple[list[Row], int]:
    """Read the rows in the order of the image ids, and count the images without a caption. Raises DamagedAsset."""
    return of_captions(path, lambda document: choose(document["images"], document["annotations"]))


def of_captions(path: Path, make: Callable[[Any], Made]) -> Made:
    """Make something of a JSON file of captions. Raises DamagedAsset, also in place of what `make` raises of values of another kind."""
    if path.stat().st_size > LARGEST:
        raise DamagedAsset(f"{path} has {bytes_in_words(path.stat().st_size)}; at most {bytes_in_words(LARGEST)} are read as captions.")
    try:
        # tools of Windows begin a file with a byte order mark
        return make(json.loads(path.read_text(encoding="utf-8-sig")))
    except UNREADABLE as error:
        raise DamagedAsset(
            f"{path} is not a whole file of COCO captions ({reason(error)}). Correct it; COCO's own can be fetched again.") from None


def reason(error: Exception) -> str:
    """Write in a short line why a JSON file is not what it should be."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join((f"no key {error}" if isinstance(error, KeyError) else str(error)).split())[:200]


def choose(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> tuple[list[Row], int]:
    """Choose one caption per image: the one with the lowest annotation id that is not blank. Count the images without a caption.

    Blanks and line breaks of a caption become single blanks. Captions of images that are not listed do not count. Raises ValueError for
    values of another kind.
    """
    first: dict[str, tuple[int | str, str]] = {}
    for number, annotation in enumerate(annotations):
        image, caption = field(annotation, "image_id", "annotations", number), field(annotation, "caption", "annotations", number)
        if type(caption) is not str:
            raise ValueError(f"annotations[{number}] has a caption that is {caption!r}, not text")
        candidate = identifier(field(annotation, "id", "annotations", number)), " ".join(caption.split())
        place = str(identifier(image))  # some tools write the same id as a number in one list and as text in the other
        if candidate[1] and (place not in first or order(candidate[0]) < order(first[place][0])):
            first[place] = candidate
    names = {
        identifier(field(image, "id", "images", number)): inside(field(image, "file_name", "images", number))
        for number, image in enumerate(images)
    }
    if len({str(image) for image in names}) < len(images):
        raise ValueError("an image id is listed twice")
    rows = [Row(image, names[image], *first[str(image)]) for image in sorted(names, key=order) if str(image) in first]
    if not rows:
        raise ValueError("no image has a caption")
    return rows, len(names) - len(rows)


def field(entry: dict[str, Any], key: str, where: str, number: int) -> Any:
    """Return a field of the entry `number` of a list. Raises ValueError, which says which entry lacks it."""
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{where}[{number}] has no '{key}'")
    return entry[key]


def identifier(value: Any) -> int | str:
    """Check an id: a whole number, 0 or more, or text that is not blank. 7.0 is 7. Raises ValueError."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if (type(value) is int and value >= 0) or (type(value) is str and value.strip()):
        return value
    raise ValueError(f"id {value!r} is neither a whole number nor text")


def order(value: int | str) -> tuple[int, int, str]:
    """Return the key by which ids are sorted: numbers, and text of digits, by value; then other text."""
    digits = isinstance(value, int) or (value.isascii() and value.isdigit() and len(value) < 20)
    return (0, int(value), str(value)) if digits else (1, 0, str(value))


def inside(name: Any) -> str:
    """Check that a file name stays below its folder, since the JSON file may come from anywhere. Raises ValueError."""
    if type(name) is not str:
        raise ValueError(f"file name {name!r} is no text")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name or "\\" in name:
        raise ValueError(f"file name {name!r} leads out of its folder")
    return name


def chosen_place(variable: str, name: str) -> Path:
    """Name the place of data: the one that a variable names, else `name` in scottbench's cache folder."""
    chosen = os.environ.get(variable)
    return Path(chosen).expanduser() if chosen else cache_dir() / name


def coco_folder() -> Path:
    """Name the folder where COCO 2017 is, or would be: $SCOTTBENCH_COCO2017, else coco2017 in scottbench's cache folder."""
    return chosen_place(VARIABLE, "coco2017")


def open_coco2017(split: str = "evaluation") -> CocoFolder:
    """Open val2017 ("evaluation": its 5,000 images, or the first 5,000 of other data in its place) or train2017 ("train").

    Raises UsageError for another split, and MissingAsset or DamagedAsset as `CocoFolder`.
    """
    if split not in SPLITS:
        raise UsageError(f"dataset 'coco2017-5k' has no split '{split}'. Splits: {', '.join(SPLITS)}")
    name, root = SPLITS[split], coco_folder()
    captions = f"annotations/captions_{name}.json"
    hints = (
        archive_hint(root, "annotations", "annotations_trainval2017", captions),
        archive_hint(root, "zips", name),
    )
    most = ARCHIVES[name][0] if split == "evaluation" else None
    what = f"dataset 'coco2017-5k' ({name})"
    found = CocoFolder(root / captions, root / name, what, most=most, hints=hints)
    found.remembers = split == "train"
    return found


def archive_hint(root: Path, place: str, archive: str, member: str = "") -> str:
    """Say how large one of COCO's archives is, and which shell line fetches and unpacks it below `root`.

    The line uses http, because the host's certificate is another's.
    """
    count, size = ARCHIVES[archive]
    unpack = " ".join(["unzip -q", f"{archive}.zip", *([member] if member else [])])
    folder, url = shlex.quote(str(root)), f"http://images.cocodataset.org/{place}/{archive}.zip"
    what = f" ({count:,} pictures, a zip of {bytes_in_words(size)})" if not member else f" (in a zip of {bytes_in_words(size)})"
    return f"{what}  fetch: mkdir -p {folder} && cd {folder} && curl -LO {url} && {unpack}"
