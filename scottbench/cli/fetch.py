"""scottbench fetch NAME: bring the public files that a preset needs; the only verb that opens a socket."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from scottbench.plan.needs import Needs
    from scottbench.store.fetch.ledger import Ledger
    from scottbench.store.fetch.places import Places
    from scottbench.store.fetch.work import Item


@click.command(short_help="Bring the public weights and data of a preset; the only verb that uses the network.")
@click.argument("wanted", nargs=-1, required=True, metavar="PRESET|ASSET...")
@click.option(
    "--for", "purpose", type=click.Choice(["run", "train"]), default="run", show_default=True, help="train: the pictures to train on too."
)
@click.option("--dest", metavar="DIR", help="One folder for all files, in place of the usual caches.")
@click.option("--dry-run", is_flag=True, help="Print the table and fetch nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--export", "export_to", metavar="LIST", help="Write addresses and digests for another machine; no network is used.")
@click.option("--import", "import_from", metavar="DIR", help="Take the files that another machine fetched by such a list; no network.")
@click.option("-q", "--quiet", is_flag=True, help="No table and no progress.")
def fetch(wanted: tuple[str, ...], purpose: str, dest: str | None, dry_run: bool, yes: bool, **more: str | bool | None) -> None:
    """Bring the public files of a PRESET, or of an ASSET: a name of the table, a model, data set, extractor or metric, or a file of the
    hub as OWNER/NAME/FILE[@REVISION].

    The table comes first: what, how large, under which licence, from where, to where, what is there. A stopped fetch goes on where it was
    by the same line. HF_ENDPOINT and SCOTTBENCH_MIRROR name mirrors, HF_TOKEN opens what needs a licence, HTTPS_PROXY goes through a proxy.
    \f
    Raises MissingAsset, DamagedAsset, Incomplete (resumable) and UsageError.
    """
    from scottbench.cli.running import all_plugins
    from scottbench.plan.needs import needs_of
    from scottbench.store.fetch.ledger import Ledger
    from scottbench.store.fetch.places import Places

    quiet, export_to, import_from = bool(more["quiet"]), more["export_to"], more["import_from"]
    needs, places = needs_of(all_plugins(), wanted, purpose), Places(None if dest is None else Path(dest).expanduser().absolute())
    ledger = Ledger.read(places.ledger)
    items = looked_for(needs, places, ledger)
    if not quiet:
        show_table(items, needs, places)
    left = [item for item in items if not item.there]
    if dry_run:
        return
    if export_to is not None:
        _export(left, Path(str(export_to)).expanduser(), [*wanted, "--for", purpose])
    elif left:
        _bring(left, places, ledger, None if import_from is None else Path(str(import_from)).expanduser(), (yes, quiet))
    _then(items, places, moved=dest is not None and export_to is None)


def looked_for(needs: Needs, places: Places, ledger: Ledger) -> list[Item]:
    """List the files to have, and whether they are there; those that stand for the user's own files are noted and left out."""
    from scottbench.cli.printing import note
    from scottbench.store.fetch.work import items_of
    from scottbench.text import bytes_in_words

    kept = []
    for asset in needs.assets:
        if places.instead(asset):
            needs.notes.append(f"{asset.name}: {asset.instead} names files of your own, which are used; nothing is fetched in their place")
        else:
            kept.append(asset)

    def checking(size: int) -> None:
        if size > 2**28:
            note(f"reading {bytes_in_words(size)} that are there for their digest")

    return items_of(kept, places, ledger, checking)


def show_table(items: Sequence[Item], needs: Needs, places: Places) -> None:
    """Print what is needed, a row for each asset, and what it will take."""
    from scottbench.cli.printing import print_table, say
    from scottbench.store.fetch.work import room
    from scottbench.text import bytes_in_words, count

    assets = list(dict.fromkeys(id(item.asset) for item in items))
    rows = [row_of([item for item in items if id(item.asset) == one], places) for one in assets]
    if rows:
        print_table(["what", "size", "licence", "sha256", "from", "to", "there"], rows, right=(1,), wrap=(0, 2, 4, 5))
    for note in needs.notes:
        say(f"note: {note}", "  ")
    left = [item for item in items if not item.there]
    if not left:
        say("nothing to fetch: all of it is there" if items else "nothing to fetch: no public file is needed that a table names")
        return
    unknown = sum(item.size is None for item in left)
    lacking = f", {count(unknown, 'file')} of unknown size" if unknown else ""
    say(f"to fetch: {count(len(left), 'file')}, {bytes_in_words(sum(item.size or 0 for item in left))}{lacking}")
    for place, needed, free in room(left):
        say(f"disk: {bytes_in_words(needed)} needed, {bytes_in_words(free)} free at {place}")


