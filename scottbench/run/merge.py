"""Shards to one run: the union of their chunks, every byte checked against its digest. Nothing is generated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from scottbench.errors import IntegrityError, UsageError
from scottbench.plan.plan import Plan
from scottbench.run.chunks import bind
from scottbench.run.execute import check_history, reopen
from scottbench.store.differences import check_same
from scottbench.store.environment import ENVIRONMENT_SCHEMA, ENVIRONMENTS, arithmetic
from scottbench.store.events import NAME as EVENTS
from scottbench.store.events import attempts, read_events
from scottbench.store.files import canonical
from scottbench.store.folder import RunFolder
from scottbench.store.lock import locked
from scottbench.store.reader import read_environments


def merge(plan: Plan, sources: list[Path], out: Path, on_progress: Callable[[dict], None]) -> RunFolder:
    """Copy into `out` every whole chunk of the shards that it lacks; the folder of the same plan, or a new one.

    Raises IntegrityError: a shard of another plan, or one chunk with two contents where bytes must be equal (level exact, equal
    arithmetic); UsageError: a shard that is no run, or `out` among them.
    """
    if any(path.resolve() == out.resolve() for path in sources):
        raise UsageError(f"{out} is one of the runs to merge. Name another folder with --out.")
    shards = [_open(path, plan) for path in sources]
    folder = RunFolder.open(out, plan.hash, plan.record, plan.settings)
    with locked(folder.root):
        folder.hold()
        for one in (folder, *shards):
            bind(one, plan)
        reopen(folder)
        new = _histories(folder, shards)
        owners = ["reference", "text", *(cell.id for cell in plan.cells)]
        for done, owner in enumerate(owners, start=1):
            for span in plan.spans_of(owner):
                _merge_chunk(folder, shards, plan, owner, span)
            on_progress({"stage": "merge", "cell": owner, "done": done, "total": len(owners)})
        # last: a merge that was killed takes everything again
        _append_histories(folder, new)
    return folder


def _open(path: Path, plan: Plan) -> RunFolder:
    folder = RunFolder(path)
    found = folder.locked_plan()
    if found is None:
        raise UsageError(f"{path} is no run folder: it has no plan.lock.json.")
    check_same(path, found["plan"], plan.record)
    check_history(path)
    return folder


def _merge_chunk(folder: RunFolder, shards: list[RunFolder], plan: Plan, owner: str, span: range) -> None:
    """Images and features of a chunk come from one shard together: those that have both whole go first."""
    ids = list(plan.ids_of(owner)[span.start : span.stop])
    places: list[tuple[str, ...]] = [("features", owner, role) for role in plan.sources]
    if owner != "text" and (owner != "reference" or span.start == 0):
        places.insert(0, ("images", owner))
    holders = sorted(shards, key=lambda shard: -sum(shard.state(place, span, ids) == "whole" for place in places))
    for shard in holders:
        for place in places:
            theirs = shard.chunk(place, span, ids)
            if theirs is None:
                continue
            ours = folder.chunk(place, span, ids)
            if ours is None:
                folder.put_chunk(place, span, theirs[0], theirs[1])
            elif ours[1]["sha256"] != theirs[1]["sha256"] and plan.micro_batch is not None and _alike(shards):
                raise IntegrityError(
                    f"{shard.root}: chunk {'/'.join(place)}/{span.start:05d} differs from the same chunk of another shard, though both "
                    "were made on the same kind of machine. Find out which is right: scottbench verify RUN --resample 3")


def _alike(shards: list[RunFolder]) -> bool:
    """Whether all attempts of all shards computed alike, so that equal chunks must have equal bytes."""
    return len({arithmetic(entry["environment"]) for shard in shards for entry in _environments(shard)}) == 1


def _environments(folder: RunFolder) -> list[dict]:
    return read_environments(folder.root)


def _histories(folder: RunFolder, shards: list[RunFolder]) -> list[tuple[list[dict], list[dict]]]:
    """(events, environments) of every shard whose history is not in the folder yet."""
    known = {canonical(line) for line in _times(read_events(folder.root))}
    found = [(read_events(shard.root), _environments(shard)) for shard in shards]
    return [(events, entries) for events, entries in found if not {canonical(line) for line in _times(events)} <= known or not events]


def _times(events: list[dict]) -> list[dict]:
    """Events without their attempt's number, which merging changes."""
    return [{key: value for key, value in event.items() if key != "attempt"} for event in events]


def _append_histories(folder: RunFolder, histories: list[tuple[list[dict], list[dict]]]) -> None:
    """Attempts of shards are numbered on behind each other, so that times add up."""
    events, environments = read_events(folder.root), _environments(folder)
    for more, entries in histories:
        base = attempts(events)
        events += [{**event, "attempt": base + event["attempt"]} for event in more]
        environments += [{**entry, "attempt": base + entry["attempt"]} for entry in entries]
    folder.put(EVENTS, "".join(json.dumps(event) + "\n" for event in events).encode())
    folder.put_json(ENVIRONMENTS, {"schema": ENVIRONMENT_SCHEMA, "attempts": environments})
