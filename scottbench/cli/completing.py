"""What a shell completes: names of every kind, runs, cells of a run, and the words of a flag. Nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

Find = Callable[[click.Context], Iterable[tuple[str, str]]]
"""A context, whose arguments so far are known -> (name, what it is) of all that may stand there."""


class Completed(click.ParamType):
    """A parameter's own type, whose values a shell completes. several: a list with commas, of which the last is completed; folders: the
    shell may complete a path too."""

    def __init__(self, own: click.ParamType, find: Find, several: bool = False, folders: bool = False):
        self.own, self.find, self.several, self.folders = own, find, several, folders
        self.name = own.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert as the parameter's own type does."""
        return self.own.convert(value, param, ctx)

    def get_metavar(self, *given: Any, **words: Any) -> str | None:
        """Return the own type's placeholder in help texts."""
        return self.own.get_metavar(*given, **words)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """List what begins as the word so far; nothing where it cannot be known: a shell has no place for an error."""
        head, comma, tail = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        given = head.split(",")
        try:
            found = [(name, words) for name, words in self.find(ctx) if name.startswith(tail) and name not in given]
        except Exception:
            found = []
        items = [CompletionItem(f"{head}{comma}{name}", help=words) for name, words in found]
        return items + ([CompletionItem(incomplete, type="dir")] if self.folders else [])


def nouns(kind: str) -> Find:
    """Return what finds all names of a kind of noun."""

    def find(ctx: click.Context) -> list[tuple[str, str]]:
        from scottbench.registry.loader import load_plugins

        plugins = load_plugins()
        if kind == "plugin":
            return [(plugin.name, plugin.distribution) for plugin in plugins.plugins]
        return [(name, found.noun.summary) for name, found in plugins.nouns.get(kind, {}).items()]

    return find


def fetched(ctx: click.Context) -> list[tuple[str, str]]:
    """List what `fetch` takes: presets, and the public files of the plug-ins' tables."""
    from scottbench.plan.needs import known_assets
    from scottbench.registry.loader import load_plugins

    return [*nouns("preset")(ctx), *((name, asset.summary) for name, asset in known_assets(load_plugins()).items())]


def words(*allowed: str) -> Find:
    """Return what finds some words."""
    return lambda ctx: [(word, "") for word in allowed]


def kinds(ctx: click.Context) -> list[tuple[str, str]]:
    """List the kinds of nouns."""
    from scottbench.cli.list import WORDS

    return [(f"{kind}s", summary) for kind, summary in WORDS.items()]


def names(ctx: click.Context) -> Iterable[tuple[str, str]]:
    """List the names of the kind that the line has named."""
    return nouns(str(ctx.params.get("kind", "")).removesuffix("s"))(ctx)


def runs(ctx: click.Context) -> list[tuple[str, str]]:
    """List the runs below runs/: the heads of their plans' hashes, and their folders."""
    from scottbench.store.runs import hashes

    found = hashes()
    return [(plan_hash[:8], str(folder)) for folder, plan_hash in found.items()] + [(str(folder), "") for folder in found]


def cells(ctx: click.Context) -> list[tuple[str, str]]:
    """List the cells of the run that the line has named: NAME@STEPS."""
    from scottbench.text import at_steps

    manifest = _manifest(ctx)
    return [(name, "") for name in dict.fromkeys(at_steps(cell["method"], cell["steps"]) for cell in manifest["cells"])]


def columns(ctx: click.Context) -> list[tuple[str, str]]:
    """List the metrics of the run that the line has named, else all that there are, and times."""
    from scottbench.report.tables import CALL, TIME

    if ctx.params.get("run") is None:  # click has not read a line that ends in a flag without its value
        found = [*nouns("metric")(ctx)]
    else:
        found = [(metric["name"], metric.get("label", "")) for metric in _manifest(ctx)["metrics"]]
    return [*found, (TIME, ""), (CALL, "")]


def _manifest(ctx: click.Context) -> dict[str, Any]:
    from scottbench.store.reader import read_manifest
    from scottbench.store.runs import find_run

    return read_manifest(Path(find_run(str(ctx.params["run"]))))


FINDERS: dict[str, tuple[Find, bool, bool]] = {
    "methods": (nouns("method"), True, False), "metrics": (nouns("metric"), True, False), "preset": (nouns("preset"), False, False),
    "model": (nouns("model"), False, True), "dataset": (nouns("dataset"), False, True), "run": (runs, False, True),
    "runs": (runs, False, True), "other": (runs, False, True), "kind": (kinds, False, False), "a": (cells, False, False),
    "b": (cells, False, False), "columns": (columns, True, False), "kinds": (words("latex", "markdown", "csv", "figures"), True, False),
    "style": (words("full", "compact"), False, False), "interval": (words("sub", "pm", "none"), False, False),
    "device": (words("auto", "cpu", "cuda"), False, False), "shell": (words("bash", "zsh", "fish"), False, False),
    "wanted": (fetched, False, False),
}  # fmt: skip
"""Name of a parameter -> what finds its values, whether it is a list with commas, whether it may be a path."""


def complete(command: click.Command) -> None:
    """Let a shell complete the parameters of a command and of those below it."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        complete(below)
    for param in command.params:
        name = str(param.name)
        known = FINDERS.get(name)
        if name == "name":
            known = (nouns("trainer"), False, False) if command.name == "train" else (names, False, False)
        if known is not None and isinstance(param.type, click.ParamType) and not isinstance(param.type, Completed):
            param.type = Completed(param.type, *known)
        elif isinstance(param, click.Option) and "--no-plugin" in param.opts:
            param.type = Completed(param.type, nouns("plugin"))
