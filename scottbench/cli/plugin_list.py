"""scottbench plugin list: every plug-in, what it brings, where it comes from and how loading it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugin, Plugins


@click.command("list", short_help="List plug-ins: what each brings, where it comes from, ok, off or failed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def list_plugins(as_json: bool) -> None:
    """List every plug-in: kinds that it brings, package and version, where its code comes from, and its state: ok, off (left out) or
    failed, with the reason."""
    from scottbench.cli.printing import print_json, print_table
    from scottbench.registry.loader import load_plugins

    rows = plugin_states(load_plugins())
    if as_json:
        print_json(rows)
        return
    print_table(
        ["name", "kind", "package", "version", "from", "state"],
        [[row["name"], ", ".join(row["names"]), row["package"], row["version"], row["from"], in_words(row)] for row in rows],
        wrap=(1, 4, 5),
    )


def in_words(row: dict[str, Any]) -> str:
    """ "ok", "off: left out" or "failed: why"."""
    return f"{row['state']}: {row['reason']}" if row["reason"] else str(row["state"])


def plugin_states(plugins: Plugins) -> list[dict[str, Any]]:
    """Give one record per plug-in: name, names (kind -> what it registers), package, version, module, from, state, reason."""
    return [_state(plugin) for plugin in plugins.plugins]


def _state(plugin: Plugin) -> dict[str, Any]:
    names: dict[str, list[str]] = {}
    for kind, name in plugin.names:
        names.setdefault(kind, []).append(name)
    state = "ok" if plugin.status == "ok" else "failed" if plugin.broken else "off"
    reason = "" if state == "ok" else plugin.status.removeprefix("BROKEN: ")
    return {"name": plugin.name, "names": names, "package": plugin.distribution, "version": plugin.version, "module": plugin.target,
            "from": plugin.origin, "state": state, "reason": reason}  # fmt: skip
