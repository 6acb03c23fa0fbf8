"""scottbench show KIND NAME: options with defaults and docs, paper, file, package; of a student folder, what its student.json says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins, Registered

HOW_TO_SET = {
    "method": "Set with -m {name}@{example}, or for all methods of a run with -O {example}",
    "metric": "Set with -k {name}@{example}",
    "dataset": "Set with --dataset {name}@{example}, or in a preset's table [dataset]",
    "trainer": "Set with scottbench train {name} -O {example}",
}


@click.command(short_help="Show one noun: options, defaults, paper, file.")
@click.argument("kind")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def show(kind: str, name: str, as_json: bool) -> None:
    """Show one noun: scottbench show method NAME; or a student folder: scottbench show student FOLDER."""
    from scottbench.cli.printing import kind_of, print_json, print_table, say
    from scottbench.registry.loader import load_plugins

    if kind in ("student", "students"):
        show_student(Path(name).expanduser(), as_json)
        return
    plugins = load_plugins()
    kind = kind_of(kind, [*plugins.nouns, "plugin"])
    if kind == "plugin":
        show_plugin(plugins, name, as_json)
        return
    found = plugins.find(kind, name)
    facts, options = noun_facts(found), noun_options(found.noun)
    if as_json:
        print_json({**facts, "options": options})
        return
    print_facts(facts)
    if options:
        print()
        print_table(["option", "default", "type", "what it does"], [list(option.values()) for option in options], wrap=(1, 2, 3))
        example = f"{options[0]['name']}={options[0]['default']}"
        print()
        say(HOW_TO_SET[kind].format(name=name, example=example))


def print_facts(facts: dict[str, Any]) -> None:
    """Print names with their values, a line each; in a window further lines stand below the value."""
    from scottbench.cli.printing import say

    width = max(len(key) for key in facts)
    for key, value in facts.items():
        say(f"{key.ljust(width)}  {in_words(value)}", " " * (width + 2))


def show_plugin(plugins: Plugins, name: str, as_json: bool) -> None:
    """Print where a plug-in comes from, how loading it went and what it brings. Raises UsageError where there is none of that name."""
    from scottbench.cli.printing import print_json
    from scottbench.errors import UsageError
    from scottbench.text import did_you_mean, one_line

    found = next((plugin for plugin in plugins.plugins if plugin.name == name), None)
    if found is None:
        names = [plugin.name for plugin in plugins.plugins]
        raise UsageError(f"unknown plugin '{one_line(name)}'.{did_you_mean(name, names)} Plug-ins: {', '.join(names)}")
    facts: dict[str, Any] = {"name": found.name, "kind": "plugin", "package": f"{found.distribution} {found.version}",
                             "module": found.target, "from": found.origin, "status": found.status}  # fmt: skip
    for kind, noun in found.names:
        facts.setdefault(f"{kind}s", []).append(noun)
    if as_json:
        print_json(facts)
    else:
        print_facts({key: ", ".join(value) if isinstance(value, list) else value for key, value in facts.items()})


def show_student(folder: Path, as_json: bool) -> None:
    """Print what student.json says: whose weights they are, how they are sampled, how they were made."""
    from scottbench.cli.printing import print_json
    from scottbench.models.student import read_student
    from scottbench.text import printable

    facts = read_student(folder)
    if as_json:
        print_json(facts)
        return
    if facts.get("published") is not None:
        from scottbench.plan.published import origin

        print(printable(f"{folder}: {origin(facts)}\n"))
    print_facts(dict(sorted(facts.items())))


def in_words(value: object) -> str:
    """Spell lists and tables of a preset as text: "a; b", "x = 2.5, y = 2.5"."""
    if isinstance(value, list):
        return "; ".join(map(str, value))
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key} = ({in_words(item)})" if isinstance(item, dict) else f"{key} = {item}" for key, item in value.items())


def noun_facts(found: Registered) -> dict[str, Any]:
    """Collect what a noun says of itself and where it comes from, in plain values; functions are left out."""
    noun = found.noun
    facts = {"name": noun.name, "kind": found.kind, "package": f"{found.distribution} {found.version}", "plugin": found.plugin}
    facts["file"] = found.file
    for item in dataclasses.fields(noun):
        value = getattr(noun, item.name)
        if isinstance(value, tuple) and all(isinstance(one, str) for one in value):
            value = list(value) if value else None
        if item.name not in facts and value not in ("", None) and isinstance(value, (str, int, float, list, dict, Path)):
            facts[item.name] = str(value) if isinstance(value, Path) else value
    folder = getattr(noun, "folder", None)
    if callable(folder):
        facts["folder"] = str(folder())
    return facts


def noun_options(noun: Any) -> list[dict[str, Any]]:
    """Options of a noun as records: name, default, type, doc."""
    from scottbench.registry.options import options_of

    declared = getattr(noun, "options", None)
    if declared is None:
        return []
    return [
        {"name": option.name, "default": "(required)" if option.required else option.default, "type": option.describe, "doc": option.doc}
        for option in options_of(declared)
    ]
