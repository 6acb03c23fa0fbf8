"""The table of public files: what a plug-in's assets.toml says of weights and data that nobody ships. Reading it opens no socket.

A size or digest that is not in the table is not known to us. It is recorded when the file is fetched first, and held against later ones.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from scottbench.errors import UsageError
from scottbench.store.files import Refused, read_plain
from scottbench.text import is_name, one_line

TABLE = "assets.toml"
"""Name of the file, beside the `__init__.py` of a plug-in's package."""
LARGEST = 2**20
ARCHIVES = {".zip": "zip", ".tar": "tar", ".tar.gz": "tar", ".tgz": "tar"}
ROOTS = ("cache", "torch")
"""Below which folder `to` lies: scottbench's cache of large files, or torch's hub folder."""
REVISION = re.compile(r"[\w.-]{1,120}")
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class File:
    """One public file."""

    name: str
    """Its place below the asset's folder, or in the hub's repository: "unet/config.json"."""
    url: str = ""
    """Address of a file that is not on the hub."""
    bytes: int | None = None
    """Size, where it is known to the byte."""
    about: int | None = None
    """Size in round numbers, for a table and for the disk; nothing is checked by it."""
    sha256: str | None = None
    """Digest, hex, or its first 8 digits or more; None where nobody published one."""
    members: tuple[str, ...] = ()
    """An archive: only these files of it are taken, each to its place below the asset's folder."""
    folder: str = ""
    """An archive: the folder that it unpacks to."""
    count: int = 0
    """Files in that folder when it is whole."""
    made: str = ""
    """The file that the asset's `then` makes of it; where that is there, this one is not needed any more."""
    unpacked: int | None = None
    """Bytes of what is unpacked; None is taken for as much as the archive has."""

    @property
    def is_archive(self) -> bool:
        """Say that it is unpacked and not kept."""
        return bool(self.members or self.folder)

    @property
    def size(self) -> int | None:
        """Return the bytes to expect, to the byte or about."""
        return self.bytes if self.bytes is not None else self.about


@dataclass(frozen=True)
class Asset:
    """Public files that belong together: weights of one network, one archive of data."""

    name: str
    summary: str
    licence: str
    files: tuple[File, ...]
    hub: str = ""
    """OWNER/NAME of a repository of the hub; "" where each file has an address of its own."""
    revision: str = ""
    """Commit of the repository; "" for its newest, "main"."""
    repo_type: str = "model"
    accept: str = ""
    """Page on which the licence has to be accepted before the files can be had."""
    to: str = ""
    """Folder below `root`; "" puts files of the hub into the hub's own cache, others into `root` itself."""
    root: str = "cache"
    """One of `ROOTS`."""
    variable: str = ""
    """Variable that names a folder in place of `to`."""
    instead: str = ""
    """Variable that names files of the user's own: where it is set, nothing is fetched."""
    then: str = ""
    """Line to run afterwards, with {folder}, such as one that converts a pickle."""
    models: tuple[str, ...] = ()
    """Names of the nouns that need it, here and below."""
    datasets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("evaluation", "train")
    """Splits of the datasets that need it."""
    extractors: tuple[str, ...] = ()
    match: dict[str, str] = field(default_factory=dict)
    """Keys of [extractors.ROLE] that must have these values."""
    metrics: tuple[str, ...] = ()

    def at(self, spec: Mapping[str, Any]) -> Asset:
        """Return it with what a preset's [extractors.ROLE] pins of its one file of the hub: `file`, `revision`, `bytes`, `sha256`."""
        if not self.hub or len(self.files) != 1 or not {"file", "revision", "bytes", "sha256"} & spec.keys():
            return self
        file, name = self.files[0], str(spec.get("file", self.files[0].name))
        if name != file.name:
            file = File(name, about=file.size)  # what is known is of another file
        known = {key: spec[key] for key in ("bytes", "sha256") if key in spec}
        return replace(self, files=(replace(file, **known),), revision=str(spec.get("revision", self.revision)))


