"""What the verbs that run a plan share: its plug-ins, progress, resuming line and results."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path


def plan_of(plugins, root: Path, changes: dict, keys: tuple[str, ...] | None = None):
    """(plan, manifest) of a run folder, made anew from what was asked for. Raises IntegrityError where it means something else now, in
    `keys` only if given."""
    from scottbench.errors import UsageError
    from scottbench.models.importing import importing

    with importing():
        from scottbench.plan.plan import make_plan
    from scottbench.plan.request import request_of
    from scottbench.store.differences import check_same
    from scottbench.store.folder import RunFolder

    folder = RunFolder(root)
    found, manifest = folder.locked_plan(), folder.manifest() or {}
    if found is None:
        raise UsageError(f"{root} holds no plan.lock.json: it is no run folder.")
    made = make_plan(plugins, request_of(found["settings"], changes, manifest.get("command", "")))
    check_same(root, found["plan"], made.record, keys)
    return made, manifest


def all_plugins():
    """All plug-ins; a warning on stderr for each broken one."""
    from scottbench.cli.printing import note
    from scottbench.registry.loader import load_plugins

    plugins = load_plugins()
    for plugin in plugins.broken:
        note(f"warning: plug-in '{plugin.name}' of {plugin.distribution} {plugin.version} is {plugin.status}")
    return plugins


@contextlib.contextmanager
def progress_of(quiet: bool) -> Iterator:
    """Progress of the main process. Libraries that print must not write between our tables or into the JSON document."""
    from scottbench.cli.printing import rank
    from scottbench.cli.progress import Progress

    with contextlib.redirect_stdout(sys.stderr), Progress(quiet or rank() > 0) as progress:
        yield progress


def execute_plan(made, plugins, folder: Path, size: int | None, progress, share):
    """(failure or None, run folder). Whatever stops the run says how to go on."""
    from scottbench.cli.printing import Interrupted, Terminated
    from scottbench.errors import Busy, Incomplete, ScottbenchError
    from scottbench.run.execute import execute

    line = f"scottbench resume {shlex.quote(str(folder))}"
    try:
        return None, execute(made, plugins, folder, size, progress.run_event, share)
    except KeyboardInterrupt:
        raise Interrupted(line) from None
    except Terminated:
        raise Terminated(line) from None
    except Incomplete as error:
        raise error if isinstance(error, Busy) else Incomplete(f"{error} Go on with: {line}") from None
    except ScottbenchError as error:
        # exit code 1 means that some cells failed: the others have numbers, which are shown before the reasons
        if error.exit_code != 1 or not (folder / "results.parquet").is_file():
            raise
        return error, folder


def show_run(folder: Path, as_json: bool, failure) -> None:
    """The tables of a run, or what a shard has done, then the failure if there is one; the main process only."""
    from scottbench.cli.printing import print_json, rank
    from scottbench.cli.results import print_results, read_results
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
            print(f"shard {document['shard']} is done: {folder}\nput all shards together with: scottbench merge RUN RUN ...")
        return
    (print_json if as_json else print_results)(read_results(folder))
    if failure is not None:
        raise failure
