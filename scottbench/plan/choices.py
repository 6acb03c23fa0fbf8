"""From what the user wrote to what is meant: names to nouns, text to options and numbers.

Where guidance comes from: NAME@guidance= or --guidance, else the preset's [guidance], else the method's own. Words that the host
itself understands after a method's @ are in `OF_HOST`; all others are options of the method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.registry.nouns import Method
from scottbench.registry.options import make_options, options_of, parse_inline
from scottbench.registry.presets import Preset
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.plan.request import RunRequest
    from scottbench.registry.loader import Plugins

OF_HOST = ("guidance", "steps", "student")
"""NAME@guidance=S, NAME@steps=N and NAME@student=S, with --student S=FOLDER."""


@dataclass(frozen=True)
class Asked:
    """A method as the user asked for it."""

    label: str
    """The name, with its inline options where there are any, but for the number of steps, which tables tell apart anyway."""
    noun: Method
    options: Any
    guidance: float
    student: str | None
    """What its student is called: as its trainer, unless @student= says otherwise. None: it samples the teacher itself."""
    steps: tuple[int, ...]
    """Its own numbers of steps; (): the run's."""


def check_numbers(request: RunRequest) -> None:
    for steps in request.steps:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise UsageError(f"--steps {steps}: a number of sampling steps must be a whole number of at least 1.")
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit {request.limit}: at least 1 item is needed.")
    if request.guidance is not None:
        _guidance(request.guidance, "--guidance")


def _guidance(value: str | float, where: str) -> float:
    try:
        scale = float(value)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale) or scale < 0:
        raise UsageError(f"{where}: the guidance scale must be a number of at least 0 (1 = unguided), found '{one_line(value)}'.")
    return scale


def in_range(guidance: float, student: dict) -> bool:
    """Whether a guidance scale is one that the student was trained on; of a student without a range every one is."""
    # 1.3 - 1 is a little more than 0.3
    return "w_min" not in student or student["w_min"] - 1e-9 <= guidance - 1 <= student["w_max"] + 1e-9


def check_guidance(label: str, guidance: float, student: dict) -> None:
    """A student that takes the guidance scale as an input knows only the range it was trained on (w = s - 1); one into which
    guidance is baked (LoRA) takes none, and a second helping would spoil it."""
    if student.get("guidance") == "baked" and guidance != 1:
        raise UsageError(
            f"guidance scale {guidance:g} of method '{label}': guidance is baked into this student, so it is sampled with 1. "
            f"Use {at_guidance(label, '1')}.")
    if not in_range(guidance, student):
        raise UsageError(
            f"guidance scale {guidance:g} of method '{label}' is outside the range its student was trained on: "
            f"{1 + student['w_min']:g} to {1 + student['w_max']:g}. Give one inside it: {at_guidance(label, 'S')}.")


def at_guidance(label: str, scale: str) -> str:
    """A method as it would be asked for at another guidance scale: ("cd@eta=0,guidance=9", "S") -> "cd@eta=0,guidance=S"."""
    name, inline = parse_inline(label)
    kept = _label(name, {key: value for key, value in inline.items() if key != "guidance"})
    return f"{kept}{',' if '@' in kept else '@'}guidance={scale}"


