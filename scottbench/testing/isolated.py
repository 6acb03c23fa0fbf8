"""Checks of a plug-in as a whole: what its import does, seen from another process, and code that changed while its version did not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scottbench.plan.code import digest_of
from scottbench.registry.loader import Plugin, Plugins
from scottbench.registry.paths import outermost
from scottbench.store.files import read_json
from scottbench.testing.finding import Check, Doubt, NotConforming
from scottbench.testing.where import Code, shown
from scottbench.text import duration, in_one_line

SLOW = 1.0
"""Seconds of an import, the libraries that every command needs not counted, beyond which every command is kept waiting."""
HEAVY = ("torch", "diffusers", "transformers", "numpy", "scipy", "polars", "PIL", "matplotlib")
"""Libraries that no plug-in may import when it is registered."""
LARGEST = 2**24
"""Bytes of a Python file in a wheel that is read."""
LIMIT = 60
"""Seconds that the other process may take."""

PROBE = r"""
import importlib, io, json, os, sys, time
target, file, out, heavy = json.loads(sys.argv[1])
found = {"printed": "", "socket": [], "exit": "", "error": "", "where": "", "heavy": [], "seconds": 0.0, "methods": {}}
import socket, traceback
import scottbench.registry.hookspecs, scottbench.registry.nouns, pluggy
before = set(sys.modules)

def here():
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(os.path.dirname(file)) or frame.filename == file:
            return f"{frame.filename}:{frame.lineno}"
    return ""

def watch(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request") and not found["socket"]:
        found["socket"] = [str(arguments[-1 if event == "socket.connect" else 0])[:80], here()]

class Paper(io.TextIOBase):
    def write(self, text):
        if text.strip() and not found["printed"]:
            found["printed"], found["where"] = text.strip()[:80], here()
        return len(text)

class Ban:
    def find_spec(self, name, path=None, target=None):
        if name in heavy and not any(one[0] == name for one in found["heavy"]):
            found["heavy"].append([name, here()])
        return None

sys.addaudithook(watch)
sys.meta_path.insert(0, Ban())
sys.stdout = sys.stderr = Paper()
if file:
    import importlib.util
    name = target.partition(".")[0]
    places = [os.path.dirname(file)] if os.path.basename(file) == "__init__.py" else None
    class Finder:
        def find_spec(self, asked, path=None, target=None):
            return importlib.util.spec_from_file_location(name, file, submodule_search_locations=places) if asked == name else None
    sys.meta_path.insert(1, Finder())
started = time.perf_counter()
try:
    module = importlib.import_module(target.partition(":")[0])
    for hook in ("models", "datasets", "methods", "trainers", "extractors", "metrics", "presets", "claims"):
        function = getattr(module, f"register_{hook}", None)
        for noun in (function() if callable(function) else ()):
            if hook == "methods":
                found["methods"][noun.name] = noun.version
except SystemExit as error:
    found["exit"] = str(error.code)
    found["where"] = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)][-1]
except BaseException as error:
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(os.path.dirname(file))]
    found["error"] = f"{type(error).__name__}: {error}"
    found["where"] = f"{own[-1].filename}:{own[-1].lineno}" if own else f"{file}:1"
found["seconds"] = time.perf_counter() - started
found["loaded"] = sorted({name.partition(".")[0] for name in set(sys.modules) - before} & set(heavy))
with open(out, "w") as stream:
    json.dump(found, stream, default=repr)  # a version of another type: the loader has a word on it
os._exit(0)
"""
"""The other process: it imports the plug-in, calls its hooks and writes what it saw; nothing of the plug-in lives on in ours."""


@dataclass
class PluginSubject:
    """A plug-in as a whole."""

    plugin: Plugin
    plugins: Plugins
    older: Path | None = None
    """A folder or wheel of an older version; None: the installed one, where another is checked than that."""
    noun: Any = None
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name the plug-in as findings do."""
        return f"plug-in {self.plugin.name}"

    @property
    def who(self) -> str:
        """Name the plug-in as messages do."""
        return f"plug-in '{self.plugin.name}'"

    @property
    def file(self) -> str:
        """Return the file of its outermost module; "" where it was made in memory."""
        if "file" not in self.seen:
            self.seen["file"] = file_of(self.plugin)
        return self.seen["file"]

    @property
    def folder(self) -> str:
        """Return the folder of its files."""
        return str(Path(self.file).parent) if self.file else ""

    @property
    def code(self) -> Code:
        """Return its files."""
        return Code(self.folder, self.file)


