"""The weights and data that a run asks for, found, opened and checked: model, items, extractors, students, model card."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.student import PLAIN
from scottbench.plan import device as devices
from scottbench.plan.cells import PlannedMethod
from scottbench.plan.choices import Choices, check_guidance, check_scan, own_guidance
from scottbench.plan.published import student_options
from scottbench.registry.presets import Preset
from scottbench.store.assets import Needed, gather, offline, require
from scottbench.store.environment import flush_denormals
from scottbench.store.files import check_name, read_object
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.models.diffusion_model import DiffusionModel
    from scottbench.models.extractors import Source
    from scottbench.registry.loader import Plugins
    from scottbench.registry.nouns import Items, Method

PICKLED = {".bin", ".ckpt", ".pt", ".pth"}
"""Checkpoints in Python's pickle format, which may hold code."""


@dataclass(frozen=True)
class Inputs:
    """Everything that a run reads, opened or found on this machine, with its digests."""

    model_name: str
    model: DiffusionModel
    items: Items
    n: int
    """Items of the run: the first n of the evaluation split."""
    methods: list[PlannedMethod]
    sources: dict[str, Source]
    """Extractor role -> where its network is; a role that is the same as another is not in it."""
    model_card: dict | None


def open_inputs(plugins: Plugins, choices: Choices) -> Inputs:
    """Open model and items, find extractors, students and model card, and check them; no socket is opened.

    Raises MissingAsset or DamagedAsset, one message for all files; UsageError for a model, limit or guidance that cannot be meant.
    """
    preset = choices.preset
    sources = {role: functools.partial(find_source, preset, role) for role in dict.fromkeys(choices.roles.values())}
    flush_denormals()
    with offline():
        found = gather({
            "model": lambda: open_model(plugins, preset, choices.request, choices.device),
            "items": lambda: choices.dataset.open("evaluation"),
            "students": lambda: find_students(choices),
            "card": lambda: model_card(preset),
            **{f"extractor {role}": find for role, find in sources.items()},
        })  # fmt: skip
        (name, model), items = found["model"], found["items"]
        methods = with_weights(choices, found["students"], model.digest)
        admit_students(methods, model)
    n = count(items, choices.request.limit, preset.dataset)
    return Inputs(name, model, items, n, methods, {role: found[f"extractor {role}"] for role in sources}, found["card"])


class ModelRequest(Protocol):
    """A request that may name a model in place of the preset's: that of a run, or of a training."""

    @property
    def model(self) -> str | None:
        """Name of a model, or path of a diffusers pipeline folder; None for the preset's."""

    @property
    def allow_unsafe_checkpoint(self) -> bool:
        """Read pickled weights of a `model` folder that has no safetensors."""


def open_model(plugins: Plugins, preset: Preset, request: ModelRequest, device: str) -> tuple[str, DiffusionModel]:
    """Open the teacher, a registered one or a pipeline folder, and say what it is called.

    Raises UsageError: an unknown name, or pickled weights; MissingAsset or DamagedAsset.
    """
    dtype = devices.choose_dtype(preset, device)
    name = preset.model if request.model is None else request.model
    if name not in plugins.nouns["model"] and request.model is not None:
        folder = Path(request.model).expanduser()
        if folder.is_dir():
            from scottbench.models.pipeline import open_pipeline

            return one_line(folder.resolve().name), open_pipeline(
                folder, device, dtype, allow_unsafe=request.allow_unsafe_checkpoint)
        if folder.suffix in PICKLED and folder.is_file():
            raise UsageError(
                f"--model {one_line(request.model)}: a pickled checkpoint can run code when it is read. Convert it to a diffusers pipeline "
                "folder with safetensors, and give that folder.")
        if os.sep in request.model or request.model.startswith((".", "~")):
            raise MissingAsset(f"no folder {request.model}: --model takes a name (scottbench list models) or a diffusers pipeline folder.")
    return name, plugins.find("model", name).noun.open(device, dtype)


def find_source(preset: Preset, role: str) -> Source:
    """Find the network of an extractor role. Raises MissingAsset or DamagedAsset."""
    from scottbench.models.extractors import find_extractor

    return find_extractor(preset.extractors[role], preset.path)


def find_students(choices: Choices) -> dict[str, Path]:
    """Return {name of a student: its folder}, where each has a student.json. Raises MissingAsset or DamagedAsset."""
    from scottbench.models.student import read_student

    request, preset = choices.request, choices.preset
    needed = {choice.student: choice.method for choice in choices.methods if choice.student is not None}
    folders, absent = {}, []
    for name, method in needed.items():
        if name in request.students:
            folders[name] = Path(request.students[name]).expanduser()
        elif name in preset.students:
            folders[name] = preset.path(preset.students[name])
        else:
            absent.append(
                f"method '{method.name}' samples a student of trainer '{method.trainer}', and preset '{preset.name}' has none. "
                f"Make one: scottbench train {method.trainer} --preset {preset.name}; then add --student {method.trainer}=FOLDER")
    if absent:
        raise MissingAsset("\n".join(absent))
    gather({
        name: functools.partial(read_student, folder, maker(needed[name], preset))
        for name, folder in folders.items()
    })
    return folders


