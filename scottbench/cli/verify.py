"""scottbench verify RUN: is a run folder, or a student's, what it says it is?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scottbench.cli.running import of_model

if TYPE_CHECKING:
    from scottbench.store.verify import Findings


@click.command(short_help="Check schemas and digests of a run; with --resample also make images again.")
@click.argument("run")
@click.option("--resample", metavar="K", help="Make K random images and their features again and compare.")
@of_model
@click.option("--dataset", metavar="NAME|FOLDER", help="Training data of a student's folder, where they are not its preset's.")
@click.option("--prompts", metavar="FILE", help="Captions of such a folder of pictures.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what is wrong.")
def verify(run: str, resample: str | None, dataset: str | None, prompts: str | None, quiet: bool, **values: Any) -> None:
    """Check RUN (a run folder, an exported one, or the head of a plan's hash): schemas, hash of the plan, place and sha256 of every chunk,
    sha256 of every record and of the page.

    RUN may be a student's folder with its training.json: its weights and all of its training data are read again then.

    --resample needs the run's weights and data. It compares byte for byte where the run has level exact and this machine computes alike,
    else within a tolerance.
    \f
    Raises IntegrityError, which names everything that is not as recorded; UsageError for training data of a run.
    """
    from scottbench.cli.printing import maybe, note
    from scottbench.errors import IntegrityError
    from scottbench.store.runs import find_run
    from scottbench.store.verify import verify as verify_run
    from scottbench.training.folder import is_training

    if is_training(Path(run)):
        _training(Path(run), dataset, prompts, quiet)
        return
    if dataset is not None or prompts is not None:
        from scottbench.errors import UsageError

        raise UsageError("--dataset and --prompts are for a student's folder, whose training data are read again.")
    count, root = maybe("--resample", resample), find_run(run)
    found = verify_run(root)
    checked, wrong = found.checked, found.wrong
    if count is not None and not wrong:
        again = _resample(root, count, values)
        checked, wrong = checked + again.checked, wrong + again.wrong
    if not quiet:
        for line in checked:
            note(f"ok     {line}")
    if wrong:
        raise IntegrityError("\n".join([f"{root}: {len(wrong)} thing(s) are not as recorded", *(f"  {line}" for line in wrong)]))
    if not quiet:
        click.echo(f"{root}: as recorded")


def _training(folder: Path, dataset: str | None, prompts: str | None, quiet: bool) -> None:
    """Check a student's folder."""
    from scottbench.cli.printing import note
    from scottbench.cli.running import all_plugins, progress_of
    from scottbench.training.verify import verify_training

    with progress_of(True):
        checked = verify_training(all_plugins(), folder, dataset, prompts)
    if not quiet:
        for line in checked:
            note(f"ok     {line}")
        click.echo(f"{folder}: as recorded")


def _resample(root: Path, count: int, values: dict[str, Any]) -> Findings:
    """Make some images of a run again and compare."""
    from scottbench.cli.running import all_plugins, model_changes, plan_of, progress_of

    plugins = all_plugins()
    with progress_of(True):
        made, manifest = plan_of(plugins, root, model_changes(values))
        from scottbench.run.clock import Clock
        from scottbench.run.resample import resample
        from scottbench.run.session import Work
        from scottbench.store.environment import arithmetic, environment
        from scottbench.store.folder import RunFolder

        alike = arithmetic(environment(made.device)) == arithmetic(manifest.get("environment") or {})
        work = Work(made, RunFolder(root), Clock(made.device), {}, 1, lambda event: None, lambda event, **facts: None)
        return resample(work, made, count, exact=alike and manifest.get("level") == "exact")
