"""scottbench run, plan and resume: sample, measure, report; what that would cost; and go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scottbench.cli.flags import TAKE_LOCK, asking, make_request, warnings
from scottbench.cli.running import (
    all_plugins,
    execute_plan,
    model_changes,
    of_model,
    plan_of,
    progress_of,
    show_run,
    take_lock,
)

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan
    from scottbench.plan.request import RunRequest
    from scottbench.registry.loader import Plugins


@click.command(short_help="Sample, measure and report: the benchmark.")
@asking
@click.option("-o", "--out", metavar="DIR", help="Run folder; one of the same plan is resumed. Default: a new one in runs/.")
@click.option("--shard", metavar="I/K", help="Make the I-th of K parts only; put them together with: scottbench merge.")
@TAKE_LOCK
@click.option("--dry-run", is_flag=True, help="Show what would be done and what it would cost, and stop: scottbench plan.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout instead of tables.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_obj
def run(command: str, out: str | None, dry_run: bool, as_json: bool, quiet: bool, **values: Any) -> None:
    """Sample with each method and number of steps, measure, and write a run folder with an HTML report.

    \b
    scottbench run                              the preset's methods and steps, all prompts
    scottbench run -m NAME,NAME -s 1,2,4 -n 512
    scottbench run -m NAME@guidance=2.0 --json
    """
    from scottbench.run.chunks import parse_shard

    warnings()
    shard, take = values.pop("shard"), values.pop("take_lock")
    request, size = make_request(values, command)
    share = None if shard is None else parse_shard(shard)
    plugins = all_plugins()
    if dry_run:
        _show_cost(plugins, request, None if out is None else Path(out), as_json)
        return
    with progress_of(quiet) as progress:
        from scottbench.models.importing import importing

        with importing():
            from scottbench.plan.plan import make_plan

        made = make_plan(plugins, request)
        _warn(made)
        from scottbench.run.execute import default_folder

        folder = default_folder(made) if out is None else Path(out)
        take_lock(folder if take else None)
        failure, folder = execute_plan(made, plugins, folder, size, progress, share)
    show_run(folder, as_json, failure)


@click.command(short_help="Show what a run would do and cost; the same as run --dry-run.")
@asking
@click.option("-o", "--out", metavar="DIR", help="A run folder to go on with. Default: one in runs/ that was made from the same plan.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.pass_obj
def plan(command: str, as_json: bool, out: str | None, **values: Any) -> None:
    """Show cells, images, network calls, estimated minutes and disk (from a probe of three images), and what is already done."""
    warnings()
    request, _ = make_request(values, command)
    _show_cost(all_plugins(), request, None if out is None else Path(out), as_json)


@click.command(short_help="Go on with a run that was stopped.")
@click.argument("run")
@click.option("--student", multiple=True, metavar="NAME=FOLDER", help="Where a student is now, if it has moved.")
@of_model
@click.option("-b", "--batch-size", default="auto", show_default=True, metavar="N|auto", help="Images at once: speed only.")
@click.option("--shard", metavar="I/K", help="Default: that of the run.")
@TAKE_LOCK
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout instead of tables.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def resume(run: str, shard: str | None, as_json: bool, quiet: bool, **values: Any) -> None:
    """Go on with RUN (a run folder, or the head of its plan's hash) where it stopped; a finished one is only measured again.

    Everything that the numbers depend on is checked first: weights, data, code and options are those of the run, or it ends with code 5.
    """
    from scottbench.cli.printing import folders, note, number
    from scottbench.run.chunks import parse_shard
    from scottbench.store.runs import find_run

    size = None if values["batch_size"] == "auto" else number("--batch-size", values["batch_size"])
    changes: dict[str, Any] = {"students": folders("--student", values["student"])} if values["student"] else {}
    changes |= model_changes(values)
    root = find_run(run)
    plugins = all_plugins()
    with progress_of(quiet) as progress:
        made, manifest = plan_of(plugins, root, changes)
        _warn(made)
        from scottbench.run.chunks import inventory
        from scottbench.store.folder import RunFolder

        kept = manifest.get("shard") if shard is None else shard
        if not quiet:
            note(f"plan {made.hash[:8]} verified; {inventory(RunFolder(root), made)}")
        take_lock(root if values["take_lock"] else None)
        failure, _ = execute_plan(made, plugins, root, size, progress, None if kept is None else parse_shard(kept))
    show_run(root, as_json, failure)


def _warn(made: Plan) -> None:
    """Tell on stderr, once for all workers, of things that can be run and should be known."""
    from scottbench.cli.printing import note, rank

    for warning in made.warnings if rank() == 0 else []:
        note(f"warning: {warning}")


def _show_cost(plugins: Plugins, request: RunRequest, out: Path | None, as_json: bool) -> None:
    """Print what a run would cost. Raises UsageError in one of several processes."""
    from scottbench.cli.cost import print_cost
    from scottbench.run.processes import world_size

    if world_size() > 1:
        from scottbench.errors import UsageError

        raise UsageError("a dry run needs one process: run it without a launcher.")
    print_cost(plugins, request, out, as_json)
