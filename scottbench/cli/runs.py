"""scottbench runs list|gc: what lies in runs/."""

from __future__ import annotations

import sys

import click


@click.group(invoke_without_command=True, short_help="List the runs in runs/, or remove what killed ones left: runs list, runs gc.")
@click.pass_context
def runs(context: click.Context) -> None:
    """The run folders in runs/; without a verb, a list of them."""
    if context.invoked_subcommand is None:
        context.invoke(list_runs)


@runs.command("list", short_help="List the runs in runs/.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of a table.")
def list_runs(as_json: bool = False) -> None:
    """Every run folder in runs/, oldest first, with its status: complete, failed, incomplete, interrupted, killed, in use, damaged."""
    from scottbench.cli.printing import print_json, print_table
    from scottbench.store.runs import all_runs
    from scottbench.text import bytes_in_words

    found = all_runs()
    if as_json:
        print_json([{**vars(run), "folder": str(run.folder)} for run in found])
        return
    rows = [
        [run.plan_hash[:8], run.status, run.preset, str(run.cells), f"{run.n:,}", bytes_in_words(run.bytes), run.created, str(run.folder)]
        for run in found
    ]
    print_table(["plan", "status", "preset", "cells", "N", "size", "created", "folder"], rows, right=(3, 4, 5), wrap=(1,), spare=(6, 5))


@runs.command("gc", short_help="Remove what killed runs left behind.")
@click.option("--yes", is_flag=True, help="Remove it without asking.")
def collect(yes: bool) -> None:
    """List what killed runs left, with its size, and ask whether to remove it: half-written files, chunks without a side-car, and runs
    without any chunk. A folder with results is never touched, and nothing that this program cannot name as its own.
    """
    from scottbench.store.runs import leftovers, remove
    from scottbench.text import bytes_in_words, count

    found = leftovers()
    for left in found:
        click.echo(f"{left.path}  {left.what}, {bytes_in_words(left.bytes)}")
    if not found:
        click.echo("nothing to remove")
        return
    total = f"{count(len(found), 'thing')}, {bytes_in_words(sum(left.bytes for left in found))}"
    if not yes and not (sys.stdin is not None and sys.stdin.isatty() and click.confirm(f"remove {total}?")):
        click.echo(f"not removed: {total}. To remove: scottbench runs gc --yes")
        return
    click.echo(f"removed: {bytes_in_words(remove(found))}")
