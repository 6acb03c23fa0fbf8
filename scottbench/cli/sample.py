"""scottbench sample PROMPT: pictures of one's own prompts, and one sheet of them all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scottbench.cli.flags import NOT_SAMPLED, make_request, sampling, warnings

if TYPE_CHECKING:
    from scottbench.run.own_prompts import Samples, Session
    from scottbench.text.progress import Progress


@click.command(short_help="Make pictures of your own prompts, and one sheet of them all.")
@click.argument("prompt", nargs=-1)
@click.option("--prompts", "file", metavar="FILE", help="Further prompts: a text file, one a line.")
@sampling
@click.option("-o", "--out", metavar="DIR", help="Folder of the pictures. Default: one in pictures/, named after the first prompt.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout instead of a table.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_obj
def sample(command: str, out: str | None, as_json: bool, quiet: bool, **values: Any) -> None:
    """Make a picture of each PROMPT with each method, number of steps and seed: PNGs, and one sheet to compare them on.

    \b
    scottbench sample "a red apple"
    scottbench sample -m NAME,NAME -s 2 --seed 0..3 "a red apple" "a blue fish" -o out

    A picture depends on its prompt, its seed and the method alone, not on the others of the call.
    \f
    Raises ScottbenchError, after the table, where a method could not make its pictures.
    """
    from scottbench.cli.running import all_plugins, progress_of

    warnings()
    given, file = list(values.pop("prompt")), values.pop("file")
    request, _ = make_request({**NOT_SAMPLED, **values}, command)
    plugins = all_plugins()
    with progress_of(quiet) as progress:
        from scottbench.models.importing import importing

        with importing():
            from scottbench.run.own_prompts import check_folder, checked, default_folder, open_session, read_prompts
        texts = checked(given + (read_prompts(Path(file)) if file is not None else []))
        session = open_session(plugins, request, texts[0])
        session.remarks[:0] = texts[1]
        folder = default_folder(session.prompts) if out is None else Path(out).expanduser()
        check_folder(folder, session)
        made = _made(session, folder, command, progress)
    _show(made, folder, as_json)


def _made(session: Session, folder: Path, command: str, progress: Progress) -> Samples:
    """Make and keep the pictures, one after another. Raises Interrupted or Terminated, which say what is kept."""
    from scottbench.cli.printing import Interrupted, Terminated, note
    from scottbench.run.own_prompts import Samples, keep, make
    from scottbench.text import count

    for remark in session.remarks:
        note(f"warning: {remark}")
    found: list[Any] = []
    try:
        for one in make(session, progress.run_event):
            keep(folder, one)
            found.append(one)
    except (KeyboardInterrupt, Terminated) as error:
        made = Samples(session, found)
        if found:
            made.finish(folder, command)
        kind = type(error) if isinstance(error, Terminated) else Interrupted
        raise kind(command, f"{count(len(found), 'picture')} of {session.total} in {folder}") from None
    made = Samples(session, found)
    made.finish(folder, command)
    return made


def _show(made: Samples, folder: Path, as_json: bool) -> None:
    """Print what was made. Raises ScottbenchError where a method could not make its pictures."""
    from scottbench.cli.printing import print_json, print_table
    from scottbench.errors import ScottbenchError
    from scottbench.run.own_prompts import SHEET
    from scottbench.text import printable

    failed = made.session.failures
    if as_json:
        print_json({"folder": str(folder), "sheet": str(folder / SHEET), "rows": made.rows, "failed": failed,
                    "remarks": made.session.remarks, "pictures": [one.file for one in made]})  # fmt: skip
    else:
        rows = [[str(row[key]) for key in ("method", "steps", "guidance", "nfe", "pictures")] + [f"{row['seconds']:.3g}"]
                for row in made.rows]  # fmt: skip
        print_table(["method", "steps", "guidance", "NFE", "pictures", "s/picture"], rows, right=range(1, 6))
        print(f"pictures  {printable(folder)}\nsheet     {printable(folder / SHEET)}")
    if failed:
        reasons = "; ".join(f"{cell}: {why}" for cell, why in failed.items())
        raise ScottbenchError(f"{len(failed)} of {len(made.session.cells)} rows have not all their pictures: {reasons}")
