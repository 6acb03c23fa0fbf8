"""plan -> images and features -> metrics -> record -> report. A cell that fails costs no other cell its numbers."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import Incomplete, IntegrityError, ScottbenchError, UsageError
from scottbench.plan.device import auto_batch
from scottbench.plan.plan import Plan
from scottbench.run import manifest
from scottbench.run.chunks import Shard, inventory
from scottbench.run.claims import write_claims
from scottbench.run.clock import Clock
from scottbench.run.conveyor import conveyor_of
from scottbench.run.measure import measure, write
from scottbench.run.processes import Workers
from scottbench.run.session import Work
from scottbench.run.worker import run_cells
from scottbench.store.assets import offline
from scottbench.store.environment import ENVIRONMENT_SCHEMA, ENVIRONMENTS, environment
from scottbench.store.events import NAME as LOG
from scottbench.store.events import Events, attempts, begins_as, read_events, read_log
from scottbench.store.files import left_by_a_kill, with_check
from scottbench.store.folder import LOCK, MANIFEST, RunFolder
from scottbench.store.lock import locked
from scottbench.store.manifest import SCHEMA, Environment, Manifest, Status
from scottbench.store.reader import CLAIMS, RECORDS, Records, read_environments
from scottbench.text import one_line

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins


def execute(
    plan: Plan, plugins: Plugins, out: Path | None, batch_size: int | None, progress: Callable[[dict], None], shard: Shard | None = None
) -> Path:
    """Run a plan, or go on with it, and return its run folder.

    out: the run folder; None = runs/<UTC>-<preset>-<plan8>. batch_size: images at once, at most a chunk; None = `auto_batch`. shard: the
    chunks to make, None = all; a shard that leaves some to others ends without results. Raises UsageError or IntegrityError (folder), Busy
    (folder in use), Incomplete (disk full), and, after all that could be done was stored, ScottbenchError if a cell or a metric failed.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch-size {batch_size}: must be auto or a whole number of at least 1.")
    clock = Clock(plan.device)
    clock.started -= plan.seconds
    size = plan.chunk if batch_size is None else min(batch_size, plan.chunk)
    if batch_size is None and plan.teacher is not None:
        size = auto_batch(plan.teacher)
    workers, part = Workers(plan.device), Shard() if shard is None else shard
    with contextlib.ExitStack() as stack:
        root = Path(workers.agree(lambda: str(_claim(stack, plan, default_folder(plan) if out is None else Path(out)))))
        folder = RunFolder(root)
        folder.hold()
        earlier = {"attempts": attempts(read_events(root)), **_created(folder)}
        stored: dict[str, float] = {}
        reading = lambda: {"wall": round(clock.wall, 3), "forward": clock.forward_so_far(), **stored}  # noqa: E731
        events = Events(root, earlier["attempts"] + 1, workers.rank, reading)

        def log_event(event: str, **facts: object) -> None:
            with folder.in_place():
                events.log_event(event, **facts)

        own = part.divided(workers.rank, workers.count)
        work = Work(plan, folder, clock, {}, size, progress, log_event, own, earlier, stored=stored, conveyor=conveyor_of(plan))
        found = workers.gather(environment_of(plan, plugins))
        if workers.main:
            _main(work, plugins, workers, found, None if part.count == 1 else str(part))
        else:
            _help(work, workers)
    return root


def _claim(stack: contextlib.ExitStack, plan: Plan, root: Path) -> Path:
    """The run folder, made if need be, and held until the stack closes."""
    folder = RunFolder.open(root, plan.hash, plan.record, plan.settings)
    stack.enter_context(locked(root))
    found = folder.locked_plan()
    if found is None or found["plan_hash"] != plan.hash:
        raise UsageError(f"{root} was taken by a run of another plan just now. Name another folder with --out, or none.")
    check_history(root)
    reopen(folder)
    for path in left_by_a_kill(root):
        path.unlink(missing_ok=True)
    return root


def check_history(root: Path) -> None:
    """Raise IntegrityError where what a run that has ended goes on from is not as its manifest says: the plan as it was asked for, the
    environments, the log."""
    if not (root / MANIFEST).is_file():
        return
    records = Records(root)
    for name in (LOCK, ENVIRONMENTS):
        if name in records.files:
            records.data(name)
    log = records.manifest.get("log")
    if log is not None and not begins_as(read_log(root), log):
        raise IntegrityError(f"{root / LOG} is not the log that {MANIFEST} tells of: it was changed after the run. Put it back as it was.")


def reopen(folder: RunFolder) -> None:
    """Mark a run that has ended as running before anything in its folder changes: a kill must not leave digests of what was before."""
    manifest = folder.manifest()
    if manifest is not None and manifest.get("schema") == SCHEMA:
        files = {name: digest for name, digest in manifest["files"].items() if name == LOCK}
        running = {"status": "running", "finished": None, "files": files, "chunks": {}, "log": None}
        folder.put_json(MANIFEST, with_check({**manifest, **running}))


def _created(folder: RunFolder) -> dict:
    manifest = folder.manifest()
    return {"created": manifest["created"]} if manifest is not None and "created" in manifest else {}


def environment_of(plan: Plan, plugins: Plugins) -> Environment:
    """Return what this process computes with, and the packages of the plug-ins that the plan uses. One that was not installed has, beside
    its version, the name of the file or folder that --plugin-path gave."""
    found = environment(plan.device, _distributions(plan, plugins))
    by_path = {plugin.distribution: plugin.version_and_source for plugin in plugins.plugins if plugin.by_path and plugin.status == "ok"}
    return {**found, "packages": {**by_path, **found["packages"]}}


