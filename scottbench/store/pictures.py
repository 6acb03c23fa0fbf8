"""Pictures that anybody made, not yet decoded: a folder, a webdataset tar, an .npz or a .safetensors file.

Everything is checked before it is read: links and names that lead elsewhere, sizes, kinds of arrays; nothing is unpickled.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from scottbench.errors import DamagedAsset, UsageError
from scottbench.store.captions import LARGEST_TEXT
from scottbench.store.files import Refused, parse_json, read_plain
from scottbench.text import bytes_in_words, one_line

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
ARCHIVES = (".tar", ".npz", ".safetensors")
LARGEST = 2**28
"""Bytes of a picture's file at most."""
LARGEST_ARRAY = 2**33
"""Bytes of an array of pictures at most."""
MOST = 10**6
"""Pictures of a place at most."""
NEEDED = "(n,H,W,3) or (n,3,H,W), uint8 0..255"
IMAGES = ("images", "arr_0")
"""Names under which an archive holds pictures, beside the name of its only array of four axes."""


@dataclass(frozen=True)
class Entry:
    """One picture of a place."""

    name: str
    """Its file's name below the place ("cats/1.png"); of an array its id, or ""."""
    read: Callable[[], bytes | np.ndarray]
    """() -> the bytes of its file, or (H,W,3) uint8 pixels. Raises OSError or Refused."""

    @property
    def id(self) -> str:
        """Its file's name without folders and suffix; of an array its id."""
        path = PurePosixPath(self.name)
        return path.stem if path.suffix.lower() in SUFFIXES else path.name


@dataclass
class Place:
    """Pictures in their order, by name, and the captions that lie among them."""

    path: Path
    entries: list[Entry]
    texts: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    """Name of a picture -> bytes of the text file beside it, when called."""


def open_place(path: Path) -> Place:
    """List the pictures of a folder or archive. Raises UsageError, one line: not there, no pictures, two of one name, or a file that may
    not be opened."""
    path = Path(path)
    if path.is_dir():
        found = _folder(path)
    elif not path.exists():
        raise UsageError(f"no folder {path}: name a folder of pictures, or a {', '.join(ARCHIVES)} file.")
    elif path.suffix.lower() in ARCHIVES:
        found = {".tar": _tar, ".npz": _npz, ".safetensors": _safetensors}[path.suffix.lower()](path)
    else:
        raise UsageError(f"{path} is neither a folder nor a {', '.join(ARCHIVES)} file.")
    if not found.entries:
        raise UsageError(f"{path} holds no pictures ({', '.join(SUFFIXES)}).")
    if len(found.entries) > MOST:
        raise UsageError(f"{path} holds {len(found.entries):,} pictures; at most {MOST:,} are read.")
    return found


