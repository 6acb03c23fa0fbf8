"""One attempt at a plan, as the command line and notebooks make it: some cells may fail, and an attempt that stops says how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import Busy, Incomplete, ScottbenchError
from scottbench.registry.paths import given_again
from scottbench.run.execute import execute
from scottbench.text import count

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan, PlannedCell
    from scottbench.registry.loader import Plugins
    from scottbench.run.chunks import Shard


@dataclass(frozen=True)
class Outcome:
    """A run that was measured."""

    folder: Path
    failure: ScottbenchError | None
    """The reasons of the cells and metrics that failed, where some did; the others have their numbers."""


def resume_line(folder: Path, plan: Plan, plugins: Plugins) -> str:
    """Return the command that goes on with a run."""
    return f"scottbench resume {shlex.quote(str(folder))}{model_flags(plan.settings, plugins)}{given_again()}"


def model_flags(settings: Mapping[str, Any], plugins: Plugins) -> str:
    """Return the flags that a run's command lines must have, with a blank before: --model where it was made with a model folder, and
    --allow-unsafe-checkpoint where that was given; "" for a model that is registered, or the preset's own. settings: of a plan."""
    entry = settings.get("model", {})
    asked, origin = entry.get("value"), str(entry.get("origin"))
    if asked is None or origin == "default" or origin.startswith("preset ") or asked in list(plugins.nouns["model"]):
        return ""
    unsafe = settings.get("allow_unsafe_checkpoint", {}).get("value") is True
    return f" --model {shlex.quote(str(asked))}{' --allow-unsafe-checkpoint' * unsafe}"


def parts_of(plan: Plan) -> dict[str, tuple[str, float]]:
    """Return the parts of a run for `scottbench.text.progress.Overall`: words, and shares of the work. A cell's share is its images times
    its passes of the network, and two for what all images need; the others are small beside it."""
    several = len({cell.seed for cell in plan.cells}) > 1
    real = 0 if plan.reference is None else plan.reference.n
    parts = {"reference": ("reference images", 0.5 * real), "text": ("prompts", 0.1 * plan.n)}
    words = {cell.id: in_words(cell, several) for cell in plan.cells}
    for cell in plan.cells:
        passes = cell.steps * (1 if cell.method.guidance == 1 else 2)
        parts[cell.id] = (words[cell.id], plan.n * (passes + 2.0))
    parts |= {f"metrics {cell}": (f"metrics of {name}", 0.3 * plan.n) for cell, name in words.items()}
    return {**parts, "report": ("report", 0.1 * plan.n)}


def in_words(cell: PlannedCell, several: bool) -> str:
    """Name a cell for people: "scott, 2 steps", and its seed where there are several."""
    steps = f", {count(cell.steps, 'step')}" if cell.steps else ""
    return f"{cell.method.label}{steps}{f', seed {cell.seed}' if several else ''}"


def attempt(
    plan: Plan, plugins: Plugins, folder: Path, batch_size: int | None, progress: Callable[[dict], None], shard: Shard | None = None
) -> Outcome:
    """Run a plan in `folder`, or go on with it. Arguments as of `execute`.

    Raises as `execute`; Incomplete then names the command that goes on. Where only some cells or metrics failed it raises nothing: the
    outcome has the reasons.
    """
    try:
        return Outcome(execute(plan, plugins, folder, batch_size, progress, shard), None)
    except Incomplete as error:
        if isinstance(error, Busy) or not folder.is_dir():
            raise
        raise Incomplete(f"{error} Go on with: {resume_line(folder, plan, plugins)}") from None
    except ScottbenchError as error:
        # exit code 1: some cells failed, and the others have numbers
        if error.exit_code != 1 or not (folder / "results.parquet").is_file():
            raise
        return Outcome(folder, error)
