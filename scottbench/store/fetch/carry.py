"""Public files for a machine without a network: the list of what another machine fetches, and the way in for what it brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scottbench.errors import DamagedAsset, MissingAsset, ScottbenchError
from scottbench.store.assets import BLOCK
from scottbench.store.fetch.places import BY_HAND, Places, address_of
from scottbench.store.fetch.web import Part, Wanted, Wrong, check, no_room, part_of
from scottbench.store.fetch.work import Item, Work, finish, together
from scottbench.store.files import put_in_place, replace_file, write_file

HEAD = """\
# Public files for scottbench, a line each: address, sha256 (or its head; - where not known), bytes (- where not known), name.
# On the machine with a network, in an empty folder:
#   grep -v '^#' LIST | while IFS="$(printf '\\t')" read -r url sha bytes name; do curl -fL -C - --create-dirs -o "$name" "$url"; done
# Then, on the machine without: scottbench fetch {words} --import FOLDER
"""


def name_of(item: Item) -> str:
    """Return the name of a file in the list and in the folder that is brought: "sd15/unet/config.json"."""
    return f"{item.asset.name}/{item.file.name}"


def export_list(items: Sequence[Item], path: Path, words: str, environ: Mapping[str, str]) -> None:
    """Write the list of files that are not there. words: what was asked for. Raises Incomplete or UsageError where it cannot be written."""
    lines = [HEAD.format(words=words)]
    for item in items:
        size = "-" if item.file.bytes is None else str(item.file.bytes)
        lines.append("\t".join([address_of(item.asset, item.file, environ), item.sha256 or "-", size, name_of(item)]) + "\n")
    write_file(path, "".join(lines).encode(), "Name another file with --export.")


def import_all(items: Sequence[Item], folder: Path, work: Work) -> None:
    """Take the files that are not there from a folder, each checked as if it had been fetched; the folder keeps its own.

    Raises MissingAsset where the folder lacks some, DamagedAsset where some are others than the known ones; the rest is taken.
    """
    errors: list[ScottbenchError] = []
    for item in items:
        try:
            _import_one(item, folder, work)
        except ScottbenchError as error:
            errors.append(error)
    if errors:
        raise together(errors, len(items))


def _import_one(item: Item, folder: Path, work: Work) -> None:
    places = [folder / name_of(item)] + ([folder / Path(item.file.name).name] if item.sha256 is not None else [])
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise MissingAsset(f"{folder} lacks {name_of(item)}, from {address_of(item.asset, item.file, work.environ)}")
    item = _placed(item, work.places)
    try:
        item.target.parent.mkdir(parents=True, exist_ok=True)
        part = Part(part_of(item.target), lambda count: None)
    except OSError as error:
        raise no_room(error, item.target) from None
    part.moved = work.transfer.moved
    try:
        digest = _copied(item, found, part)
    finally:
        part.close(forget=True)
    finish(item, digest, f"file:{found.name}", work)


def _copied(item: Item, found: Path, part: Part) -> str:
    """Copy a file that was brought, check it, and put it in its place; return its sha256. Raises DamagedAsset, and as `Part.add`."""
    part.clear()
    with open(found, "rb") as source:
        while block := source.read(BLOCK):
            part.add(block)
    try:
        check(Wanted(item.file.name, "", item.file.bytes, item.sha256), part)
    except Wrong as error:
        raise DamagedAsset(f"{found}: {error}. It was not taken; fetch it again on the other machine.") from None
    try:
        put_in_place(part.path, item.target)
    except OSError as error:
        raise no_room(error, item.target) from None
    return part.sha256


def _placed(item: Item, places: Places) -> Item:
    """Give a file of the hub's cache a snapshot to lie in, where no commit is pinned and none was noted. Raises as `no_room`."""
    asset = item.asset
    if not places.in_hub_cache(asset) or places.commit(asset) != (asset.revision if asset.revision else "main"):
        return item
    if asset.revision and asset.revision == places.commit(asset) and len(asset.revision) == 40:
        return item
    refs = places.repository(asset) / "refs" / (asset.revision if asset.revision else "main")
    try:
        replace_file(refs, BY_HAND.encode())
    except OSError as error:
        raise no_room(error, refs) from None
    return replace(item, target=places.target(asset, item.file))