def safe_id(name: str) -> str:
    """Return an id that can be a file's name: `name`, or where it has other signs or is too long, its safe part and a digest of it."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,99}", name):
        return name
    kept = re.sub(r"[^A-Za-z0-9_.+=-]+", "_", name).lstrip(".+=-")[:80]
    return f"{kept}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".lstrip("-")


# --- folder ----------------------------------------------------------------------------------------------------------


def _folder(path: Path) -> Place:
    """All pictures below a folder; links are left alone, hidden files and folders too."""
    found = Place(path, [])
    texts: dict[str, Callable[[], bytes]] = {}
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            file = Path(parent) / name
            if name.startswith("."):
                continue
            if file.suffix.lower() in SUFFIXES:
                found.entries.append(Entry(file.relative_to(path).as_posix(), _reader(file, LARGEST, path)))
            elif file.suffix.lower() == ".txt":
                texts[file.relative_to(path).with_suffix("").as_posix()] = _reader(file, LARGEST_TEXT, path)
    found.entries.sort(key=lambda entry: _natural(entry.name))
    found.texts = _beside(found.entries, texts)
    return found


def _beside(entries: list[Entry], texts: dict[str, Callable[[], bytes]]) -> dict[str, Callable[[], bytes]]:
    """The text file beside each picture, in the order of the pictures. texts: path without suffix -> its bytes, when called."""
    stems = {entry.name: PurePosixPath(entry.name).with_suffix("").as_posix() for entry in entries}
    return {name: texts[stem] for name, stem in stems.items() if stem in texts}


def _reader(file: Path, limit: int, root: Path) -> Callable[[], bytes]:
    return lambda: read_plain(file, limit, root)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Order "2.png" before "10.png"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


# --- tar -------------------------------------------------------------------------------------------------------------


def _tar(path: Path) -> Place:
    """A webdataset: KEY.png and the like, with KEY.txt beside it. Nothing is unpacked to disk."""
    found = Place(path, [])
    texts: dict[str, Callable[[], bytes]] = {}
    try:
        members = list(_members(path))
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path} is no tar file without compression ({one_line(error)[:120]}).") from None
    for member in members:
        where = PurePosixPath(member.name)
        if member.isdir():
            continue
        if not member.isreg() or member.issparse() or where.is_absolute() or ".." in where.parts or "\\" in member.name:
            what = "is no plain file" if not member.isreg() or member.issparse() else "leads out of the archive"
            raise UsageError(f"{path}: '{one_line(member.name)[:80]}' {what}. Such an archive is not opened.")
        if where.suffix.lower() in SUFFIXES:
            found.entries.append(Entry(where.as_posix(), _part(path, member, LARGEST)))
        elif where.suffix.lower() == ".txt":
            texts[where.with_suffix("").as_posix()] = _part(path, member, LARGEST_TEXT)
    found.texts = _beside(found.entries, texts)
    return found


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(path, "r:") as archive:
        yield from archive


def _part(path: Path, member: tarfile.TarInfo, limit: int) -> Callable[[], bytes]:
    start, size = member.offset_data, member.size

    def read() -> bytes:
        if size > limit:
            raise Refused(f"has {bytes_in_words(size)}, more than the {bytes_in_words(limit)} that are read")
        with open(path, "rb") as stream:
            stream.seek(start)
            data = stream.read(size)
        if len(data) < size:
            raise Refused("is cut off")
        return data

    return read


# --- arrays ----------------------------------------------------------------------------------------------------------


def _npz(path: Path) -> Place:
    """Arrays of numpy: pictures, and "ids" and "captions" or "prompts" (text) if they are there."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            heads = {entry.filename.removesuffix(".npy"): (entry, _head(archive, entry)) for entry in archive.infolist()}
            name = _pictures_in({name: (shape, kind) for name, (_, (shape, kind)) in heads.items()}, path)
            read = {one: _array(archive, heads[one][0]) for one in (name, "ids", "captions", "prompts") if one in heads}
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, MemoryError) as error:
        raise DamagedAsset(f"{path} cannot be read as an .npz file ({one_line(error)[:120]}).") from None
    images, ids = _by_rows(read[name]), _words(read.get("ids"), "ids", len(read[name]), path)
    captions = _words(read.get("captions", read.get("prompts")), "captions", len(images), path)
    ids = [f"{number:06d}" for number in range(len(ids))] if captions and not any(ids) else ids
    entries = [Entry(one, functools.partial(np.ascontiguousarray, row)) for one, row in zip(ids, images, strict=True)]
    return Place(path, entries, {one: functools.partial(_bytes, text) for one, text in zip(ids, captions)})


def _bytes(text: str) -> bytes:
    return text.encode()


