"""Students of published weights in a plan: the options that student.json asks for, and the sentence that says whose weights they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scottbench.errors import DamagedAsset, UsageError
from scottbench.models.student import sampler_defaults
from scottbench.plan.cells import PlannedMethod
from scottbench.plan.choices import MethodChoice
from scottbench.registry.options import make_options, options_of
from scottbench.text import one_line, short


def student_options(choice: MethodChoice, facts: dict[str, Any], folder: Path) -> Any:
    """Return the options of a method for one student: those that the user named, then those of student.json, then the method's own.

    Raises DamagedAsset where student.json has a value that the option cannot have."""
    known = [option.name for option in options_of(choice.method.options)]
    told = {key: value for key, value in sampler_defaults(facts, known).items() if key not in choice.named}
    if not told:
        return choice.options
    try:
        return make_options(choice.method.options, dataclasses.asdict(choice.options) | told, f"method '{choice.method.name}'")
    except UsageError as error:
        raise DamagedAsset(f"{folder / 'student.json'} does not fit its sampler: {one_line(error)}. Restore the file.") from None


def published_lines(methods: Sequence[PlannedMethod], model: str, digest: str) -> list[str]:
    """Say, in a line for each set of published weights, whose they are, of which teacher, and with which model they are compared.

    model, digest: the run's model."""
    lines: dict[str, str] = {}
    for method in methods:
        facts = method.facts
        if facts is not None and facts.get("published") is not None:
            line = f"student of '{method.label}': {origin(facts)}, compared with {model}{_moved(facts, digest)}."
            lines.setdefault(facts["weights_digest"], line)
    return list(lines.values())


def origin(facts: dict[str, Any]) -> str:
    """Say in words where published weights come from: source, author, licence, teacher. facts: student.json."""
    told = {key: one_line(value) for key, value in facts["published"].items() if isinstance(value, str)}
    whose = f"published weights {told.get('source', '?')} (sha256 {short(told.get('sha256'))})"
    by, licence = told.get("by", "unknown hands"), told.get("licence", "unknown")
    return f"{whose}, trained by {by}, licence {licence}, student of {told.get('trained_from', 'an unknown teacher')}"


def _moved(facts: dict[str, Any], digest: str) -> str:
    """Words for a run whose model is not the one that the weights were adopted for; "" where it is."""
    if facts["teacher_digest"] == digest:
        return ""
    name = one_line(facts.get("teacher") or "another model")
    return f", not with {name} (digest {short(facts['teacher_digest'])}), for which they were adopted"
