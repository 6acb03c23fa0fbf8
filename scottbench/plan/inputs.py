"""The weights and data that a run asks for, found, opened and checked: model, items, extractors, students, model card."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.student import PLAIN
from scottbench.plan import device as devices
from scottbench.plan.cells import PlannedMethod
from scottbench.plan.choices import Choices, ExtractorChoice, check_guidance, check_scan, own_guidance
from scottbench.plan.data import DataChoice
from scottbench.plan.pictures import (
    Reference,
    Scored,
    ScoredItems,
    as_method,
    long_prompts,
    open_scored,
    remarks_of,
    rows_of_run,
)
from scottbench.plan.published import student_options
from scottbench.registry.label import Label
from scottbench.registry.presets import Preset
from scottbench.store.assets import Needed, gather, offline, require
from scottbench.store.environment import flush_denormals, set_tf32
from scottbench.store.files import check_name, read_object
from scottbench.store.pictures import safe_id
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
    model: DiffusionModel | None
    """None where no method is sampled: all rows are pictures made elsewhere."""
    data_name: str
    items: Items
    n: int
    """Items of the run: the first n of the evaluation split."""
    reference: Reference | None
    """The real images; None where pictures are scored by their prompts alone."""
    methods: list[PlannedMethod]
    sources: dict[str, Source]
    """Extractor role -> where its network is; a role that is the same as another is not in it."""
    model_card: dict | None
    recorded: dict | None
    remarks: list[str] = field(default_factory=list)
    """Lines for the user about the data."""
    broken: list[str] = field(default_factory=list)
    """A line for each place of which pictures could not be read and were left out."""


def open_inputs(plugins: Plugins, choices: Choices) -> Inputs:
    """Open model and items, find extractors, students and model card, and check them; no socket is opened.

    Raises MissingAsset or DamagedAsset, one message for all files; UsageError for a model, limit or guidance that cannot be meant.
    """
    if choices.request.scoring:
        return _of_pictures(choices)
    preset = choices.preset
    sources = {role: functools.partial(find_source, preset, choice) for role, choice in choices.extractors.items()}
    flush_denormals()
    set_tf32(choices.request.tf32 == "on")
    with offline():
        found = gather({
            "model": lambda: open_model(plugins, preset, choices.request, choices.device),
            "items": lambda: choices.dataset.open("evaluation"),
            "reference": lambda: _apart(choices),
            "students": lambda: find_students(choices),
            "card": lambda: preset_record(preset, "model card", preset.model_card),
            "recorded": lambda: recorded_rows(preset),
            **{f"extractor {role}": find for role, find in sources.items()},
        })  # fmt: skip
        (name, model), items = found["model"], found["items"]
        methods = with_weights(choices, found["students"], model.digest)
        admit_students(methods, model)
    n = count(items, choices.request.limit, choices.dataset.name)
    rows = rows_of_run(choices.request.pictures, items, n, choices.dataset.name)
    methods += [as_method(label, pictures) for label, pictures in rows.items()]
    remarks = [*getattr(items, "remarks", []), *left_out(choices), *remarks_of(rows), *long_prompts(items, n)]
    card = found["card"] if choices.dataset.own else None
    return Inputs(name, model, choices.dataset.name, items, n, _real(choices, items, n, found["reference"]), methods,
                  {role: found[f"extractor {role}"] for role in sources}, card, found["recorded"], remarks)  # fmt: skip


def _apart(choices: Choices) -> Items | None:
    """The reference images of a run that are a set of their own."""
    chosen = choices.reference
    return None if chosen is None or chosen is choices.dataset else open_reference(chosen)


def _real(choices: Choices, items: Items, n: int, apart: Items | None) -> Reference | None:
    """The reference images of a run of the first n items. apart: of `_apart`."""
    if choices.reference is None:
        return None
    if apart is None:
        return Reference(items, n)
    return Reference(apart, count(apart, None, choices.reference.name, prompts=False), choices.reference.name, own=True)


def left_out(choices: Choices) -> list[str]:
    """Tell, in a line or none, which of the preset's metrics a run leaves out, since its data have no images to compare with."""
    if choices.reference is not None or choices.request.metrics is not None:
        return []
    kept = {str(choice.label) for choice in choices.metrics}
    names = [name for name in choices.preset.metrics if str(Label.parse(name)) not in kept]
    line = (f"left out: {', '.join(names)}, which compare with reference images; dataset '{choices.dataset.name}' has prompts alone "
            "(--reference NAME gives it some)")  # fmt: skip
    return [line] if names else []


