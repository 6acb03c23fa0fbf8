"""A copy of a plug-in with one byte, or one pixel, of its data changed: does its digest see it? The copy is asked in another process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scottbench.store.files import read_json
from scottbench.testing.finding import Doubt
from scottbench.text import in_one_line

LARGEST = 2**28
"""Bytes of the data that are copied at most."""
LIMIT = 120
"""Seconds that the other process may take."""
ASK = r"""
import hashlib, importlib, importlib.util, json, os, sys
from pathlib import Path
kind, noun, target, file, out, asked = json.loads(sys.argv[1])
name = target.partition(":")[0].partition(".")[0]
places = [os.path.dirname(file)] if os.path.basename(file) == "__init__.py" else None
class Finder:
    def find_spec(self, asked, path=None, target=None):
        return importlib.util.spec_from_file_location(name, file, submodule_search_locations=places) if asked == name else None
sys.meta_path.insert(0, Finder())
module = importlib.import_module(target.partition(":")[0])
found = next(one for one in getattr(module, f"register_{kind}s")() if one.name == noun)
told = {"refused": "", "digest": "", "content": ""}
try:
    if kind == "dataset":
        items = found.open(asked)
        told["digest"] = items.digest
        told["content"] = hashlib.sha256(items.images(range(min(64, len(items.ids)))).tobytes()).hexdigest()
    else:
        from scottbench.models.extractors import find_extractor
        told["digest"] = find_extractor(found, asked, Path).digest
except Exception as error:
    told["refused"] = f"{type(error).__name__}: {error}"[:300]
with open(out, "w") as stream:
    json.dump(told, stream)
"""


class Opened:
    """Files that are opened for reading within `watching`."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.on = False
        self.installed = False

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[str]]:
        """Give the list of files, which fills within the block."""
        if not self.installed:
            sys.addaudithook(self._see)
            self.installed = True
        self.files, self.on = [], True
        try:
            yield self.files
        finally:
            self.on = False

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            self.files.append(os.path.abspath(os.fsdecode(arguments[0])))


OPENED = Opened()


def change(path: Path) -> None:
    """Change one pixel of a PNG, or the byte in the middle of another file."""
    if path.suffix == ".png":
        from PIL import Image

        with Image.open(path) as opened:
            picture = np.asarray(opened.convert("RGB")).copy()
        picture[0, 0, 0] += 128
        Image.fromarray(picture).save(path)
        return
    with open(path, "r+b") as stream:
        stream.seek(max(0, path.stat().st_size // 2))
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 0x55]))


def data_files(files: list[str], folder: str) -> list[Path]:
    """Choose the data below a folder of files that were opened, the largest first."""
    base = os.path.abspath(folder) + os.sep
    found = {Path(name) for name in files if name.startswith(base) and not name.endswith((".py", ".pyc", ".toml", ".json", ".csv", ".txt"))}
    return sorted((path for path in found if path.is_file() and path.stat().st_size), key=lambda path: -path.stat().st_size)


@contextlib.contextmanager
def changed_package(file: str, data: Path) -> Iterator[str]:
    """Copy the package of a module's file, with one of its data files changed; give the copy's file. Raises Doubt where it is too large."""
    package = Path(file).parent
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    if size > LARGEST:
        raise Doubt(
            f"its data are too large to be copied ({size:,} bytes), so that no byte of them is changed.", "Try that in a test of your own."
        )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / package.name
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
        change(copy / data.relative_to(package))
        yield str(copy / Path(file).name)


def asked(kind: str, noun: str, target: str, file: str, question: Any) -> dict[str, str]:
    """Ask another process for the digest of a noun of a package: {"digest", "content", "refused"}. question: a split, or a spec. Raises
    Doubt where it gives no answer."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "told.json"
        roots = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-P", "-c", ASK, json.dumps([kind, noun, target, file, str(out), question])]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": roots}, capture_output=True, text=True, timeout=LIMIT, check=False
            )
            found = read_json(out)
            if isinstance(found, dict):
                return found
            raise Doubt(f"a copy of it gives no digest ({in_one_line(done.stderr)[-200:]}).", "Try that in a test of your own.")
        raise Doubt(f"a copy of it gives no digest within {LIMIT} s.", "Try that in a test of your own.")
