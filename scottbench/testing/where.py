"""Places in a plug-in's files: of a function, of a field of a noun, of the line that raised or that changed something."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from scottbench.registry.guard import Guarded


@dataclass(frozen=True)
class Code:
    """The files of a plug-in, by their folder; "" where it was made in memory."""

    folder: str = ""
    file: str = ""
    """The file of the noun: of a preset or claim its TOML file."""

    def place(self, at: Any, noun: Any = None) -> str:
        """Write "file:line" of a function, class, field of `noun` or text in a TOML file; text with a colon is a place already."""
        if isinstance(at, str) and ":" in at:
            return at
        if self.file.endswith(".toml"):
            return self._in_toml(at)
        if isinstance(at, str) and noun is not None:
            value = plain(getattr(noun, at, None))
            found = place_of(value) if callable(value) else self._in_source(noun, at)
            return found or self._in_source(noun, at) or self._usual(noun)
        found = place_of(plain(at)) if at is not None else ""
        return found or self._usual(noun)

    def _usual(self, noun: Any) -> str:
        """The place of the noun itself: where it is registered, else its first function's."""
        found = self._in_source(noun, "") if noun is not None else ""
        if not found and noun is not None:
            functions = [plain(getattr(noun, item.name)) for item in dataclasses.fields(noun)]
            found = next((place for one in functions if callable(one) and (place := place_of(one))), "")
        return found or (f"{shown(self.file)}:1" if self.file else "")

    def _in_toml(self, at: Any) -> str:
        """The line of a TOML file where a word stands first."""
        try:
            lines = Path(self.file).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            lines = []
        number = next((n for n, line in enumerate(lines, start=1) if isinstance(at, str) and at in line.partition("#")[0]), 1)
        return f"{shown(self.file)}:{number}"

    def _in_source(self, noun: Any, field: str) -> str:
        """The call in the plug-in's files that names the noun, and in it the keyword of a field."""
        for path in self.sources():
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.Call) and noun.name in [one.value for one in _constants(node)]:
                    named = [one for one in node.keywords if one.arg == field]
                    return f"{shown(str(path))}:{named[0].value.lineno if named else node.lineno}"
        return ""

    def sources(self) -> list[Path]:
        """List the plug-in's Python files."""
        folder = Path(self.folder) if self.folder else None
        if folder is None or not folder.is_dir():
            return [Path(self.file)] if self.file.endswith(".py") and Path(self.file).is_file() else []
        if not (folder / "__init__.py").is_file() and self.file.endswith(".py"):  # a single module, among whatever lies beside it
            return [Path(self.file)]
        return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)

    def place_of_error(self, error: BaseException) -> str:
        """Write "file:line" of the last line of the plug-in that an error went through; "" where it went through none."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if self.holds(frame.filename)]
        return f"{shown(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""

    def holds(self, filename: str) -> bool:
        """Tell whether a file is of this plug-in."""
        inside = bool(self.folder) and os.path.abspath(filename).startswith(os.path.abspath(self.folder) + os.sep)
        return (inside and filename.endswith(".py")) or (bool(self.file) and filename == self.file)

    def line_that_changes(self, call: Callable[[], Any], state: Callable[[], Any]) -> str | None:
        """Run `call` and write "file:line" of the plug-in's first line after which `state()` is another; None where none is seen."""
        last: list[str] = []
        found: list[str] = []
        before = [state()]

        def look(frame: FrameType, event: str, argument: Any) -> Any:
            if not self.holds(frame.f_code.co_filename):
                return None
            if event in ("line", "return") and not found:
                now = state()
                if now != before[0] and last:
                    found.append(last[0])
                before[0] = now
                last[:] = [f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}"]
            return look

        old = sys.gettrace()
        sys.settrace(look)
        try:
            call()
        finally:
            sys.settrace(old)
        return found[0] if found else None


def plain(function: Any) -> Any:
    """Return the plug-in's own function behind guard, lazy name and partial application; None of one that cannot be imported."""
    try:
        while True:
            if isinstance(function, Guarded) or hasattr(function, "resolve"):
                function = function.resolve()
            elif isinstance(function, functools.partial):
                function = function.func
            else:
                return inspect.unwrap(function) if callable(function) else function
    except Exception:  # a module of the plug-in that cannot be imported is told by a check of its own
        return None


def place_of(thing: Any) -> str:
    """Write "file:line" of the definition of a function or class; "" where no file has it."""
    if thing is not None and not isinstance(thing, type) and not hasattr(thing, "__code__"):
        thing = thing if inspect.ismodule(thing) else vars(type(thing)).get("__call__", type(thing))
    code = getattr(thing, "__code__", None)
    if code is not None:
        return f"{shown(code.co_filename)}:{code.co_firstlineno}"
    try:
        return f"{shown(str(inspect.getsourcefile(thing)))}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):
        return ""


def shown(path: str) -> str:
    """Write a path as seen from the current folder, where it lies below."""
    here = os.getcwd() + os.sep
    return path[len(here) :] if path.startswith(here) else path


@functools.lru_cache(maxsize=512)
def parsed(path: Path) -> ast.Module:
    """Parse a Python file; an empty module where it cannot be."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return ast.Module([], [])


def _constants(node: ast.Call) -> Iterator[ast.Constant]:
    """The plain values among a call's arguments."""
    for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
        if isinstance(argument, ast.Constant):
            yield argument
