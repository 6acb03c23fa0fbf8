"""Find, load and check plug-ins; give the method (metric, model, ...) called x, with a suggestion where there is none.

Plug-ins are entry points of the group "scottbench", bundled and third-party ones alike. One that cannot be imported or breaks a rule is
marked BROKEN with its first useful line and the others go on working: pluggy's own loader would let one stop every command, and would
skip the second of two plug-ins of one name without a word.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from scottbench.errors import ScottbenchError, UsageError
from scottbench.registry import hookspecs
from scottbench.registry.claims import read_claim
from scottbench.registry.fits import misfit
from scottbench.registry.guard import Owner, guarded, is_ours, useful_line
from scottbench.registry.label import Label
from scottbench.registry.lazy import lazy
from scottbench.registry.nouns import KINDS
from scottbench.registry.paths import FLAG, GROUP, UNKNOWN, PathPoint, given_paths, outermost, points_of
from scottbench.registry.presets import read_draft, settle
from scottbench.text import closest, did_you_mean, is_name, one_line

FILES: dict[str, Callable[[Path], Any]] = {"preset": read_draft, "claim": read_claim}  # kinds that are registered as paths of TOML files
HOOKS = {f"register_{kind}s": kind for kind in (*KINDS, *FILES)}  # hook name -> kind of noun
HOW_TO_USE = {
    "method": "use --methods {}", "metric": "use --metrics {}",
    "model": "use --model {}",
    "extractor": "a preset names it: [extractors.ROLE] kind = \"{}\"",
    "preset": "use --preset {}",
    "trainer": "use: scottbench train {}",
    "dataset": "see: scottbench show dataset {}",
    "claim": "see: scottbench show claim {}",
}
WORDS = {"scope": ("cell", "seeds"), "reads": ("images", "images+prompts"), "gives": ("features", "score")}
"""Fields of nouns that have one of some words."""
CHOICE = "SCOTTBENCH_PLUGINS"
"""The variable that names the plug-ins to load, with commas between; all where it is not set."""
LEFT_OUT: ContextVar[tuple[str, ...]] = ContextVar("left_out", default=())
"""Names of plug-ins that this command line leaves out (--no-plugin)."""
OMITTED = "left out"
REPLACED = f"{OMITTED}: {FLAG} gives it"
"""The status of an installed plug-in in whose place another of its name or module came by a path."""


class PluginError(ScottbenchError):
    """One plug-in breaks a rule; the message becomes its BROKEN line."""


@dataclass(frozen=True)
class Registered:
    """A noun and where it comes from."""

    noun: Any
    """A Model, Dataset, Method, Trainer, Extractor, Metric, Preset or Claim."""
    kind: str
    plugin: str
    distribution: str
    version: str
    file: str


@dataclass(frozen=True)
class Plugin:
    """One entry point and how loading it went."""

    name: str
    target: str
    """The entry point's module."""
    distribution: str
    version: str
    status: str = "ok"
    """"ok", "left out" (it was not imported) and perhaps why, or "BROKEN: " and the first useful line."""
    names: tuple[tuple[str, str], ...] = ()
    """(kind, name) of what it registers; of a BROKEN plug-in, of what it got as far as registering."""
    origin: str = "installed"
    """Where its code comes from: "bundled", "installed", or the path that --plugin-path named."""

    @property
    def broken(self) -> bool:
        """Say that it could not be loaded or broke a rule."""
        return self.status != "ok" and not self.status.startswith(OMITTED)

    @property
    def by_path(self) -> bool:
        """Say that it was not installed: --plugin-path named it."""
        return self.origin not in ("bundled", "installed")

    @property
    def version_and_source(self) -> str:
        """Name the version for a record, and of what was not installed the file or folder: "0.3 (--plugin-path mine)"; where that lies is
        nobody's business."""
        if not self.by_path:
            return self.version
        version = "no version" if self.version == UNKNOWN else self.version
        return f"{version} ({FLAG} {one_line(Path(self.origin).expanduser().resolve().name)})"


