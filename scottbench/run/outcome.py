"""One attempt at a plan, as the command line and notebooks make it: some cells may fail, and an attempt that stops says how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import Busy, Incomplete, ScottbenchError
from scottbench.run.execute import execute

if TYPE_CHECKING:
    from scottbench.plan.plan import Plan
    from scottbench.registry.loader import Plugins
    from scottbench.run.chunks import Share


@dataclass(frozen=True)
class Outcome:
    """A run that was measured."""

    folder: Path
    failure: ScottbenchError | None
    """The reasons of the cells and metrics that failed, where some did; the others have their numbers."""


def resume_line(folder: Path) -> str:
    """Return the command that goes on with a run."""
    return f"scottbench resume {shlex.quote(str(folder))}"


def attempt(
    plan: Plan, plugins: Plugins, folder: Path, batch_size: int | None, progress: Callable[[dict], None], share: Share | None = None
) -> Outcome:
    """Run a plan in `folder`, or go on with it. Arguments as of `execute`.

    Raises as `execute`; Incomplete then names the command that goes on. Where only some cells or metrics failed it raises nothing: the
    outcome has the reasons.
    """
    try:
        return Outcome(execute(plan, plugins, folder, batch_size, progress, share), None)
    except Incomplete as error:
        raise error if isinstance(error, Busy) else Incomplete(f"{error} Go on with: {resume_line(folder)}") from None
    except ScottbenchError as error:
        # exit code 1: some cells failed, and the others have numbers
        if error.exit_code != 1 or not (folder / "results.parquet").is_file():
            raise
        return Outcome(folder, error)