def row_of(items: Sequence[Item], places: Places) -> list[str]:
    """Write the table's row of one asset's files."""
    from scottbench.store.fetch.places import address_of
    from scottbench.text import bytes_in_words, count

    asset = items[0].asset
    sizes = [item.size for item in items]
    exact = all(item.file.bytes is not None for item in items)
    known = sum(size for size in sizes if size is not None)
    size = "not known" if not known else f"{'' if exact else 'about '}{bytes_in_words(known)}"
    digests = sum(item.sha256 is not None for item in items)
    told = "known" if digests == len(items) else f"{digests} of {len(items)} known" if digests else "not known"
    if digests and all(item.trusted for item in items if item.sha256 is not None):
        told += ", of the first fetch"
    there, damaged = sum(item.there for item in items), sum(item.damaged for item in items)
    state = "yes" if there == len(items) else "no" if not there else f"{there} of {len(items)}"
    address = address_of(asset, items[0].file, os.environ)
    if asset.hub:
        address = f"{address.partition('/resolve/')[0]} @ {asset.revision[:8] if asset.revision else 'main, not pinned'}"
    what = asset.summary + (f" ({count(len(items), 'file')})" if len(items) > 1 else "")
    return [
        f"{asset.name}: {what}",
        size,
        asset.licence,
        told,
        address,
        str(places.folder(asset)),
        state + (f", {damaged} damaged" if damaged else ""),
    ]


def _bring(left: Sequence[Item], places: Places, ledger: Ledger, folder: Path | None, how: tuple[bool, bool]) -> None:
    """Fetch files, or take them from a folder. how: (yes, quiet). Raises as `fetch`."""
    from scottbench.cli.printing import Interrupted, Terminated
    from scottbench.store.fetch.work import Work, check_room, fetch_all
    from scottbench.text.transfer import Transfer

    check_room(left)
    if folder is None:
        _ask(how[0])
    kept = "what came is kept, and the same line goes on from there"
    with Transfer(sum(item.size or 0 for item in left), how[1]) as transfer:
        work = Work(places, ledger, transfer)
        try:
            if folder is None:
                fetch_all(left, work)
            else:
                from scottbench.store.fetch.carry import import_all

                import_all(left, folder, work)
        except KeyboardInterrupt:
            raise Interrupted(shlex.join(["scottbench", *sys.argv[1:]]), kept) from None
        except Terminated as error:  # or MakeRoom
            raise type(error)(shlex.join(["scottbench", *sys.argv[1:]]), kept) from None
    click.echo(f"{len(left)} file{'s' if len(left) > 1 else ''} in place")


def _ask(yes: bool) -> None:
    """Ask whether to fetch. Raises UsageError where nobody can be asked, or who was says no."""
    from scottbench.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nothing was fetched: there is no terminal to ask on. Add --yes, or --dry-run for the table alone.")
    if not click.confirm("Fetch these files under their licences?", err=True):
        raise UsageError("nothing was fetched.")


def _export(left: Sequence[Item], path: Path, words: Sequence[str]) -> None:
    from scottbench.store.fetch.carry import export_list

    export_list(left, path, shlex.join(words), os.environ)
    click.echo(f"{path}: {len(left)} file{'' if len(left) == 1 else 's'}; its head says how another machine fetches them")


def _then(items: Sequence[Item], places: Places, moved: bool) -> None:
    """Print the lines to run afterwards. moved: the files are in a folder of the user's choice."""
    from scottbench.cli.printing import say

    for asset in {
        item.asset.name: item.asset for item in items if item.asset.then and places.target(item.asset, item.file).is_file()
    }.values():
        say(f"then: {asset.then.format(folder=shlex.quote(str(places.folder(asset))))}")
    if moved and items:
        hub, torch = any(places.in_hub_cache(item.asset) for item in items), any(item.asset.root == "torch" for item in items)
        lines = (
            {"SCOTTBENCH_CACHE": places.cache}
            | ({"HF_HUB_CACHE": places.hub} if hub else {})
            | ({"TORCH_HOME": places.torch.parent} if torch else {})
        )
        say(f"to use them: export {' '.join(f'{name}={shlex.quote(str(path))}' for name, path in lines.items())}")
