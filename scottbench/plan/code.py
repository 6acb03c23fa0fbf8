"""Which code makes which part of a run, with a digest of every file of it that neither comments, docstrings nor layout change.

A version that somebody forgot to raise must not let the images or numbers of two codes stand in one run.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import sys
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.registry.lazy import lazy
from scottbench.store.assets import walked
from scottbench.store.files import canonical

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins, Registered

HOST = Path(__file__).resolve().parents[1]
COMPILED = (".so", ".pyd")
LIBRARIES = sys.stdlib_module_names | {HOST.name, "torch", "diffusers", "transformers", "open_clip", "cleanfid", "numpy", "scipy", "PIL"}
"""Packages that are digested by the file, not as a whole: a run notes the versions of these in its environment."""


@dataclass(frozen=True)
class Part:
    """A part of a run, and the code that makes it."""

    what: str
    host: tuple[str, ...]
    """Files of the host, as patterns below scottbench/."""
    plugins: tuple[str, ...]
    """Kinds of nouns whose plug-ins take part, each with its whole package."""
    recorded: str
    """The record that holds the digests."""


PICTURES = ("models/images.py", "models/pictures.py", "store/captions.py", "store/pictures.py")
"""Reads pictures that anybody made."""
NETWORKS = (
    "diffusion.py", "models/admission.py", "models/diffusion_model.py", "models/pipeline.py", "models/text_encoders.py",
    "models/transfer.py", "registry/condition.py",
)  # fmt: skip
PARTS = {
    "images": Part(
        "the images of every cell",
        (*NETWORKS, *PICTURES, "models/compiled.py", "models/noise.py", "models/queued.py", "models/sampling.py", "run/sample.py",
         "run/session.py", "run/worker.py"),
        ("method", "model", "dataset"), "plan"),
    "features": Part(
        "features of images, references and prompts", ("models/extractors.py", *PICTURES), ("dataset", "extractor"),
        "plan; fingerprint of a metric that needs features"),
    "values": Part("the values of metrics", ("metrics/*.py",), ("metric",), "plan; fingerprint of the metric"),
    "intervals": Part(
        "intervals and paired differences",
        ("run/measure.py", "run/teacher.py", "stats/categories.py", "stats/intervals.py", "stats/measured.py", "stats/paired.py",
         "stats/uncertainty.py"), (), "plan"),
    "students": Part(
        "the weights of a student", (*NETWORKS, *PICTURES, "models/compiled.py", "training/*.py"), ("trainer", "model", "dataset"),
        "student.json, `made_by`"),
    "adopted": Part(
        "the weights of a student that is made of published ones", ("models/adoption.py", "models/lora.py", "models/published.py"), (),
        "student.json, `made_by`"),
}  # fmt: skip
"""The one table of what makes what; docs/architecture.md shows it."""
IN_PLAN = ("images", "features", "values", "intervals")
"""The parts that a run makes; their digests stand in its plan. Those of a student stand in its student.json."""


def part_code(part: str, plugins: Plugins, used: Iterable[Registered]) -> dict[str, str]:
    """Return {file: head of the digest of its code} of a part, the host's files and the packages of those `used` whose kind takes part."""
    found = host_code(part)
    for registered in used:
        if registered.kind in PARTS[part].plugins:
            found |= noun_code(registered, plugins)
    return dict(sorted(found.items()))


def host_code(part: str) -> dict[str, str]:
    """Return {"scottbench/...": head of the digest of its code} of the host's files that make a part."""
    files = {path for pattern in PARTS[part].host for path in HOST.glob(pattern)}
    return {f"{HOST.name}/{path.relative_to(HOST).as_posix()}": digest_of(path) for path in sorted(files)}


def noun_code(registered: Registered, plugins: Plugins) -> dict[str, str]:
    """Return {file: head of the digest of its code} of what a plug-in registered: its whole package, or its only file, and those that
    define the functions of the noun, if they are others. A function without a file counts by its compiled code."""
    modules = [plugin.target.partition(":")[0] for plugin in plugins.plugins if plugin.name == registered.plugin and plugin.status == "ok"]
    functions = list(_functions(registered.noun))
    modules += [module for module in map(_module, functions) if module.partition(".")[0] not in LIBRARIES]
    found = {name: digest_of(path) for module in dict.fromkeys(modules) for name, path in _package(module).items()}
    for function in functions:
        found |= _definition(function, found)
    return found


