"""scottbench export RUN: the report's tables for a paper or a spreadsheet."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Write a run's tables as LaTeX, Markdown and CSV.")
@click.argument("run")
@click.option("--to", "kinds", multiple=True, metavar="A,B", help="latex, markdown, csv, figures; default: all but figures.")
@click.option("--columns", multiple=True, metavar="A,B", help="Only these metrics, in this order; also ms/image, ms/call. Default: all.")
@click.option("--style", default="full", show_default=True, metavar="full|compact", help="LaTeX: of the page's width, or a column's.")
@click.option("--interval", default="sub", show_default=True, metavar="sub|pm|none", help="LaTeX: ends below and above, +-, or none.")
@click.option("-o", "--out", metavar="DIR", help="Folder for publication: the tables, and beside them the run's records and HTML report. "
              "Default: exports/ in the run folder, tables alone.")  # fmt: skip
def export(run: str, kinds: tuple[str, ...], columns: tuple[str, ...], style: str, interval: str, out: str | None) -> None:
    """Write the tables of RUN's report: results, paired differences, claims, times; needs neither torch nor the plug-ins of the run.

    \b
    scottbench export RUN --to latex --columns fid,clip_score --style compact
    \f
    Raises UsageError on another kind of file.
    """
    from scottbench.cli.printing import check_word, names
    from scottbench.report.export import ALL, KINDS, Choice
    from scottbench.report.export import export as write
    from scottbench.report.latex import INTERVALS, STYLES, Look
    from scottbench.store.runs import find_run

    asked = names("--to", kinds) or list(KINDS)
    for flag, words, allowed in (("--to", asked, ALL), ("--style", [style], list(STYLES)), ("--interval", [interval], INTERVALS)):
        for word in words:
            check_word(flag, word, allowed)
    root, choice = find_run(run), Choice(tuple(asked), tuple(names("--columns", columns)) if columns else (), Look(style, interval))
    for path in write(root, choice, root / "exports" if out is None else Path(out), records=out is not None):
        click.echo(str(path))
