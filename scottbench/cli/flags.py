"""The flags that say what is asked for, shared by `run`, `plan` and `config show`; each also a variable and a key of the config file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scottbench import DEFAULT_PRESET

if TYPE_CHECKING:
    from scottbench.plan.request import RunRequest



def _read_config(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    if path is not None:
        from scottbench.plan.request import read_config

        context.default_map = read_config(Path(path))
    return path


def setting(*names: str, name: str, **words: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an option whose value may come from a variable or the config file."""
    return click.option(*names, name, envvar=f"SCOTTBENCH_{name.upper()}", **words)


FLAGS = [
    setting("-m", "--methods", name="methods", multiple=True, metavar="A,B", help="Each also NAME@key=value,... Default: the preset's."),
    setting("-s", "--steps", name="steps", multiple=True, metavar="1,2", help="Numbers of sampling steps. Default: the preset's."),
    setting("-p", "--preset", name="preset", default=DEFAULT_PRESET, show_default=True, metavar="NAME", help="Model, dataset, metrics."),
    setting("-k", "--metrics", name="metrics", multiple=True, metavar="A,B", help="Default: the preset's."),
    setting("-n", "--limit", name="limit", metavar="N", help="Only the first N prompts of the evaluation split (a stable prefix)."),
    setting("--seeds", "--seed", name="seeds", default="0", show_default=True, metavar="0,1|0..2", help="Seeds of all noise; a cell each."),
    setting("-b", "--batch-size", name="batch_size", default="auto", show_default=True, metavar="N|auto", help="At once: speed only."),
    setting("-O", "--option", name="options", multiple=True, metavar="KEY=VALUE", help="Option of the methods; may be repeated."),
    setting("--guidance", name="guidance", metavar="S", help="Guidance scale of all methods (1 = unguided). For one: NAME@guidance=S."),
    setting("-d", "--device", name="device", default="auto", show_default=True, metavar="auto|cpu|cuda"),
    setting("--compile", name="compile", default="off", is_flag=False, flag_value="blocks", metavar="[blocks|graphs]",
            help="Compile the U-Nets: block by block, or with CUDA graphs. Minutes at the start; part of the run's identity."),
    setting("--tf32", name="tf32", default="off", is_flag=False, flag_value="on", metavar="[on|off]",
            help="TF32 for a GPU's products in float32; part of the run's identity. Default: off."),
    setting("--student", name="students", multiple=True, metavar="NAME=FOLDER", help="In place of the preset's; may be repeated."),
    setting("--model", name="model", metavar="NAME|FOLDER", help="Teacher: a name, or a Stable Diffusion pipeline folder."),
    setting("--dataset", name="dataset", metavar="NAME|FOLDER", help="Data in place of the preset's: a name, or a folder of pictures."),
    setting("--reference", name="reference", metavar="NAME|FOLDER", help="Real images to compare with, apart from the prompts."),
    setting("--prompts", name="prompts", metavar="FILE", help="Captions of such a folder: CSV, JSONL, JSON or lines of text."),
    click.option("--allow-unsafe-checkpoint", is_flag=True, help="Read pickled weights of --model; recorded and shown in the report."),
    click.option("-c", "--config", metavar="FILE", is_eager=True, callback=_read_config, help="TOML file with any of these values."),
]


TAKE_LOCK = click.option("--take-lock", is_flag=True, help="Take over the folder's lock, where its holder on another host has died.")


