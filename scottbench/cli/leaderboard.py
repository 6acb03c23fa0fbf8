"""scottbench leaderboard FOLDER: all runs of a folder on one page, in tables sorted by each metric."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="One page of all runs in a folder, sorted by each metric; also JSON and CSV.")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the files. Default: FOLDER/leaderboard.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on the terminal, and no files.")
def leaderboard(folder: Path, out: Path | None, as_json: bool) -> None:
    """Make one page of all runs in FOLDER (default: runs), with leaderboard.json and leaderboard.csv beside it.

    Only values of equal fingerprints and N stand in one table. Runs that cannot be read are named with the reason.
    \f
    Raises UsageError where FOLDER holds no run.
    """
    from scottbench.cli.printing import print_json
    from scottbench.errors import UsageError
    from scottbench.report.together import document, read_folder, write

    found = read_folder(folder)
    if not found.runs:
        said = f" Left out: {'; '.join(f'{name}: {reason}' for name, reason in found.left_out)}" if found.left_out else ""
        raise UsageError(f"{folder} holds no run that can be read: no folder in it has a whole manifest.json.{said} Give a folder of runs, "
                         "such as runs/.")
    if as_json:
        print_json(document(found))
        return
    for path in write(found, folder / "leaderboard" if out is None else out, f"leaderboard of {folder.resolve().name}", "leaderboard"):
        click.echo(str(path))
