"""Other metrics of a finished run, from its stored features and images; nothing is generated.

They go to scores/<name>/ in the run folder: its own results.parquet stays what its plan says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import Incomplete, UsageError
from scottbench.plan.identity import on_stored_images
from scottbench.plan.plan import Plan
from scottbench.run import manifest, sample
from scottbench.run.chunks import bind, roles_of
from scottbench.run.clock import Clock
from scottbench.run.execute import check_history, environment_of
from scottbench.run.measure import measure, write
from scottbench.run.session import Work
from scottbench.run.worker import open_extractors
from scottbench.store.assets import offline
from scottbench.store.differences import GENERATION, check_same
from scottbench.store.environment import flush_denormals
from scottbench.store.events import attempts, read_events
from scottbench.store.files import canonical
from scottbench.store.folder import MANIFEST, RunFolder
from scottbench.store.lock import locked
from scottbench.store.plan_record import plan_digest
from scottbench.store.tables import CATEGORIES, ITEMS, PAIRS, RESULTS, TIMINGS

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins


class ScoreFolder(RunFolder):
    """A run folder to which features are added, and whose records go to a folder of their own within it."""

    def __init__(self, root: Path, name: str):
        super().__init__(root)
        self.name = name

    def put(self, name: str, data: bytes) -> Path:
        """Replace a file in one step: features go to the run, records to the folder of their own. Raises as `RunFolder.put`."""
        return super().put(name if name.startswith("features/") else f"scores/{self.name}/{name}", data)


def score(plan: Plan, plugins: Plugins, root: Path, on_progress: Callable[[dict], None]) -> Path:
    """Measure `plan`, the run's own plan with other metrics, on the run's images; return the folder of the new records.

    Raises IntegrityError where anything that the images or the stored features depend on is not what the run was made of, Incomplete
    where images are missing, Busy while another process holds the run, UsageError where the folder holds no plan.
    """
    clock, own = Clock(plan.device), RunFolder(root)
    found = own.locked_plan()
    if found is None:
        raise UsageError(f"{root} holds no plan.lock.json: it is no run folder.")
    check_history(root)
    plan, shared = comparable(plan, root, found["plan"])
    name = hashlib.sha256(canonical({"metrics": plan.record["metrics"]})).hexdigest()[:12]
    folder = ScoreFolder(root, name)
    with locked(root), contextlib.ExitStack() as watched, offline():
        _refuse_unfinished(own, plan, shared & plan.sources.keys())
        flush_denormals()
        work = Work(plan, folder, clock, {}, plan.chunk, on_progress, lambda event, **facts: None,
                    earlier={"attempts": max(0, attempts(read_events(root)) - 1)})  # fmt: skip
        folder.hold()
        state = manifest.start(plan, work, [{"environment": environment_of(plan, plugins)}])
        open_extractors(work, watched)
        sample.reference_features(work)
        sample.embed_prompts(work)
        for cell in plan.cells:
            sample.extract_features(work, cell)
            manifest.finish_cell(state, work, cell, None)
        write(work, state, measure(work, state))
        manifest.update(state, work, "failed" if state.failures() else "complete")
        state.files = manifest.digests(root / "scores" / name, [RESULTS, ITEMS, PAIRS, CATEGORIES, TIMINGS])
        state.chunks = manifest.chunk_digests(work)
        state.scored = found["plan_hash"]
        folder.put_json(MANIFEST, state.as_json())
    return root / "scores" / name


def comparable(plan: Plan, root: Path, locked_plan: dict) -> tuple[Plan, set[str]]:
    """Return the plan with the run's own record of images in it, and the roles whose features the run has made. Raises IntegrityError
    where the run was made of something else than `plan` is."""
    check_same(root, locked_plan, plan.record, GENERATION)
    shared = plan.record["extractors"].keys() & locked_plan["extractors"].keys()
    for role in shared:
        check_same(root, locked_plan["extractors"][role], plan.record["extractors"][role])
    if shared:
        kept, here = (record["code"]["features"] for record in (locked_plan, plan.record))
        packages = {name.partition("/")[0] for name in kept}
        # packages of extractors that the run did not use made none of its features
        here = {name: digest for name, digest in here.items() if name.partition("/")[0] in packages}
        check_same(root, {"code": {"features": kept}}, {"code": {"features": here}})
    record = on_stored_images(plan.record, locked_plan)
    return dataclasses.replace(plan, record=record, hash=plan_digest(record)), shared


def _refuse_unfinished(folder: RunFolder, plan: Plan, roles: Iterable[str]) -> None:
    """Raise Incomplete unless all images are there, and no features of `roles`, which the run itself has made, are damaged; those that are
    missing are made again."""
    places: dict[tuple[str, ...], tuple[str, ...]] = {("images", cell.id): ("absent", "damaged") for cell in plan.cells}
    places |= {("features", owner, role): ("damaged",) for owner in ("reference", *(cell.id for cell in plan.cells))
               for role in roles if role in roles_of(plan, owner)}
    bind(folder, plan)
    chunks = [
        (place, span, list(plan.ids_of(place[1])[span.start : span.stop])) for place in places for span in plan.spans_of(place[1])
    ]  # fmt: skip
    missing = ["/".join(place) for place, span, ids in chunks if folder.state(place, span, ids) in places[place]]
    if missing:
        named = ", ".join(list(dict.fromkeys(missing))[:3])
        raise Incomplete(
            f"{folder.root} lacks {len(missing)} chunks of images or features ({named}). Finish it first: scottbench resume {folder.root}")
