"""Who may import whom, what the host may name, and that packaging, entry points and folders agree (architecture.md 2, 4)."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scottbench import errors
from scottbench.registry import hookspecs
from scottbench.registry.loader import HOOKS, load_plugins

ROOT = Path(__file__).parent.parent
HOST = ROOT / "scottbench"
PLUGINS = ROOT / "plugins"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

ROOMS = {
    "errors": "",
    "text": "",
    "diffusion": "",
    "registry": "diffusion errors text",
    "store": "errors text",
    "models": "registry store diffusion errors text",
    "metrics": "registry errors",
    "stats": "registry store errors text",
    "report": "store errors text",
    "plan": "registry store models diffusion errors text",
    "run": "plan stats report models metrics store registry errors text",
    "training": "plan models metrics store registry diffusion errors text",
    "testing": "run training plan stats models metrics store registry diffusion errors text",
    "cli": "registry store models metrics stats report plan run training testing errors text",
}
"""Who may import whom: a room of the host, and the rooms that its files may name, imports for types alone included. A room may always
import itself. `docs/rooms.py` draws this table. The public face, `__init__.py`, and `__main__.py` stand outside the rooms."""
FOR_PLUGINS = {"diffusion", "models", "metrics", "stats", "training", "errors", "testing", "store.assets"}
"""What a plug-in may import of the host beside the public face."""
NETWORKS = {"torch", "diffusers", "transformers", "accelerate", "peft", "open_clip", "cleanfid"}
HEAVY = NETWORKS | {"numpy", "scipy", "polars", "matplotlib", "jinja2", "PIL", "rich"}
PIP_WHEEL = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
PLUGIN_FOLDERS = sorted(folder.name for folder in PLUGINS.iterdir() if (folder / "__init__.py").is_file())
RUNTIME_HOST = sorted(path for path in HOST.rglob("*.py"))


def imports(path: Path, top_level_only: bool = False, types_too: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; `from a import b` counts as a.b. Blocks under TYPE_CHECKING count where `types_too`."""
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types_too:
            continue
        if top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # of a plug-in, a sibling
                assert HOST not in path.parents, f"{path}: the host writes absolute imports"
                continue
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        nodes.extend(ast.iter_child_nodes(node))


@functools.cache
def bundled_names() -> set[str]:
    """Every name that a bundled plug-in registers."""
    return {name for names in load_plugins().nouns.values() for name, found in names.items() if found.distribution == "scottbench"}


def ours(names: Iterator[str]) -> set[str]:
    """First part below scottbench of what is imported: {"errors", "diffusion"}."""
    return {name.split(".")[1] for name in names if name.startswith("scottbench.")}


def room_of(path: Path) -> str | None:
    """The room of a file of the host: "plan"; None for the public face and `python -m scottbench`."""
    first = path.relative_to(HOST).parts[0].removesuffix(".py")
    return None if first in ("__init__", "__main__") else first


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the host."""
    found = {}
    for path in RUNTIME_HOST:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows() -> dict[str, set[str]]:
    """Module -> modules of the host that it imports anywhere in it, for types alone included."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        named = [other for other in imports(path, types_too=True) if other.startswith("scottbench.")]
        # `from a.b import c` counts as a.b.c: the module is the longest known head of it
        heads = [next((head for head in (other, other.rpartition(".")[0]) if head in known), None) for other in named]
        found[name] = {head for head in heads if head is not None} - {name, "scottbench"}
    return found


def test_every_file_is_in_a_room_and_few_things_stand_at_the_top():
    assert {room_of(path) for path in RUNTIME_HOST} - {None} == set(ROOMS)
    assert len([path for path in HOST.iterdir() if path.name not in ("__pycache__", "__init__.py", "__main__.py", "py.typed")]) <= 14


@pytest.mark.parametrize("path", RUNTIME_HOST, ids=lambda path: str(path.relative_to(HOST)))
def test_a_room_imports_only_the_rooms_that_the_table_allows(path):
    room = room_of(path)
    if room is not None:
        assert ours(imports(path, types_too=True)) - {"__version__", "DEFAULT_PRESET"} <= {room, *ROOMS[room].split()}


def test_the_table_of_rooms_runs_one_way():
    """Taking away, again and again, the rooms that import none of those left, takes all of them away."""
    left = {room: set(allowed.split()) for room, allowed in ROOMS.items()}
    while left:
        floor = {room for room, below in left.items() if not below & left.keys()}
        assert floor, f"a circle among {sorted(left)}"
        left = {room: below for room, below in left.items() if room not in floor}


def test_no_module_imports_itself_through_others():
    """Types alone included: a file that names another's type is read with it."""
    left = arrows()
    while left:
        floor = {name for name, below in left.items() if not below & left.keys()}
        assert floor, f"a circle among {sorted(left)}"
        left = {name: below for name, below in left.items() if name not in floor}


@pytest.mark.parametrize("path", sorted((HOST / "report").rglob("*.py")), ids=str)
def test_a_report_is_made_of_records_alone(path):
    assert not {name.split(".")[0] for name in imports(path)} & (NETWORKS | {"pluggy"})


@pytest.mark.parametrize("path", sorted((HOST / "cli").rglob("*.py")), ids=str)
def test_the_cli_imports_nothing_heavy_before_a_verb_runs(path):
    assert ours(imports(path, top_level_only=True)) <= {"cli", "errors", "text", "__version__", "DEFAULT_PRESET"}
    assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("path", RUNTIME_HOST, ids=lambda path: str(path.relative_to(HOST)))
