"""Checks of presets and claims: every name in them resolves, and a claim can be decided somewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scottbench.diffusion import Schedule
from scottbench.errors import ScottbenchError
from scottbench.registry.claims import Arm, Claim, Comparison
from scottbench.registry.label import Label
from scottbench.registry.loader import Plugins
from scottbench.registry.options import make_options, options_of
from scottbench.registry.presets import Preset
from scottbench.registry.times import repeats, stepwise
from scottbench.testing.common import check_named, everything
from scottbench.testing.finding import Check, Doubt, NotConforming, Subject
from scottbench.text import one_line


def known(subject: Subject, named: Iterator[tuple[str, str]]) -> str:
    """Look up (kind, name) of all that a file names, each also as NAME@key=value. Raises NotConforming for the first that nobody
    registers."""
    found = []
    for kind, text in named:
        name = Label.parse(text).name
        check_named(subject, kind, name, "Correct the name", name)
        found.append(f"{kind} {name}")
    return f"{len(set(found))} names, all registered"


# --- presets ---------------------------------------------------------------------------------------------------------


def names_of(preset: Preset) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of all nouns that a preset names."""
    yield "model", preset.model
    yield "dataset", preset.dataset
    yield from (("method", name) for name in (*preset.methods, *preset.guidance))
    yield from (("metric", name) for name in (*preset.metrics, *preset.train.get("metrics", ())))
    yield from (("trainer", name) for name in (*preset.students, *preset.train.get("options", {})))
    yield from (("extractor", spec["kind"]) for spec in preset.extractors.values() if "kind" in spec)


def check_preset_names(subject: Subject) -> str:
    """Model, dataset, methods, metrics, trainers and extractors that it names are registered. Raises NotConforming."""
    return known(subject, names_of(subject.noun))


def check_preset_options(subject: Subject) -> str:
    """Options that it gives to trainers and methods are theirs, and methods can do its numbers of steps. Raises NotConforming."""
    plugins, preset = everything(subject), subject.noun
    tables = [(name, table) for name, table in preset.train.get("options", {}).items()]
    tables += [(name, table) for recipe in preset.recipes.values() for name, table in recipe.get("options", {}).items()]
    for name, table in tables:
        trainer = plugins.named("trainer", name)
        if trainer is None:
            raise NotConforming(
                f"{subject.who} gives options to trainer '{one_line(name)}', which nobody registers.", "Correct the name.", name
            )
        try:
            make_options(
                trainer.noun.options,
                {key: str(value).lower() if isinstance(value, bool) else value for key, value in table.items()},
                f"trainer '{name}'",
            )
        except ScottbenchError as error:
            wrong = next((key for key in table if f"'{key}'" in str(error)), name)
            raise NotConforming(f"{subject.who}: {one_line(error)}", "Correct the option.", wrong) from None
    schedule = Schedule.scaled_linear()
    for text in preset.methods:
        label = Label.parse(text)
        found = plugins.named("method", label.name)
        if found is None:
            continue
        able = [n for n in preset.steps if _can(found.noun, n, schedule)]
        if not able:
            raise NotConforming(
                f"{subject.who}: method '{label.name}' can do none of its steps {preset.steps}.",
                "Name steps that it can do, or leave it out.",
                label.name,
            )
    return f"options of {len(tables)} trainers, and steps of {len(preset.methods)} methods"


def _can(method: Any, steps: int, schedule: Schedule) -> bool:
    """Tell whether a method can do a number of steps with its defaults."""
    options = options_of(method.options)
    if any(option.required for option in options):
        return True
    times = stepwise(method.timesteps(schedule, steps, make_options(method.options, {}, method.name)))
    return len(times) == steps and not repeats(times)


def check_preset_roles(subject: Subject) -> str:
    """Every role that its metrics need has an extractor. Raises NotConforming."""
    plugins, preset = everything(subject), subject.noun
    roles = 0
    for text in preset.metrics:
        found = plugins.named("metric", Label.parse(text).name)
        if found is None:
            continue
        roles += len(found.noun.roles)
        for role in _absent(plugins, preset, found.noun.roles):
            raise NotConforming(
                f"{subject.who}: metric '{found.noun.name}' needs role '{role}', and there is no [extractors.{role}].",
                f"Add [extractors.{role}], or leave the metric out.",
                found.noun.name,
            )
    return f"{roles} roles of metrics have an extractor"


def _absent(plugins: Plugins, preset: Preset, roles: Iterable[str]) -> list[str]:
    """Roles that neither the preset nor an extractor of that name fills."""
    return [role for role in roles if role not in preset.extractors and role not in plugins.nouns["extractor"]]


