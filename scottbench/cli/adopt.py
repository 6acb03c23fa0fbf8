"""scottbench adopt: published weights, a U-Net or a LoRA, become a student folder that `run` uses."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scottbench import DEFAULT_PRESET

if TYPE_CHECKING:
    from scottbench.models.adoption import Wishes
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.models.published import Published
    from scottbench.registry.loader import Plugins


@click.command(short_help="Make published weights (a U-Net, a LoRA) a student.")
@click.argument("source")
@click.option("--as", "method", required=True, metavar="METHOD|plain", help="The sampler that they were published for. plain: an ordinary "
              "diffusion U-Net, sampled by the teacher's own samplers.")  # fmt: skip
@click.option("--teacher", metavar="NAME|FOLDER", help="The model whose text encoder, VAE and schedule they share, and into whose U-Net a "
              "LoRA is folded. Default: the one model here that reads text of the same width.")  # fmt: skip
@click.option("--name", metavar="NAME", help="What runs call the student. Default: the source's name.")
@click.option("-o", "--out", metavar="DIR", help="Student folder. Default: students/NAME.")
@click.option("-O", "--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the sampler that they were published with.")
@click.option("--made-for", metavar="1,2,4", help="Numbers of steps that they were published for; run warns at others.")
@click.option("--guidance", metavar="baked|free|LOW..HIGH", help="baked: sampled with scale 1 only. free: any scale. LOW..HIGH: those "
              "that a U-Net knows which takes the scale as an input. Default: baked, or, where it is an input, free.")  # fmt: skip
@click.option("--by", metavar="TEXT", help="Who trained them. Default: what the source says.")
@click.option("--licence", metavar="TEXT", help="Default: what the source says, else unknown.")
@click.option("--trained-from", metavar="TEXT", help="The model that they were distilled from. Default: what the source says.")
@click.option("--unet-only", is_flag=True, help="Leave out the part of a LoRA that changes the text encoder.")
@click.option("--json", "as_json", is_flag=True, help="student.json on stdout instead of words.")
def adopt(source: str, method: str, teacher: str | None, out: str | None, as_json: bool, **values: Any) -> None:
    """Make published weights a student: SOURCE is FILE.safetensors, a folder (pipeline, U-Net or LoRA), or a hub id (OWNER/NAME or
    OWNER/NAME/FILE), which is read from the local cache; nothing is fetched.

    \b
    scottbench adopt latent-consistency/lcm-lora-sdv1-5 --as lcm --name lcm-lora --made-for 1,2,4,8
    scottbench run -m lcm@student=lcm-lora --student lcm-lora=students/lcm-lora -p PRESET
    \f
    Raises UsageError for a name that no run could use.
    """
    from scottbench.cli.printing import print_json
    from scottbench.cli.running import all_plugins
    from scottbench.models.published import find_published

    plugins = all_plugins()
    with contextlib.redirect_stdout(sys.stderr):
        found = find_published(source)
        wishes = make_wishes(plugins, found, method, out, values)
        folder = Path("students") / wishes.name if out is None else Path(out).expanduser()
        from scottbench.models.adoption import adopt as write
        from scottbench.models.adoption import check_out

        check_out(folder)
        named, model = open_teacher(plugins, found, teacher)
        facts = write(found, model, named, wishes, folder, made_by())
    if as_json:
        print_json(facts)
    else:
        tell(facts, folder)


def make_wishes(plugins: Plugins, found: Published, method: str, out: str | None, values: dict[str, Any]) -> Wishes:
    """Check what the user says of the weights. Raises UsageError."""
    from scottbench.cli.printing import names, number
    from scottbench.errors import UsageError
    from scottbench.models.adoption import Wishes
    from scottbench.models.student import PLAIN
    from scottbench.registry.options import options_of
    from scottbench.text import is_name, one_line

    nouns = [registered.noun for registered in plugins.nouns["method"].values()]
    if method == PLAIN:
        samplers = [noun for noun in nouns if noun.trainer is None]
        trainer = PLAIN
    else:
        samplers = [plugins.find("method", method).noun]
        trainer = PLAIN if samplers[0].trainer is None else samplers[0].trainer
    given = Path(found.source).name.removesuffix(".safetensors") if out is None else Path(out).resolve().name
    name = values["name"] if values["name"] is not None else given
    if not is_name(name):
        raise UsageError(f"--name {one_line(name)}: a student's name has letters, digits, '_', '.' and '-' only. Give another with --name.")
    counts = tuple(number("--made-for", text) for text in names("--made-for", (values["made_for"],))) if values["made_for"] else ()
    texts = {key: values[key] for key in ("by", "licence", "trained_from")}
    known = frozenset(option.name for noun in samplers for option in options_of(noun.options))
    return Wishes(name, method, trainer, sampler_options(samplers, values["options"]), known, counts, guidance_of(values["guidance"]),
                  unet_only=values["unet_only"], **texts)  # fmt: skip


def sampler_options(samplers: list[Any], given: tuple[str, ...]) -> dict[str, Any]:
    """Return the options that a user names, typed by a sampler that has them. Raises UsageError for one that none has."""
    from scottbench.errors import UsageError
    from scottbench.registry.options import make_options, options_of, parse_pairs
    from scottbench.text import one_line

    found = {}
    for key, text in parse_pairs(given).items():
        noun = next((noun for noun in samplers if key in {option.name for option in options_of(noun.options)}), None)
        if noun is None:
            each = [(noun.name, [option.name for option in options_of(noun.options)]) for noun in samplers]
            known = "; ".join(f"{name}: {', '.join(options) if options else 'none'}" for name, options in each)
            raise UsageError(f"-O {one_line(key)}: no sampler of these weights has this option. Options: {known}")
        found[key] = getattr(make_options(noun.options, {key: text}, f"method '{noun.name}'"), key)
    return found


def guidance_of(text: str | None) -> tuple[float, float] | str | None:
    """Read --guidance. Raises UsageError."""
    from scottbench.cli.printing import number
    from scottbench.errors import UsageError
    from scottbench.text import one_line

    if text is None or text in ("baked", "free"):
        return text
    low, dots, high = text.partition("..")
    if not dots:
        raise UsageError(f"--guidance {one_line(text)}: must be baked, free or a range such as 3..15.")
    ends = number("--guidance", low, 1, float), number("--guidance", high, 1, float)
    if ends[0] > ends[1]:
        raise UsageError(f"--guidance {one_line(text)}: the lower end comes first.")
    return ends


def open_teacher(plugins: Plugins, found: Published, asked: str | None) -> tuple[str, DiffusionModel]:
    """Open the teacher that the user names, else the one model of this installation that reads text of the weights' width.

    Raises UsageError where there is none or several; MissingAsset or DamagedAsset."""
    import dataclasses

    from scottbench.plan.inputs import open_model
    from scottbench.plan.request import RunRequest
    from scottbench.store.assets import offline

    preset = dataclasses.replace(plugins.find("preset", DEFAULT_PRESET).noun, dtype="float32")
    name = fitting(plugins, found) if asked is None else asked
    with offline():
        return open_model(plugins, preset, RunRequest(preset.name, model=name), "cpu")


def fitting(plugins: Plugins, found: Published) -> str:
    """Name the one registered model, of those whose folder is here, that reads text of the weights' width. Raises UsageError."""
    from scottbench.errors import UsageError
    from scottbench.store.files import read_json

    width, names = found.text_width, []
    for name, registered in plugins.nouns["model"].items():
        config = None if registered.noun.folder is None else read_json(Path(registered.noun.folder()) / "unet" / "config.json")
        if config is not None and width is not None and config.get("cross_attention_dim", 1280) == width:
            names.append(name)
    if len(names) != 1:
        fits = f"{', '.join(names)} fit" if names else "no model that is here fits"
        text = "" if width is None else f" (text of width {width})"
        raise UsageError(f"{found.source}: {fits}{text}. Say whose student it is: --teacher NAME|FOLDER. See: scottbench list models")
    return names[0]


