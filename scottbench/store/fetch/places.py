"""Where each public file goes, and whether it is there. Nothing here opens a socket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scottbench.store.assets import cache_dir
from scottbench.store.fetch.table import Asset, File
from scottbench.store.files import Refused, read_plain

BY_HAND = "imported"
"""Name of the snapshot of a repository whose commit nobody told, since its file came by hand."""


@dataclass(frozen=True)
class Places:
    """The folders that files go to. dest: one folder for all in their place, as of --dest; None for the usual ones."""

    dest: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def cache(self) -> Path:
        """Return the folder in the place of scottbench's cache of large files."""
        return cache_dir() if self.dest is None else self.dest

    @property
    def hub(self) -> Path:
        """Return the folder in the place of the hub's cache."""
        if self.dest is not None:
            return self.dest / "hub"
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE)

    @property
    def torch(self) -> Path:
        """Return torch's hub folder, found as torch finds it, without importing it."""
        if self.dest is not None:
            return self.dest / "torch" / "hub"
        home, usual = self.environ.get("TORCH_HOME"), Path(self.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
        return (Path(home) if home else usual).expanduser() / "hub"

    @property
    def ledger(self) -> Path:
        """Return the file that says what was verified."""
        return self.cache / "fetched.jsonl"

    def in_hub_cache(self, asset: Asset) -> bool:
        """Say that an asset's files go into the hub's own cache."""
        return bool(asset.hub) and not asset.to

    def folder(self, asset: Asset) -> Path:
        """Return the folder below which an asset's files lie by their names."""
        if self.in_hub_cache(asset):
            return self.repository(asset) / "snapshots" / self.commit(asset)
        chosen = self.environ.get(asset.variable) if asset.variable and self.dest is None else None
        if chosen:
            return Path(chosen).expanduser()
        return (self.torch if asset.root == "torch" else self.cache) / asset.to

    def repository(self, asset: Asset) -> Path:
        """Return the folder of an asset's repository in the hub's cache."""
        return self.hub / f"{asset.repo_type}s--{asset.hub.replace('/', '--')}"

    def commit(self, asset: Asset) -> str:
        """Return the snapshot that an asset's revision means in the hub's cache, as that cache notes it; the revision itself where it
        notes none."""
        revision = asset.revision if asset.revision else "main"
        try:
            return read_plain(self.repository(asset) / "refs" / revision, 200).decode("ascii").strip()
        except (OSError, Refused, ValueError):
            return revision

    def target(self, asset: Asset, file: File) -> Path:
        """Return the path of a file, or of an archive for the time that it takes to unpack it."""
        return self.folder(asset) / file.name

    def instead(self, asset: Asset) -> bool:
        """Say that the user has named files of their own in its place."""
        return bool(asset.instead) and bool(self.environ.get(asset.instead)) and self.dest is None

    def is_there(self, asset: Asset, file: File) -> bool:
        """Say that a file, or all that an archive gives, is at its place with the known size; no digest is looked at."""
        folder = self.folder(asset)
        if file.folder:
            try:
                with os.scandir(folder / file.folder) as found:
                    return sum(1 for _ in found) >= max(1, file.count)
            except OSError:
                return False
        if file.members:
            return all((folder / name).is_file() for name in file.members)
        if file.made and (folder / file.made).is_file() and not (folder / file.name).exists():
            return True
        try:
            size = (folder / file.name).stat().st_size
        except OSError:
            return False
        return (folder / file.name).is_file() and (file.bytes is None or size == file.bytes)


def source_of(asset: Asset, file: File) -> str:
    """Name a public file the same on every machine, whatever mirror it comes from: its address, or "hub:OWNER/NAME@REVISION/FILE"."""
    return file.url if file.url else f"hub:{asset.hub}@{asset.revision if asset.revision else 'main'}/{file.name}"


def address_of(asset: Asset, file: File, environ: Mapping[str, str]) -> str:
    """Return the address that a file is fetched from: by HF_ENDPOINT for the hub's, by SCOTTBENCH_MIRROR for others, where they are set.

    A mirror has each file as MIRROR/HOST/PATH.
    """
    from urllib.parse import quote, urlsplit

    if not file.url:
        endpoint = environ.get("HF_ENDPOINT", "").rstrip("/")
        kind = "" if asset.repo_type == "model" else f"{asset.repo_type}s/"
        where = f"{kind}{asset.hub}/resolve/{quote(asset.revision if asset.revision else 'main', safe='')}/{quote(file.name)}"
        return f"{endpoint if endpoint else 'https://huggingface.co'}/{where}"
    mirror = environ.get("SCOTTBENCH_MIRROR", "").rstrip("/")
    if not mirror:
        return file.url
    parts = urlsplit(file.url)
    return f"{mirror}/{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