def test_nothing_of_the_host_but_the_cli_imports_the_cli(path):
    # python -m scottbench is the command line under another name
    if HOST / "cli" not in path.parents and path != HOST / "__main__.py":
        assert "cli" not in ours(imports(path))


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS)
def test_a_plug_in_imports_the_host_and_its_own_siblings(folder):
    for path in (PLUGINS / folder).rglob("*.py"):
        foreign = {name.split(".")[0] for name in imports(path) if name.startswith("scottbench_")} - {folder}
        assert not foreign, f"{path} imports {foreign}"
        named = [name.split(".") for name in imports(path, types_too=True) if name.startswith("scottbench.")]
        rooms = {".".join(name[1:3]) for name in named if name[1] in ROOMS and name[1] not in FOR_PLUGINS}
        foreign_rooms = rooms - FOR_PLUGINS
        assert not foreign_rooms, f"{path} reaches into the host's flow"


@pytest.mark.parametrize("path", RUNTIME_HOST, ids=lambda path: str(path.relative_to(HOST)))
def test_the_host_names_no_plug_in_and_nothing_that_one_registers(path):
    """No import and no string of the host is the name of a bundled plug-in, method, trainer, metric, model or dataset.

    One exception: the name of the preset that `scottbench run` takes without -p.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = bundled_names() - {"precision", "folder", "open_clip"}  # also English words, and a library and its resize rule
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    from scottbench import DEFAULT_PRESET

    allowed = {DEFAULT_PRESET} if path == HOST / "__init__.py" else set()
    assert not (texts & names) - allowed
    assert not [text for text in texts if re.search(r"\bscottbench_\w", text)]
    assert not [name for name in imports(path) if name.startswith("scottbench_")]


SOCKETS = {"requests", "httpx", "urllib3", "http", "urllib.request", "aiohttp", "ftplib"}
DOWNLOADS = {"hf_hub_download", "snapshot_download", "get_hf_file_metadata", "HfApi"}


def test_nothing_but_fetch_can_open_a_socket():
    """Only the files of one folder import a library of the network, and only the verb `fetch` and its plan import those."""
    users, openers = set(), set()
    for path in [*HOST.rglob("*.py"), *(path for folder in PLUGIN_FOLDERS for path in (PLUGINS / folder).rglob("*.py"))]:
        text = path.read_text(encoding="utf-8")
        if not any(one in text for one in ("scottbench.store.fetch", *SOCKETS, *DOWNLOADS)):
            continue  # parsing all of them takes long
        names = set(imports(path))
        if any(name == one or name.startswith(f"{one}.") for name in names for one in SOCKETS) or DOWNLOADS & {
            name.rpartition(".")[2] for name in names
        }:
            openers.add(path.relative_to(ROOT).parent.as_posix())
        if any(name.startswith("scottbench.store.fetch") for name in names) and path.parent != HOST / "store" / "fetch":
            users.add(path.relative_to(HOST).as_posix())
    assert openers == {"scottbench/store/fetch"}
    assert users == {"cli/fetch.py", "plan/needs.py"}


def test_plug_in_folders_packages_and_entry_points_agree():
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    entry_points = PROJECT["project"]["entry-points"]["scottbench"]
    assert packages == ["scottbench", *(f"plugins/{folder}" for folder in PLUGIN_FOLDERS)]
    assert sorted(entry_points.values()) == PLUGIN_FOLDERS
    assert entry_points == {folder.removeprefix("scottbench_"): folder for folder in PLUGIN_FOLDERS}


def test_every_bundled_plug_in_loads_and_brings_something():
    plugins = load_plugins()
    bundled = [plugin for plugin in plugins.plugins if plugin.distribution == "scottbench"]
    assert sorted(plugin.target for plugin in bundled) == PLUGIN_FOLDERS
    assert [plugin.status for plugin in bundled] == ["ok"] * len(bundled)
    assert all(plugin.names for plugin in bundled)


def test_loading_all_plug_ins_imports_no_network_library():
    program = "import sys, scottbench.registry.loader as p; p.load_plugins(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not HEAVY & set(modules)


def test_every_kind_of_noun_has_a_hook_with_a_docstring():
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("register_")}
    assert set(hooks) == set(HOOKS)
    assert all(hook.__doc__ and hook.__doc__.strip() for hook in hooks.values())


def test_every_hook_has_a_bundled_user():
    used = {kind for plugin in load_plugins().plugins for kind, _ in plugin.names if plugin.distribution == "scottbench"}
    assert used == set(HOOKS.values())


def test_every_exit_code_of_an_error_is_documented():
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.ScottbenchError)]
    assert {cls.exit_code for cls in classes} <= set(errors.EXIT_CODES)


def test_every_dependency_says_why_it_is_there_and_none_is_pinned():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    block = lines[lines.index("dependencies = [") + 1 :]
    block = block[: block.index("]")]
    for line in block:
        assert re.fullmatch(r'    "[\w-]+>=[\d.]+(,<[\d.]+)?", +# .{10,}', line), line


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this tree, built as a user's pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP_WHEEL, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True, text=True, timeout=240)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_plug_in_with_its_assets_and_nothing_else_at_top_level(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"scottbench", *PLUGIN_FOLDERS}
    for folder in [HOST, *(PLUGINS / name for name in PLUGIN_FOLDERS)]:
        base = folder.parent
        files = [path.relative_to(base) for path in folder.rglob("*") if path.is_file()]
        wanted = {str(path) for path in files if "__pycache__" not in path.parts}
        assert wanted - set(names) == set()


def test_the_wheel_is_small_enough_to_ship(wheel):
    assert wheel.stat().st_size <= 90e6


def test_the_wheel_carries_licence_and_entry_points(wheel):
    archive = zipfile.ZipFile(wheel)
    (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    written = archive.read(f"{info}/entry_points.txt").decode()
    for folder in PLUGIN_FOLDERS:
        assert folder in written