def _distributions(plan: Plan, plugins: Plugins) -> list[str]:
    """Distributions of the plug-ins that a plan uses; of installed ones."""
    used = [plugins.of("method", cell.method.noun) for cell in plan.cells if cell.method.pictures is None]
    used += [plugins.of("metric", metric.noun) for metric in plan.metrics] + [plugins.of("preset", plan.preset)]
    by_path = {plugin.distribution for plugin in plugins.plugins if plugin.by_path}
    return [registered.distribution for registered in used if registered.distribution not in by_path]


def _main(work: Work, plugins: Plugins, workers: Workers, found: list[dict[str, Any]], shard: str | None) -> None:
    """Make the main process's chunks, then all the rest. shard: the manifest calls it so, None for a whole run."""
    work.log_event("start", workers=workers.count, shard=shard, command=work.plan.command, batch_size=work.batch_size)
    environments = _note_environments(work, found)
    state = manifest.start(work.plan, work, environments)
    state.shard = shard
    if work.earlier["attempts"]:
        there = inventory(work.folder, work.plan)
        work.log_event("resume", whole=there.whole, chunks=there.chunks)
        for name in there.damaged:
            work.log_event("warning", text=f"chunk {name} is damaged and is made again")
    try:
        save(work, state, "running")
        with offline():
            outcomes = workers.gather(_make(work, lambda: save(work, state, "running")))
            reasons: dict[str, str] = {}
            for failed, stop in outcomes:
                reasons |= failed
                if stop is not None:
                    raise stop
            if work.shard.count > workers.count and (missing := inventory(work.folder, work.plan).missing):
                _finish_shard(work, state, reasons, len(missing))
                return
            for cell in work.plan.cells:
                manifest.finish_cell(state, work, cell, reasons.get(cell.id))
            work.log_event("measure")
            work.texts.clear()  # metrics need the memory, and no text any more
            write(work, state, measure(work, state))
    except BaseException as error:
        # the first failure is the one to report
        with contextlib.suppress(ScottbenchError, OSError):
            work.log_event("stop", error=one_line(error) or type(error).__name__)
            save(work, state, _status(error))
        raise
    _finish(work, state, plugins)


def _make(work: Work, saved: Callable[[], None]) -> tuple[dict[str, str], ScottbenchError | None]:
    """`run_cells`, and what stopped it: the other processes wait for this one, and must not wait for ever."""
    try:
        return run_cells(work, saved), None
    except ScottbenchError as error:
        return {}, error


def _help(work: Work, workers: Workers) -> None:
    """Make the chunks of another process. They are in the folder then; what went wrong is the main process's to tell."""
    with offline():
        outcome = _make(work, lambda: None)
    with contextlib.suppress(ScottbenchError):
        work.log_event("stop", **({} if outcome[1] is None else {"error": str(outcome[1])}))
    for _, stop in workers.gather(outcome):
        if stop is not None:
            workers.fail(stop.exit_code)


def _finish_shard(work: Work, state: Manifest, reasons: dict[str, str], missing: int) -> None:
    """The last manifest of a shard that leaves chunks to others; raises ScottbenchError where cells failed."""
    for entry in state.cells:
        entry.error = reasons.get(entry.id)
    failures = state.failures()
    work.log_event("stop", missing=missing, failures=len(failures))
    save(work, state, "incomplete")
    if failures:
        raise ScottbenchError("\n".join([f"{len(failures)} cell(s) of the shard failed:", *(f"  {line}" for line in failures)]))


def _finish(work: Work, state: Manifest, plugins: Plugins) -> None:
    """The last manifest and the report; raises ScottbenchError where parts failed."""
    failures, root = state.failures(), work.folder.root
    (root / CLAIMS).unlink(missing_ok=True)  # of an earlier attempt
    state.files = manifest.digests(root, RECORDS)
    save(work, state, "running")  # claims are judged from the records as everybody reads them, digests and all
    if work.plan.teacher is not None:  # claims are about methods that are sampled
        write_claims(work.folder, plugins)
    work.log_event("stop", failures=len(failures))
    manifest.seal(state, work)
    save(work, state, "failed" if failures else "complete")
    work.on_progress({"stage": "report", "cell": None, "done": 0, "total": 1})
    from scottbench.report import build

    with work.folder.in_place():
        build(root)
    work.on_progress({"stage": "report", "cell": None, "done": 1, "total": 1})
    if failures:
        lines = "\n".join(f"  {line}" for line in failures)
        raise ScottbenchError(f"{len(failures)} part(s) of the run failed; the others are in {root}:\n{lines}")


def save(work: Work, state: Manifest, status: Status) -> None:
    """Replace the manifest, with its status and the times so far."""
    manifest.update(state, work, status)
    work.folder.put_json(MANIFEST, state.as_json())


def _status(error: BaseException) -> Status:
    if isinstance(error, Incomplete):
        return "incomplete"
    return "failed" if isinstance(error, Exception) else "interrupted"


def _note_environments(work: Work, found: list[dict]) -> list[dict]:
    """Add this attempt's environments to env.json, the main process's last; returns all of them."""
    known = read_environments(work.folder.root)
    attempt = work.earlier["attempts"] + 1
    new = [{"attempt": attempt, "worker": rank, "environment": entry} for rank, entry in enumerate(found)]
    environments = [*known, *reversed(new)]
    work.folder.put_json(ENVIRONMENTS, {"schema": ENVIRONMENT_SCHEMA, "attempts": environments})
    return environments


def default_folder(plan: Plan) -> Path:
    """Return runs/<UTC>-<preset>-<plan8> below the current folder."""
    now = datetime.datetime.now(datetime.UTC)
    return Path("runs") / f"{now:%Y%m%dT%H%M%SZ}-{plan.preset.name}-{plan.hash[:8]}"
