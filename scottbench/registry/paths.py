"""Plug-ins that nobody installed: a file, a package folder or a project folder that --plugin-path or SCOTTBENCH_PLUGIN_PATH names.

A path comes from the command line or the environment alone: no preset, config file or run folder can name one. Only the modules that are
plug-ins become importable, by a finder of their own: no folder is put on sys.path, where any file of it could stand in for a library.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from scottbench.errors import UsageError
from scottbench.registry.toml import NoToml, read_table
from scottbench.text import is_name, one_line

GROUP = "scottbench"
"""The group of entry points; and the name of the host, which no plug-in may have."""
FLAG, VARIABLE = "--plugin-path", "SCOTTBENCH_PLUGIN_PATH"
GIVEN: ContextVar[tuple[str, ...]] = ContextVar("plugin_path", default=())
"""Paths of this command line (--plugin-path)."""
PROJECT = "pyproject.toml"
UNKNOWN = "?"
"""The version of what has none."""


@dataclass(frozen=True)
class Package:
    """The name and version of what a path holds, as an installed distribution has them."""

    name: str
    version: str = UNKNOWN


@dataclass(frozen=True)
class PathPoint:
    """An entry point that a path brings: what the loader uses of importlib.metadata.EntryPoint, and its file."""

    name: str
    value: str
    """The module, as an entry point names it."""
    dist: Package
    file: Path
    """The file of the outermost module: mine.py, or mine/__init__.py."""
    origin: str
    """The path, as it was given."""

    @property
    def module(self) -> str:
        """Name the outermost module."""
        return outermost(self.value)

    def load(self) -> Any:
        """Import the plug-in, whatever it raises."""
        return importlib.metadata.EntryPoint(self.name, self.value, GROUP).load()


def outermost(target: str) -> str:
    """Name the outermost module of what an entry point names, "package.module:attribute"."""
    return target.partition(":")[0].partition(".")[0].strip()


def given_again() -> str:
    """Return the flags of a command line that is to find what this one found, with a blank before each; "" where it named no path."""
    return "".join(f" {FLAG} {shlex.quote(path)}" for path in dict.fromkeys(GIVEN.get()))


def given_paths() -> list[str]:
    """List the paths of the command line, then those of SCOTTBENCH_PLUGIN_PATH, which parts them as PATH does."""
    return [*GIVEN.get(), *filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(os.pathsep)))]


def points_of(paths: Iterable[str], replaceable: Collection[str] = ()) -> list[PathPoint]:
    """Return the entry points of paths, none twice, whose modules can be imported from here on.

    replaceable: names of modules of installed plug-ins, whose place those of a path may take. Raises UsageError: nothing is there, or it
    is no plug-in; a module's name is another's.
    """
    found: dict[tuple[str, Path], PathPoint] = {}
    for path in paths:
        for point in _points(path):
            found.setdefault((point.name, point.file), point)
    serve(list(found.values()), replaceable)
    return list(found.values())


def _points(text: str) -> list[PathPoint]:
    path = Path(text).expanduser()
    try:
        path = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise UsageError(f"{FLAG} {one_line(text)}: there is no such file or folder.") from None
    if (path / PROJECT).is_file():
        return _of_project(path, text)
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file() or file.suffix != ".py":
        what = f"a folder with neither {PROJECT} nor __init__.py" if path.is_dir() else "no Python file"
        raise UsageError(f"{FLAG} {one_line(text)}: that is {what}. Name a file (mine.py), a package's folder, or a project's folder, "
                         f"whose {PROJECT} names its plug-ins under [project.entry-points.{GROUP}].")
    module = path.stem if path.is_file() else path.name
    name = module.removeprefix(f"{GROUP}_")
    return [_checked(PathPoint(name if name else module, module, Package(module), file, text))]


def _of_project(folder: Path, text: str) -> list[PathPoint]:
    """The plug-ins that a project's pyproject.toml names, as pip would install them."""
    where = f"{FLAG} {one_line(text)}"
    try:
        table = read_table(folder / PROJECT)
    except NoToml as error:
        raise UsageError(f"{where}: {PROJECT} cannot be read: {error}.") from None
    project = _table(table.get("project"))
    named = _table(_table(project.get("entry-points")).get(GROUP))
    name, version = project.get("name"), project.get("version", UNKNOWN)
    if not named or not is_name(name) or not all(isinstance(value, str) for value in (*named.values(), version)):
        raise UsageError(f"{where}: {PROJECT} must give the project a name, and under [project.entry-points.{GROUP}] at least one line: "
                         f"NAME = \"MODULE\".")
    package = Package(str(name), one_line(version))
    return [_checked(_in_project(folder, PathPoint(str(key), str(value), package, folder, text))) for key, value in named.items()]


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _in_project(folder: Path, point: PathPoint) -> PathPoint:
    """A project's entry point with its file: below the project, or below its src."""
    places = [base / tail for base in (folder, folder / "src") for tail in (f"{point.module}.py", f"{point.module}/__init__.py")]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UsageError(f"{FLAG} {one_line(point.origin)}: {PROJECT} names module '{one_line(point.module)}', and neither the folder nor "
                         "its src has it.")
    return PathPoint(point.name, point.value, point.dist, file, point.origin)


