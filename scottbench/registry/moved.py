"""Say where a module or name of scottbench is now, to a plug-in that was written before the rooms; there are no aliases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import scottbench

ROOT = Path(__file__).parent.parent
MOVED = {
    "adversarial": "training.discriminator",
    "assets": "store.assets",
    "budget": "training.settings",
    "cells": "plan.cells",
    "checkpoint": "training.checkpoint",
    "claims": "registry.claims",
    "clock": "run.clock",
    "curve": "training.validation",
    "distillation": "training.distillation",
    "environment": "store.environment",
    "estimate": "run.estimate",
    "events": "store.events",
    "evidence": "stats.measured",
    "features": "models.extractors",
    "generate": "run.sample",
    "hookspecs": "registry.hookspecs",
    "identity": "store.differences",
    "inference": "stats.uncertainty",
    "inputs": "plan.inputs",
    "interruption": "training.signals",
    "intervals": "stats.intervals",
    "inventory": "run.chunks",
    "latents": "training.data",
    "lazy": "registry.lazy",
    "lock": "store.lock",
    "loop": "training.loop",
    "measure": "run.measure",
    "merge": "run.merge",
    "model": "models.diffusion_model",
    "names": "text",
    "noise": "models.noise",
    "nouns": "registry.nouns",
    "options": "registry.options",
    "pairs": "stats.paired",
    "pictures": "models.images",
    "plugins": "registry.loader",
    "presets": "registry.presets",
    "processes": "training.distributed",
    "record": "run.manifest",
    "report.files": "store.files",
    "report.inference": "report.pairs",
    "report.numbers": "text",
    "report.record": "store.record",
    "resolve": "plan.choices",
    "runs": "store.runs",
    "schemas": "store.schemas",
    "score": "run.score",
    "settings": "plan.request",
    "sharding": "training.distributed",
    "share": "run.worker",
    "steps": "plan.cells",
    "student": "models.student",
    "timings": "store.timings",
    "train": "training.train",
    "training_folder": "training.folder",
    "verdicts": "stats.verdicts",
    "verify": "store.verify",
    "weights": "store.weights",
    "workers": "run.processes",
}
"""Old module -> its place now, both below scottbench. Of a module that was split, the place of what bore its name."""
RENAMED = {"Cell": "CellFeatures"}
"""Old public name -> new one."""
PUBLIC = ("registry.nouns", "registry.hookspecs", "registry.lazy")
"""Modules whose names a plug-in takes from the public face."""
NAME_ASKED = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>scottbench[\w.]*)'")
ATTRIBUTE_ASKED = re.compile(r"module '(?P<module>scottbench[\w.]*)' has no attribute '(?P<name>\w+)'")


def moved(error: BaseException) -> str | None:
    """Say where the thing is now that an import of a plug-in did not find; None where the error is about something else."""
    if isinstance(error, ModuleNotFoundError):
        return _module((error.name or "").removeprefix("scottbench.")) if (error.name or "").startswith("scottbench.") else None
    asked = (NAME_ASKED if isinstance(error, ImportError) else ATTRIBUTE_ASKED).match(str(error))
    if asked is None:
        return None
    whole = f"{asked['module']}.{asked['name']}".removeprefix("scottbench.")
    return _module(whole) if whole in MOVED else _name(asked["module"], asked["name"])


def _module(old: str) -> str | None:
    """The line for a module: "scottbench.model is now scottbench.models.diffusion_model"."""
    new = MOVED.get(old)
    if new not in PUBLIC:
        return None if new is None else f"scottbench.{old} is now scottbench.{new}"
    # its own names first; an author who asks for one of these modules needs the others too
    names = dict.fromkeys(name for module in sorted(PUBLIC, key=lambda module: module != new) for name in _public_names(module))
    return f"scottbench.{old} is now: from scottbench import {', '.join(names)}"


def _name(module: str, name: str) -> str | None:
    """The line for a name: "scottbench.stats has no 'finite': from scottbench.metrics.checks import finite"."""
    new = RENAMED.get(name, name)
    if new in scottbench.__all__:
        return f"{module} has no '{name}': from scottbench import {new}"
    files = sorted(path for path in ROOT.rglob("*.py") if _defines(path, name))
    if not files:
        return None
    parts = files[0].relative_to(ROOT).with_suffix("").parts
    place = ".".join(["scottbench", *(part for part in parts if part != "__init__")])
    return f"{module} has no '{name}': from {place} import {name}"


def _public_names(module: str) -> Iterable[str]:
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return [name for name in scottbench.__all__ if _defines(path, name)]


def _defines(path: Path, name: str) -> bool:
    """Whether a file has a class, function or constant of that name at its top level; nothing is imported to find out."""
    pattern = rf"^(?:(?:class|def) {name}\b|{name}(?:: [^=]+)? = |from \S+ import {name} as {name}$)"
    return re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE) is not None
