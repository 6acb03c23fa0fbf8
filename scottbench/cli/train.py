"""scottbench train NAME: distil a student and export it as a folder that `run` uses."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scottbench.cli.flags import DEFAULT_PRESET, TAKE_LOCK, setting, warnings

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins
    from scottbench.training.choices import TrainChoices
    from scottbench.training.estimate import TrainEstimate
    from scottbench.training.request import TrainRequest

NUMBERS = {"max_steps": 1, "passes": 1, "batch_size": 1, "accumulate": 1, "evaluate_every": 0, "evaluate_steps": 1, "patience": 1,
           "checkpoint_steps": 1}
"""Flags that are whole numbers, and the least of each."""


def _read_config(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    if path is not None:
        from scottbench.training.request import read_train_config

        context.default_map = read_train_config(Path(path))
    return path


def own(*names: str, name: str, **words: Any) -> Callable:
    """Make an option whose value may come from a variable of its own, SCOTTBENCH_TRAIN_NAME, or from the config file."""
    return click.option(*names, name, envvar=f"SCOTTBENCH_TRAIN_{name.upper()}", **words)


@click.command(short_help="Distil a student.")
@click.argument("name")
@setting("-p", "--preset", name="preset", default=DEFAULT_PRESET, show_default=True, help="Gives teacher, dataset, training defaults.")
@own("--recipe", name="recipe", metavar="NAME", help="One of the preset's recipes: scottbench show preset NAME.")
@own("--minutes", name="minutes", help="Stop after so many minutes of training.")
@own("--max-steps", name="max_steps", help="Stop after so many updates of the student.")
@own("--passes", name="passes", metavar="N", help="Stop after N counted U-Net passes per image: forward 1, backward 2.")
@own("-b", "--batch-size", name="batch_size", help="Items of one update, over all processes. Default: the preset's.")
@own("--accumulate", name="accumulate", help="Micro-batches of one update, made one after another. Default: the preset's, else 1.")
@own("--precision", name="precision", metavar="auto|float32|bfloat16|float16", help="Of forward passes. auto: float32 on a CPU.")
@own("--tf32/--no-tf32", name="tf32", default=None, help="TF32 for a GPU's products in float32. Default: no.")
@own("--compile", name="compile", default=None, is_flag=False, flag_value="blocks", metavar="[off|blocks]",
     help="Compile the U-Nets block by block. Default: off.")  # fmt: skip
@own("--gradient-checkpointing/--no-gradient-checkpointing", name="gradient_checkpointing", default=None,
     help="Less memory, a third more time. Default: the preset's.")  # fmt: skip
@own("--optimizer", name="optimizer", metavar="adamw|adamw8bit", help="adamw8bit: a quarter of its memory, by bitsandbytes.")
@own("--frozen", name="frozen", metavar="float32|half", help="Format of networks that are not trained, on a GPU. Default: float32.")
@own("--cache", name="cache", metavar="latents|both|none", help="Encoded data that is kept. Default: by the data's size and kind.")
@own("--offload/--no-offload", name="offload", default=None, help="Text encoder and VAE wait in the CPU's memory. Default: no.")
@own("--fsdp/--no-fsdp", name="fsdp", default=None, help="Split the student over several processes. Default: the preset's.")
@own("--evaluate-every", name="evaluate_every", metavar="K",
     help="Metrics on 256 held-out items every K updates; 0: never. Default: the preset's.")  # fmt: skip
@own("--evaluate-steps", name="evaluate_steps", metavar="N", help="Sampling steps of those. Default: the preset's first.")
@own("-k", "--metrics", name="metrics", multiple=True, metavar="A,B", help="Metrics of those points; the first decides.")
@own("--patience", name="patience", metavar="P", help="Stop after P such points without a better value of the first metric.")
@own("--export", name="export", metavar="last|best", help="Which student to keep. Default: last.")
@own("--weights", name="weights", metavar="ema|student|both",
     help="Which weights to keep; both: theta goes to OUT/student. Default: ema.")  # fmt: skip
@own("--average", name="average", metavar="DECAY", help="Export an average of theta with this decay, apart from the target network.")
@own("--lr-schedule", name="lr_schedule", metavar="cosine|constant|none", help="none: no warm-up either. Default: the preset's.")
@own("--checkpoint-minutes", name="checkpoint_minutes", metavar="M", help="Minutes between checkpoints; 0: none by time. Default: 5.")
@own("--checkpoint-steps", name="checkpoint_steps", metavar="K", help="Steps between checkpoints, beside that. Default: none.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Student folder. Default: students/PRESET-NAME.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the student folder.")
@own("-O", "--option", name="options", multiple=True, metavar="KEY=VALUE", help="Option of the trainer; may be repeated.")
@own("--seed", name="seed", default="0", show_default=True)
@setting("-d", "--device", name="device", default="auto", show_default=True, metavar="auto|cpu|cuda")
@setting("--model", name="model", metavar="NAME|FOLDER", help="Teacher: a name, or a Stable Diffusion pipeline folder.")
@setting("--dataset", name="dataset", metavar="NAME|FOLDER", help="Data in place of the preset's: a name, or a folder of pictures.")
@setting("--prompts", name="prompts", metavar="FILE", help="Captions of such a folder: CSV, JSONL, JSON or lines of text.")
@click.option("--allow-unsafe-checkpoint", is_flag=True, help="Read pickled weights of --model.")
@own("--tracker", name="tracker", metavar="NAME", help="Log to one of accelerate's trackers too (tensorboard, wandb, ...).")
@click.option("-c", "--config", metavar="FILE", is_eager=True, callback=_read_config, help="TOML file with any of these under [train].")
@TAKE_LOCK
@click.option("--dry-run", is_flag=True, help="Show what would be trained and about how long it would take; write nothing.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_obj
def train(command: str, name: str, dry_run: bool, quiet: bool, **values: Any) -> None:
    """Distil a student with trainer NAME: losses logged, checkpoints kept, a student folder at the end.

    On several processes: accelerate launch --multi_gpu --num_processes 2 $(which scottbench) train NAME

    Values: flag > variable > config file > preset > default. The variables are SCOTTBENCH_PRESET, _DEVICE and _MODEL, which `run` has
    too, and SCOTTBENCH_TRAIN_MINUTES, _BATCH_SIZE and so on for all the others.
    """
    from scottbench.cli.printing import rank
    from scottbench.cli.running import all_plugins, take_lock
    from scottbench.store.assets import offline
    from scottbench.text.progress import Progress

    warnings()
    take = values.pop("take_lock")
    request = _request(name, values, command)
    plugins = all_plugins()
    if dry_run:
        _show_estimate(plugins, request)
        return
    from scottbench.training.choices import choose

    folder = choose(plugins, request).out
    take_lock(folder if take else None)
    with stopping(folder, command), offline(), contextlib.redirect_stdout(sys.stderr), Progress(quiet) as progress:
        from scottbench.training.train import train as distil

        out = distil(plugins, request, progress.train_event)
    if rank() == 0:  # one of several processes speaks
        _tell(out, request)


@contextlib.contextmanager
def stopping(out: Path, command: str) -> Iterator[None]:
    """Say on the way out of a training that a signal stops which checkpoint is kept and how to go on. Raises Interrupted or Terminated."""
    from scottbench.cli.printing import Interrupted, MakeRoom, Terminated

    # a worker, or a training that Python started, ends by SystemExit
    by_code: dict[object, type[Terminated] | type[MakeRoom]] = {143: Terminated, 138: MakeRoom}
    try:
        yield
    except (KeyboardInterrupt, Terminated, SystemExit) as error:
        kind: type[BaseException] = Interrupted if isinstance(error, KeyboardInterrupt) else type(error)
        if isinstance(error, SystemExit):
            if error.code not in by_code:
                raise
            kind = by_code[error.code]
        from scottbench.training.folder import kept_step

        step, again = kept_step(out), command if "--resume" in command.split() else f"{command} --resume"
        kept = f"the checkpoint of step {step} is kept in {out}"
        if step is None:
            kept = "no checkpoint had been made yet; what was encoded is kept"
        raise kind(command if step is None else again, kept) from None


def _request(name: str, values: dict[str, Any], command: str) -> TrainRequest:
    """Check the flags one by one. Names are looked up later."""
    from scottbench.cli.printing import maybe, names, number, positive
    from scottbench.plan.request import origins
    from scottbench.registry.options import parse_pairs
    from scottbench.training.request import TrainRequest, variable

    context, config = click.get_current_context(), values.pop("config")
    sources = [(key, source.name) for key in values if (source := context.get_parameter_source(key)) is not None]
    checked = {
        "minutes": positive("--minutes", values["minutes"]),
        **{key: maybe("--" + key.replace("_", "-"), values[key], lowest) for key, lowest in NUMBERS.items()},
        "checkpoint_minutes": maybe("--checkpoint-minutes", values["checkpoint_minutes"], 0, float),
        "metrics": names("--metrics", values["metrics"]) if values["metrics"] else None,
        "options": parse_pairs(values["options"]),
        "seed": number("--seed", values["seed"], 0),
        "origins": {"preset": "default", **origins(sources, config, variable)},
    }
    return TrainRequest(name, command=command, **{**values, **checked})


def _show_estimate(plugins: Plugins, request: TrainRequest) -> None:
    from scottbench.run.processes import world_size

    if world_size() > 1:
        from scottbench.errors import UsageError

        raise UsageError("a dry run needs one process: run it without a launcher.")
    with contextlib.redirect_stdout(sys.stderr):
        from scottbench.errors import DamagedAsset, MissingAsset, Unfit
        from scottbench.store.assets import offline
        from scottbench.training.choices import choose
        from scottbench.training.estimate import estimate

        choices, predicted = choose(plugins, request), None
        with offline():
            try:
                found = estimate(plugins, choices)
            except MissingAsset as error:
                from scottbench.training.prediction import predict

                if isinstance(error, (DamagedAsset, Unfit)) or (predicted := predict(plugins, choices, error)) is None:
                    raise
    if predicted is not None:
        from scottbench.cli.predicted import training_lines

        _print_lines(choices, training_lines(choices, predicted))
    else:
        _print_estimate(choices, found)


def _print_estimate(choices: TrainChoices, found: TrainEstimate) -> None:
    from scottbench.cli.predicted import limits_of, memory_line
    from scottbench.plan.inputs import model_name
    from scottbench.text import estimated

    preset, settings, budget = choices.preset, choices.settings, choices.budget
    teacher = model_name(preset, choices.request)
    encoding = "encoded already" if found.encoding is None else f"about {estimated(found.encoding)} to encode them"
    encoding = "encoded for each batch" if found.kind == "none" else encoding
    split = f"{found.items - found.held_out:,} trained on, {found.held_out:,} held out"
    parts = f"{settings.accumulate} micro-batch{'' if settings.accumulate == 1 else 'es'} of {found.micro_batch_size}"
    going_on = "its training goes on" if choices.request.resume else "nothing is there yet"
    lines = [
        f"training {choices.trainer.name}  preset {preset.name}  teacher {teacher} ({found.teacher[:12]})",
        f"data     {choices.data.name}: {found.items:,} items, {split}; {encoding}",
        f"batch    {settings.batch_size}, {parts}",
        f"trained  {', '.join(f'{role} {count:,} parameters' for role, count in found.parameters.items())}",
        f"budget   {limits_of(budget)}",
        f"out      {choices.out} ({going_on})",
        f"estimate about {found.steps:,} steps in {estimated(found.seconds)}, from {len(found.times)} timed steps of "
        f"{min(found.times):.3g} to {max(found.times):.3g} s{' without the metric curve' if settings.evaluate_every else ''}",
        memory_line(found.memory, found.not_counted),
    ]
    _print_lines(choices, lines)


def _print_lines(choices: TrainChoices, lines: list[str]) -> None:
    from scottbench.cli.printing import print_table
    from scottbench.text import printable
    from scottbench.training.choices import in_words

    for line in lines:
        print(printable(line))
    rows = [[name, "-" if value is None else str(value), origin] for name, value, origin in in_words(choices)]
    print_table(["setting", "value", "origin"], rows)


def _tell(out: Path, request: TrainRequest) -> None:
    """Say which student was made, at what cost, and how to use it."""
    import shlex

    from scottbench.models.student import read_student
    from scottbench.registry.paths import given_again

    facts = read_student(out)
    samples, evaluations = facts["samples_seen"], facts["network_evaluations"]
    each = f" ({evaluations / samples:.1f} a sample)" if samples else ""
    print(f"student {out}")
    print(f"steps   {facts['steps']:,}, samples seen {samples:,}, minutes {facts['minutes']:g}, NFE {evaluations:,}{each}")
    print(f"passes  {facts['passes']:,} (forward 1, backward 2)")
    if "best_on_curve" in facts:
        print(f"best    {facts['best_on_curve']['value']:.4g} at step {facts['best_on_curve']['step']}")
    unsafe = " --allow-unsafe-checkpoint" * request.allow_unsafe_checkpoint
    model = "" if request.model is None else f" --model {shlex.quote(request.model)}{unsafe}"
    name, folder = request.trainer, shlex.quote(str(out))
    print(f"next    scottbench run --preset {request.preset}{model} --methods {name} --student {name}={folder}{given_again()}")
