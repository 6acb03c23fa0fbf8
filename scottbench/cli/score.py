"""scottbench score RUN: other metrics on the images and features of a run."""

from __future__ import annotations

from typing import Any

import click

from scottbench.cli.flags import TAKE_LOCK
from scottbench.cli.running import of_model


@click.command(short_help="Measure a finished run with other metrics; generates nothing.")
@click.argument("run")
@click.option("-k", "--metrics", multiple=True, required=True, metavar="A,B", help="Each also as NAME@key=value,...")
@of_model
@TAKE_LOCK
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout instead of a table.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def score(run: str, metrics: tuple[str, ...], take_lock: bool, as_json: bool, quiet: bool, **values: Any) -> None:
    """Measure RUN (a run folder, or the head of its plan's hash) with other metrics, from its stored features and images.

    The records go to scores/ in the run folder; the run's own results stay as they are.
    \f
    Raises ScottbenchError, after the tables, where a metric could not be computed.
    """
    from scottbench.cli import running
    from scottbench.cli.printing import names, print_json
    from scottbench.cli.results import print_results, read_results
    from scottbench.cli.running import all_plugins, model_changes, plan_of, progress_of
    from scottbench.errors import ScottbenchError
    from scottbench.store.differences import GENERATION
    from scottbench.store.runs import find_run

    asked, root, plugins = names("--metrics", metrics), find_run(run), all_plugins()
    with progress_of(quiet) as progress:
        made, _ = plan_of(plugins, root, {"metrics": asked, **model_changes(values)}, GENERATION)
        from scottbench.run.score import score as score_run

        running.take_lock(root if take_lock else None)
        folder = score_run(made, root, progress.run_event)
    results = read_results(folder)
    if as_json:
        print_json(results)
    else:
        print_results(folder)
    if results["status"] == "failed":
        raise ScottbenchError(f"some metrics could not be computed; the reasons are in {folder / 'manifest.json'}")
