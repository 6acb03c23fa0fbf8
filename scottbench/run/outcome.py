"""One attempt at a plan, as the command line and notebooks make it: some cells may fail, and an attempt that stops says how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import Busy, Incomplete, ScottbenchError
from scottbench.run.execute import execute

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan
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
    return f"scottbench resume {shlex.quote(str(folder))}{model_flags(plan.settings, plugins)}"


def model_flags(settings: Mapping[str, Any], plugins: Plugins) -> str:
    """Return the flags that a run's command lines must have, with a blank before: --model where it was made with a model folder, and
    --allow-unsafe-checkpoint where that was given; "" for a model that is registered, or the preset's own. settings: of a plan."""
    entry = settings.get("model", {})
    asked, origin = entry.get("value"), str(entry.get("origin"))
    if asked is None or origin == "default" or origin.startswith("preset ") or asked in list(plugins.nouns["model"]):
        return ""
    unsafe = settings.get("allow_unsafe_checkpoint", {}).get("value") is True
    return f" --model {shlex.quote(str(asked))}{' --allow-unsafe-checkpoint' * unsafe}"


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