@dataclass
class Plugins:
    """Everything a user can name on the command line."""

    nouns: dict[str, dict[str, Registered]] = field(default_factory=lambda: {kind: {} for kind in HOOKS.values()})
    """Kind ("method", "preset", "claim", ...) -> name -> Registered. A name that two packages register is PACKAGE/NAME here, but for the
    one of a bundled plug-in."""
    plugins: list[Plugin] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """A line for each name that two packages register, and for each in a claim that nobody does: the claim cannot be judged."""

    @property
    def broken(self) -> list[Plugin]:
        """Return the plug-ins that could not be loaded or broke a rule."""
        return [plugin for plugin in self.plugins if plugin.broken]

    def find(self, kind: str, name: str) -> Registered:
        """Find what is registered under a kind and a name, or PACKAGE/NAME. Raises UsageError with what was probably meant, looking across
        all kinds; for a name that several packages register, with what to write instead."""
        found = self.named(kind, name)
        if found is not None:
            return found
        rivals = self.rivals(kind, name)
        if rivals:
            raise UsageError(f"{kind} '{name}' is registered by {len(rivals)} packages. Say which: {' or '.join(rivals)}; or leave one out "
                             f"with --no-plugin NAME ({', '.join(self.nouns[kind][rival].plugin for rival in rivals)}).")
        raise UsageError(f"unknown {kind} '{one_line(name)}'.{self._hint(kind, name)} See: scottbench list {kind}s")

    def named(self, kind: str, name: str) -> Registered | None:
        """Return what is registered under a name, or PACKAGE/NAME, of a package or plug-in; None where nothing is."""
        found = self.nouns[kind].get(name)
        package, slash, bare = name.rpartition("/")
        if found is not None or not slash:
            return found
        alike = [one for one in self.nouns[kind].values() if one.noun.name == bare]
        return next((one for one in alike if _plain(package) in (_plain(one.distribution), _plain(one.plugin))), None)

    def rivals(self, kind: str, name: str) -> list[str]:
        """List the names PACKAGE/NAME under which a name of a kind stands that several packages register; [] of any other."""
        return [key for key, found in self.nouns[kind].items() if "/" in key and found.noun.name == name]

    def of(self, kind: str, noun: Any) -> Registered:
        """Return where a noun that was found here comes from. Raises UsageError as `find`."""
        return next((found for found in self.nouns[kind].values() if found.noun is noun), None) or self.find(kind, noun.name)

    def _hint(self, kind: str, name: str) -> str:
        for plugin in self.broken:
            if (kind, name) in plugin.names or name == plugin.name:
                return f" Plug-in '{plugin.name}' of {plugin.distribution} {plugin.version}, which should bring it, is {plugin.status}."
        others: dict[str, str] = {}
        for other_kind, names in self.nouns.items():
            for other in names if other_kind != kind else ():
                others.setdefault(other, other_kind)
        elsewhere = name if name in others else None
        hint = did_you_mean(name, self.nouns[kind])
        if elsewhere is None and not hint:
            elsewhere = closest(name, others)
        if elsewhere is not None:
            article = "an" if others[elsewhere][0] in "aeiou" else "a"
            hint += f" ('{elsewhere}' is {article} {others[elsewhere]}: {HOW_TO_USE[others[elsewhere]].format(elsewhere)})"
        if not hint and self.broken:
            hint = f" It may belong to a BROKEN plug-in ({', '.join(plugin.name for plugin in self.broken)}): scottbench list plugins."
        omitted = [plugin.name for plugin in self.plugins if plugin.status == OMITTED]
        if not hint and omitted:
            hint = f" It may belong to a plug-in that is left out ({', '.join(omitted)})."
        return hint


