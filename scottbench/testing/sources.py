"""Plug-ins from anything an author has at hand: a name, a folder or file, a module, a list of nouns."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scottbench.errors import UsageError
from scottbench.registry.hookspecs import hookimpl
from scottbench.registry.loader import FILES, HOOKS, Plugin, Plugins, load_plugins
from scottbench.registry.nouns import KINDS
from scottbench.registry.paths import GIVEN, outermost
from scottbench.text import did_you_mean, one_line


@dataclass(frozen=True)
class InMemory:
    """An entry point of a module that is loaded already."""

    name: str
    module: Any
    dist: Any = None

    @property
    def value(self) -> str:
        """Name the module."""
        return str(self.module.__name__)

    def load(self) -> Any:
        """Return the module."""
        return self.module


def as_plugins(source: Any = None) -> Plugins:
    """Load all that is installed and, beside it, a source: Plugins (as they are), None, a path or name of a plug-in, a module with hooks,
    or a list of nouns and paths of TOML files. Raises UsageError for what is none of these."""
    if isinstance(source, Plugins):
        return source
    if source is None:
        return load_plugins()
    if isinstance(source, (str, Path)):
        return loaded(str(source))[0]
    module = source if isinstance(source, types.ModuleType) else _module_of(source)
    installed = [point for point in importlib.metadata.entry_points(group="scottbench") if point.value != module.__name__]
    plugins = load_plugins([*installed, InMemory(module.__name__.rpartition(".")[2], module)])
    mine = next(plugin for plugin in plugins.plugins if plugin.target == module.__name__)
    if mine.broken:
        raise UsageError(f"plug-in {module.__name__} is {mine.status}")
    return plugins


def _module_of(nouns: Any) -> types.ModuleType:
    """A module in memory that registers nouns. Raises UsageError for what is none."""
    given = list(nouns) if isinstance(nouns, (list, tuple)) else [nouns]
    module = types.ModuleType("sb_plugin_in_memory")
    found: dict[str, list[Any]] = {kind: [] for kind in HOOKS.values()}
    for one in given:
        kind = next((kind for kind, form in KINDS.items() if isinstance(one, form)), None)
        if kind is None and isinstance(one, (str, Path)):
            kind = "claim" if "statement" in Path(one).read_text(encoding="utf-8") else "preset"
        if kind is None:
            raise UsageError(
                f"{one_line(repr(one))[:80]} is no noun. Give a name, a path, a module with hooks, or a list of Methods, Metrics, "
                "Trainers, Extractors, Datasets, Models and paths of presets and claims."
            )
        found[kind].append(Path(one) if kind in FILES else one)
    for hook, kind in HOOKS.items():
        if found[kind]:
            function = lambda nouns=found[kind]: list(nouns)  # noqa: E731
            function.__name__ = hook
            setattr(module, hook, hookimpl(function))
    return module


def loaded(source: str) -> tuple[Plugins, list[Plugin]]:
    """Load all plug-ins, and those that a name or a path brings: (all, those). Raises UsageError for a name that no plug-in has, and for a
    path that is no plug-in."""
    path = Path(source).expanduser()
    if path.exists() and (path.is_dir() or path.suffix == ".py"):
        plugins = load_plugins()
        here = [plugin for plugin in plugins.plugins if is_at(plugin, path)]
        if here:  # it is loaded already, such as a bundled one
            return plugins, here
        with given(str(path)):
            plugins = load_plugins()
        return plugins, [plugin for plugin in plugins.plugins if plugin.origin == str(path)]
    plugins = load_plugins()
    mine = [plugin for plugin in plugins.plugins if plugin.name == source]
    mine = mine if mine else [plugin for plugin in plugins.plugins if source in (plugin.distribution, plugin.target)]
    if not mine:
        names = [plugin.name for plugin in plugins.plugins]
        hint = did_you_mean(source, names)
        raise UsageError(f"no plug-in is called '{one_line(source)}', and no folder or file is there.{hint} Plug-ins: {', '.join(names)}")
    return plugins, mine


def is_at(plugin: Plugin, path: Path) -> bool:
    """Tell whether the module of a plug-in is a file, or the package of a folder."""
    found = getattr(sys.modules.get(outermost(plugin.target)), "__file__", None)
    if not isinstance(found, str):
        return False
    file, wanted = Path(found).resolve(), path.resolve()
    return file == wanted or (file.name == "__init__.py" and file.parent == wanted)


@contextlib.contextmanager
def given(path: str) -> Iterator[None]:
    """Let a path bring its plug-ins within the block, as --plugin-path does."""
    token = GIVEN.set((*GIVEN.get(), path))
    try:
        yield
    finally:
        GIVEN.reset(token)
