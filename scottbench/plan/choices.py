"""From what the user wrote to what is meant: names to methods and metrics, text to options and numbers. Nothing here touches a file.

Where guidance comes from: NAME@guidance= or --guidance, else the preset's [guidance] for the method, else for the student that it
samples (that of the trainer of this name, so that two methods of one student are not compared at two scales), else the method's own. Words
that the host itself understands after a method's @ are in `OF_HOST`; all others are options of the method.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.models.student import PLAIN
from scottbench.plan import device
from scottbench.plan.data import DataChoice, choose_data, choose_reference
from scottbench.plan.pictures import check_rows
from scottbench.registry.label import Label
from scottbench.registry.nouns import Extractor, Method, Metric
from scottbench.registry.options import make_options, options_of
from scottbench.registry.presets import Preset
from scottbench.text import did_you_mean, one_line

if TYPE_CHECKING:
    from scottbench.plan.request import RunRequest
    from scottbench.registry.loader import Plugins

OF_HOST = ("guidance", "steps", "student")
"""NAME@guidance=S, NAME@steps=N and NAME@student=S, with --student S=FOLDER."""


@dataclass(frozen=True)
class MethodChoice:
    """A method as the user asked for it."""

    label: Label
    """The name, with its inline options where there are any, but for the number of steps, which tables tell apart anyway."""
    method: Method
    options: Any
    """An instance of the method's Options."""
    guidance: float
    guidance_asked: bool
    """The user named the guidance; else it is the preset's or the method's own."""
    student: str | None
    """The name of its student: that of its trainer, unless @student= says otherwise. None: it samples the teacher itself."""
    steps: tuple[int, ...]
    """Its own numbers of steps; (): the run's."""
    named: frozenset[str] = frozenset()
    """The options that the user named; the others may be the student's."""

    @property
    def trainer(self) -> str:
        """Name what its student must be made by: a trainer, or PLAIN for a sampler of the teacher, which takes any ordinary U-Net."""
        return PLAIN if self.method.trainer is None else self.method.trainer


@dataclass(frozen=True)
class MetricChoice:
    """A metric as the user asked for it, and the package that brings it."""

    label: Label
    metric: Metric
    options: Any
    """An instance of the metric's Options."""
    distribution: str
    version: str
    """Version of the distribution."""


@dataclass(frozen=True)
class ExtractorChoice:
    """A registered extractor and what the preset says of it."""

    extractor: Extractor
    spec: dict[str, Any]
    """The keys of [extractors.ROLE]; none where the extractor is there by its own name."""


@dataclass(frozen=True)
class Choices:
    """All that was asked for, each name looked up and each number checked; no file is open yet."""

    request: RunRequest
    preset: Preset
    dataset: DataChoice
    """Where prompts come from; of pictures that are scored it is what they are compared with, and only where there is a reference of
    this kind."""
    reference: DataChoice | None
    """Where the reference images of a run come from: `dataset` where they are its own, one a prompt; None where there are none."""
    methods: list[MethodChoice]
    metrics: list[MetricChoice]
    roles: dict[str, str]
    """Extractor role that a metric needs -> role that holds the network."""
    extractors: dict[str, ExtractorChoice]
    """Role that holds a network -> which one it is."""
    steps: list[int]
    """Numbers of sampling steps of the methods that have none of their own."""
    seeds: list[int]
    device: str
    dtype: str


@dataclass(frozen=True)
class DataAsked:
    """A request for data alone."""

    dataset: str | None
    prompts: str | None