def _leave_out(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> None:
    if names:
        from scottbench.registry.loader import LEFT_OUT

        LEFT_OUT.set((*LEFT_OUT.get(), *names))


def leaving_out() -> click.Option:
    """Make the flag that leaves plug-ins out; its value goes to the loader."""
    words = "Leave a plug-in out: it is not imported. May be repeated; SCOTTBENCH_PLUGINS=A,B names all to load."
    return click.Option(["--no-plugin"], multiple=True, metavar="NAME", expose_value=False, callback=_leave_out, help=words)


def _take_paths(context: click.Context, option: click.Parameter, paths: tuple[str, ...]) -> None:
    if paths:
        from scottbench.registry.paths import GIVEN

        GIVEN.set((*GIVEN.get(), *paths))


def adding() -> click.Option:
    """Make the flag that names plug-ins which nobody installed; its value goes to the loader."""
    words = "Load a plug-in that is not installed: a file, a package's or a project's folder. May be repeated."
    return click.Option(
        ["--plugin-path"], type=click.Path(), multiple=True, metavar="DIR|FILE", expose_value=False, callback=_take_paths, help=words
    )


def recorded(arguments: Sequence[str]) -> list[str]:
    """Return a command line as records keep it: of a --plugin-path that is absolute, the last part."""
    found: list[str] = []
    for position, word in enumerate(arguments):
        flag, equals, path = word.partition("=") if word.startswith("--plugin-path=") else ("", "", word)
        given = equals or (position > 0 and arguments[position - 1] == "--plugin-path")
        found.append(f"{flag}{equals}{os.path.basename(path.rstrip(os.sep))}" if given and path.startswith((os.sep, "~")) else word)
    return found


def choosing(command: click.Command) -> click.Command:
    """Give a command, and each below it, the flags that say which plug-ins there are."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        choosing(below)
    command.params += [adding(), leaving_out()]
    return command


def asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all flags that say what is asked for."""
    for flag in reversed(FLAGS):
        command = flag(command)
    return click.option(
        "--method", "pictures", multiple=True, metavar="NAME=DIR", help="A row of pictures made elsewhere, beside the methods."
    )(command)  # fmt: skip


SAMPLED = (
    "methods", "steps", "preset", "seeds", "options", "guidance", "device", "students", "model", "allow_unsafe_checkpoint", "config",
)  # fmt: skip
"""The flags that say how pictures are made; the others choose data and metrics."""
NOT_SAMPLED: dict[str, Any] = {"metrics": (), "limit": None, "batch_size": "auto", "dataset": None, "reference": None, "prompts": None,
                              "pictures": (),
                              "compile": "off", "tf32": "off"}
"""Values of the other flags, for a verb that has none of them."""


def sampling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags that say how pictures are made."""
    for flag in reversed(FLAGS):
        if flag(lambda: None).__click_params__[0].name in SAMPLED:
            command = flag(command)
    return command


def make_request(values: dict[str, Any], command: str) -> tuple[RunRequest, int | None]:
    """Make the request of the flags, each checked, and the batch size (None: auto). Names are looked up later, by the plan.

    Raises UsageError.
    """
    from scottbench.cli.printing import folders, maybe, names, number
    from scottbench.plan.request import RunRequest, origins, parse_seeds
    from scottbench.registry.options import parse_pairs

    context, size = click.get_current_context(), values["batch_size"]
    sources = [(name, source.name) for name in values if (source := context.get_parameter_source(name)) is not None]
    request = RunRequest(
        preset=values["preset"],
        methods=names("--methods", values["methods"]),
        steps=[number("--steps", step) for step in names("--steps", values["steps"])],
        metrics=names("--metrics", values["metrics"]) if values["metrics"] else None,
        limit=maybe("--limit", values["limit"]),
        seeds=parse_seeds(values["seeds"]),
        guidance=maybe("--guidance", values["guidance"], 0, float),
        options=parse_pairs(values["options"]),
        device=values["device"],
        compile=values["compile"],
        tf32=values["tf32"],
        students=folders("--student", values["students"]),
        model=values["model"],
        dataset=values["dataset"],
        reference=values["reference"],
        prompts=values["prompts"],
        pictures=folders("--method", values["pictures"]),
        allow_unsafe_checkpoint=values["allow_unsafe_checkpoint"],
        command=command,
        origins={"preset": "default", **origins(sources, values["config"])},
    )
    return request, None if size == "auto" else number("--batch-size", size)


def warnings() -> None:
    """Warn on stderr of variables that look like settings and are none."""
    from scottbench.cli.printing import note
    from scottbench.plan.request import NAMES, misspelt
    from scottbench.training.request import NAMES as TRAINING
    from scottbench.training.request import suffix

    for line in misspelt(os.environ, dict.fromkeys([*NAMES, *map(suffix, TRAINING)])):
        note(line)
