"""scottbench train NAME: distil a student and export it as a folder that `run` uses."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import click

from scottbench.cli.flags import DEFAULT_PRESET


@click.command(short_help="Distil a student.")
@click.argument("name")
@click.option("-p", "--preset", default=DEFAULT_PRESET, show_default=True, help="Gives the teacher, the dataset and training defaults.")
@click.option("--minutes", help="Stop after so many minutes of training.")
@click.option("--max-steps", help="Stop after so many updates of the student.")
@click.option("-b", "--batch-size", help="Items of one update, over all processes. Default: the preset's.")
@click.option("--accumulate", help="Micro-batches of one update, made one after another. Default: the preset's, else 1.")
@click.option("--precision", metavar="auto|float32|bfloat16|float16", help="Of forward passes. auto: float32 on a CPU.")
@click.option("--evaluate-every", metavar="K", help="Metrics on 256 held-out items every K updates; 0: never. Default: the preset's.")
@click.option("--evaluate-steps", metavar="N", help="Sampling steps of those. Default: the preset's first.")
@click.option("--patience", metavar="P", help="Stop after P such points without a better value of the first metric.")
@click.option("--export", metavar="last|best", help="Which student to keep. Default: last.")
@click.option("--weights", metavar="ema|student|both", help="Which weights to keep; both: theta goes to OUT/student. Default: ema.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Student folder. Default: students/PRESET-NAME.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the student folder.")
@click.option("-O", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the trainer; may be repeated.")
@click.option("--seed", default="0", show_default=True)
@click.option("-d", "--device", default="auto", show_default=True, metavar="auto|cpu|cuda")
@click.option("--tracker", metavar="NAME", help="Log to one of accelerate's trackers too (tensorboard, wandb, ...).")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def train(name, preset, minutes, max_steps, out, resume, pairs, device, tracker, quiet, **flags) -> None:
    """Distil a student with trainer NAME: losses logged, checkpoints kept, a student folder at the end.

    On several processes: accelerate launch --multi_gpu --num_processes 2 $(which scottbench) train NAME
    """
    from scottbench.cli.printing import maybe, number, positive
    from scottbench.registry.loader import load_plugins
    from scottbench.registry.options import parse_pairs
    from scottbench.text.progress import Progress

    arguments = {"minutes": positive("--minutes", minutes), "max_steps": maybe("--max-steps", max_steps), "options": parse_pairs(pairs)}
    for flag, lowest in (("batch_size", 1), ("accumulate", 1), ("evaluate_every", 0), ("evaluate_steps", 1), ("patience", 1)):
        flags[flag] = maybe("--" + flag.replace("_", "-"), flags[flag], lowest)
    flags["seed"] = number("--seed", flags["seed"], 0)
    plugins = load_plugins()
    plugins.find("trainer", name)
    chosen = plugins.find("preset", preset).noun
    out = Path("students") / f"{preset}-{name}" if out is None else out

    from scottbench.plan.device import choose_device
    from scottbench.store.assets import offline
    from scottbench.training.train import train as distil

    arguments |= {"device": choose_device(device, chosen), "resume": resume, "tracker": tracker}
    with offline(), contextlib.redirect_stdout(sys.stderr), Progress(quiet) as progress:
        distil(plugins, preset, name, out, progress=progress.train_event, **arguments, **flags)
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        tell(out, preset, name)


def tell(out: Path, preset: str, name: str) -> None:
    """What was made, at what cost, and what to do with it."""
    facts = json.loads((out / "student.json").read_text())
    samples, evaluations = facts["samples_seen"], facts["network_evaluations"]
    each = f" ({evaluations / samples:.1f} a sample)" if samples else ""
    click.echo(f"student {out}")
    click.echo(f"steps   {facts['steps']:,}, samples seen {samples:,}, minutes {facts['minutes']:g}, NFE {evaluations:,}{each}")
    if "best_on_curve" in facts:
        click.echo(f"best    {facts['best_on_curve']['value']:.4g} at step {facts['best_on_curve']['step']}")
    click.echo(f"next    scottbench run --preset {preset} --methods {name} --student {name}={out}")