def load_plugins(entry_points: Iterable[Any] | None = None) -> Plugins:
    """Load every plug-in; `entry_points` (default: the installed ones) are importlib.metadata.EntryPoint-like objects.

    In an order that does not depend on the installation: this distribution's own plug-ins first, then those of --plugin-path and
    SCOTTBENCH_PLUGIN_PATH (with the installed ones only), then by distribution and entry-point name. Of two plug-ins of one name the second
    is BROKEN, but for an installed one in whose place another comes by a path. Plug-ins that the command line leaves out, or that
    SCOTTBENCH_PLUGINS does not name, are not imported. Raises UsageError for a name there that is no plug-in's, and for a path that cannot
    be used.
    """
    if entry_points is None:
        entry_points = _with_paths(list(importlib.metadata.entry_points(group=GROUP)))
    plugins, found = Plugins(), sorted(entry_points, key=_order)
    replaced = _replaced(found)
    wanted = _wanted(found)
    for entry_point in found:
        if one_line(entry_point.name) not in wanted:
            plugins.plugins.append(_plugin(entry_point, OMITTED))
        elif entry_point in replaced:
            plugins.plugins.append(_plugin(entry_point, REPLACED))
        else:
            plugins.plugins.append(_load(entry_point, plugins))
    _settle_presets(plugins)
    plugins.remarks = [*_clashes(plugins), *_strangers(plugins)]
    return plugins


def _with_paths(installed: list[Any]) -> list[Any]:
    """The installed entry points and those that paths bring. Raises UsageError for a path that cannot be used."""
    return [*installed, *points_of(given_paths(), {outermost(point.value) for point in installed if not _is_bundled(point)})]


def _is_bundled(entry_point: Any) -> bool:
    return _origin(entry_point)[0].lower() == GROUP


def _replaced(found: list[Any]) -> list[Any]:
    """The installed entry points whose name or module one of a path has: the author tries a later state of what is installed."""
    paths = [point for point in found if isinstance(point, PathPoint)]
    names, modules = {point.name for point in paths}, {point.module for point in paths}
    others = [point for point in found if not isinstance(point, PathPoint) and not _is_bundled(point)] if paths else []
    return [point for point in others if point.name in names or outermost(point.value) in modules]


def _settle_presets(plugins: Plugins) -> None:
    """Make presets of the files that lean on others'. A plug-in of which one cannot be made is BROKEN, and takes all its nouns along."""
    presets = plugins.nouns["preset"]
    settled, faults = settle({name: registered.noun for name, registered in presets.items()})
    for name, fault in faults.items():
        owner = presets[name].plugin
        for position, plugin in enumerate(plugins.plugins):
            if plugin.name == owner and not plugin.broken:
                plugins.plugins[position] = dataclasses.replace(plugin, status=f"BROKEN: {one_line(fault)}")
        for names in plugins.nouns.values():
            for gone in [other for other, registered in names.items() if registered.plugin == owner and other not in faults]:
                del names[gone]
    plugins.nouns["preset"] = {name: dataclasses.replace(presets[name], noun=settled[name]) for name in presets if name in settled}


def _wanted(found: list[Any]) -> set[str]:
    """Names of the plug-ins to load; what a path gives was asked for. Raises UsageError for a name that none has."""
    names = [one_line(point.name) for point in found]
    chosen = [name.strip() for name in os.environ.get(CHOICE, "").split(",") if name.strip()]
    for source, given in ((CHOICE, chosen), ("--no-plugin", LEFT_OUT.get())):
        for name in given:
            if name not in names:
                raise UsageError(f"{source}: no plug-in is called '{one_line(name)}'.{did_you_mean(name, names)} "
                                 f"Plug-ins: {', '.join(names)}")
    by_path = [point.name for point in found if isinstance(point, PathPoint)]
    return (set(chosen + by_path) if chosen else set(names)) - set(LEFT_OUT.get())


def _clashes(plugins: Plugins) -> list[str]:
    """A line for each name that several packages register."""
    lines = []
    for kind, names in plugins.nouns.items():
        for bare in dict.fromkeys(found.noun.name for key, found in names.items() if "/" in key):
            rivals = plugins.rivals(kind, bare)
            say = f"say {' or '.join(rivals)}" if bare not in names else f"alone it is scottbench's; the other is {', '.join(rivals)}"
            lines.append(f"{kind} '{bare}' is registered by several packages: {say}")
    return lines


