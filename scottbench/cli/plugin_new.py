"""scottbench plugin new NAME: a package with one noun of a kind, its tests and its workflow, to be changed into one's own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

TEMPLATES = Path(__file__).with_name("templates")
COMMON = {
    "pyproject.toml": "pyproject.toml", "README.md": "README.md", "test.yml": ".github/workflows/test.yml", "gitignore": ".gitignore",
    "conftest.py": "tests/conftest.py", "test_rules.py": "tests/test_{slug}_rules.py",
}  # fmt: skip
"""Template of every kind -> its place in the package; the other templates lie in the package's module, but for the test."""
OWN_TEST = "tests/test_{slug}.py"


@dataclass(frozen=True)
class Form:
    """The template of a kind."""

    does: str
    """The start that it makes, in words."""
    words: dict[str, str]
    """Files of the module beside __init__.py -> what is in them."""
    use: str
    """The command that uses it; {where} stands for --plugin-path."""


FORMS = {
    "method": Form("DDIM in a few steps", {"sampler.py": "time steps, and the way from noise to latents"},
                   "scottbench run -m {name} -s 2 -n 64 {where}"),
    "trainer": Form("guidance distillation", {"trainer.py": "networks and losses", "sampler.py": "the sampler of its students"},
                    "scottbench train {name} --minutes 5 {where}"),
    "metric": Form("the squared distance between mean features", {"shift.py": "the value, and what each image owes to it"},
                   "scottbench run -k fid,{name} -n 64 {where}"),
    "extractor": Form("the mean colours of 16 squares of an image", {"colours.py": "the network, found and opened"},
                      "scottbench show extractor {name} {where}"),
    "dataset": Form("made pictures of squares", {"squares.py": "ids, prompts and pictures of two splits"},
                    "scottbench run --dataset {name} -n 64 {where}"),
    "preset": Form("the default preset at one to four steps", {"preset.toml": "the preset"}, "scottbench run -p {name} -n 64 {where}"),
    "claim": Form("a consistency student beats its teacher's DDIM", {"claim.toml": "the claim"}, "scottbench show claim {name} {where}"),
}  # fmt: skip


@click.command(short_help="Start a plug-in: a package with tests that pass, to be changed into your own.")
@click.argument("name")
@click.option("--kind", required=True, metavar="|".join(FORMS), help="The kind of noun that it brings.")
@click.option("-o", "--out", metavar="DIR", help="Folder of the package. Default: scottbench-NAME here.")
def new(name: str, kind: str, out: str | None) -> None:
    """Write the package scottbench-NAME with a method, trainer, metric, extractor, dataset, preset or claim called NAME: pyproject.toml
    with the entry point, module, tests, a workflow and a README; and print the next three commands.

    \b
    scottbench plugin new my-sampler --kind method
    \f
    Raises UsageError for a kind that there is not, a name that cannot be or is taken, and a folder that is there.
    """
    from scottbench.cli.printing import check_word
    from scottbench.registry.loader import load_plugins
    from scottbench.store.files import replace_folder, write_file
    from scottbench.text import count

    check_word("--kind", kind, list(FORMS))
    slug = check_new(load_plugins(), name, kind)
    folder = Path(f"scottbench-{name}" if out is None else out).expanduser()
    check_folder(folder)
    next_three = commands(kind, name, folder)
    files = rendered(kind, name, slug, next_three)
    part = folder.with_name(f".{folder.name}.part")
    for path, text in files.items():
        write_file(part / path, text.encode(), "Name another folder with -o.")
    replace_folder(part, folder)
    click.echo(f"{folder}: {kind} '{name}', {count(len(files), 'file')}. Next:\n")
    for line in next_three:
        click.echo(f"  {line}")


def check_new(plugins: Any, name: str, kind: str) -> str:
    """Return a name as a part of modules' names. Raises UsageError for one that cannot be a package's, or that something here has."""
    import importlib.util

    from scottbench.errors import UsageError
    from scottbench.text import is_name, one_line

    if not is_name(name) or not name[-1].isalnum():
        raise UsageError(f"'{one_line(name)[:80]}' cannot be a name: letters, digits, and inside '-', '_' and '.', at most 64. Choose "
                         "another.")
    slug = name.replace("-", "_").replace(".", "_")
    for other in (kind, "method") if kind == "trainer" else (kind,):
        found = plugins.named(other, name)
        if found is not None:
            raise UsageError(f"{other} '{name}' is there already, of {found.distribution} {found.version}. Choose another name.")
    taken = next((plugin for plugin in plugins.plugins if plugin.name == name), None)
    if taken is not None:
        raise UsageError(f"a plug-in '{name}' is there already, of {taken.distribution} {taken.version}. Choose another name.")
    if importlib.util.find_spec(f"scottbench_{slug}") is not None:
        raise UsageError(f"a module scottbench_{slug} is installed here already. Choose another name.")
    return slug


def check_folder(folder: Path) -> None:
    """Raise UsageError for a folder that is there already."""
    from scottbench.errors import UsageError
    from scottbench.text import one_line

    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{one_line(folder)} is there already, and nothing of it is overwritten. Name another folder with -o.")


def commands(kind: str, name: str, folder: Path) -> list[str]:
    """Return the next three commands: hold it against the rules, run its tests, use it."""
    place = shlex.quote(str(folder))
    use = FORMS[kind].use.format(name=name, where=f"--plugin-path {place}")
    return [f"scottbench plugin check {place}", f"pytest {place}", use]


def rendered(kind: str, name: str, slug: str, next_three: list[str]) -> dict[str, str]:
    """Return the package: path -> text of each file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from scottbench import DEFAULT_PRESET

    form, module = FORMS[kind], f"scottbench_{slug}"
    words = {f"{module}/__init__.py": "what scottbench is told", **{f"{module}/{file}": text for file, text in form.words.items()}}
    words |= {OWN_TEST.format(slug=slug): "what it does, as tests"}
    words |= {COMMON["test_rules.py"].format(slug=slug): "scottbench's rules, as tests"}
    article = "an" if kind[0] in "aeiou" else "a"
    values = {
        "name": name, "slug": slug, "module": module, "package": f"scottbench-{name}", "kind": kind, "does": form.does, "article": article,
        "Article": article.capitalize(), "key": f'"{name}"' if "." in name else name, "default_preset": DEFAULT_PRESET,
        "commands": next_three, "files": list(words.items()),
    }  # fmt: skip
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, trim_blocks=True,
        variable_start_string="<<", variable_end_string=">>", block_start_string="<%", block_end_string="%>", comment_start_string="<#",
        comment_end_string="#>")  # fmt: skip
    places = {f"common/{file}.j2": place.format(slug=slug) for file, place in COMMON.items()}
    places |= {f"{kind}/{file}.j2": f"{module}/{file}" for file in ("__init__.py", *form.words)}
    places[f"{kind}/test_own.py.j2"] = OWN_TEST.format(slug=slug)
    return {place: environment.get_template(file).render(values) for file, place in places.items()}
