"""The one guard around calls into plug-ins: whatever one raises, `sys.exit` included, is an error that names it, its line and a way out.

The loader puts it around every function of every noun that is registered, so that no caller has to think of it. What the functions
return and the host calls later (items of a dataset, the losses of a trainer) is guarded too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from scottbench.errors import ScottbenchError, lack_of_memory
from scottbench.registry.moved import moved
from scottbench.text import one_line

HANDED_ON = {("dataset", "open"), ("trainer", "build")}
"""(kind, function) of what returns an object that the host calls later."""


class PluginFailed(ScottbenchError):
    """A function of a plug-in raised what it must not. Exit code 1; the message names plug-in, file and line, and what to do."""


def cause_of(error: BaseException) -> BaseException:
    """Return what a plug-in raised, where the guard around it has made a message of it; else the error itself."""
    return error.__cause__ if isinstance(error, PluginFailed) and error.__cause__ is not None else error


@dataclass
class _Interrupts:
    """Whether somebody counts the Ctrl-C of this process, and how many there were."""

    counted: bool = False
    seen: int = 0


INTERRUPTS = _Interrupts()


def interrupt(number: int, frame: FrameType | None) -> None:
    """Count a Ctrl-C and raise KeyboardInterrupt, as a handler of SIGINT. `INTERRUPTS.counted` says that it is one."""
    INTERRUPTS.seen += 1
    raise KeyboardInterrupt


def is_ours(error: BaseException) -> bool:
    """Return True of what must pass a guard as it is: errors for the user, no memory, and the user's own signals to stop.

    A KeyboardInterrupt is the user's unless signals are counted and there was none; Terminated and the like are the host's classes.
    """
    if isinstance(error, (ScottbenchError, GeneratorExit)) or lack_of_memory(error) is not None:
        return True
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTS.seen > 0 or not INTERRUPTS.counted
    return not isinstance(error, Exception) and type(error).__module__.startswith("scottbench.")


@dataclass(frozen=True)
class Owner:
    """The plug-in behind a function."""

    who: str
    """How messages call what failed: "metric 'x' of plug-in 'acme' (acme 1.2)"."""
    cure: str
    """The advice at the end of a message."""
    folder: str = ""
    """Folder of the plug-in's files; the line that is named is the last one in it."""

    @contextlib.contextmanager
    def guarding(self, what: str) -> Iterator[None]:
        """Raise PluginFailed for whatever the block raises, but for what `is_ours`. what: the function's name."""
        try:
            yield
        except BaseException as error:  # a plug-in may raise anything
            if is_ours(error):
                raise
            raise PluginFailed(f"{self.who} failed in {what}: {useful_line(error, self.folder)}. {self.cure}") from error


class Guarded:
    """A function of a plug-in, behind its guard."""

    def __init__(self, function: Callable[..., Any], owner: Owner, what: str, hands_on: bool = False):
        self.function, self.owner, self.what, self.hands_on = function, owner, what, hands_on

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.resolve()

    def resolve(self) -> Callable[..., Any]:
        """Return the plug-in's own function; a lazy one is imported. Raises PluginFailed where it cannot be, or
        is none (a TypeError to the guard)."""
        with self.owner.guarding(self.what):
            lookup = getattr(self.function, "resolve", None)
            found = self.function if lookup is None else lookup()
            if not callable(found):
                raise TypeError(f"{self.function!r} is {type(found).__name__}, no function")
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.owner.guarding(self.what):
            found = self.function(*args, **kwargs)
        if inspect.isgenerator(found):
            return self._each(found)
        return Shielded(found, self.owner) if self.hands_on and found is not None else found

    def _each(self, found: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self.owner.guarding(self.what):
                try:
                    item = next(found)
                except StopIteration:
                    return
            yield item

    def __repr__(self) -> str:
        return f"guarded {self.function!r}"


class Shielded:
    """An object of a plug-in: its attributes as they are, its functions behind the guard."""

    def __init__(self, inner: Any, owner: Owner):
        vars(self).update(_inner=inner, _owner=owner)

    def __getattr__(self, name: str) -> Any:
        inner, owner = vars(self)["_inner"], vars(self)["_owner"]
        try:
            found = getattr(inner, name)
        except AttributeError:
            raise  # an answer, to hasattr
        except BaseException as error:
            with owner.guarding(name):
                raise error
        is_function = inspect.ismethod(found) or inspect.isfunction(found) or inspect.isbuiltin(found)
        return Guarded(found, owner, name) if is_function else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["_inner"], name, value)


def named_owner(thing: Any, otherwise: str) -> str:
    """Return how messages call the plug-in whose object it is; `otherwise` where nobody guards it."""
    owner = vars(thing).get("_owner")
    return owner.who if isinstance(owner, Owner) else otherwise


def unguarded(running: Any) -> Any:
    """Return the plug-in's own generator, of one that the guard gives."""
    frame = getattr(running, "gi_frame", None)
    return frame.f_locals["found"] if frame is not None and frame.f_code is Guarded._each.__code__ else running


def guarded(kind: str, noun: Any, owner: Owner) -> Any:
    """Return a noun with every function of its own behind the guard."""
    functions = {}
    for item in dataclasses.fields(noun):
        value = getattr(noun, item.name)
        if str(item.type).startswith("Callable") and value is not None:
            functions[item.name] = Guarded(value, owner, item.name, (kind, item.name) in HANDED_ON)
    return dataclasses.replace(noun, **functions)


def resolve_all(noun: Any) -> None:
    """Import every lazy function of a noun, so that a wrong one costs no work. Raises PluginFailed for the first that fails."""
    for item in dataclasses.fields(noun):
        value = getattr(noun, item.name)
        if isinstance(value, Guarded):
            value.resolve()


def useful_line(error: BaseException, folder: str = "") -> str:
    """ "ImportError: no module x (package/file.py:3)": type, first line of the message, and the plug-in's own line.

    folder: the plug-in's; "" where it is not known. Where the plug-in asks for something of ours that has moved, its new place stands
    before that line instead.
    """
    elsewhere = moved(error)
    message = f"{type(error).__name__}: {one_line(error)[:300]}".rstrip(": ") if elsewhere is None else elsewhere
    hosts = {"importlib", "pluggy"}
    here = str(Path(__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    frames = [frame for frame in frames if Path(frame.filename).parent != Path(here) and not hosts & set(Path(frame.filename).parts)]
    own = [frame for frame in frames if folder and frame.filename.startswith(folder)]
    last = (own or frames)[-1:]
    return f"{message} ({Path(last[0].filename).name}:{last[0].lineno})" if last else message
