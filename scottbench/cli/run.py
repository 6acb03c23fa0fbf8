"""scottbench run: sample, measure, report."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

DEFAULT_PRESET = "pocket"
"""The preset that needs nothing but this package; `-p` names another."""


@click.command(short_help="Sample, measure and report: the benchmark.")
@click.option("-m", "--methods", multiple=True, metavar="A,B", help="Each also as NAME@key=value,... Default: the preset's.")
@click.option("-s", "--steps", multiple=True, metavar="1,2", help="Numbers of sampling steps. Default: the preset's.")
@click.option("-p", "--preset", default=DEFAULT_PRESET, show_default=True, metavar="NAME", help="Model, dataset, metrics.")
@click.option("-k", "--metrics", multiple=True, metavar="A,B", help="Default: the preset's.")
@click.option("-n", "--limit", metavar="N", help="Only the first N prompts of the evaluation split (a stable prefix).")
@click.option("--seed", default="0", show_default=True, metavar="N", help="Seed of all noise.")
@click.option("-b", "--batch-size", default="auto", show_default=True, metavar="N|auto", help="Speed only: images do not depend on it.")
@click.option("-o", "--out", metavar="DIR", help="Run folder; one of the same plan is resumed. Default: a new one in runs/.")
@click.option("-O", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the methods; may be repeated.")
@click.option("--guidance", metavar="S", help="Guidance scale of all methods (1 = unguided). For one: NAME@guidance=S.")
@click.option("-d", "--device", default="auto", show_default=True, metavar="auto|cpu|cuda")
@click.option("--student", multiple=True, metavar="NAME=FOLDER", help="A student folder in place of the preset's; may be repeated.")
@click.option("--model", metavar="NAME|FOLDER", help="Teacher: a name, or any Stable Diffusion pipeline folder. Default: the preset's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout instead of tables.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_obj
def run(command: str, as_json: bool, quiet: bool, out: str | None, batch_size: str, **flags) -> None:
    """Sample with each method and number of steps, measure, and write a run folder with an HTML report.

    \b
    scottbench run                              the preset's methods and steps, all prompts
    scottbench run -m NAME,NAME -s 1,2,4 -n 512
    scottbench run -m NAME@guidance=2.0 --json
    """
    from scottbench.cli.common import Terminated, note, number, print_json
    from scottbench.cli.progress import Progress
    from scottbench.cli.results import print_results, read_results
    from scottbench.errors import ScottbenchError
    from scottbench.plugins import load_plugins

    size = None if batch_size == "auto" else number("--batch-size", batch_size)
    request = make_request(command=command, **flags)
    plugins = load_plugins()
    for plugin in plugins.broken:
        note(f"warning: plug-in '{plugin.name}' of {plugin.distribution} {plugin.version} is {plugin.status}")
    failure = None
    # libraries that print must not write between our tables or into the JSON document
    with contextlib.redirect_stdout(sys.stderr), Progress(quiet) as progress:
        from scottbench.plan import make_plan

        plan = make_plan(plugins, request)
        for warning in plan.warnings:
            note(f"warning: {warning}")
        from scottbench.run import default_folder, execute

        folder = default_folder(plan) if out is None else Path(out)
        try:
            execute(plan, plugins, folder, size, progress.run_event)
        except (KeyboardInterrupt, Terminated):
            note(f"to go on where it stopped, run the same line with --out {folder}")
            raise
        except ScottbenchError as error:
            # exit code 1 means that some cells failed: the others have numbers, which are shown before the reasons
            if error.exit_code != 1:
                raise
            failure = error
    results = read_results(folder)
    (print_json if as_json else print_results)(results)
    if failure is not None:
        raise failure


def make_request(methods, steps, preset, metrics, limit, seed, pairs, guidance, device, student, model, command):
    """The flags of `run`, checked one by one, as a RunRequest. Raises UsageError. Names are looked up later, by the plan."""
    from scottbench.cli.common import folders, maybe, names, number
    from scottbench.options import parse_pairs
    from scottbench.plan import RunRequest

    return RunRequest(
        preset=preset,
        methods=names("--methods", methods),
        steps=[number("--steps", step) for step in names("--steps", steps)],
        metrics=names("--metrics", metrics) if metrics else None,
        limit=maybe("--limit", limit),
        seed=number("--seed", seed, 0),
        guidance=maybe("--guidance", guidance, 0, float),
        options=parse_pairs(pairs),
        device=device,
        students=folders("--student", student),
        model=model,
        command=command,
    )
