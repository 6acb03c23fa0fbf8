"""What the verbs that run a plan share: its plug-ins, progress, resuming line and results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scottbench.errors import ScottbenchError
    from scottbench.plan.plan import Plan
    from scottbench.registry.loader import Plugins
    from scottbench.run.chunks import Shard
    from scottbench.text.progress import Progress


def plan_of(
    plugins: Plugins, root: Path, changes: dict[str, Any], keys: tuple[str, ...] | None = None
) -> tuple[Plan, dict[str, Any]]:
    """Make the plan of a run folder again from what was asked for; return it with the folder's manifest.

    changes: what this command line says instead, by name; the folder chooses neither a model's folder nor the consent to read pickles.
    Raises UsageError: no run folder, or a model to name again; IntegrityError: the same words mean something else now, in `keys` only if
    given, or a record is not the one that the run wrote.
    """
    from scottbench.errors import UsageError
    from scottbench.models.importing import importing

    with importing():
        from scottbench.plan.plan import make_plan
    from scottbench.plan.request import request_of
    from scottbench.run.execute import check_history
    from scottbench.store.differences import check_same
    from scottbench.store.folder import RunFolder

    folder = RunFolder(root)
    found = folder.locked_plan()
    if found is None:
        raise UsageError(f"{root} holds no plan.lock.json: it is no run folder.")
    check_history(root)
    manifest = folder.manifest() or {}
    refuse_choice(plugins, root, found["settings"], changes)
    settings = {name: entry for name, entry in found["settings"].items() if name != "allow_unsafe_checkpoint"}
    try:
        made = make_plan(plugins, request_of(settings, changes, str(manifest.get("command", ""))))
    except UsageError as error:
        raise UsageError(f"{error}{not_given(plugins, manifest)}") from None
    check_same(root, found["plan"], made.record, keys)
    return made, manifest


def not_given(plugins: Plugins, manifest: dict[str, Any]) -> str:
    """Return a sentence, with a blank before, on plug-ins of a run that were not installed and are not at hand; "" where there are none.
    The run folder says what they are called, not where they lie: it chooses no code."""
    from scottbench.registry.paths import FLAG
    from scottbench.text import one_line

    environment = manifest.get("environment")
    packages = environment.get("packages") if isinstance(environment, dict) else None
    here = {plugin.distribution for plugin in plugins.plugins}
    named = packages.items() if isinstance(packages, dict) else ()
    lost = [str(version).rpartition(FLAG)[2].strip(" )") for name, version in named if FLAG in str(version) and name not in here]
    return f" The run was made with {', '.join(f'{FLAG} {one_line(name)}' for name in lost)}: give it again." if lost else ""


def refuse_choice(plugins: Plugins, root: Path, settings: dict[str, Any], changes: dict[str, Any]) -> None:
    """Raise UsageError where the run was made with a model folder that this command line does not name: a run folder may come from anybody,
    and does not choose what is opened."""
    from scottbench.errors import UsageError
    from scottbench.run.outcome import model_flags
    from scottbench.text import one_line

    again = model_flags(settings, plugins)
    if again and "model" not in changes:
        raise UsageError(f"{one_line(root)} was made with a model folder of its own. A run folder does not choose what is opened: name the "
                         f"folder again, with{one_line(again)}")


def of_model(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that goes on from a run folder the flags that only a command line may decide."""
    import click

    command = click.option("--allow-unsafe-checkpoint", is_flag=True, help="Read pickled weights of --model.")(command)
    return click.option("--model", metavar="NAME|FOLDER", help="The model folder of a run that was made with one.")(command)


def model_changes(values: dict[str, Any]) -> dict[str, Any]:
    """Return the changes for `plan_of` from the values of `of_model`'s flags."""
    model, unsafe = values["model"], values["allow_unsafe_checkpoint"]
    return ({} if model is None else {"model": model}) | ({"allow_unsafe_checkpoint": True} if unsafe else {})


def take_lock(*folders: Path | str | None) -> None:
    """Take over the locks that dead processes left in folders (--take-lock). Raises Busy where one of this machine is alive."""
    from scottbench.store.lock import take

    for folder in folders:
        if folder is not None:
            take(Path(folder))


def all_plugins() -> Plugins:
    """Load all plug-ins; a warning on stderr for each broken one, and for each name in a claim that nobody registers.

    Raises UsageError for a WORLD_SIZE that is no number, before a library reads it.
    """
    from scottbench.cli.printing import note
    from scottbench.registry.loader import load_plugins
    from scottbench.run.processes import world_size

    world_size()
    plugins = load_plugins()
    for plugin in plugins.broken:
        note(f"warning: plug-in '{plugin.name}' of {plugin.distribution} {plugin.version} is {plugin.status} "
             f"(leave it out: --no-plugin {plugin.name})")
    for remark in plugins.remarks:
        note(f"warning: {remark}")
    return plugins


@contextlib.contextmanager
def progress_of(quiet: bool) -> Iterator:
    """Progress of the main process alone."""
    from scottbench.cli.printing import rank
    from scottbench.text import progress

    with progress.progress_of(quiet or rank() > 0) as shown:
        yield shown


def execute_plan(
    made: Plan, plugins: Plugins, folder: Path, size: int | None, progress: Progress, shard: Shard | None
) -> tuple[ScottbenchError | None, Path]:
    """Execute a plan; return the failure (None: all cells are whole) and the run folder.

    Raises Interrupted, Terminated or Incomplete, which say how to go on, and other errors as they are.
    """
    from scottbench.cli.printing import Interrupted, Terminated
    from scottbench.run.outcome import attempt, parts_of, resume_line

    progress.expect(parts_of(made))
    try:
        outcome = attempt(made, plugins, folder, size, progress.run_event, shard)
    except KeyboardInterrupt:
        raise Interrupted(resume_line(folder, made, plugins)) from None
    except Terminated as error:  # or MakeRoom
        raise type(error)(resume_line(folder, made, plugins)) from None
    return outcome.failure, outcome.folder


def show_run(folder: Path, as_json: bool, failure: ScottbenchError | None) -> None:
    """Print the tables of a run, or what a shard has done, in the main process only; then raise the failure, if there is one."""
    from scottbench.cli.printing import print_json, rank
    from scottbench.cli.results import print_results, read_results
    from scottbench.registry.paths import given_again
    from scottbench.store.files import read_json
    from scottbench.store.folder import MANIFEST

    if rank() > 0:
        return
    manifest = read_json(folder / MANIFEST) or {}
    if manifest.get("status") == "incomplete":
        document = {"run": str(folder), "plan_hash": manifest["plan_hash"], "status": "incomplete", "shard": manifest.get("shard")}
        if as_json:
            print_json(document)
        else:
            print(f"shard {document['shard']} is done: {folder}\nput all shards together with: scottbench merge RUN RUN ...{given_again()}")
        return
    if as_json:
        print_json(read_results(folder))
    else:
        print_results(folder)
    if failure is not None:
        raise failure