def _head(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], str]:
    """(shape, kind) of an array of an archive. Raises UsageError for pickled objects, and arrays that are too large or no arrays."""
    import numpy as np

    where = f"{archive.filename}: '{one_line(entry.filename)[:60]}'"
    with archive.open(entry) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(stream)
        except (ValueError, TypeError, SyntaxError, EOFError, MemoryError, RecursionError):
            raise UsageError(f"{where} is no array.") from None
    if kind.hasobject:
        raise UsageError(f"{where} holds pickled objects, which can run code when they are read. Save pictures as {NEEDED}.")
    size = math.prod(shape) * kind.itemsize
    if size > LARGEST_ARRAY or entry.file_size > LARGEST_ARRAY:
        raise UsageError(f"{where} has {bytes_in_words(size)}, more than the {bytes_in_words(LARGEST_ARRAY)} that are read.")
    return shape, str(kind)


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    import numpy as np

    try:
        return np.load(io.BytesIO(archive.read(entry)), allow_pickle=False)
    except ValueError as error:
        raise DamagedAsset(f"{archive.filename}: '{one_line(entry.filename)[:60]}' is damaged ({one_line(error)[:120]}).") from None


def _safetensors(path: Path) -> Place:
    """A tensor of pictures, read row by row; "ids" and "captions" are JSON lists of text in the file's metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as archive:
            kinds = {name: archive.get_slice(name) for name in list(archive.keys())}
            known = {name: (tuple(one.get_shape()), {"U8": "uint8"}.get(one.get_dtype(), one.get_dtype())) for name, one in kinds.items()}
            name, facts = _pictures_in(known, path), archive.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedAsset(f"{path} cannot be read as a .safetensors file ({one_line(error)[:120]}).") from None
    n, by_rows = known[name][0][0], known[name][0][-1] == 3

    def row(number: int) -> Any:
        with safe_open(path, framework="np") as archive:
            found = archive.get_slice(name)[number]
        return found if by_rows else found.transpose(1, 2, 0)

    lists = {key: _listed(facts[key], key, path) for key in ("ids", "captions") if key in facts}
    ids, captions = _words(lists.get("ids"), "ids", n, path), _words(lists.get("captions"), "captions", n, path)
    ids = [f"{number:06d}" for number in range(n)] if captions and not any(ids) else ids
    entries = [Entry(one, functools.partial(row, number)) for number, one in enumerate(ids)]
    return Place(path, entries, {one: functools.partial(_bytes, text) for one, text in zip(ids, captions)})


def _listed(text: str, key: str, path: Path) -> list[str]:
    try:
        found = parse_json(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UsageError(f"{path}: '{key}' in the metadata must be a JSON list of text.")
    return found


def _pictures_in(arrays: dict[str, tuple[tuple[int, ...], str]], path: Path) -> str:
    """Name of the array that holds the pictures. arrays: name -> (shape, kind). Raises UsageError where none does, or its kind is wrong."""
    four = [name for name, (shape, _) in arrays.items() if len(shape) == 4]
    name = next((one for one in IMAGES if one in arrays), four[0] if len(four) == 1 else None)
    if name is None:
        raise UsageError(f"{path} has no array 'images'. Needed: {NEEDED}. Arrays: {one_line(', '.join(arrays))[:120] or 'none'}")
    shape, kind = arrays[name]
    if kind != "uint8" or len(shape) != 4 or 3 not in (shape[1], shape[3]) or 0 in shape:
        raise UsageError(f"{path}: '{one_line(name)[:60]}' has shape {shape} of {kind}; needed: {NEEDED}.")
    return name


def _by_rows(images: Any) -> Any:
    return images if images.shape[3] == 3 else images.transpose(0, 2, 3, 1)


def _words(values: Any, what: str, n: int, path: Path) -> list[str]:
    """n texts of an archive; n empty ids or no captions where it has none. Raises UsageError for others."""
    if values is None:
        return [""] * n if what == "ids" else []
    texts = list(values)
    if len(texts) != n or any(not isinstance(one, str) and not hasattr(one, "item") for one in texts):
        raise UsageError(f"{path}: '{what}' must be {n:,} texts, one for each picture.")
    return [str(one) for one in texts]