def read_assets(path: Path) -> list[Asset]:
    """Read one assets.toml. Raises UsageError, which names the file and the entry, for anything that is not as this module says."""
    try:
        table = tomllib.loads(read_plain(path, LARGEST).decode("utf-8"))
        return [_asset(entry) for entry in _list(table, "assets")]
    except (OSError, Refused, ValueError, TypeError, KeyError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else one_line(error)
        raise UsageError(f"{path} is no table of public files: {reason}") from None


def of_hub(text: str) -> Asset | None:
    """Make the asset of one file of the hub that a user names, OWNER/NAME/FILE[@REVISION]; None where the text is no such name."""
    name, _, revision = text.partition("@")
    parts = name.split("/")
    if len(parts) < 3 or "" in parts or not HUB_ID.fullmatch("/".join(parts[:2])) or (revision and not REVISION.fullmatch(revision)):
        return None
    try:
        file = inside("/".join(parts[2:]))
    except ValueError:
        return None
    return Asset(name.replace("/", "--"), "a file of the hub, as named", "not known: see its page", (File(file),), "/".join(parts[:2]),
                 revision)  # fmt: skip


def _asset(entry: dict[str, Any]) -> Asset:
    known = {one.name for one in fields(Asset)}
    if unknown := sorted(entry.keys() - known):
        raise ValueError(f"unknown key '{unknown[0]}'; known: {', '.join(sorted(known))}")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    files = tuple(_file(one, bool(entry.get("hub"))) for one in _list(entry, "files"))
    found = Asset(**{**given, "files": files})
    if not is_name(found.name) or not files:
        raise ValueError(f"'{one_line(found.name)}' is no name, or it has no files")
    if found.hub and not HUB_ID.fullmatch(found.hub):
        raise ValueError(f"{found.name}: hub = '{one_line(found.hub)}' is no OWNER/NAME")
    if found.revision and not REVISION.fullmatch(found.revision):
        raise ValueError(f"{found.name}: '{one_line(found.revision)}' is no revision")
    if found.root not in ROOTS:
        raise ValueError(f"{found.name}: root must be {' or '.join(ROOTS)}")
    if found.to:
        inside(found.to)
    return found


def _file(entry: dict[str, Any], on_hub: bool) -> File:
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    url = given.get("url", "")
    if "name" not in given:
        given["name"] = unquote(urlsplit(url).path.rpartition("/")[2])
    found = File(**given)
    for name in (found.name, *found.members, *filter(None, (found.folder, found.made))):
        inside(name)
    if on_hub == bool(url) or (url and urlsplit(url).scheme not in ("http", "https")):
        raise ValueError(f"{found.name}: give a repository of the hub to all files, or an http address to each")
    if found.sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", found.sha256):
        raise ValueError(f"{found.name}: sha256 has 8 to 64 hex digits")
    if found.is_archive and archive_kind(found.name) is None:
        raise ValueError(f"{found.name}: archives end in {', '.join(ARCHIVES)}")
    numbers = (found.bytes, found.about, found.count, found.unpacked)
    if any(number is not None and (type(number) is not int or number < 0) for number in numbers):
        raise ValueError(f"{found.name}: sizes and counts are whole numbers")
    return found


def archive_kind(name: str) -> str | None:
    """Return "zip" or "tar" by the end of a file's name; None where it is no archive."""
    return next((kind for end, kind in ARCHIVES.items() if name.lower().endswith(end)), None)


def inside(name: str) -> str:
    """Return a relative name of a file that stays below its folder. Raises ValueError for any other."""
    path = PurePosixPath(name)
    wrong = path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    if wrong or len(name) > 1000:
        raise ValueError(f"'{one_line(name)[:80]}' leads out of its folder")
    return name


def _list(table: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = table[key]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"'{key}' must be a list of tables")
    return found
