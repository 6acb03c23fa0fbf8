"""Captions that anybody wrote: CSV, JSONL, JSON (COCO's form or a list), lines of text, or a text file beside each picture.

A caption belongs to a picture by its file's name or by an id, which is the file's name without folder and suffix; captions with neither
belong to the pictures in order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scottbench.errors import UsageError
from scottbench.store.files import Refused, parse_json, read_plain
from scottbench.text import count, one_line

LARGEST = 2**29
"""Bytes of a file of captions at most. COCO's largest has 92 MB."""
LARGEST_TEXT = 2**20
"""Bytes of a text file beside a picture at most."""
MOST = 10**6
"""Captions at most."""
TEXT = ("caption", "prompt", "text")
FILE = ("file", "image", "file_name", "filename")
ID = ("id", "image_id", "key")
"""Names of columns, the first that is there."""
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt")
USUAL = tuple(f"{stem}{suffix}" for stem in ("captions", "metadata", "prompts") for suffix in SUFFIXES)
"""Files of captions that are found in a folder of pictures without being named."""


@dataclass(frozen=True)
class Caption:
    """One caption, and the picture that it is of."""

    text: str
    """Blanks and line breaks are single blanks."""
    id: str = ""
    file: str = ""
    """The picture's file, relative to the folder of pictures; "" where only the id is known. Both are "" where the order says it."""

    @property
    def name(self) -> str:
        """Return what a message calls it."""
        return self.id if self.id else self.file


def find_captions(folder: Path) -> Path | None:
    """Return the file of captions in a folder of pictures; None where there is none. Raises UsageError for several."""
    found = [folder / name for name in USUAL if (folder / name).is_file()]
    if len(found) > 1:
        raise UsageError(f"{folder} has several files of captions ({', '.join(path.name for path in found)}). Name one with --prompts.")
    return found[0] if found else None


def read_captions(path: Path) -> list[Caption]:
    """Read a file of captions, by its suffix. Raises UsageError, one line: unreadable, of another form, an empty caption, an id twice."""
    path = Path(path)
    readers: dict[str, Callable[[str, Path], list[Caption]]] = {
        ".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".txt": _lines,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: captions are read from {', '.join(SUFFIXES)} files, not from '{one_line(path.suffix)}'.")
    try:
        # tools of Windows begin a file with a byte order mark
        text = read_plain(path, LARGEST).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"no file {path}: name a file of captions ({', '.join(SUFFIXES)}).") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except (OSError, Refused) as error:
        raise UsageError(f"{path} {_why(error)}.") from None
    try:
        found = reader(text, path)
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as a table ({one_line(error)}).") from None
    return checked(found, path)


def beside(texts: Mapping[str, Callable[[], bytes]], where: Path) -> list[Caption]:
    """Read a text file beside each picture. texts: the picture's name -> its bytes, when called. Raises UsageError as `read_captions`, or
    where one cannot be read."""
    found = []
    for name, read in texts.items():
        try:
            found.append(Caption(plain(read().decode("utf-8-sig")), file=name))
        except (OSError, Refused) as error:
            raise UsageError(f"{where}: the caption of '{one_line(name)}' {_why(error)}.") from None
        except UnicodeDecodeError:
            raise UsageError(f"{where}: the caption of '{one_line(name)}' is no UTF-8 text. Save it as UTF-8.") from None
    return checked(found, where)


def plain(text: str) -> str:
    """Return a caption in one line: blanks and line breaks become single blanks."""
    return " ".join(text.split())


def checked(found: list[Caption], where: Path) -> list[Caption]:
    """Return captions that are none too many, not empty and of a picture each. Raises UsageError, which names the first that is not so."""
    if not found:
        raise UsageError(f"{where} holds no captions.")
    if len(found) > MOST:
        raise UsageError(f"{where} holds {len(found):,} captions; at most {MOST:,} are read.")
    for number, one in enumerate(found, start=1):
        if not one.text:
            which = f"of '{one_line(one.name)}'" if one.name else f"number {number}"
            raise UsageError(f"{where}: the caption {which} is empty. Write one, or leave the picture out.")
    nameless = sum(not one.name for one in found)
    if 0 < nameless < len(found):
        raise UsageError(f"{where}: {count(nameless, 'caption')} of {len(found):,} has no id and no file. Give each one, or none.")
    twice = _twice(one.file if one.file else one.id for one in found if one.name)
    if twice is not None:
        raise UsageError(f"{where} has two captions of '{one_line(twice)}'. Keep one.")
    return found


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _why(error: Exception) -> str:
    return f"cannot be read ({one_line(error.strerror)})" if isinstance(error, OSError) else one_line(error)