def choose(plugins: Plugins, request: RunRequest) -> Choices:
    """Look up every name and check every number of a request. Raises UsageError."""
    preset = plugins.find("preset", request.preset).noun
    check_numbers(request)
    methods = [] if request.scoring else find_methods(plugins, preset, request)
    check_students(plugins, request, methods)
    check_rows(request.pictures, [str(choice.label) for choice in methods])
    dataset = choose_data(plugins, preset, DataAsked(request.reference, None) if request.scoring else request)
    reference = _reference(plugins, preset, request, dataset)
    metrics = find_metrics(plugins, preset, request, None if reference is not None else dataset)
    check_seeds(metrics, request.seeds)
    needed, specs = roles(plugins, preset, metrics)
    place = device.choose_device(request.device, preset)
    device.check_compile(request.compile, place)
    device.check_tf32(request.tf32)
    steps, seeds = request.steps if request.steps else preset.steps, list(dict.fromkeys(request.seeds))
    return Choices(request, preset, dataset, reference, methods, metrics, needed, specs, steps, seeds, place,
                   device.choose_dtype(preset, place))


def _reference(plugins: Plugins, preset: Preset, request: RunRequest, dataset: DataChoice) -> DataChoice | None:
    if request.scoring:
        return None if request.reference is None else dataset
    return choose_reference(plugins, preset, request.reference, dataset)


def check_numbers(request: RunRequest) -> None:
    """Raise UsageError for a number of steps or items under 1, or a guidance scale under 0."""
    for steps in request.steps:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise UsageError(f"--steps {steps}: a number of sampling steps must be a whole number of at least 1.")
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit {request.limit}: at least 1 item is needed.")
    if request.guidance is not None:
        _guidance(request.guidance, "--guidance")


# --- methods ---------------------------------------------------------------------------------------------------------


def find_methods(plugins: Plugins, preset: Preset, request: RunRequest) -> list[MethodChoice]:
    """Find each method, in the order asked for, each once; one that is named with several numbers of steps gets them all.

    Raises UsageError: an unknown name or option, a value that cannot be meant, a method that is named twice.
    """
    texts = list(dict.fromkeys(request.methods if request.methods else preset.methods))
    labels = [Label.parse(text) for text in texts]
    methods = [plugins.find("method", label.name).noun for label in labels]
    _check_options(dict(zip((label.name for label in labels), methods)), request)
    found: dict[Label, MethodChoice] = {}
    for text, label, method in zip(texts, labels, methods, strict=True):
        choice = _choice(text, label, method, preset, request)
        before = found.get(choice.label)
        if before is not None and not (before.steps and choice.steps and set(before.steps).isdisjoint(choice.steps)):
            raise UsageError(f"method '{one_line(choice.label)}' is named twice.")
        found[choice.label] = choice if before is None else replace(before, steps=before.steps + choice.steps)
    return list(found.values())


def _check_options(methods: Mapping[str, Method], request: RunRequest) -> None:
    """Raise UsageError for an option of all methods (-O) that none of them has."""
    known = {name: _option_names(method) for name, method in methods.items()}
    for key in request.options:
        if not any(key in names for names in known.values()):
            listed = "; ".join(f"{name}: {', '.join(sorted(names)) if names else 'none'}" for name, names in known.items())
            raise UsageError(f"no method of this run has an option '{one_line(key)}'. Options: {listed}. See: scottbench show method NAME")


def _option_names(method: Method) -> set[str]:
    return {option.name for option in options_of(method.options)}


def _choice(text: str, label: Label, method: Method, preset: Preset, request: RunRequest) -> MethodChoice:
    """One method of the request; `text` is how the user wrote it. Raises UsageError."""
    known = _option_names(method)
    values = {key: value for key, value in request.options.items() if key in known} | dict(label.without(*OF_HOST).options)
    asked = label.options.get("guidance", request.guidance)
    options = make_options(method.options, values, f"method '{method.name}'")
    student, steps = _student(method, label, {*request.students, *preset.adopted}, text), _steps(label, text)
    guidance = of_preset(preset, method, student) if asked is None else _guidance(asked, text)
    return MethodChoice(label.without("steps"), method, options, float(guidance), asked is not None, student, steps, frozenset(values))


