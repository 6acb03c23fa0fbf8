"""scottbench report RUN ...: rebuild the HTML page of a run folder, or make one page of several."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Rebuild the HTML report of a run folder, or make one of several.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--out", metavar="DIR", help="Folder for the page of several runs. Default: together-HASH beside the first one.")
def report(runs: tuple[str, ...], out: str | None) -> None:
    """Rebuild the HTML report of a run folder; needs neither torch nor the plug-ins of the run.

    Of several runs, of any preset, seed and date, make one page: rows of equal fingerprints stand in one table, others apart.
    \f
    Raises UsageError with --out for one run, whose report stays beside its records.
    """
    from scottbench.errors import UsageError
    from scottbench.report import build
    from scottbench.store.runs import find_run

    folders = list(dict.fromkeys(find_run(run) for run in runs))
    if len(folders) == 1:
        if out is not None:
            raise UsageError("--out is for a page of several runs. One run's report lies in its folder; to publish it: scottbench export "
                             f"{folders[0]} --out {out}")
        click.echo(str(build(folders[0])))
        return
    from scottbench.report.together import head_of, read_runs, write

    found = read_runs(folders, [folder.resolve().name for folder in folders])
    target = folders[0].resolve().parent / f"together-{head_of(found)}" if out is None else Path(out)
    click.echo(str(write(found, target, f"{len(folders)} runs together", "together")[0]))