def _strangers(plugins: Plugins) -> list[str]:
    """A line for each method, metric or preset that a claim names and nobody registers: a typing error would make the claim one that is
    never judged."""
    lines = []
    all_here = all(plugin.status == "ok" for plugin in plugins.plugins)
    for registered in plugins.nouns["claim"].values():
        claim = registered.noun
        named = [("metric", Label.parse(one.metric).name) for one in claim.compare]
        named += [("method", Label.parse(arm.method).name) for one in claim.compare for arm in (one.better, one.worse)]
        named += [("preset", name) for name in (*claim.testable, *claim.magnitude)]
        for kind, name in dict.fromkeys(named):
            hint = did_you_mean(name, plugins.nouns[kind])
            # where a plug-in is absent, a name that is like no other may be its
            if plugins.named(kind, name) is None and not plugins.rivals(kind, name) and (hint or all_here):
                lines.append(f"claim '{claim.name}' of plug-in '{registered.plugin}' ({registered.file}) names {kind} '{one_line(name)}', "
                             f"which nobody registers.{hint}")
    return lines


def _order(entry_point: Any) -> tuple[bool, bool, str, str]:
    distribution, _ = _origin(entry_point)
    return distribution.lower() != GROUP, not isinstance(entry_point, PathPoint), distribution.lower(), entry_point.name


def _origin(entry_point: Any) -> tuple[str, str]:
    """(distribution name, version) that an entry point comes from."""
    distribution = getattr(entry_point, "dist", None)
    return ("(no distribution)", "?") if distribution is None else (distribution.name, distribution.version)


def _plugin(entry_point: Any, status: str) -> Plugin:
    distribution, version = _origin(entry_point)
    origin = "bundled" if _is_bundled(entry_point) else str(getattr(entry_point, "origin", "installed"))
    return Plugin(one_line(entry_point.name), one_line(entry_point.value), distribution, version, status, origin=origin)


def _load(entry_point: Any, plugins: Plugins) -> Plugin:
    """Import one plug-in, check it, and add its nouns to `plugins`: all of them or, if anything is wrong, none."""
    plugin = _plugin(entry_point, "ok")
    collected: list[Registered] = []
    try:
        _check_plugin_name(plugin, plugins)
        # what a plug-in prints must not end up between our tables or in the --json document
        with contextlib.redirect_stdout(sys.stderr):
            module = entry_point.load()
            _collect(module, plugin, collected)
        _check_clashes(collected, plugins)
    except ScottbenchError as error:
        plugin = dataclasses.replace(plugin, status=f"BROKEN: {one_line(error)}")
    except BaseException as error:  # a plug-in may raise anything; the others must go on working
        if is_ours(error):
            raise
        plugin = dataclasses.replace(plugin, status=f"BROKEN: {useful_line(error)}")
    else:
        for registered in collected:
            _add(registered, plugins.nouns[registered.kind])
    return dataclasses.replace(plugin, names=tuple((registered.kind, registered.noun.name) for registered in collected))


def _check_plugin_name(plugin: Plugin, plugins: Plugins) -> None:
    for other in plugins.plugins:
        if other.name == plugin.name and other.status != REPLACED:
            raise PluginError(f"two plug-ins are called '{plugin.name}': {other.distribution} {other.version} ({other.target}) and "
                              f"{plugin.distribution} {plugin.version} ({plugin.target}). Uninstall one of them")


def _check_clashes(collected: list[Registered], plugins: Plugins) -> None:
    for position, registered in enumerate(collected):
        kind, name = registered.kind, registered.noun.name
        if any((other.kind, other.noun.name) == (kind, name) for other in collected[:position]):
            raise PluginError(f"it registers {kind} '{name}' twice")
        others = [one for one in plugins.nouns[kind].values() if one.noun.name == name]
        if other := next((one for one in others if _plain(one.distribution) == _plain(registered.distribution)), None):
            raise PluginError(f"{kind} '{name}' of {registered.distribution} {registered.version} is registered by two of its plug-ins, "
                              f"'{other.plugin}' and '{registered.plugin}'")


def _add(registered: Registered, names: dict[str, Registered]) -> None:
    """Put a noun under its name; where another package has the name, under PACKAGE/NAME, and a third-party one that has it likewise: what a
    name means must not depend on what else is installed."""
    name = registered.noun.name
    alike = [found for found in names.values() if found.noun.name == name]
    if not alike:
        names[name] = registered
        return
    if name in names and names[name].distribution.lower() != GROUP:
        first = names.pop(name)
        names[f"{first.distribution}/{name}"] = first
    names[f"{registered.distribution}/{name}"] = registered