def of_preset(preset: Preset, method: Method, student: str | None) -> float:
    """Return the guidance scale of a method where the user names none: its own in the preset, else its student's there, else its own.

    student: the name of its student; a student of another name than its trainer has the trainer's scale, unless the preset names it.
    """
    if student in preset.adopted:  # the scales are of the preset's own methods and students; in published ones it is baked, mostly
        return preset.guidance.get(student, 1.0)
    names = (method.name, student, method.trainer)
    return next((preset.guidance[name] for name in names if name is not None and name in preset.guidance), method.guidance)


def _guidance(value: str | float, where: str) -> float:
    """A guidance scale as a number. Raises UsageError."""
    try:
        scale = float(value)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale) or scale < 0:
        raise UsageError(f"{where}: the guidance scale must be a number of at least 0 (1 = unguided), found '{one_line(value)}'.")
    return scale


def _student(method: Method, label: Label, known: Collection[str], text: str) -> str | None:
    """The name of a method's student. Raises UsageError: it has none, or nothing goes by the name."""
    if "student" not in label.options:
        return method.trainer
    name = label.options["student"]
    if name not in known:
        name = one_line(name)
        raise UsageError(f"{one_line(text)}: no student goes by the name '{name}'. Give its folder: --student {name}=FOLDER")
    return name


def _steps(label: Label, text: str) -> tuple[int, ...]:
    """The number of steps of NAME@steps=N, else none. Raises UsageError."""
    if "steps" not in label.options:
        return ()
    steps = label.options["steps"]
    if not steps.isdecimal() or int(steps) < 1:
        raise UsageError(f"{one_line(text)}: a number of sampling steps must be a whole number of at least 1. "
                         "For several, name the method once for each.")
    return (int(steps),)


# --- students --------------------------------------------------------------------------------------------------------


def check_students(plugins: Plugins, request: RunRequest, methods: Sequence[MethodChoice]) -> None:
    """Raise UsageError unless methods of this run, all of one trainer, sample every student that the user names."""
    users: dict[str, set[str]] = {}
    for choice in methods:
        if choice.student is not None:
            users.setdefault(choice.student, set()).add(choice.trainer)
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


def in_range(guidance: float, student: dict) -> bool:
    """Return True if a guidance scale is one that the student was trained on; a student without a range takes every one."""
    # 1.3 - 1 is a little more than 0.3
    return "w_min" not in student or student["w_min"] - 1e-9 <= guidance - 1 <= student["w_max"] + 1e-9


SLOPE = 0.3
"""Least slope of a student's guidance input at which several guidance scales of it say something."""


def own_guidance(choice: MethodChoice, student: dict) -> float:
    """Return the guidance scale of a method of a student: 1 where one is baked in and the user named none."""
    return 1.0 if student.get("guidance") == "baked" and not choice.guidance_asked else choice.guidance


def check_scan(label: str, scales: set[float], student: dict) -> None:
    """Raise UsageError for several guidance scales of a student that hardly follows its guidance input (see
    `scottbench.training.distillation.guidance_slope`): differences between them would be noise."""
    slopes = student.get("guidance_slope") or {}
    if len(scales) < 2 or not slopes or min(slopes.values()) >= SLOPE:
        return
    time, slope = min(slopes.items(), key=lambda item: item[1])
    raise UsageError(
        f"method '{label}' is asked for at {len(scales)} guidance scales, but its student does not follow them: at "
        f"{time.replace('t', 't = ')} its output moves by {slope:.2f} of its teacher's way "
        f"(1 = learnt; a scan needs {SLOPE:g}). Name one scale.")


def check_guidance(label: str, guidance: float, student: dict) -> None:
    """Raise UsageError for a guidance scale that a student (student.json) does not know.

    One that takes the scale as an input knows only the range it was trained on (w = s - 1); one into which guidance is baked (LoRA) takes
    none, and a second helping would spoil it.
    """
    if student.get("guidance") == "baked" and guidance != 1:
        raise UsageError(
            f"guidance scale {guidance:g} of method '{label}': guidance is baked into this student, so it is sampled with 1. "
            f"Use {at_guidance(label, '1')}.")
    if not in_range(guidance, student):
        raise UsageError(
            f"guidance scale {guidance:g} of method '{label}' is outside the range its student was trained on: "
            f"{1 + student['w_min']:g} to {1 + student['w_max']:g}. Give one inside it: {at_guidance(label, 'S')}.")