def check_preset_files(subject: Subject) -> str:
    """Files that it names are there: model card, recorded rows, students. Raises NotConforming, or Doubt for a student that is not here."""
    preset = subject.noun
    for key in ("model_card", "recorded"):
        name = getattr(preset, key)
        if name is not None and not Path(preset.path(name)).is_file():
            raise NotConforming(f"{subject.who}: its {key}, {name}, is not there.", "Ship the file, or leave the key out.", key)
    absent = [trainer for trainer, folder in preset.students.items() if not (Path(preset.path(folder)) / "student.json").is_file()]
    if absent:
        raise Doubt(
            f"{subject.who}: the student of '{absent[0]}' is not here.",
            f"Make it: scottbench train {absent[0]} -p {preset.name}, or leave it out.",
            absent[0],
        )
    return "files that it names are there"


# --- claims ----------------------------------------------------------------------------------------------------------


def arms_of(claim: Claim) -> Iterator[tuple[Comparison, Arm]]:
    """Yield every side of every comparison."""
    for comparison in claim.compare:
        yield comparison, comparison.better
        yield comparison, comparison.worse


def names_of_claim(claim: Claim) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of all nouns that a claim names."""
    yield from (("metric", comparison.metric) for comparison in claim.compare)
    yield from (("method", arm.method) for _, arm in arms_of(claim))
    yield from (("preset", name) for name in (*claim.testable, *claim.magnitude))


def check_claim_names(subject: Subject) -> str:
    """Metrics, methods and presets that it names are registered. Raises NotConforming."""
    return known(subject, names_of_claim(subject.noun))


def check_claim_sides(subject: Subject) -> str:
    """Methods can do the steps, trainers have the options, and the quoted numbers stand on the side that the claim says wins. Raises
    NotConforming."""
    plugins, schedule = everything(subject), Schedule.scaled_linear()
    for comparison, arm in arms_of(subject.noun):
        method = plugins.find("method", Label.parse(arm.method).name).noun
        if arm.steps is not None and not _can(method, arm.steps, schedule):
            raise NotConforming(
                f"{subject.who}: method '{method.name}' cannot do {arm.steps} steps.", "Correct the number of steps.", arm.method
            )
        trainer = None if method.trainer is None else plugins.named("trainer", method.trainer)
        if arm.student and trainer is None:
            raise NotConforming(
                f"{subject.who}: '{method.name}' samples no student, so that options of one say nothing.",
                "Leave `student` out.",
                arm.method,
            )
        unknown = (
            [] if trainer is None else [key for key in arm.student if key not in [one.name for one in options_of(trainer.noun.options)]]
        )
        if unknown:
            raise NotConforming(
                f"{subject.who}: trainer '{method.trainer}' has no option '{one_line(unknown[0])}'.",
                "Correct the option's name.",
                unknown[0],
            )
        metric, quoted = plugins.find("metric", Label.parse(comparison.metric).name).noun, comparison.quoted
        if quoted is not None and quoted.better != quoted.worse and (quoted.better > quoted.worse) != metric.higher_is_better:
            raise NotConforming(
                f"{subject.who}: it quotes {quoted.better:g} for the better side and {quoted.worse:g} for the worse, and of "
                f"{comparison.metric} {'more' if metric.higher_is_better else 'less'} is better.",
                "Exchange the two numbers, or the sides.",
                "quoted",
            )
    return "sides, steps, options and quoted numbers fit"


def check_claim_decidable(subject: Subject) -> str:
    """Some preset can decide it: it has the extractors of its metrics, and the students or their trainers. Raises NotConforming."""
    plugins, claim = everything(subject), subject.noun
    presets = {name: found.noun for name, found in plugins.nouns["preset"].items() if not claim.testable or name in claim.testable}
    able = [name for name, preset in presets.items() if not _lacks(plugins, claim, preset)]
    if not able:
        first = next(iter(presets.items()), None)
        why = "no preset is registered" if first is None else f"preset {first[0]}: {_lacks(plugins, claim, first[1])}"
        raise NotConforming(
            f"{subject.who}: no preset can decide it ({why}).",
            "Name metrics and methods that a preset has, or correct testable.",
            "testable",
        )
    return f"it can be decided on {', '.join(able)}"


def _lacks(plugins: Plugins, claim: Claim, preset: Preset) -> str:
    """Say what a preset lacks to decide a claim; "" if nothing."""
    for comparison, arm in arms_of(claim):
        metric, method = plugins.named("metric", Label.parse(comparison.metric).name), plugins.named("method", Label.parse(arm.method).name)
        if metric is None or method is None:
            return f"{comparison.metric} or {arm.method} is not registered"
        for role in _absent(plugins, preset, metric.noun.roles):
            return f"no extractor '{role}' for {metric.noun.name}"
        trainer = method.noun.trainer
        if trainer not in (None, "plain") and trainer not in preset.students and trainer not in plugins.nouns["trainer"]:
            return f"no student of '{trainer}', and no trainer"
    return ""


PRESET_CHECKS = (
    Check("names", check_preset_names),
    Check("options", check_preset_options),
    Check("roles", check_preset_roles),
    Check("files", check_preset_files),
)
"""The checks of a preset."""
CLAIM_CHECKS = (Check("names", check_claim_names), Check("sides", check_claim_sides), Check("decidable", check_claim_decidable))
"""The checks of a claim."""
