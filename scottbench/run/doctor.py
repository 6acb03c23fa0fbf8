"""Checks of this machine and installation, each by itself, each with its remedy: the work behind `scottbench doctor`.

A check returns findings. If it raises, that is a finding too, so that no check costs another its answer. Nothing is written but temporary
files, and no socket is opened.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from scottbench.errors import MissingAsset, ScottbenchError
from scottbench.registry.loader import Plugins, load_plugins
from scottbench.run.finding import Finding
from scottbench.store.assets import cache_dir
from scottbench.store.environment import cores
from scottbench.text import bytes_in_words, count, in_one_line, one_line

PYTHON = (3, 11)
ISSUES = "https://github.com/scottbench/scottbench/issues"
DISTRIBUTION = "scottbench"
MEMORY = 1.5e9
"""Bytes that the default run needs: its peak is 1.30 GB."""
DISK = 100e6
"""Bytes that the default run leaves on disk: 83 MB by `scottbench plan`."""
ROOMY = 2e9
"""Bytes of disk below which a remark is due: several runs, or a training with its encoded split, may not fit."""

class NoTorch(Exception):
    """The check needs torch, which cannot be imported."""


class Visit:
    """One visit to a machine: things that several checks look at, each made once."""

    def __init__(self, preset: str) -> None:
        self.preset = preset
        """Name of the default preset, which must run."""

    @functools.cached_property
    def plugins(self) -> Plugins:
        """Load all plug-ins. Raises UsageError for a name in SCOTTBENCH_PLUGINS that is no plug-in's."""
        return load_plugins()

    @functools.cached_property
    def broken_torch(self) -> str | None:
        """Say why torch cannot be imported; None where it can."""
        try:
            importlib.import_module("torch")
        except Exception as error:  # a damaged installation raises anything: OSError of a library, AttributeError of a half-written file
            return f"{type(error).__name__}: {one_line(error)}"
        return None

    def need_torch(self) -> None:
        """Raise NoTorch where torch cannot be imported."""
        if self.broken_torch is not None:
            raise NoTorch


# --- installation ----------------------------------------------------------------------------------------------------


def python(visit: Visit) -> Iterator[Finding]:
    """Look at the version of Python."""
    words = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info[:2] < PYTHON:
        needed = ".".join(map(str, PYTHON))
        yield Finding("python", "problem", f"{words}; scottbench needs {needed} or newer.", f"Make an environment with Python {needed}.")
    else:
        yield Finding("python", "ok", f"{words}.")


def packages(visit: Visit) -> Iterator[Finding]:
    """Hold the installed packages against those that this version of scottbench asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "warning", "scottbench runs from a folder and is not installed: what it needs cannot be looked up.",
                      "Install it: pip install .")  # fmt: skip
        return
    wrong = []
    for requirement in (one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append((f"{requirement.name} is missing", requirement))
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append((f"{requirement.name} is {version}, needed is {requirement.specifier}", requirement))
    for found, requirement in wrong:
        yield Finding("packages", "problem", f"{found}.", f"pip install '{requirement.name}{requirement.specifier}'")
    if not wrong:
        version = importlib.metadata.version(DISTRIBUTION)
        yield Finding("packages", "ok", f"scottbench {version} has all packages that it needs.")


def torch(visit: Visit) -> Iterator[Finding]:
    """Import torch, and multiply two matrices."""
    broken = visit.broken_torch
    if broken is not None:
        yield Finding("torch", "problem", f"torch cannot be imported: {broken}.",
                      "Install it again: pip install --force-reinstall 'torch>=2.4'. Without a GPU the small build does: "
                      "https://pytorch.org/get-started/locally")  # fmt: skip
        return
    import torch as module

    module.ones(2, 2) @ module.ones(2, 2)
    built = f"built for CUDA {module.version.cuda}" if module.version.cuda else "built for CPUs"
    yield Finding("torch", "ok", f"torch {one_line(module.__version__)}, {built}.")


# --- machine ---------------------------------------------------------------------------------------------------------


def device(visit: Visit) -> Iterator[Finding]:
    """Name the processor and the GPUs that torch can use, and compute once on each GPU."""
    visit.need_torch()
    import torch as module

    from scottbench.store.environment import processor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old: said below
        usable = module.cuda.is_available()
    if not usable:
        yield Finding("device", "ok", f"CPU: {one_line(processor())}. No GPU is needed for the embedded presets.")
        if module.version.cuda and (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()):
            yield Finding("device", "warning", "An NVIDIA driver is installed, but torch can use no GPU.",
                          f"Its driver may be older than CUDA {module.version.cuda} needs, or CUDA_VISIBLE_DEVICES hides the GPU: "
                          "nvidia-smi says which.")  # fmt: skip
        return
    for index in range(module.cuda.device_count()):
        name, memory = module.cuda.get_device_name(index), module.cuda.get_device_properties(index).total_memory
        try:
            float(module.ones(8, 8, device=f"cuda:{index}").sum())
        except RuntimeError as error:
            yield Finding("device", "problem", f"GPU {index}, {one_line(name)}, does not compute: {one_line(error)[:200]}.",
                          "Use --device cpu, or a torch that was built for this GPU.")  # fmt: skip
        else:
            yield Finding("device", "ok", f"GPU {index}: {one_line(name)}, {bytes_in_words(memory)}.")


def threads(visit: Visit) -> Iterator[Finding]:
    """Hold torch's threads against the cores, and look at what else the machine does."""
    visit.need_torch()
    import torch as module

    used, here = module.get_num_threads(), cores()
    if used > here:
        yield Finding("threads", "problem", f"torch takes {used} threads on {count(here, 'core')}: they wait for each other, "
                      "and a run takes many times as long.", f"export OMP_NUM_THREADS={here}")  # fmt: skip
    else:
        yield Finding("threads", "ok", f"{count(used, 'thread')} on {count(here, 'core')}.")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > here * 1.2:
        yield Finding("load", "warning", f"The machine is busy, load {load:.1f} on {count(here, 'core')}: runs are slow now, and their "
                      "ms/image say little.", "Wait, or stop other programs, before you compare times. No other number "
                      "changes.")  # fmt: skip