def _of_pictures(choices: Choices) -> Inputs:
    """The inputs of pictures that are scored by themselves: their items and reference, and extractors. Raises as `open_inputs`."""
    request = choices.request
    flush_denormals()
    set_tf32(request.tf32 == "on")
    with offline():
        found = gather({role: functools.partial(find_source, choices.preset, choice) for role, choice in choices.extractors.items()})
        reference = None
        if request.reference is not None:
            items = open_reference(choices.dataset)
            reference = Reference(items, len(items.ids), choices.dataset.name)
        scored = open_scored(request.pictures, request.prompts, reference)
    n = count(scored.items, request.limit, scored.name) if request.limit is not None else count(scored.items, _n(scored), scored.name)
    rows = {label: pictures.at(range(n)) for label, pictures in scored.rows.items()}
    real = scored.reference if scored.reference is None or scored.reference.own else dataclasses.replace(scored.reference, n=n)
    remarks = [*scored.broken, *scored.remarks, *getattr(scored.items, "remarks", []), *remarks_of(rows), *long_prompts(scored.items, n)]
    return Inputs("", None, scored.name, scored.items, n, real, [as_method(label, one) for label, one in rows.items()],
                  dict(found), None, None, remarks, scored.broken)  # fmt: skip


def _n(scored: Scored) -> int:
    """Items that all rows have: of a dataset they may be the first of many."""
    return min(len(pictures) for pictures in scored.rows.values())


def open_reference(choice: DataChoice) -> Items:
    """Open real images to compare with: a dataset, or a folder of pictures, which need no captions and may differ in size. Raises
    DamagedAsset for a picture that cannot be read."""
    if not choice.dataset.path_option:
        return choice.open("evaluation")
    from scottbench.models.pictures import open_pictures

    opened = open_pictures(getattr(choice.options, choice.dataset.path_option), needs_captions=False).pictures
    if opened.broken:
        name, why = next(iter(opened.broken.items()))
        raise DamagedAsset(f"--reference {opened.place}/{one_line(name)} {why}. Put a whole picture in its place, or take it away.")
    ids = [one if one else f"{number:06d}" for number, one in enumerate(opened.ids)]
    if len(set(ids)) < len(ids):
        ids = [safe_id(str(Path(entry.name).with_suffix(""))) for entry in opened.entries]
    named = opened.at(range(len(opened)), ids)
    return ScoredItems(ids, [""] * len(ids), named, range(len(ids)), named.digest)


class ModelRequest(Protocol):
    """A request that may name a model in place of the preset's: that of a run, or of a training."""

    @property
    def model(self) -> str | None:
        """Name of a model, or path of a diffusers pipeline folder; None for the preset's."""

    @property
    def allow_unsafe_checkpoint(self) -> bool:
        """Read pickled weights of a `model` folder that has no safetensors."""


def model_name(preset: Preset, request: ModelRequest) -> str:
    """Return the name, or the folder, of the model that was asked for, else the preset's."""
    return preset.model if request.model is None else request.model