# --- forms -----------------------------------------------------------------------------------------------------------


def _csv(text: str, path: Path) -> list[Caption]:
    """A table with a heading; TAB between columns in a .tsv."""
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    columns = {str(name).strip().lower(): name for name in rows.fieldnames or [] if name is not None}
    if not set(TEXT) & columns.keys():
        raise UsageError(f"{path}: no column is called {' or '.join(TEXT)}. Columns: {one_line(', '.join(columns))[:200]}")
    return [_of({name: row.get(column) for name, column in columns.items()}, f"{path} line {number}") for number, row in enumerate(rows, 2)]


def _jsonl(text: str, path: Path) -> list[Caption]:
    """One JSON object a line."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found.append(_of(_object(line, f"{path} line {number}"), f"{path} line {number}"))
    return found


def _json(text: str, path: Path) -> list[Caption]:
    """COCO's form (`images` and `annotations`), or a list of objects."""
    try:
        document = parse_json(text)
    except ValueError as error:
        raise UsageError(f"{path} is no JSON ({one_line(error)[:200]}).") from None
    if isinstance(document, list):
        return [_of(entry, f"{path} entry {number}") for number, entry in enumerate(document)]
    if isinstance(document, dict) and isinstance(document.get("images"), list) and isinstance(document.get("annotations"), list):
        return _coco(document["images"], document["annotations"], path)
    raise UsageError(f"{path}: JSON captions are a list of objects, or COCO's form with lists 'images' and 'annotations'.")


def _lines(text: str, path: Path) -> list[Caption]:
    """One caption a line, in the order of the pictures."""
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return [Caption(plain(line)) for line in lines]


def _coco(images: list[Any], annotations: list[Any], path: Path) -> list[Caption]:
    """The caption with the lowest annotation id of each image that has one, in the order of `images`; without ids the first."""
    first: dict[str, tuple[tuple[int, int, str], str]] = {}
    for number, annotation in enumerate(annotations):
        where = f"{path} annotations[{number}]"
        image = _identifier(_entry(annotation, where).get("image_id"), f"{where} image_id")
        text = plain(_text(annotation.get("caption"), where))
        order = _order(annotation["id"] if annotation.get("id") is not None else number)
        if text and (image not in first or order < first[image][0]):
            first[image] = (order, text)
    found = []
    for number, one in enumerate(images):
        where = f"{path} images[{number}]"
        image, file = _identifier(_entry(one, where).get("id"), f"{where} id"), one.get("file_name")
        if image in first:
            name = "" if file is None else inside(file, where)
            found.append(Caption(first[image][1], id="" if name else image, file=name))
    return found


def _order(value: Any) -> tuple[int, int, str]:
    """Numbers, and text of digits, by value; then other text."""
    text = str(value)
    digits = text.isascii() and text.isdigit() and len(text) < 20
    return (0, int(text), "") if digits else (1, 0, text)


def _identifier(value: Any, where: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value).strip():
        raise UsageError(f"{where} must be a number or text, found {one_line(repr(value))[:60]}.")
    return str(value).strip()


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        return _entry(parse_json(line), where)
    except ValueError as error:
        raise UsageError(f"{where} is no JSON ({one_line(error)[:200]}).") from None


def _entry(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is no JSON object.")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: a caption must be text, found {one_line(repr(value))[:60]}.")
    return value


def _of(row: Any, where: str) -> Caption:
    """A caption of a row {column: value}."""
    row = {str(key).lower(): value for key, value in _entry(row, where).items()}
    text = next((row[name] for name in TEXT if row.get(name) is not None), None)
    if text is None:
        raise UsageError(f"{where} has no {' or '.join(TEXT)}.")
    file, name = ([row[key] for key in keys if row.get(key) not in (None, "")] for keys in (FILE, ID))
    return Caption(
        plain(_text(text, where)), id=_identifier(name[0], where) if name else "", file=inside(file[0], where) if file else "")


def inside(name: Any, where: str) -> str:
    """Return a picture's file name that stays below its folder. Raises UsageError for any other: captions may come from anybody."""
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath()
    if path.is_absolute() or ".." in path.parts or not path.name or "\\" in str(name):
        raise UsageError(f"{where}: file name {one_line(repr(name))[:80]} leads out of the folder of pictures.")
    return path.as_posix()