def maker(method: Method, preset: Preset) -> str:
    """Return the line, but for --out, that would make a student for a method."""
    trained = f"scottbench train {method.trainer} --preset {preset.name}"
    return trained if method.trainer is not None else f"scottbench adopt FILE --as {PLAIN}"


def with_weights(choices: Choices, folders: dict[str, Path], teacher: str) -> list[PlannedMethod]:
    """Give each method its weights: its student's, checked and hashed here, or the teacher's, whose digest `teacher` is.

    Raises MissingAsset or DamagedAsset, one message for all students; UsageError for a guidance scale that a student does not know.
    """
    from scottbench.models.student import check_student

    trainers = {choice.student: choice.trainer for choice in choices.methods}
    facts = gather({
        name: functools.partial(check_student, folders[name], trainer, teacher)
        for name, trainer in trainers.items() if name is not None
    })  # fmt: skip
    planned = []
    for choice in choices.methods:
        label, found, folder, digest, guidance = str(choice.label), None, None, teacher, choice.guidance
        options = choice.options
        if choice.student is not None:
            found, folder = facts[choice.student], folders[choice.student]
            digest = found["weights_digest"]
            guidance = own_guidance(choice, found)
            check_guidance(label, guidance, found)
            options = student_options(choice, found, folder)
        planned.append(PlannedMethod(label, choice.method, options, guidance, folder, found, digest, choice.steps))
    for method in planned:
        if method.facts is not None:
            check_scan(method.label, {other.guidance for other in planned if other.student == method.student}, method.facts)
    return planned


def admit_students(methods: Sequence[PlannedMethod], model: DiffusionModel) -> None:
    """Check that the U-Net of each student fits its teacher, before anything is computed. Raises DamagedAsset or Unfit, one for all."""
    from scottbench.models.admission import admit_student

    folders = dict.fromkeys(method.student for method in methods if method.student is not None)
    gather({str(folder): functools.partial(admit_student, folder, model) for folder in folders})


def doubts(methods: Sequence[PlannedMethod], model: DiffusionModel) -> list[str]:
    """Warn, a line each, of a model or of guidance scales that can be used, but seldom are meant."""
    lines = list(model.warnings)
    for method in methods:
        if method.student is None and not model.takes_guidance and 0 <= method.guidance < 1:
            lines.append(
                f"guidance scale {method.guidance:g} of method '{method.label}': s = 1 is unguided, s = 0 leaves the prompt out. "
                f"Usual scales are above 1.")
    for folder in dict.fromkeys(method.student for method in methods if method.student is not None):
        users = [method for method in methods if method.student == folder]
        if len({method.noun.name for method in users}) > 1 and len({method.guidance for method in users}) > 1:
            scales = ", ".join(f"'{method.label}' with {method.guidance:g}" for method in users)
            lines.append(f"one student is sampled with several guidance scales ({scales}): metrics compare the scales too.")
    return lines


def model_card(preset: Preset) -> dict | None:
    """Read the preset's JSON file of measured quality, if it names one. Raises MissingAsset or DamagedAsset."""
    if preset.model_card is None:
        return None
    path = preset.path(preset.model_card)
    require(f"model card of preset '{preset.name}'", [Needed(path)])
    return read_object(path, lambda error: DamagedAsset(f"model card {path} cannot be read: {one_line(error)}. Restore the file."))


def count(items: Items, limit: int | None, dataset: str) -> int:
    """Count the items of the run and check them: ids are unique and safe as file names, prompts are not empty. Raises UsageError."""
    size = len(items.ids)
    if limit is not None and limit > size:
        raise UsageError(f"--limit {limit}: the evaluation split of dataset '{dataset}' has {size} items; allowed: 1 to {size}.")
    n = size if limit is None else limit
    ids: Sequence[str] = items.ids[:n]
    for item_id in ids:
        check_name(item_id, f"item id of dataset '{dataset}'")
    if len(set(ids)) < n:
        raise UsageError(f"dataset '{dataset}' has two items of one id; ids must be unique.")
    blank = [item_id for item_id, prompt in zip(ids, items.prompts[:n]) if not prompt.strip()]
    if blank:
        raise UsageError(f"dataset '{dataset}' has {len(blank)} items without a prompt (the first is '{blank[0]}'). Leave them out of it.")
    return n
