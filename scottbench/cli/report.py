"""scottbench report RUN: rebuild the HTML page from the run folder."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Rebuild the HTML report of a run folder.")
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Rebuild the HTML report of a run folder; needs neither torch nor the plug-ins of the run."""
    from scottbench.report import build

    click.echo(str(build(run)))