def made_by() -> dict[str, str]:
    """Return the versions and the head of the digest of the code that makes an adopted student."""
    import importlib.metadata

    from scottbench import __version__
    from scottbench.plan.code import host_code, short_digest

    libraries = {name: importlib.metadata.version(name) for name in ("diffusers", "peft")}
    return {"package": "scottbench", "version": __version__, "host_code": short_digest(host_code("adopted")), **libraries}


def tell(facts: dict[str, Any], folder: Path) -> None:
    """Print what was made, and the line that samples it."""
    from scottbench.models.student import PLAIN
    from scottbench.plan.published import origin
    from scottbench.text import printable

    method = facts["published"]["method"]
    print(printable(f"{folder}: {origin(facts)}"))
    told = [("text encoder and VAE of", facts["teacher"])]
    told += [("sampled with", ", ".join(f"{key}={value}" for key, value in facts["sampler"].items()))] if facts["sampler"] else []
    told += [("left out", ", ".join(facts["published"]["left_out"]))] if "left_out" in facts["published"] else []
    for what, value in told:
        print(printable(f"  {what} {value}"))
    sampler = "SAMPLER" if method == PLAIN else method
    print(printable(f"sample it: scottbench run -m {sampler}@student={facts['name']} --student {facts['name']}={folder}"))