def find_methods(plugins: Plugins, preset: Preset, request: RunRequest) -> list[Asked]:
    """Each method, in the order asked for, each once; one that is named with several numbers of steps gets them all."""
    texts = [(text, *parse_inline(text)) for text in dict.fromkeys(request.methods or preset.methods)]
    nouns = [plugins.find("method", name).noun for _, name, _ in texts]
    known = {noun.name: {option.name for option in options_of(noun.options)} for noun in nouns}
    for key in request.options:
        if not any(key in names for names in known.values()):
            listed = "; ".join(f"{name}: {', '.join(sorted(names)) if names else 'none'}" for name, names in known.items())
            raise UsageError(f"no method of this run has an option '{one_line(key)}'. Options: {listed}. See: scottbench show method NAME")
    found: dict[str, Asked] = {}
    for (text, name, inline), noun in zip(texts, nouns, strict=True):
        shared = {key: value for key, value in request.options.items() if key in known[name]}
        own = {key: value for key, value in inline.items() if key not in OF_HOST}
        if "guidance" in inline:
            guidance = _guidance(inline["guidance"], text)
        elif request.guidance is not None:
            guidance = request.guidance
        else:
            guidance = preset.guidance.get(name, noun.guidance)
        label = _label(name, {key: value for key, value in inline.items() if key != "steps"})
        asked = Asked(
            label, noun, make_options(noun.options, {**shared, **own}, f"method '{name}'"), float(guidance),
            _student(noun, inline, request, text), _steps(inline, text))
        before = found.get(label)
        if before is not None and not (before.steps and asked.steps and set(before.steps).isdisjoint(asked.steps)):
            raise UsageError(f"method '{one_line(label)}' is named twice.")
        found[label] = asked if before is None else replace(before, steps=before.steps + asked.steps)
    return list(found.values())


def _student(noun: Method, inline: dict[str, str], request: RunRequest, text: str) -> str | None:
    """What a method's student is called. Raises UsageError: it has none, or nothing goes by the name."""
    if "student" not in inline:
        return noun.trainer
    if noun.trainer is None:
        raise UsageError(f"{one_line(text)}: method '{noun.name}' samples the teacher itself, it takes no student.")
    name = inline["student"]
    if name not in request.students:
        name = one_line(name)
        raise UsageError(f"{one_line(text)}: no student goes by the name '{name}'. Give its folder: --student {name}=FOLDER")
    return name


def _steps(inline: dict[str, str], text: str) -> tuple[int, ...]:
    """Of NAME@steps=N, else none. Raises UsageError."""
    if "steps" not in inline:
        return ()
    if not inline["steps"].isdecimal() or int(inline["steps"]) < 1:
        raise UsageError(f"{one_line(text)}: a number of sampling steps must be a whole number of at least 1. "
                         "For several, name the method once for each.")
    return (int(inline["steps"]),)


def _label(name: str, inline: dict[str, str]) -> str:
    pairs = ",".join(f"{key}={value}" for key, value in sorted(inline.items()))
    return f"{name}@{pairs}" if pairs else name


def find_metrics(plugins: Plugins, preset: Preset, request: RunRequest) -> list[tuple[str, Any, Any]]:
    """(label, Registered, options) of each metric, each once."""
    found = {}
    for text in preset.metrics if request.metrics is None else request.metrics:
        name, inline = parse_inline(text)
        registered = plugins.find("metric", name)
        label = _label(name, inline)
        found[label] = (label, registered, make_options(registered.noun.options, inline, f"metric '{name}'"))
    if not found:
        raise UsageError("no metrics to compute. Name some with --metrics; see: scottbench list metrics")
    return list(found.values())


def check_seeds(metrics: list[tuple[str, Any, Any]], seeds: list[int]) -> None:
    """Raises UsageError for a metric over several seeds in a run of one."""
    for label, registered, _ in metrics:
        if registered.noun.scope == "seeds" and len(set(seeds)) < 2:
            raise UsageError(f"metric '{label}' compares several seeds of a method, and this run has one, {seeds[0]}. "
                             f"Run with --seeds {seeds[0]},{seeds[0] + 1}, or leave it out of --metrics.")


def roles(preset: Preset, metrics: list[tuple[str, Any, Any]]) -> dict[str, str]:
    """Extractor role that a metric needs -> role that holds the network ("clip" -> "image" where they are the same)."""
    roles = {}
    for label, registered, _ in metrics:
        role = registered.noun.features
        if not role:
            continue
        if role not in preset.extractors:
            raise UsageError(f"metric '{label}' needs an extractor '{role}', which preset '{preset.name}' lacks.")
        target = preset.extractors[role].get("same_as")
        roles[role] = role if target is None else target
    return roles