def _checked(point: PathPoint) -> PathPoint:
    """An entry point whose names can be used. Raises UsageError."""
    where = f"{FLAG} {one_line(point.origin)}"
    if not is_name(point.name):
        raise UsageError(f"{where}: a plug-in cannot be called '{one_line(point.name)[:80]}': letters, digits, '_', '.' and '-' only.")
    if not point.module.isidentifier():
        raise UsageError(f"{where}: Python cannot import a module called '{one_line(point.module)[:80]}': letters, digits and '_' only. "
                         "Rename it.")
    if GROUP in (point.module, point.dist.name.lower()):
        raise UsageError(f"{where}: a plug-in cannot be called '{GROUP}'. Rename it.")
    return point


# --- importing -------------------------------------------------------------------------------------------------------


class Finder:
    """Finds the outermost modules of plug-ins that came by a path; what is below a package Python finds by itself."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where a module is; None of any but ours."""
        file = self.files.get(name)
        if file is None:
            return None
        folders = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)


FINDER = Finder()


def serve(points: Sequence[PathPoint], replaceable: Collection[str] = ()) -> None:
    """Make the modules of entry points importable. replaceable: as of `points_of`. Raises UsageError for two files of one module's name,
    and for a name that another module has.

    A module that is loaded from the same file stays as it is; one of an installed plug-in, or of another path before, is forgotten.
    """
    files: dict[str, Path] = {}
    for point in points:
        if files.setdefault(point.module, point.file) != point.file:
            raise UsageError(f"{FLAG}: two files give a module '{point.module}': {files[point.module]} and {point.file}. Rename one.")
        if point.module not in FINDER.files and point.module not in replaceable:
            _check_free(point)
    for module in [module for module in FINDER.files if module in replaceable and module not in files]:
        del FINDER.files[module]  # the installed one's turn again
        _forget(module)
    for module, file in files.items():
        if module in sys.modules and not _is_file(getattr(sys.modules[module], "__file__", None), file):
            _forget(module)
    FINDER.files |= files
    if files and FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)


def _forget(module: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        del sys.modules[name]


def _check_free(point: PathPoint) -> None:
    """Raise UsageError where a module's name is another's: a file called numpy.py must not stand in for numpy."""
    try:
        spec = importlib.util.find_spec(point.module)
    except (ImportError, ValueError, AttributeError):
        spec = None
    taken = point.module in sys.stdlib_module_names or (spec is not None and not _is_file(spec.origin, point.file))
    if taken:
        raise UsageError(f"{FLAG} {one_line(point.origin)}: '{point.module}' is the name of another module that is installed here. Rename "
                         "yours.")


def _is_file(origin: object, file: Path) -> bool:
    return isinstance(origin, str) and os.path.realpath(origin) == os.path.realpath(file)
