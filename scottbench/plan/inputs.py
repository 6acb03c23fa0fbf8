"""The weights and data that a run asks for, found and checked: model, extractors, students, model card, items."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.plan.choices import Asked
from scottbench.plan.device import choose_dtype
from scottbench.registry.presets import Preset
from scottbench.store.assets import Needed, gather, require
from scottbench.store.files import check_name, read_object
from scottbench.text import did_you_mean, one_line

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.models.extractors import Source
    from scottbench.plan.request import RunRequest
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Items

PICKLED = {".bin", ".ckpt", ".pt", ".pth"}
"""Checkpoints in Python's pickle format, which may hold code."""


def open_model(plugins: Plugins, preset: Preset, request: RunRequest, device: str) -> tuple[str, DiffusionModel]:
    name = preset.model if request.model is None else request.model
    if name not in plugins.nouns["model"] and request.model is not None:
        folder = Path(request.model).expanduser()
        if folder.is_dir():
            from scottbench.models.pipeline import open_pipeline

            return one_line(folder.resolve().name), open_pipeline(
                folder, device, choose_dtype(preset, device), allow_unsafe=request.allow_unsafe_checkpoint)
        if folder.suffix in PICKLED and folder.is_file():
            raise UsageError(
                f"--model {one_line(request.model)}: a pickled checkpoint can run code when it is read. Convert it to a diffusers pipeline "
                "folder with safetensors, and give that folder.")
        if os.sep in request.model or request.model.startswith((".", "~")):
            raise MissingAsset(f"no folder {request.model}: --model takes a name (scottbench list models) or a diffusers pipeline folder.")
    return name, plugins.find("model", name).noun.open(device, choose_dtype(preset, device))


def find_source(preset: Preset, role: str) -> Source:
    from scottbench.models.extractors import find_extractor

    return find_extractor(preset.extractors[role], preset.path)


def check_students(plugins: Plugins, request: RunRequest, methods: list[Asked]) -> None:
    """Every student folder that the user names is sampled by a method of this run, and by methods of one trainer only."""
    users: dict[str, set[str]] = {}
    for asked in methods:
        if asked.student is not None:
            users.setdefault(asked.student, set()).add(asked.noun.trainer)
    for name in request.students:
        if name in users:
            if len(users[name]) > 1:
                trainers = ", ".join(sorted(users[name]))
                raise UsageError(f"student '{one_line(name)}' is asked for by methods of different trainers: {trainers}.")
        elif name in plugins.nouns["trainer"]:
            raise UsageError(f"--student {name}=...: no method of this run samples a student of trainer '{name}'.")
        else:
            raise UsageError(
                f"--student {one_line(name)}=...: unknown trainer '{one_line(name)}', and no method of this run names a student so."
                f"{did_you_mean(name, [*plugins.nouns['trainer'], *users])} A student of any name is sampled by METHOD@student=NAME.")


def find_students(preset: Preset, request: RunRequest, methods: list[Asked]) -> dict[str, Path]:
    """Name of a student -> its folder, which is there."""
    from scottbench.models.student import read_student

    needed = {asked.student: asked.noun for asked in methods if asked.student is not None}
    folders, absent = {}, []
    for name, noun in needed.items():
        if name in request.students:
            folders[name] = Path(request.students[name]).expanduser()
        elif name in preset.students:
            folders[name] = preset.path(preset.students[name])
        else:
            absent.append(f"method '{noun.name}' samples a student of trainer '{noun.trainer}', and preset '{preset.name}' has none. "
                          f"Make one: scottbench train {noun.trainer} --preset {preset.name}; then add --student {noun.trainer}=FOLDER")
    if absent:
        raise MissingAsset("\n".join(absent))
    gather({
        name: lambda folder=folder, line=f"scottbench train {needed[name].trainer} --preset {preset.name}": read_student(folder, line)
        for name, folder in folders.items()
    })
    return folders


def model_card(preset: Preset) -> dict | None:
    """The preset's JSON file of measured quality, if it names one."""
    if preset.model_card is None:
        return None
    path = preset.path(preset.model_card)
    require(f"model card of preset '{preset.name}'", [Needed(path)])
    return read_object(path, lambda error: DamagedAsset(f"model card {path} cannot be read: {one_line(error)}. Restore the file."))


def count(items: Items, limit: int | None, dataset: str) -> int:
    """Number of items of the run, whose ids are checked: unique, and safe as file names."""
    size = len(items.ids)
    if limit is not None and limit > size:
        raise UsageError(f"--limit {limit}: the evaluation split of dataset '{dataset}' has {size} items; allowed: 1 to {size}.")
    n = size if limit is None else limit
    for item_id in items.ids[:n]:
        check_name(item_id, f"item id of dataset '{dataset}'")
    if len(set(items.ids[:n])) < n:
        raise UsageError(f"dataset '{dataset}' has two items of one id; ids must be unique.")
    blank = [item_id for item_id, prompt in zip(items.ids[:n], items.prompts[:n]) if not prompt.strip()]
    if blank:
        raise UsageError(f"dataset '{dataset}' has {len(blank)} items without a prompt (the first is '{blank[0]}'). Leave them out of it.")
    return n
