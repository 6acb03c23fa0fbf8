"""scottbench list KIND: every name of a kind, with its package and status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins, Registered


@click.command("list", short_help="List methods, metrics, models, datasets, trainers, presets, claims, plugins.")
@click.argument("kind")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def list_nouns(kind: str, as_json: bool) -> None:
    """List what can be named: methods, metrics, models, datasets, trainers, presets, claims, plugins."""
    from scottbench.cli.printing import kind_of, note, print_json, print_table
    from scottbench.registry.loader import load_plugins

    plugins = load_plugins()
    kind = kind_of(kind, [*plugins.nouns, "plugin"])
    rows = plugin_rows(plugins) if kind == "plugin" else noun_rows(plugins, kind)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["name", "brings" if kind == "plugin" else "summary", "package", "status"],
        [[row["name"], row["summary"], f"{row['package']} {row['version']}", row["status"]] for row in rows],
        wrap=(1, 3),
    )
    if kind != "plugin" and plugins.broken:
        names = ", ".join(plugin.name for plugin in plugins.broken)
        note(f"{len(plugins.broken)} plug-in(s) BROKEN: {names}. See: scottbench list plugins")
    for remark in plugins.remarks if kind in ("plugin", "claim") else []:
        note(f"warning: {remark}")


def plugin_rows(plugins: Plugins) -> list[dict[str, str]]:
    """One record per plug-in: name, summary (what it brings), package, version, module, status."""
    rows = []
    for plugin in plugins.plugins:
        brings = ", ".join(f"{kind} {name}" for kind, name in plugin.names)
        rows.append({"name": plugin.name, "summary": brings, "package": plugin.distribution, "version": plugin.version,
                     "module": plugin.target, "status": plugin.status})  # fmt: skip
    return rows


def noun_rows(plugins: Plugins, kind: str) -> list[dict[str, str]]:
    """One record per noun of a kind; names that only a BROKEN plug-in brings are there too, with its status."""
    rows = []
    for name, found in plugins.nouns[kind].items():
        recipes = getattr(found.noun, "recipes", None)
        summary = f"{found.noun.summary}; recipes {', '.join(recipes)}" if recipes else found.noun.summary
        rows.append({"name": name, "summary": summary, "package": found.distribution, "version": found.version,
                     "plugin": found.plugin, "status": status(plugins, found)})  # fmt: skip
    for plugin in plugins.broken:
        for other, name in plugin.names:
            if other == kind and name not in plugins.nouns[kind]:
                rows.append({"name": name, "summary": "", "package": plugin.distribution, "version": plugin.version,
                             "plugin": plugin.name, "status": plugin.status})  # fmt: skip
    return sorted(rows, key=lambda row: row["name"])


def status(plugins: Plugins, found: Registered) -> str:
    """ "ok", or "files missing" for a model (and a preset of it) whose pipeline folder is not here."""
    model = plugins.nouns["model"].get(found.noun.model) if found.kind == "preset" else found if found.kind == "model" else None
    folder = None if model is None else model.noun.folder
    return "ok" if folder is None or folder().is_dir() else "files missing"
