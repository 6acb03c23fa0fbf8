"""scottbench report RUN: rebuild the HTML page from the run folder."""

from __future__ import annotations

import click


@click.command(short_help="Rebuild the HTML report of a run folder.")
@click.argument("run")
def report(run: str) -> None:
    """Rebuild the HTML report of a run folder; needs neither torch nor the plug-ins of the run."""
    from scottbench.report import build
    from scottbench.store.runs import find_run

    click.echo(str(build(find_run(run))))
