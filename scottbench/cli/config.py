"""scottbench config show: every value of a run and where it comes from."""

from __future__ import annotations

from typing import Any

import click

from scottbench.cli.flags import asking, make_request, warnings


@click.group(short_help="Show every value that a run would use and where it comes from: config show.")
def config() -> None:
    """Show the values of a run: flag > SCOTTBENCH_* variable > config file > preset > default."""


@config.command(short_help="Show every value that a run would use and where it comes from.")
@asking
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.pass_obj
def show(command: str, as_json: bool, **values: Any) -> None:
    """Show what `scottbench run` with the same flags, variables and config file would use; nothing is opened or written."""
    from scottbench.cli.printing import print_json, print_table
    from scottbench.plan.request import recorded
    from scottbench.registry.loader import load_plugins

    warnings()
    request, size = make_request(values, command)
    found = recorded(request, load_plugins().find("preset", request.preset).noun)
    found["batch_size"] = {"value": "auto" if size is None else size, "origin": request.origins.get("batch_size", "default")}
    if as_json:
        print_json(found)
        return
    rows = [[name, _in_words(entry["value"]), entry["origin"]] for name, entry in found.items()]
    print_table(["setting", "value", "origin"], rows, wrap=(1, 2))


def _in_words(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