def open_model(plugins: Plugins, preset: Preset, request: ModelRequest, device: str) -> tuple[str, DiffusionModel]:
    """Open the teacher, a registered one or a pipeline folder, and say what it is called.

    Raises UsageError: an unknown name, or pickled weights; MissingAsset or DamagedAsset.
    """
    dtype = devices.choose_dtype(preset, device)
    name = model_name(preset, request)
    if plugins.named("model", name) is None and request.model is not None:
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


def find_source(preset: Preset, choice: ExtractorChoice) -> Source:
    """Find the network of an extractor role. Raises MissingAsset or DamagedAsset."""
    from scottbench.models.extractors import find_extractor

    return find_extractor(choice.extractor, choice.spec, preset.path)


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
        elif name in preset.adopted:
            folders[name] = preset.path(preset.published[name].folder)
        else:
            absent.append(
                f"method '{method.name}' samples a student of trainer '{method.trainer}', and preset '{preset.name}' has none. "
                f"Make one: scottbench train {method.trainer} --preset {preset.name}; then add --student {method.trainer}=FOLDER")
    if absent:
        raise MissingAsset("\n".join(absent))
    gather({
        name: functools.partial(read_student, folder, maker(name, needed[name], choices))
        for name, folder in folders.items()
    })
    return folders


def maker(student: str, method: Method, choices: Choices) -> str:
    """Return the line, but for --out, that would make a student for a method."""
    preset, sizes = choices.preset, choices.dataset.dataset.sizes
    if student in preset.adopted:
        return f"scottbench fetch {preset.name} && {preset.published[student].line(student)}"
    trained = f"scottbench train {method.trainer} --preset {preset.name}"
    trained += " --dataset NAME" if sizes and "train" not in sizes else ""  # the preset's data are for evaluation alone
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


def doubts(methods: Sequence[PlannedMethod], model: DiffusionModel | None) -> list[str]:
    """Warn, a line each, of a model or of guidance scales that can be used, but seldom are meant. model: None where none is sampled."""
    if model is None:
        return []
    lines, methods = list(model.warnings), [method for method in methods if method.pictures is None]
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


def preset_record(preset: Preset, what: str, file: str | None) -> dict | None:
    """Read one of the preset's JSON files for the report, if it names it. what: "model card". Raises MissingAsset or DamagedAsset."""
    if file is None:
        return None
    path = preset.path(file)
    require(f"{what} of preset '{preset.name}'", [Needed(path)])
    return read_object(path, lambda error: DamagedAsset(f"{what} {path} cannot be read: {one_line(error)}. Restore the file."))


def recorded_rows(preset: Preset) -> dict | None:
    """Read the rows of a published run that the preset brings, if it does. Raises MissingAsset or DamagedAsset."""
    from scottbench.store.schemas import violations

    found = preset_record(preset, "recorded rows", preset.recorded)
    wrong = [] if found is None else violations(found)
    if wrong:
        raise DamagedAsset(f"recorded rows {preset.path(str(preset.recorded))} are none ({one_line(wrong[0])}). Restore the file.")
    return found


def count(items: Items, limit: int | None, dataset: str, prompts: bool = True) -> int:
    """Count the items of the run and check them: ids are unique and safe as file names, prompts, if they count, are not empty. Raises
    UsageError."""
    size = len(items.ids)
    if limit is not None and limit > size:
        raise UsageError(f"--limit {limit}: the evaluation split of dataset '{dataset}' has {size} items; allowed: 1 to {size}.")
    n = size if limit is None else limit
    ids: Sequence[str] = items.ids[:n]
    for item_id in ids:
        check_name(item_id, f"item id of dataset '{dataset}'")
    if len(set(ids)) < n:
        raise UsageError(f"dataset '{dataset}' has two items of one id; ids must be unique.")
    blank = [item_id for item_id, prompt in zip(ids, items.prompts[:n]) if prompts and not prompt.strip()]
    if blank:
        raise UsageError(f"dataset '{dataset}' has {len(blank)} items without a prompt (the first is '{blank[0]}'). Leave them out of it.")
    return n