def free_memory() -> int | None:
    """Return the bytes of memory that a new process can have, by the kernel and the control group; None where nobody tells."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no control group, or "max"
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found) if found else None


def memory(visit: Visit) -> Iterator[Finding]:
    """Hold free memory against what the default run takes."""
    free = free_memory()
    if free is None:
        yield Finding("memory", "skipped", "This system does not say how much memory is free.")
    elif free < MEMORY:
        yield Finding("memory", "problem", f"{bytes_in_words(free)} of memory are free; the default run takes 1.3 GB.",
                      "Stop other programs. A smaller --batch-size saves memory where images are large.")  # fmt: skip
    else:
        yield Finding("memory", "ok", f"{bytes_in_words(free)} of memory are free.")


# --- disk ------------------------------------------------------------------------------------------------------------


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def _named(folder: Path) -> str:
    """A folder for the eye: the home folder as ~, a slash at the end."""
    text = one_line(folder)
    home = str(Path.home())
    return ("~" + text[len(home) :] if text.startswith(home + os.sep) else text) + os.sep


def _place(check: str, what: str, folder: Path, move: str) -> Iterator[Finding]:
    """Look whether a folder can be written, and has room."""
    place = _nearest(folder)
    if not place.is_dir():
        yield Finding(check, "problem", f"{what} cannot go to {_named(folder)}: {one_line(place)} is no folder.", move)
        return
    try:
        with tempfile.TemporaryFile(dir=place) as stream:
            stream.write(b"0" * 4096)
            stream.flush()
    except OSError as error:
        yield Finding(check, "problem", f"{what} cannot go to {_named(folder)}: {error.strerror}.", move)
        return
    free = shutil.disk_usage(place).free
    words = f"{what} go to {_named(folder)}, {bytes_in_words(free)} free."
    if free < DISK:
        yield Finding(check, "problem", f"{words} The default run leaves 83 MB.", f"Free some space. {move}")
    elif free < ROOMY:
        yield Finding(check, "warning", words, f"Enough for a run, not for many: scottbench plan says how much each takes. {move}")
    else:
        yield Finding(check, "ok", words)


def disk(visit: Visit) -> Iterator[Finding]:
    """Look at the folder of the runs and at that of temporary files."""
    yield from _place("disk", "Runs", Path("runs"), "Run elsewhere, or name another folder: scottbench run -o FOLDER")
    try:
        Path(tempfile.gettempdir())
    except OSError:
        yield Finding("disk", "problem", "No folder of temporary files can be written.", "export TMPDIR=FOLDER")


def cache(visit: Visit) -> Iterator[Finding]:
    """Look at the folder of large files: weights, data and encoded training splits."""
    yield from _place("cache", "Large files", cache_dir(), "export SCOTTBENCH_CACHE=FOLDER")


# --- plug-ins and assets ---------------------------------------------------------------------------------------------


def plugins(visit: Visit) -> Iterator[Finding]:
    """Load every plug-in."""
    found = visit.plugins
    for plugin in found.broken:
        status = one_line(plugin.status.removeprefix("BROKEN: ")).rstrip(".")
        yield Finding("plug-ins", "problem", f"'{plugin.name}' of {plugin.distribution} {plugin.version}: {status}. The others work.",
                      f"{_how_to_mend(status)} Without it: --no-plugin {plugin.name}")  # fmt: skip
    for remark in found.remarks:
        yield Finding("plug-ins", "warning", in_one_line(remark), "Tell its author.")
    whole = len(found.plugins) - len(found.broken)
    if whole == 0:
        yield Finding("plug-ins", "problem", "No plug-in is installed: nothing can be sampled or measured.",
                      "Install scottbench again: pip install --force-reinstall .")  # fmt: skip
    elif not found.broken:
        yield Finding("plug-ins", "ok", f"{count(whole, 'plug-in')}, all of which load.")


def _how_to_mend(status: str) -> str:
    """Name the line that installs a package which a plug-in lacks, as far as its error says which."""
    for mark in ("No module named '", "No module named "):
        if mark in status:
            name = status.partition(mark)[2].split("'")[0].split(".")[0].split(" ")[0]
            return f"pip install {name}, or what its author names."
    return "Update it, or tell its author."


def assets(visit: Visit) -> Iterator[Finding]:
    """Open weights, data and students of every preset as a run would, and compare their digests."""
    visit.need_torch()
    from scottbench.models.importing import importing

    with importing():
        from scottbench.plan.choices import choose
        from scottbench.plan.inputs import open_inputs
    from scottbench.plan.request import RunRequest

    found = visit.plugins
    if visit.preset not in found.nouns["preset"]:
        yield Finding("assets", "problem", f"The default preset, {visit.preset}, is not here: its plug-in is broken or left out.",
                      "See what is said of the plug-ins.")  # fmt: skip
    for name in found.nouns["preset"]:
        try:
            open_inputs(found, choose(found, RunRequest(preset=name)))
        except MissingAsset as error:
            yield _lacking(name, error, name == visit.preset)
        except ScottbenchError as error:
            yield Finding("assets", "problem" if name == visit.preset else "warning", f"Preset {name}: {in_one_line(error)}",
                          f"scottbench show preset {name}")  # fmt: skip
        else:
            yield Finding("assets", "ok", f"Preset {name}: weights, data and students are here and have their digests.")


def _lacking(name: str, error: MissingAsset, needed: bool) -> Finding:
    """The finding of a preset whose files are absent or damaged."""
    lines = [line.strip() for line in str(error).splitlines()]
    things = [line.partition("  fetch: ")[0] for line in lines[1:]] or lines
    fetch = next((line.partition("  fetch: ")[2] for line in lines if "  fetch: " in line), "")
    first = "; ".join(in_one_line(thing) for thing in things[:2]) + (f"; and {len(things) - 2} more" if len(things) > 2 else "")
    if needed:
        fix = fetch if fetch else "The package is not whole. Install it again: pip install --force-reinstall ."
        return Finding("assets", "problem", f"Preset {name} cannot run: {first}.", fix)
    return Finding("assets", "warning", f"Preset {name} needs files that are not here: {first}.",
                   f"If you want it: scottbench plan -p {name} names each file and the line that fetches it.")  # fmt: skip


# --- all of them -----------------------------------------------------------------------------------------------------


def self_test(visit: Visit) -> Iterator[Finding]:
    """Make a few images again and in other company, and compare their bytes."""
    visit.need_torch()
    from scottbench.run.self_test import determinism

    yield determinism(visit.plugins, visit.preset)


CHECKS: dict[str, Callable[[Visit], Iterator[Finding]]] = {
    "python": python, "packages": packages, "torch": torch, "device": device, "threads": threads, "memory": memory, "disk": disk,
    "cache": cache, "plug-ins": plugins, "assets": assets, "determinism": self_test,
}  # fmt: skip
"""All checks in the order of the page: installation, machine, disk, plug-ins, and last what takes time."""


def examine(name: str, check: Callable[[Visit], Iterator[Finding]], visit: Visit) -> list[Finding]:
    """Run one check. Whatever it raises becomes a finding; Ctrl-C alone gets through."""
    began = time.perf_counter()
    found: list[Finding] = []
    try:
        found += check(visit)
    except NoTorch:
        found.append(Finding(name, "skipped", "Not tried: torch is missing.", "Mend torch first."))
    except ScottbenchError as error:
        found.append(Finding(name, "problem", in_one_line(error)))
    except (Exception, SystemExit) as error:
        found.append(Finding(name, "problem", f"This check itself failed, {type(error).__name__}: {one_line(error)}.",
                             f"Tell us, with these lines: {ISSUES}"))  # fmt: skip
    seconds = round(time.perf_counter() - began, 3)
    return [Finding(one.check, one.status, one.found, one.fix, seconds) for one in found]


def examined(preset: str) -> Iterator[Finding]:
    """Run all checks; a check's findings come as soon as it is done. preset: name of the one that must run."""
    visit = Visit(preset)
    for name, check in CHECKS.items():
        yield from examine(name, check, visit)