def short_digest(code: Mapping[str, str]) -> str:
    """Return the head of the sha256 over {file: digest}, 16 digits of hex."""
    return hashlib.sha256(canonical(dict(code))).hexdigest()[:16]


# --- which files -----------------------------------------------------------------------------------------------------


def _package(module: str) -> dict[str, Path]:
    """Name -> file, of all code of the outermost regular package that holds a module, or of a module in no package; none without files."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        spec = _spec(name)
        if spec is None:
            return {}
        if spec.origin is None and spec.submodule_search_locations is not None:
            continue  # a namespace belongs to nobody
        if spec.submodule_search_locations is None:
            return {f"{name.replace('.', '/')}.py": Path(spec.origin)} if spec.origin is not None and Path(spec.origin).is_file() else {}
        found = {}
        for folder in map(Path, spec.submodule_search_locations):
            for path in walked(folder):
                if path.suffix in (".py", *COMPILED):
                    found[f"{name.replace('.', '/')}/{path.relative_to(folder).as_posix()}"] = path
        return found
    return {}


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None  # a module that was made in memory


def _functions(noun: Any) -> Iterator[Any]:
    """The functions of a noun: as they are, or as `lazy` names them, not imported."""
    for field in dataclasses.fields(noun):
        value = getattr(noun, field.name)
        if callable(value) and not isinstance(value, type):
            yield value


def _module(function: Any) -> str:
    """The module that defines a function, "?" where nothing tells."""
    if isinstance(function, lazy):
        return function.target.partition(":")[0]
    return getattr(_plain(function), "__module__", None) or "?"


def _definition(function: Any, known: Mapping[str, str]) -> dict[str, str]:
    """The file that defines a function, where it is not `known` yet, or the function's compiled code."""
    module = _module(function)
    code = None if isinstance(function, lazy) else getattr(_plain(function), "__code__", None)
    name = module.replace(".", "/")
    if code is None or {f"{name}.py", f"{name}/__init__.py"} & known.keys():
        return {}
    path = Path(code.co_filename)
    return {f"{name}.py": digest_of(path)} if path.is_file() else {f"{module}:{code.co_qualname}": _compiled(code)}


def _plain(function: Any) -> Any:
    """The function behind wrappers, partial applications and objects that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    return function if hasattr(function, "__code__") else type(function).__call__


# --- digests ---------------------------------------------------------------------------------------------------------


def digest_of(path: Path) -> str:
    """Return the head of the digest of a file's code, 16 digits of hex; of what is no Python, over its bytes."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, changed: int, size: int) -> str:
    """`digest_of` a file as it was when it was last changed, so that each is read once."""
    data = path.read_bytes()
    return hashlib.sha256(data if path.suffix in COMPILED else normalised(data)).hexdigest()[:16]


def normalised(source: bytes) -> bytes:
    """Return the code of a Python file as bytes that comments, docstrings and layout do not change, and no version of Python; the file
    itself where it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        words: list[str] = []
        _write(tree, words)
    except (SyntaxError, ValueError, RecursionError):
        return source
    return "\0".join(words).encode("utf-8", "surrogatepass")


def _write(node: Any, words: list[str]) -> None:
    """Append a syntax tree to `words`. Fields that are empty are left out: later versions of Python have more of them."""
    if isinstance(node, ast.AST):
        words.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                value = [one for one in value if not _is_text(one)]
            if value is not None and value != []:
                words.append(name)
                _write(value, words)
        words.append(")")
    elif isinstance(node, list):
        words.append("[")
        for one in node:
            _write(one, words)
        words.append("]")
    else:
        words.append(repr(node))


def _is_text(node: Any) -> bool:
    """A docstring, or a string that stands alone like one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _compiled(code: types.CodeType) -> str:
    """Digest a function that was typed in, so that no file has it: its instructions, names and constants."""
    total = hashlib.sha256()

    def add(part: types.CodeType) -> None:
        total.update(part.co_code)
        total.update(repr((part.co_names, part.co_varnames, part.co_freevars)).encode())
        for constant in part.co_consts:
            if isinstance(constant, types.CodeType):
                add(constant)
            else:
                total.update(repr(constant).encode())

    add(code)
    return total.hexdigest()[:16]