def file_of(plugin: Plugin) -> str:
    """Return the file of a plug-in's outermost module, not imported again; "" of one in memory."""
    import importlib.util

    module = outermost(plugin.target)
    loaded = sys.modules.get(module)
    found = getattr(loaded, "__file__", None)
    if found is None and loaded is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        found = None if spec is None else spec.origin
    return found if isinstance(found, str) and Path(found).is_file() else ""


def probed(subject: PluginSubject) -> dict[str, Any]:
    """Import the plug-in in another process, once, and return what was seen. Raises Doubt for one that no file has."""
    if "probe" not in subject.seen:
        subject.seen["probe"] = probe(subject.plugin.target, subject.file)
    return subject.seen["probe"]


def probe(target: str, file: str) -> dict[str, Any]:
    """Import a module of a file in another process and return what was seen: printed, sockets, exit, error, libraries, seconds, methods.
    Raises Doubt where there is no file, NotConforming where the process does not end."""
    if not file:
        raise Doubt(f"{target} was made in memory.", "Check the file or package itself.")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seen.json"
        command = [sys.executable, "-P", "-c", PROBE, json.dumps([target, file, str(out), HEAVY])]
        # no folder of the plug-in on the path: it is found as --plugin-path finds it
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*map(str, _roots()), os.environ.get("PYTHONPATH", "")]))}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=LIMIT, text=True, check=False)
        except subprocess.TimeoutExpired:
            raise NotConforming(
                f"importing {target} takes more than {LIMIT} s.", "Do nothing when it is registered: give lazy functions.", f"{file}:1"
            ) from None
        found = read_json(out)
    if not isinstance(found, dict):
        raise NotConforming(
            f"importing {target} ends the process (exit code {done.returncode}: {in_one_line(done.stderr)[-200:]}).",
            "Do nothing when it is registered.",
            f"{file}:1",
        )
    return found


def _roots() -> list[Path]:
    """Where scottbench itself lies."""
    return [Path(__file__).resolve().parents[2]]


def check_loads(subject: PluginSubject) -> str:
    """The plug-in can be loaded and breaks no rule. Raises NotConforming with the loader's line."""
    if subject.plugin.broken:
        where = probed(subject)["where"] if subject.file else ""
        status = subject.plugin.status.removeprefix("BROKEN: ")
        raise NotConforming(
            f"it is BROKEN: {status}.",
            "Mend what the line says.",
            _in_message(status, subject) or shown(where) or f"{shown(subject.file)}:1",
        )
    return f"loaded, it brings {len(subject.plugin.names)} nouns"


def _in_message(status: str, subject: PluginSubject) -> str:
    """The place of the noun that a loader's line names first."""
    words = status.split("'")
    for name in words[1::2]:
        for path in subject.code.sources():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if f'"{name}"' in line or f"'{name}'" in line or f"def {name}" in line or f"{name}=" in line:
                    return f"{shown(str(path))}:{number}"
    return ""


def check_import(subject: PluginSubject) -> str:
    """Importing it is quick, imports no network library, opens no socket, prints nothing and does not exit. Raises NotConforming,
    or Doubt where it is slow."""
    seen = probed(subject)
    where = shown(seen["where"])
    if seen["exit"]:
        raise NotConforming(
            f"importing it calls sys.exit({seen['exit']}).", "Raise a ScottbenchError in the function that needs something.", where
        )
    if seen["printed"]:
        raise NotConforming(
            f"importing it prints '{in_one_line(seen['printed'])}'.", "Print nothing: it would stand in tables and JSON.", where
        )
    if seen["socket"]:
        raise NotConforming(
            f"importing it opens a connection ({in_one_line(seen['socket'][0])}).",
            "Nothing of a plug-in may need a network when it is registered.",
            shown(seen["socket"][1]),
        )
    first = [one for one in seen["heavy"] if one[0] in seen["loaded"]]
    if first:
        raise NotConforming(
            f"importing it imports {', '.join(seen['loaded'])}.",
            'Name functions as lazy("package.module:function"), and import heavy libraries in that module.',
            shown(first[0][1]),
        )
    if seen["seconds"] > SLOW:
        raise Doubt(
            f"importing it takes {duration(seen['seconds'])}, which every command waits for.",
            "Name functions by lazy(...).",
            f"{shown(subject.file)}:1",
        )
    return f"{seen['seconds']:.2f} s, nothing printed, no socket, no network library"


