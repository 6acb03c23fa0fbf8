"""scottbench plugin VERB: what an author of plug-ins needs, a file per verb."""

from __future__ import annotations

import click

from scottbench.cli.plugin_check import check_plugin
from scottbench.cli.plugin_list import list_plugins
from scottbench.cli.plugin_new import new


@click.group(short_help="For authors of plug-ins: plugin list, plugin new, plugin check.")
def plugin() -> None:
    """List plug-ins, start one of your own, check one."""


plugin.add_command(list_plugins)
plugin.add_command(check_plugin)
plugin.add_command(new)
