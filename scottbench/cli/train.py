"""scottbench train NAME: distil a student and export it as a folder that `run` uses."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from scottbench.cli.flags import DEFAULT_PRESET


@click.command(short_help="Distil a student.")
@click.argument("name")
@click.option("-p", "--preset", default=DEFAULT_PRESET, show_default=True, help="Gives the teacher, the dataset and training defaults.")
@click.option("--minutes", help="Stop after so many minutes of training.")
@click.option("--max-steps", help="Stop after so many updates of the student.")
@click.option("-b", "--batch-size", help="Default: the preset's.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Student folder. Default: students/PRESET-NAME.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the student folder.")
@click.option("-O", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the trainer; may be repeated.")
@click.option("--seed", default="0", show_default=True)
@click.option("-d", "--device", default="auto", show_default=True, metavar="auto|cpu|cuda")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def train(name, preset, minutes, max_steps, batch_size, out, resume, pairs, seed, device, quiet) -> None:
    """Distil a student with trainer NAME: losses logged, checkpoints kept, a student folder at the end."""
    from scottbench.cli.common import maybe, number, positive
    from scottbench.cli.progress import Progress
    from scottbench.options import parse_pairs
    from scottbench.plugins import load_plugins

    arguments = {
        "minutes": positive("--minutes", minutes),
        "max_steps": maybe("--max-steps", max_steps),
        "batch_size": maybe("--batch-size", batch_size),
        "seed": number("--seed", seed, 0),
        "options": parse_pairs(pairs),
        "resume": resume,
    }
    plugins = load_plugins()
    plugins.find("trainer", name)
    chosen = plugins.find("preset", preset).noun
    out = Path("students") / f"{preset}-{name}" if out is None else out

    from scottbench import resolve
    from scottbench.assets import offline
    from scottbench.train import train as distil

    arguments["device"] = resolve.device(device, chosen)
    with offline(), contextlib.redirect_stdout(sys.stderr), Progress(quiet) as progress:
        distil(plugins, preset, name, out, progress=progress.train_event, **arguments)
    click.echo(f"student {out}")
    click.echo(f"next    scottbench run --preset {preset} --methods {name} --student {name}={out}")