# --- code and version ------------------------------------------------------------------------------------------------


def check_version(subject: PluginSubject) -> str:
    """Code that differs from an older version's has another version, too. Raises NotConforming, or Doubt where no older one is at hand."""
    old = older_of(subject)
    if old is None:
        raise_nothing = "no older version is at hand to compare with (--against WHEEL|FOLDER)"
        return raise_nothing
    with tempfile.TemporaryDirectory() as folder:
        file = unpacked(old, Path(folder), Path(subject.file))
        if file is None:
            raise Doubt(f"{old} holds no module '{subject.plugin.target}'.", "Give --against a wheel or folder of this plug-in.")
        changed = different(file, Path(subject.file))
        if not changed:
            return "its code is that of the older version"
        before, now = probe(subject.plugin.target, str(file))["methods"], probed(subject)["methods"]
    same = [name for name in now if before.get(name) == now[name]]
    if not same:
        return f"changed in {len(changed)} files, and so are the versions of its methods"
    at = next((f"{shown(str(path))}:1" for path in changed), "")
    where = next((place for name in same if (place := _version_place(subject, name))), at)
    raise NotConforming(
        f"its code changed against the older version ({', '.join(path.name for path in changed)}), and method '{same[0]}' has version "
        f"'{now[same[0]]}' as before.",
        "Raise Method.version if its images may change: it is part of a run's identity.",
        where,
    )


def _version_place(subject: PluginSubject, name: str) -> str:
    found = [one.noun for one in subject.plugins.nouns["method"].values() if one.noun.name == name and one.plugin == subject.plugin.name]
    return subject.code._in_source(found[0], "version") if found else ""


def older_of(subject: PluginSubject) -> Path | None:
    """Return what to compare with: what was given, else the installed plug-in of the same module, where that is another file."""
    import importlib.metadata

    if subject.older is not None:
        return subject.older
    module = outermost(subject.plugin.target)
    for point in importlib.metadata.entry_points(group="scottbench"):
        if outermost(point.value) == module and point.dist is not None:
            for tail in (f"{module}/__init__.py", f"{module}.py"):
                place = Path(str(point.dist.locate_file(tail)))
                if place.is_file() and place.resolve() != Path(subject.file).resolve():
                    return place.parent if tail.endswith("__init__.py") else place
    return None


def unpacked(old: Path, folder: Path, like: Path) -> Path | None:
    """Return the file of the older module in a wheel, a project folder, a package folder or a file; None where it is not there.
    Raises Doubt for a wheel that cannot be read."""
    tail = f"{like.parent.name}/__init__.py" if like.name == "__init__.py" else like.name
    if old.suffix == ".whl":
        try:
            with zipfile.ZipFile(old) as archive:
                for entry in archive.infolist():
                    name = Path(entry.filename)
                    if name.suffix == ".py" and not name.is_absolute() and ".." not in name.parts and entry.file_size <= LARGEST:
                        archive.extract(entry, folder)
        except (zipfile.BadZipFile, OSError) as error:
            raise Doubt(f"{old} is no wheel that can be read ({error}).", "Give --against another.") from None
        old = folder
    places = [old / tail, old / "src" / tail, old / "__init__.py" if like.name == "__init__.py" else old]
    return next((place for place in places if place.is_file()), None)


def different(old: Path, new: Path) -> list[Path]:
    """List the Python files of the new package whose code is not that of the old one; comments, docstrings and layout do not count."""
    if new.name != "__init__.py":
        return [new] if digest_of(old) != digest_of(new) else []
    files = {path.relative_to(new.parent) for path in new.parent.rglob("*.py")}
    gone = {path.relative_to(old.parent) for path in old.parent.rglob("*.py")} - files
    changed = [
        name for name in sorted(files) if not (old.parent / name).is_file() or digest_of(old.parent / name) != digest_of(new.parent / name)
    ]
    return [new.parent / name for name in changed] + [new for _ in gone]


PLUGIN_CHECKS = (Check("loads", check_loads), Check("import", check_import), Check("version", check_version))
"""The checks of a plug-in as a whole."""