def _plain(package: str) -> str:
    """A package's name as pip compares it."""
    return package.lower().replace("_", "-")


def _collect(module: ModuleType, plugin: Plugin, collected: list[Registered]) -> None:
    """Call the plug-in's hooks and append its nouns to `collected`. Raises PluginError where a rule is broken."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=plugin.name)
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        if not caller.has_spec():
            raise PluginError(f"unknown hook '{caller.name}'.{did_you_mean(caller.name, HOOKS)} Hooks: {', '.join(HOOKS)}")
    manager.check_pending()
    unmarked = [name for name in HOOKS if callable(getattr(module, name, None)) and name not in {caller.name for caller in callers}]
    if unmarked:
        raise PluginError(f"'{unmarked[0]}' lacks the @hookimpl mark (from scottbench import hookimpl)")
    if not callers:
        raise PluginError(f"it implements no hook. Hooks: {', '.join(HOOKS)}")
    folder = str(Path(str(getattr(module, "__file__", None) or "?")).parent)
    for caller in callers:
        kind = HOOKS[caller.name]
        for implementation in caller.get_hookimpls():  # not caller(): pluggy would drop a forgotten return
            for given in _checked_list(caller.name, implementation.function()):
                noun = FILES[kind](given) if kind in FILES else _checked(kind, given)
                where = str(given) if kind in FILES else _file_of(noun, module)
                noun = noun if kind in FILES else guarded(kind, noun, _owner(kind, noun.name, plugin, folder))
                collected.append(Registered(noun, kind, plugin.name, plugin.distribution, plugin.version, where))


def _owner(kind: str, name: str, plugin: Plugin, folder: str) -> Owner:
    """Who is named, and what is advised, where a function of a noun fails."""
    ours = plugin.distribution.lower() == GROUP
    cure = "Please report it" if ours else f"Its author can mend it; without it: --no-plugin {plugin.name}"
    package = "" if ours or plugin.version == "?" else f" ({plugin.distribution} {plugin.version})"
    whose = f"plug-in '{plugin.name}'{package}"
    return Owner(f"{kind} '{name}' of {whose}", cure, "" if folder == "." else folder)


def _checked_list(hook: str, result: object) -> list[Any]:
    """What a hook has returned, if it is a list. Raises PluginError."""
    if not isinstance(result, (list, tuple)):
        raise PluginError(f"'{hook}' must return a list, got {type(result).__name__}")
    return list(result)


def _checked(kind: str, noun: Any) -> Any:
    """`noun` if it is a well-formed instance of its kind."""
    if not isinstance(noun, KINDS[kind]):
        raise PluginError(f"'register_{kind}s' must return {KINDS[kind].__name__} instances, got {type(noun).__name__}")
    if not is_name(noun.name):
        raise PluginError(f"{kind} name {one_line(repr(noun.name))} may have letters, digits, '_', '.' and '-' only")
    wrong = misfit(noun)
    for name, words in WORDS.items():
        if wrong is None and getattr(noun, name, words[0]) not in words:
            allowed = " or ".join(f'"{word}"' for word in words)
            wrong = f"field '{name}' must be {allowed}, found {one_line(repr(getattr(noun, name)))[:80]}"
    if wrong is not None:
        raise PluginError(f"{kind} '{noun.name}': {wrong}")
    options = getattr(noun, "options", None)
    if options is not None and not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise PluginError(f"options of {kind} '{noun.name}' must be a dataclass")
    return noun


def _file_of(noun: Any, module: ModuleType) -> str:
    """The file that holds what a noun does. A lazy function's module is looked up, not imported."""
    for item in dataclasses.fields(noun):
        value = getattr(noun, item.name)
        if isinstance(value, lazy):
            spec = importlib.util.find_spec(value.target.partition(":")[0])
            if spec is None:
                raise PluginError(f"'{noun.name}' points at {value.target}, but there is no such module")
            return str(spec.origin)
        if inspect.isfunction(value):
            return value.__code__.co_filename
    return str(getattr(module, "__file__", "?"))
