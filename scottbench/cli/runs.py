"""scottbench runs list|gc: what lies in runs/."""

from __future__ import annotations

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
    print_table(["plan", "status", "preset", "cells", "N", "size", "created", "folder"], rows, right=(3, 4, 5))


@runs.command("gc", short_help="Remove what killed runs left behind.")
@click.option("--yes", is_flag=True, help="Remove it; without, it is only listed.")
def collect(yes: bool) -> None:
    """List or remove half-written files, chunks without a side-car, and runs without any chunk. Finished chunks are never touched."""
    from scottbench.store.runs import leftovers, remove
    from scottbench.text import bytes_in_words

    paths = leftovers()
    for path in paths:
        click.echo(str(path))
    if not paths:
        click.echo("nothing to remove")
    elif yes:
        click.echo(f"removed: {bytes_in_words(remove(paths))}")
    else:
        click.echo("to remove them: scottbench runs gc --yes")