def at_guidance(label: str, scale: str) -> str:
    """Write a method as it would be asked for at another guidance scale: ("cd@eta=0,guidance=9", "S") -> "cd@eta=0,guidance=S"."""
    kept = Label.parse(label).without("guidance")
    return f"{kept}{',' if kept.options else '@'}guidance={scale}"


# --- metrics ---------------------------------------------------------------------------------------------------------


def find_metrics(plugins: Plugins, preset: Preset, request: RunRequest, alone: DataChoice | None = None) -> list[MetricChoice]:
    """Find each metric, each once. alone: the data, where there are no reference images: the preset's metrics that compare with some are
    left out then. Raises UsageError: an unknown name or option, a metric that needs what is not there, or none at all."""
    found: dict[Label, MetricChoice] = {}
    for text in preset.metrics if request.metrics is None else request.metrics:
        label = Label.parse(text)
        registered = plugins.find("metric", label.name)
        if alone is not None and registered.noun.reference:
            if request.metrics is None:
                continue
            why = "there are none" if request.scoring else f"dataset '{alone.name}' has prompts alone"
            raise UsageError(f"metric '{one_line(label)}' compares with reference images, and {why}. Give some with --reference "
                             "FOLDER|NAME, or leave it out.")
        if request.scoring and request.metrics is None and registered.noun.teacher is not None:
            continue  # scored pictures have no teacher
        options = make_options(registered.noun.options, label.options, f"metric '{label.name}'")
        found[label] = MetricChoice(label, registered.noun, options, registered.distribution, registered.version)
    if not found:
        raise UsageError("no metrics to compute. Name some with --metrics; see: scottbench list metrics")
    return list(found.values())


def check_seeds(metrics: Sequence[MetricChoice], seeds: Sequence[int]) -> None:
    """Raise UsageError for a metric over several seeds in a run of one."""
    for choice in metrics:
        if choice.metric.scope == "seeds" and len(set(seeds)) < 2:
            raise UsageError(f"metric '{choice.label}' compares several seeds of a method, and this run has one, {seeds[0]}. "
                             f"Run with --seeds {seeds[0]},{seeds[0] + 1}, or leave it out of --metrics.")


def roles(plugins: Plugins, preset: Preset, metrics: Sequence[MetricChoice]) -> tuple[dict[str, str], dict[str, ExtractorChoice]]:
    """Return {extractor role that a metric needs: role that holds the network} ("clip" -> "image" where they are the same), and {role that
    holds a network: which it is}.

    A role that the preset lacks is the extractor of that name. Raises UsageError where there is none, or none of a `kind`.
    """
    found: dict[str, str] = {}
    for choice in metrics:
        for role in choice.metric.roles:
            if role not in preset.extractors and role not in plugins.nouns["extractor"]:
                raise UsageError(f"metric '{choice.label}' needs an extractor '{role}', which preset '{preset.name}' lacks.")
            target = preset.extractors.get(role, {}).get("same_as")
            found[role] = role if target is None else target
    return found, {role: extractor_of(plugins, preset, role) for role in dict.fromkeys(found.values())}


def extractor_of(plugins: Plugins, preset: Preset, role: str) -> ExtractorChoice:
    """Return the extractor behind a role that is not the same as another. Raises UsageError for a `kind` that nobody registers."""
    spec = preset.extractors.get(role)
    kind = role if spec is None else spec.get("kind")
    if kind is None:
        raise UsageError(f"[extractors.{role}] of preset '{preset.name}' names no 'kind'. See: scottbench list extractors")
    return ExtractorChoice(plugins.find("extractor", kind).noun, {} if spec is None else spec)
