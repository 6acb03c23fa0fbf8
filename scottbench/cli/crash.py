"""What nobody foresaw: one line on stderr, and a file with versions and traceback to attach to a report."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

FILE = "scottbench-crash.txt"
CODE = 70
"""Exit code of what nobody foresaw (EX_SOFTWARE of sysexits.h)."""
PACKAGES = ("scottbench", "torch", "numpy", "polars", "scipy", "diffusers", "transformers", "accelerate", "open_clip_torch", "click")
SECRET = re.compile(r"token|secret|passw|credential|api.?key|_key$|^key$", re.IGNORECASE)
"""Names of variables and options whose values must not stand in a file that is sent to others."""


def report(error: BaseException, arguments: Sequence[str]) -> str:
    """Write the file for a report, in the current folder or else in a temporary one; return the line that names it."""
    found = f"unexpected {type(error).__name__}: {first_line(error)}{_place(error)}"
    ask = "Please report it, if it is not a plug-in's"
    for folder in (Path.cwd, lambda: Path(tempfile.mkdtemp(prefix="scottbench-"))):
        try:
            path = folder() / FILE
            _write(path, text_of(error, arguments))
        except OSError:
            continue
        return f"{found}. {ask}, with the file {path}: it has the versions and the traceback."
    return f"{found}. {ask}; the traceback could be written nowhere."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters of it."""
    from scottbench.text import one_line

    try:
        return one_line(without_secrets(str(error), ()))[:200]
    except Exception:  # the error's own __str__ fails
        return "(without a message)"


def text_of(error: BaseException, arguments: Sequence[str]) -> str:
    """Return the text of the file: command, versions, traceback; no values of variables, no secrets, no name of the home folder."""
    from scottbench.text import printable

    lines = [f"command: scottbench {' '.join(map(_masked, arguments))}", f"python: {platform.python_version()} {sys.executable}",
             f"system: {platform.platform()}", *(f"{name}: {_version(name)}" for name in PACKAGES), ""]  # fmt: skip
    trace = traceback.TracebackException.from_exception(error, limit=-60)
    return printable(without_secrets("\n".join(lines) + "".join(trace.format()), arguments)) + "\n"


def without_secrets(text: str, arguments: Sequence[str]) -> str:
    """Return `text` without values of secret variables and options, and with "~" for the home folder."""
    secrets = [value for name, value in os.environ.items() if SECRET.search(name)]
    secrets += [value for argument in arguments for name, _, value in [argument.partition("=")] if SECRET.search(name)]
    for value in sorted(filter(lambda value: len(value) >= 4, secrets), key=len, reverse=True):
        text = text.replace(value, "***")
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text


def _masked(argument: str) -> str:
    name, equals, _ = argument.partition("=")
    return f"{name}=***" if equals and SECRET.search(name) else argument


def _place(error: BaseException) -> str:
    """ " (run/measure.py:12)": the innermost line that has a file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__, limit=-20) if not frame.filename.startswith("<")]
    return f" ({'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno})" if frames else ""


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _write(path: Path, text: str) -> None:
    from scottbench.store.files import replace_file

    replace_file(path, text.encode("utf-8", "backslashreplace"))
