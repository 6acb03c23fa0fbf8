"""scottbench merge RUN...: shards to one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scottbench.cli.flags import TAKE_LOCK
from scottbench.cli.running import of_model


@click.command(short_help="Put the shards of a run together, measure and report.")
@click.argument("runs", nargs=-1, required=True)
@click.option("-o", "--out", metavar="DIR", help="Run folder to merge into. Default: a new one in runs/.")
@of_model
@TAKE_LOCK
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout instead of tables.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def merge(runs: tuple[str, ...], out: str | None, take_lock: bool, as_json: bool, quiet: bool, **values: Any) -> None:
    """Put the shards RUNS (run folders of one plan, from --shard 1/K ... K/K) together; generates nothing.

    Every chunk is checked against its digest. Where chunks are missing, it ends with code 4 and keeps what it has.
    \f
    Raises Incomplete in that case.
    """
    from scottbench.cli import running
    from scottbench.cli.running import all_plugins, execute_plan, model_changes, plan_of, progress_of, show_run
    from scottbench.errors import Incomplete
    from scottbench.store.runs import find_run

    sources = [find_run(text) for text in dict.fromkeys(runs)]
    plugins = all_plugins()
    with progress_of(quiet) as progress:
        made, _ = plan_of(plugins, sources[0], model_changes(values))
        from scottbench.run.chunks import inventory
        from scottbench.run.execute import default_folder
        from scottbench.run.merge import merge as merge_runs

        into = default_folder(made) if out is None else Path(out)
        running.take_lock(into if take_lock else None)
        folder = merge_runs(made, sources, into, progress.run_event)
        missing = inventory(folder, made).missing
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise Incomplete(
                f"{folder.root} lacks {len(missing)} chunk(s): {', '.join(missing[:3])}{more}. Merge the missing shard into it with --out "
                f"{folder.root}, or make the rest here: scottbench resume {folder.root}")
        failure, root = execute_plan(made, plugins, folder.root, None, progress, None)
    show_run(root, as_json, failure)
