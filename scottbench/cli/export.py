"""scottbench export RUN: the report's tables for a paper or a spreadsheet."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Write a run's tables as LaTeX, Markdown and CSV.")
@click.argument("run")
@click.option("--to", "kinds", multiple=True, metavar="A,B", help="latex, markdown, csv; default: all.")
@click.option("-o", "--out", metavar="DIR", help="Folder for publication: the tables, and beside them the run's records and HTML report. "
              "Default: exports/ in the run folder, tables alone.")  # fmt: skip
def export(run: str, kinds: tuple[str, ...], out: str | None) -> None:
    """Write the tables of RUN's report: results, paired differences, claims, times; needs neither torch nor the plug-ins of the run.
    \f
    Raises UsageError on another kind of file.
    """
    from scottbench.cli.printing import names
    from scottbench.errors import UsageError
    from scottbench.report.export import KINDS
    from scottbench.report.export import export as write
    from scottbench.store.runs import find_run
    from scottbench.text import did_you_mean, one_line

    asked = names("--to", kinds) or list(KINDS)
    for kind in asked:
        if kind not in KINDS:
            raise UsageError(f"--to {one_line(kind)}: must be {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    root = find_run(run)
    for path in write(root, asked, root / "exports" if out is None else Path(out), records=out is not None):
        click.echo(str(path))
